"""When each word and phone sounds: alignment files, and the frame labels made from them.

The file is JSON, `{"words": [[start_s, end_s, "bin"], ...], "phones": [[start_s, end_s, "b"], ...]}`, in order and
without overlap; `phones` may be missing, and silence is what no interval covers.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path

import numpy as np

from avsr.errors import InputError
from avsr.files import write_json
from avsr.media.timing import FPS

TIERS = ("words", "phones")
SILENCE = 0  # the frame label of what no interval covers
IGNORE = -100  # the frame label that a loss leaves out (torch's ignore_index)
GRID_RATE = 25_000  # ticks / s in GRID's .align files
GRID_SILENCES = ("sil", "sp")

# Codecs and resampling cut or add a few ms; more than a frame means that the alignment is of another file.
END_TOLERANCE_S = 1 / FPS
OVERLAP_TOLERANCE_S = 1e-3

Interval = tuple[float, float, str]  # start_s, end_s, label


def read_alignment(path: str | Path, duration_s: float | None = None) -> dict[str, list[Interval]]:
    """Read an alignment file: {"words": intervals, "phones": intervals where the file has them}.

    Args:
        path: the JSON file.
        duration_s: length of the sound; an interval that ends more than a frame after it is an error.

    Raises:
        InputError: missing or malformed file, start >= end, overlap, or an interval past the end.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such alignment file.") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}).") from error
    if not isinstance(content, dict) or "words" not in content or not content.keys() <= set(TIERS):
        raise InputError(f'{path}: expected {{"words": [[start_s, end_s, "word"], ...], "phones": [...]}}.')
    return {tier: _check_intervals(intervals, tier, path, duration_s) for tier, intervals in content.items()}


def write_alignment(path: str | Path, words: Iterable, phones: Iterable | None = None) -> None:
    """Write an alignment file, whole or not at all; `words` and `phones` hold (start_s, end_s, label)."""
    content = {"words": _check_intervals(list(words), "words", path, None)}
    if phones is not None:
        content["phones"] = _check_intervals(list(phones), "phones", path, None)
    write_json(path, content)


def read_grid_align(path: str | Path) -> list[Interval]:
    """Words of a GRID `.align` file (lines `start end word`, 1/25000 s), silences (`sil`, `sp`) left out.

    Format: Cooke et al. 2006, "An audio-visual corpus for speech perception and automatic speech recognition".
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such alignment file.")
    words = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 3 or not parts[0].isdigit() or not parts[1].isdigit():
            raise InputError(f"{path}:{number}: expected 'start end word' in 1/25000 s, found {line!r}.")
        if parts[2] not in GRID_SILENCES:
            words.append((int(parts[0]) / GRID_RATE, int(parts[1]) / GRID_RATE, parts[2]))
    return _check_intervals(words, "words", path, None)


def frame_labels(intervals: list[Interval], n_frames: int, inventory: dict[str, int]) -> np.ndarray:
    """Labels (T,) int64 of video frames, each by the interval that holds the frame's centre.

    Silence is 0; a label that the inventory lacks (a word never heard in training) is -100, which losses ignore.
    """
    labels = np.full(n_frames, SILENCE, dtype=np.int64)
    centres_s = (np.arange(n_frames) + 0.5) / FPS
    for start_s, end_s, label in intervals:
        first, last = np.searchsorted(centres_s, (start_s, end_s))  # start <= centre < end
        labels[first:last] = inventory.get(label, IGNORE)
    return labels


def words_as_phones(alignment: Mapping[str, Sequence[Interval]]) -> list[tuple[str, tuple[str, ...]]]:
    """The words of an alignment with their phones: those whose middle lies within the word."""
    middles = [((start_s + end_s) / 2, phone) for start_s, end_s, phone in alignment.get("phones", ())]
    return [
        (word, tuple(phone for middle_s, phone in middles if start_s <= middle_s < end_s))
        for start_s, end_s, word in alignment["words"]
    ]


def token_frames(
    words: list[Interval], tokens: np.ndarray, spans: list[range], n_frames: int, slack: int
) -> np.ndarray:
    """Frames within which each token may be said: those of its word, and `slack` more to both sides.

    Args:
        words: intervals of the text's words.
        tokens: (U,) ids.
        spans: positions in `tokens` of each word's, as `Tokenizer.word_spans` gives them.

    Returns:
        (U, 2) int64, first frame and the one after the last. The whole utterance for a token between words, and for
        all where the alignment has not the text's number of words or speech is too fast to say all tokens there.
    """
    whole = np.tile(np.array([0, n_frames], dtype=np.int64), (len(tokens), 1))
    if len(words) != len(spans):
        return whole
    frames = whole.copy()
    for (start_s, end_s, _), span in zip(words, spans, strict=True):
        frames[span.start : span.stop, 0] = max(0, math.floor(start_s * FPS) - slack)
        frames[span.start : span.stop, 1] = min(n_frames, math.ceil(end_s * FPS) + slack)
    at = -1
    for position, (first, stop) in enumerate(frames.tolist()):
        repeated = position > 0 and tokens[position] == tokens[position - 1]  # needs a blank between
        at = max(at + 1 + repeated, first)
        if at >= stop:
            return whole
    return frames


def label_inventory(rows: Iterable[dict], tier: str = "words") -> dict[str, int]:
    """Number the labels of a tier over all rows that have an alignment: sorted, from 1 (0 is silence).

    Raises:
        InputError: no row has an alignment of this tier.
    """
    if tier not in TIERS:
        raise InputError(f"frame labels of tier {tier!r}: expected one of {', '.join(TIERS)}.")
    found: set[str] = set()
    for row in rows:
        if row["alignment"] is not None:
            intervals = read_alignment(row["alignment"], row["duration_s"]).get(tier, [])
            found.update(label for _, _, label in intervals)
    if not found:
        raise InputError(f"no utterance has an alignment of {tier}; leave frame labels out or add alignments.")
    return {label: number for number, label in enumerate(sorted(found), start=1)}


def _check_intervals(intervals, tier: str, path: str | Path, duration_s: float | None) -> list[Interval]:
    if not isinstance(intervals, list):
        raise InputError(f"{path}: {tier} must be a list of [start_s, end_s, label].")
    checked: list[Interval] = []
    previous_end_s = 0.0
    for number, interval in enumerate(intervals, start=1):
        where = f"{path}: {tier} {number}"
        if not _is_interval(interval):
            raise InputError(f"{where}: expected [start_s, end_s, label], found {interval!r}.")
        start_s, end_s, label = float(interval[0]), float(interval[1]), interval[2]
        if not 0 <= start_s < end_s:
            raise InputError(f"{where} ({label!r}): needs 0 <= start < end, found {start_s} to {end_s} s.")
        if start_s < previous_end_s - OVERLAP_TOLERANCE_S:
            raise InputError(
                f"{where} ({label!r}) begins at {start_s} s, before the one before ends: {previous_end_s}."
            )
        if duration_s is not None and end_s > duration_s + END_TOLERANCE_S:
            raise InputError(f"{where} ({label!r}) ends at {end_s} s, past the end of the sound at {duration_s} s.")
        checked.append((start_s, end_s, label))
        previous_end_s = end_s
    return checked


def _is_interval(value) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 3:
        return False
    times, label = value[:2], value[2]
    are_numbers = all(isinstance(t, Real) and not isinstance(t, bool) and math.isfinite(t) for t in times)
    return are_numbers and isinstance(label, str) and bool(label)
