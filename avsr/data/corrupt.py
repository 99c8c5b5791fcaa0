"""Corruption of lips and of sound: its kinds, and the manifests that fix it for evaluation.

A corruption manifest is JSON lines, one per utterance: `utt_id kind severity seed`. The severity's unit goes with the
kind (`CORRUPTIONS`); at 0 nothing is corrupted. Lips and sound keep their length, and where a kind makes a clip dark or
the sound silent the stream still counts as there: that it tells nothing is for the recogniser to find out.

Letters: S samples, T video frames, H and W the sides of a picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avsr.data.conditions import is_count, is_number, lines_hash, parse_object, read_lines, utterance_seed
from avsr.errors import InputError
from avsr.files import write_jsonl
from avsr.media.timing import SAMPLE_RATE

FIELDS = ("utt_id", "kind", "severity", "seed")
GAP_SAMPLES = SAMPLE_RATE // 5  # what a gap in the sound lasts, nearly: 0.2 s
PATCH_HEIGHT, PATCH_WIDTH = (0.25, 0.5), (0.3, 0.6)  # of an occluder, in sides of the picture
MOUTH_HEIGHT, MOUTH_WIDTH = 0.4, 0.6  # of the picture, about its middle: where an occluder's middle lies
PATCH_GRAIN = 6  # gray levels drawn along each side of an occluder; between them the texture is smooth


@dataclass(frozen=True)
class Corruption:
    """One kind: the stream that it corrupts, its severity's unit and bounds, the severities of training, and how."""

    stream: str  # "v" lips, "a" sound
    unit: str
    bounds: tuple[float, float]
    training: tuple[float, float]
    apply: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]  # makes a new array
    whole: bool = False  # whether the severity is a whole number


def corrupt_lips(lips: np.ndarray, line: dict) -> np.ndarray:
    """Lips (T,H,W) uint8 as a corruption manifest's line makes them; a line for the sound leaves them as they are."""
    return _corrupt(lips, line, "v")


def corrupt_sound(waveform: np.ndarray, line: dict) -> np.ndarray:
    """A waveform (S,) as a corruption manifest's line makes it; a line for the lips leaves it as it is."""
    return _corrupt(waveform, line, "a")


def draw_corruption(kinds: Sequence[str], rng: np.random.Generator) -> dict:
    """A line's kind, severity and seed for training: one of `kinds`, at a severity uniform in the kind's range."""
    kind = kinds[rng.integers(len(kinds))]
    low, high = CORRUPTIONS[kind].training
    severity = rng.integers(low, high + 1) if CORRUPTIONS[kind].whole else rng.uniform(low, high)
    return {"kind": kind, "severity": float(severity), "seed": int(rng.integers(2**48))}


def make_corruption_manifest(rows: list[dict], *, kind: str, severity: float, seed: int) -> list[dict]:
    """Fix one corruption for each utterance: it depends on the seed and the utt_id, not on the other rows.

    Raises InputError: an unknown kind, a severity out of its bounds.
    """
    check_severity(kind, severity)
    return [
        {
            "utt_id": row["utt_id"],
            "kind": kind,
            "severity": float(severity),
            "seed": utterance_seed(seed, row["utt_id"]),
        }
        for row in rows
    ]


def check_severity(kind: str, severity: float, where: str = "") -> None:
    """Raise InputError, its message beginning with `where`, unless `kind` exists and has this severity."""
    if not isinstance(kind, str) or kind not in CORRUPTIONS:
        raise InputError(f"{where}corruption kind {kind!r}: expected one of {', '.join(CORRUPTIONS)}.")
    corruption = CORRUPTIONS[kind]
    low, high = corruption.bounds
    is_whole = is_number(severity) and severity == round(severity)
    if not is_number(severity) or not low <= severity <= high or (corruption.whole and not is_whole):
        number = "a whole number" if corruption.whole else "a number"
        raise InputError(
            f"{where}severity {severity!r} of {kind}: expected {number} from {low:g} to {high:g} ({corruption.unit})."
        )


def corruption_hash(lines: list[dict]) -> str:
    """SHA-256 of a corruption manifest: the same for the same corruption, however the lines are sorted."""
    return lines_hash([{**line, "severity": float(line["severity"])} for line in lines])


def write_corruption_manifest(path: str | Path, lines: list[dict]) -> None:
    """Write corruption lines as JSONL, whole or not at all."""
    write_jsonl(path, lines)


def read_corruption_manifest(path: str | Path) -> list[dict]:
    """Read a corruption manifest.

    Raises:
        InputError: naming file and line: missing file, not JSON, wrong keys or types, unknown kind, a severity out of
            its bounds, a utt_id twice.
    """
    return read_lines(path, "corruption", _parse_line)


