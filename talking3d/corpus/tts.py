"""Speech from text by espeak-ng, with the time of every word and phoneme.

espeak-ng is optional (`pip install liploop[synth]`), GPL, and reached only through `tts_worker.py` in a process of its
own. Its events are exact to the sample, but they mark what the engine does, not what a mouth does; `_intervals`
turns them into intervals of words and phones, see the comments there.
"""

import json
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchaudio.functional

from avsr.errors import InputError
from avsr.media.timing import SAMPLE_RATE

STOPS = ("p", "b", "t", "d", "k", "ɡ", "g", "tʃ", "dʒ")
VOWELS = "aäɑɐɒæʌəɚɜɛeiɪᵻoɔøœuʊʉyɨɯɤ"
STRESS = "ˈˌ"

CLOSURE_S = 0.045  # the silent hold of a stop before its burst
SHORTEST_PHONE_S = 0.025  # below this the engine has merged the phone into its neighbour
FORMANT_STEPS = 49  # formant_scale is a multiple of 1/49, which keeps the resampling filter short

Interval = tuple[float, float, str]


@dataclass(frozen=True)
class Utterance:
    """What was said and when: `waveform` (S,) float32 at 16 kHz, intervals (start_s, end_s, label) in order.

    `words` has one interval for each word of the text. `phones` are IPA as espeak-ng names them, stress marks and
    length marks included; a stop begins with its silent closure. Silences are the gaps.
    """

    waveform: np.ndarray
    phones: list[Interval]
    words: list[Interval]