def _parse_line(text: bytes, where: str) -> dict:
    line = parse_object(text, where, FIELDS)
    check_severity(line["kind"], line["severity"], f"{where}: ")
    if not is_count(line["seed"]):
        raise InputError(f"{where}: seed must be a count, found {line['seed']!r}.")
    return line


def _corrupt(values: np.ndarray, line: dict, stream: str) -> np.ndarray:
    corruption = CORRUPTIONS[line["kind"]]
    if corruption.stream != stream:
        return values
    return corruption.apply(values, line["severity"], np.random.default_rng(line["seed"]))


def _part(length: int, share: float) -> int:
    """The nearest number to a share of `length`; none only of a share of 0."""
    return 0 if share == 0 else max(1, round(share * length))


def _stretch(length: int, share: float, rng: np.random.Generator) -> slice:
    part = _part(length, share)
    start = int(rng.integers(length - part + 1))
    return slice(start, start + part)


def _occlude(lips: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import zoom

    sides = np.array(lips.shape[1:])
    size = np.round(sides * [rng.uniform(*PATCH_HEIGHT), rng.uniform(*PATCH_WIDTH)]).astype(int)
    middle = sides * (0.5 + np.array([MOUTH_HEIGHT, MOUTH_WIDTH]) * rng.uniform(-0.5, 0.5, 2))
    top, left = np.clip(np.round(middle - size / 2), 0, sides - size).astype(int)
    patch = zoom(rng.uniform(0, 255, (PATCH_GRAIN, PATCH_GRAIN)), size / PATCH_GRAIN, order=1)
    occluded = lips.copy()
    occluded[_stretch(len(lips), share, rng), top : top + size[0], left : left + size[1]] = patch.round()
    return occluded


def _blur(lips: np.ndarray, sigma_px: float, rng: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(lips.astype(np.float32), (0, sigma_px, sigma_px)).round().astype(np.uint8)


def _add_pixel_noise(lips: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    noisy = lips + np.float32(sigma) * rng.standard_normal(lips.shape, dtype=np.float32)
    return noisy.round().clip(0, 255).astype(np.uint8)


def _lose(lips: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    left = lips.copy()
    left[rng.choice(len(lips), _part(len(lips), share), replace=False)] = 0
    return left


def _blank(lips: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    left = lips.copy()
    left[_stretch(len(lips), share, rng)] = 0
    return left


def _freeze(lips: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    frozen = lips.copy()
    stretch = _stretch(len(lips), share, rng)
    frozen[stretch] = lips[max(stretch.start - 1, 0)]
    return frozen


def _shift(lips: np.ndarray, n_frames: float, rng: np.random.Generator) -> np.ndarray:
    return lips[np.clip(np.arange(len(lips)) - round(n_frames), 0, len(lips) - 1)]


def _cut_gaps(waveform: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Gaps of one length, to a sample, that may touch and don't overlap."""
    silent = _part(len(waveform), share)
    n_gaps = min(silent, max(1, round(silent / GAP_SAMPLES)))
    cut = waveform.copy()
    if n_gaps == 0:
        return cut
    edges = np.arange(n_gaps + 1) * silent // n_gaps  # of the gaps, were there nothing between them
    before = np.sort(rng.integers(len(waveform) - silent + 1, size=n_gaps))  # sounding samples before each gap
    for first, start, end in zip(before, edges[:-1], edges[1:], strict=True):
        cut[first + start : first + end] = 0
    return cut


SHARE = (0.0, 1.0)
CORRUPTIONS = {
    # a textured patch lies on part of the mouth for a stretch
    "occluder": Corruption("v", "share of frames", SHARE, (0.2, 0.8), _occlude),
    "blur": Corruption("v", "pixels, standard deviation", (0.0, 20.0), (0.5, 4.0), _blur),
    "pixel_noise": Corruption(
        "v", "gray levels of 255, standard deviation", (0.0, 255.0), (5.0, 50.0), _add_pixel_noise
    ),
    # single frames here and there are black
    "lost": Corruption("v", "share of frames", SHARE, (0.1, 0.6), _lose),
    # a stretch is black; at 1 the whole clip
    "blank": Corruption("v", "share of frames", SHARE, (0.2, 1.0), _blank),
    # a stretch shows the picture before it; at 1 the whole clip its first
    "frozen": Corruption("v", "share of frames", SHARE, (0.2, 1.0), _freeze),
    # lips come so much after their sound, or before it; the picture at the edge repeats
    "offset": Corruption("v", "frames, late > 0", (-50.0, 50.0), (-3.0, 3.0), _shift, whole=True),
    # stretches of digital silence, after any noise
    "gaps": Corruption("a", "share of samples", SHARE, (0.05, 0.3), _cut_gaps),
}