class Synthesizer:
    """espeak-ng in a worker process. Use as a context manager, or `close()` it; not for several threads at a time.

    Args:
        library: a libespeak-ng of one's own; by default the one that the `synth` extra brings, else the system's.

    Raises:
        InputError: no espeak-ng that works.
    """

    def __init__(self, library: str | None = None):
        script = Path(__file__).with_name("tts_worker.py")
        self._worker = subprocess.Popen(
            [sys.executable, str(script)] + ([] if library is None else [library]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        hello = json.loads(self._worker.stdout.readline() or '{"error": "the speech worker died"}')
        if "error" in hello:
            self.close()
            raise InputError(
                "speech synthesis needs espeak-ng: pip install 'liploop[synth]' brings it, or install your system's "
                f"libespeak-ng. Tried {hello['error']}"
            )
        self.version: str = hello["version"]
        self.languages: list[str] = hello["languages"]
        self.variants: list[str] = hello["variants"]

    def __enter__(self) -> "Synthesizer":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.communicate()
            self._worker = None

    def synthesize(
        self,
        text: str,
        *,
        spoken: str | None = None,
        language: str = "en-us",
        variant: str | None = None,
        pitch: int = 50,
        pitch_range: int = 50,
        rate: int = 160,
        word_gap: int = 0,
        formant_scale: float = 1.0,
    ) -> Utterance:
        """Speak `text`. The same arguments give the same bytes, whatever was said before.

        Args:
            text: words separated by spaces.
            spoken: what the engine is given in place of `text`, word for word (`[[eI]]` for the letter a).
            variant: a voice variant of espeak-ng's, as "f3", "m5", "klatt4".
            pitch, pitch_range: 0 to 99.
            rate: words a minute, 80 to 450.
            word_gap: pause between words, in units of 10 ms at the default rate.
            formant_scale: shifts formants, pitch and tempo together, like a shorter (>1) or longer vocal tract;
                rounded to 1/49.

        Raises:
            InputError: no words, an unknown language or variant, a number out of its range, speech without a sound.
        """
        words = text.split()
        told = words if spoken is None else spoken.split()
        if not words or len(words) != len(told):
            raise InputError(
                f"cannot speak {text!r}: {len(words)} words to label and {len(told)} to say; give the same"
            )
        mute = [word for word in told if not any(map(str.isalnum, word))]
        if mute:
            raise InputError(
                f"cannot speak {text!r}: {mute[0]!r} has no sound; join punctuation to words or leave it out"
            )
        for name, value, low, high in (
            ("pitch", pitch, 0, 99),
            ("pitch_range", pitch_range, 0, 99),
            ("rate", rate, 80, 450),
            ("word_gap", word_gap, 0, 100),
            ("formant_scale", formant_scale, 0.5, 2.0),
        ):
            if not low <= value <= high:
                raise InputError(f"{name}={value} is out of espeak-ng's range: expected {low} to {high}")
        header, pcm = self._ask(
            text=" ".join(told),
            language=language,
            variant=variant,
            pitch=int(pitch),
            pitch_range=int(pitch_range),
            rate=int(rate),
            word_gap=int(word_gap),
        )
        step = header["sample_rate"] // FORMANT_STEPS
        sample_rate = round(formant_scale * FORMANT_STEPS) * step
        phones, word_intervals = _intervals(header, told, sample_rate)
        if not phones or any(end <= start for start, end, _ in word_intervals):
            raise InputError(f"espeak-ng says nothing for a word of {text!r} ({language}): use words it can pronounce")
        samples = torch.from_numpy(np.frombuffer(pcm, "<i2").astype(np.float32) / 32768)
        waveform = torchaudio.functional.resample(samples, sample_rate, SAMPLE_RATE).numpy()
        labelled = [(start, end, word) for (start, end, _), word in zip(word_intervals, words, strict=True)]
        return Utterance(waveform, phones, labelled)

    def _ask(self, **request) -> tuple[dict, bytes]:
        try:
            self._worker.stdin.write(json.dumps(request).encode() + b"\n")
            self._worker.stdin.flush()
            header = json.loads(self._worker.stdout.readline() or "null")
        except BrokenPipeError:
            header = None
        if header is None:
            raise RuntimeError(f"the speech worker died while it said {request['text']!r}")
        if "error" in header:
            raise InputError(f"cannot speak {request['text']!r}: {header['error']}")
        return header, self._worker.stdout.read(2 * header["n_samples"])


@dataclass
class _Phone:
    """A phone in samples. `onset` is where the engine reports it: a stop's burst, for others the start."""

    start: int
    end: int
    onset: int
    name: str
    word: int

    @property
    def ipa(self) -> str:
        return self.name.strip(STRESS)


def _intervals(header: dict, told: list[str], sample_rate: int) -> tuple[list[Interval], list[Interval]]:
    """Events of the engine -> (phones, words) in seconds, one word interval for each word of `told`."""
    phones = _phones_of(header["events"], told)
    _revive_merged(phones, shortest=round(SHORTEST_PHONE_S * sample_rate))
    _begin_stops_with_closure(phones, hold=round(CLOSURE_S * sample_rate))
    _split_merged_words(phones, header["citation"])
    words = []
    for index, word in enumerate(told):
        own = [phone for phone in phones if phone.word == index]
        words.append((own[0].start / sample_rate, own[-1].end / sample_rate, word) if own else (0.0, 0.0, word))
    return [(phone.start / sample_rate, phone.end / sample_rate, phone.name) for phone in phones], words


def _phones_of(events: list[list], told: list[str]) -> list[_Phone]:
    """Phones with the index of the word whose event they follow; events without a name are pauses."""
    word_at: list[int] = []  # the word that each character of the text belongs to
    for index, word in enumerate(told):
        word_at += [index] * (len(word) + 1)
    phones: list[_Phone] = []
    word, word_start, running = 0, None, False
    for at, kind, *rest in events:
        if kind == "phone" and rest[0].startswith("("):
            continue  # "(en)": the engine changes its language
        if kind == "phone" and running and rest[0] and not _has_letter(rest[0]):
            phones[-1].name += rest[0]  # palatalisation and the like
            continue
        if running:  # whatever comes next ends the phone
            phones[-1].end, running = at, False
        if kind == "word":
            word, word_start = word_at[min(rest[0], len(word_at) - 1)], at
        elif rest[0].strip(STRESS):
            # A word begins at its own event; its first phone is reported later by its closure or its onset.
            phones.append(_Phone(at if word_start is None else word_start, at, at, rest[0], word))
            word_start, running = None, True
    return phones


def _has_letter(name: str) -> bool:
    return any(unicodedata.category(character) in ("Ll", "Lo") for character in name)


def _revive_merged(phones: list[_Phone], shortest: int) -> None:
    """Give time to phones of no length: the engine draws a final sonorant as part of what precedes or follows it."""
    for i, phone in enumerate(phones):
        if phone.end - phone.start >= shortest:
            continue
        before, after = phones[i - 1] if i else None, phones[i + 1] if i + 1 < len(phones) else None
        if after is not None and after.start == phone.end and after.onset - after.start >= 2 * shortest:
            phone.end = after.start = after.start + (after.onset - after.start) * 3 // 5
        elif before is not None and before.end == phone.start:
            phone.start = before.end = before.end - (before.end - before.start) * 2 // 5


def _begin_stops_with_closure(phones: list[_Phone], hold: int) -> None:
    """The event of a stop is its burst; the hold before it lies at the end of the previous phone's interval."""
    for i, phone in enumerate(phones):
        if not phone.ipa.startswith(STOPS) or phone.onset - phone.start >= hold // 4:
            continue
        closure = phone.onset - hold
        if i == 0:
            phone.start = max(0, closure)
        elif phones[i - 1].end < phone.start:
            phone.start = max(phones[i - 1].end, closure)
        else:
            before = phones[i - 1]
            phone.start = before.end = max(closure, (before.start + before.end) // 2)


def _split_merged_words(phones: list[_Phone], citation: list[list[str]]) -> None:
    """Share out phones of merged words ("of the" has one event) by how each word sounds by itself."""
    heads = sorted({phone.word for phone in phones})
    for head, stop in zip(heads, [*heads[1:], len(citation)], strict=True):
        if stop - head > 1:
            own = [phone for phone in phones if phone.word == head]
            sizes = _best_split([phone.ipa for phone in own], citation[head:stop])
            for phone, word in zip(own, np.repeat(np.arange(head, stop), sizes), strict=True):
                phone.word = int(word)


def _best_split(names: Sequence[str], parts: Sequence[Sequence[str]]) -> list[int]:
    """Sizes of consecutive non-empty pieces of `names`, one for each part, at the least total edit distance."""
    best: list[dict[int, tuple[float, list[int]]]] = [{0: (0.0, [])}]
    for part in parts:
        row: dict[int, tuple[float, list[int]]] = {}
        for begin, (cost, sizes) in best[-1].items():
            for end in range(begin + 1, len(names) + 1):
                candidate = (cost + _edit_distance(names[begin:end], [p.strip(STRESS) for p in part]), sizes)
                if end not in row or candidate[0] < row[end][0]:
                    row[end] = (candidate[0], [*sizes, end - begin])
        best.append(row)
    return best[-1].get(len(names), (0.0, [len(names)] + [0] * (len(parts) - 1)))[1]


def _edit_distance(a: Sequence[str], b: Sequence[str]) -> float:
    """Levenshtein's, where a vowel for a vowel costs half: they are reduced in running speech."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            swap = 0.0 if x == y else 0.5 if x[0] in VOWELS and y[0] in VOWELS else 1.0
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + swap)
    return row[-1]
