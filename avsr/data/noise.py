"""Noise and rooms: their kinds, mixing at a signal-to-noise ratio, and the manifests that fix them for evaluation.

A noise manifest is JSON lines, one per utterance: `utt_id kind sources snr_db seed`, where `sources` lists
[path, offset_samples] (16 kHz; paths relative to the manifest). A line may have `rir`, the impulse response of the room
that the speech is heard in; the ratio is then that of the reverberant speech, and with kind "none" (snr_db null) there
is only the room. Whoever has the manifest, and the files it names, hears the same; `noise_hash` is what to publish
beside a result.
"""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from avsr.data.conditions import is_count, is_number, lines_hash, parse_object, read_lines, utterance_seed
from avsr.errors import InputError
from avsr.files import write_jsonl
from avsr.media.audio import read_audio
from avsr.media.timing import SAMPLE_RATE

KINDS = ("babble", "recorded", "white", "pink", "talker")
ROOM_ONLY = "none"  # the kind of a line that has an impulse response and no noise
N_TALKERS = 6
NOISE_RMS = 0.1  # of generated noise, before mixing sets its level
SILENT_RMS = 1e-6
NOISE_FIELDS = ("utt_id", "kind", "sources", "snr_db", "seed")


def mix_at_snr(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise to speech (S,) at `snr_db`, the ratio of their powers over the whole utterance; (S,) float32.

    The speech keeps its level unless the sum would clip; then speech and noise are scaled down together, so the ratio
    stays.

    Raises:
        InputError: speech or noise is silent, or snr_db isn't finite.
    """
    if speech.shape != noise.shape:
        raise ValueError(f"speech {speech.shape} and noise {noise.shape} must have one length")
    if not math.isfinite(snr_db):
        raise InputError(f"snr_db must be a finite number of decibels, found {snr_db}.")
    speech_rms, noise_rms = _rms(speech), _rms(noise)
    for what, rms in (("speech", speech_rms), ("noise", noise_rms)):
        if not rms > SILENT_RMS:
            raise InputError(f"the {what} is silent, so no mixture of it has a ratio of {snr_db} dB.")
    gain = speech_rms / noise_rms * 10 ** (-snr_db / 20)
    mixed = speech + np.float32(gain) * noise
    peak = np.abs(mixed).max()
    if peak > 1:
        mixed /= peak
    return mixed.astype(np.float32, copy=False)


def reverberate(speech: np.ndarray, rir: np.ndarray) -> np.ndarray:
    """Speech (S,) as heard in the room of an impulse response (N,) at 16 kHz; (S,) float32.

    The response's largest value is taken for the direct path and stays where it is, so that words and lips keep their
    times. The speech keeps its RMS, unless it would clip.

    Raises:
        InputError: speech or impulse response is silent.
    """
    from scipy.signal import fftconvolve

    direct = np.abs(rir).argmax()
    level = _rms(speech)
    for what, is_silent in (("speech", not level > SILENT_RMS), ("impulse response", rir[direct] == 0)):
        if is_silent:
            raise InputError(f"the {what} is silent, so no room can be heard.")
    heard = fftconvolve(speech, rir / rir[direct])[direct : direct + len(speech)]
    heard *= min(level / _rms(heard), 1 / np.abs(heard).max())
    return heard.astype(np.float32, copy=False)


def disturb(speech: np.ndarray, line: dict, read: Callable[[str], np.ndarray] = read_audio) -> np.ndarray:
    """Speech (S,) in the room and in the noise of a noise manifest's line; `read` as in `load_noise`."""
    if "rir" in line:
        speech = reverberate(speech, read(line["rir"]))
    if line["kind"] == ROOM_ONLY:
        return speech
    return mix_at_snr(speech, load_noise(line, len(speech), read), line["snr_db"])


def voice_of(row: dict) -> str:
    """Whose voice a manifest row has: its speaker's, or where that is unknown a voice of its own."""
    speaker = row.get("speaker")
    return row["utt_id"] if speaker is None else speaker


def white_noise(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """White Gaussian noise (n_samples,) float32 of RMS 0.1 or so."""
    return NOISE_RMS * rng.standard_normal(n_samples, dtype=np.float32)


def pink_noise(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Pink Gaussian noise (n_samples,) float32: power falls by 3 dB an octave above 20 Hz."""
    size = 1 << max(n_samples - 1, 1024).bit_length()  # a power of two, for the FFT's sake
    spectrum = np.fft.rfft(rng.standard_normal(size, dtype=np.float32))
    hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(hertz, 20)), size)[:n_samples]
    return noise * np.float32(NOISE_RMS / _rms(noise))


def make_babble(
    waveforms: Sequence[np.ndarray], n_samples: int, rng: np.random.Generator, n_talkers: int = N_TALKERS
) -> np.ndarray:
    """Babble (n_samples,) float32: talkers drawn from `waveforms`, equally loud, each from a random place on.

    A talker that is shorter than the babble begins again. Talkers are different waveforms where there are enough.
    """
    if len(waveforms) == 0:
        raise InputError("babble needs at least one waveform to be made of.")
    chosen = rng.choice(len(waveforms), n_talkers, replace=len(waveforms) < n_talkers)
    talkers = [waveforms[i] for i in chosen]
    return _sum_talkers([(talker, int(rng.integers(len(talker)))) for talker in talkers], n_samples)


def recorded_noise(waveform: np.ndarray, path: str, n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """A stretch (n_samples,) float32 of a recording from a random place on; a short recording begins again."""
    return _sum_talkers([(waveform, _sounding_offset(waveform, path, rng))], n_samples)


def make_noise_manifest(
    rows: list[dict],
    *,
    kind: str,
    snr_db: float | None,
    seed: int,
    babble_rows: list[dict] | None = None,
    noise_paths: Sequence[str | Path] | None = None,
    rir_paths: Sequence[str | Path] | None = None,
) -> list[dict]:
    """Fix one noise for each utterance.

    What an utterance gets depends on the seed, its utt_id and the sources, not on the other rows and not on snr_db: at
    another SNR the noise is the same, only louder or softer, and in other noise the room is the same.

    Args:
        rows: manifest rows to be disturbed.
        kind: "babble", "recorded", "white", "pink", "talker" (one, with another voice), or "none": only the room.
        snr_db: signal-to-noise ratio in dB; None for "none".
        seed: of all draws.
        babble_rows: rows whose sound is the babble or the talker (default: `rows`); never its own.
        noise_paths: sound files of recorded noise, for "recorded".
        rir_paths: sound files of rooms' impulse responses; each utterance is heard in one of them.

    Returns:
        lines for `write_noise_manifest` and `load_noise`.

    Raises:
        InputError: unknown kind, no sources for it, or a recording that is silent throughout.
    """
    _check_kind(kind, "")
    if (kind != ROOM_ONLY) != is_number(snr_db):
        raise InputError(f"snr_db must be a finite number of decibels, and absent for {ROOM_ONLY!r}; found {snr_db}.")
    if kind == "recorded" and not noise_paths:
        raise InputError("recorded noise needs noise_paths, the sound files to take it from.")
    if kind == ROOM_ONLY and not rir_paths:
        raise InputError(f"{ROOM_ONLY!r} is a room without noise: it needs rir_paths, impulse responses.")
    read = _cached(read_audio)
    talkers = [row for row in (rows if babble_rows is None else babble_rows) if row["audio"] is not None]
    lines = []
    for row in rows:
        utt_id = row["utt_id"]
        line_seed = utterance_seed(seed, utt_id)
        rng = np.random.default_rng(line_seed)
        sources: list[list] = []
        if kind == "babble":
            others = [talker["audio"] for talker in talkers if talker["utt_id"] != utt_id]
            if not others:
                raise InputError(f"babble for {utt_id}: no other utterance to make it of.")
            chosen = rng.choice(len(others), N_TALKERS, replace=len(others) < N_TALKERS)
            sources = [[others[i], int(rng.integers(len(read(others[i]))))] for i in chosen]
        elif kind == "recorded":
            path = str(noise_paths[rng.integers(len(noise_paths))])
            sources = [[os.path.abspath(path), _sounding_offset(read(path), path, rng)]]
        elif kind == "talker":
            others = [talker["audio"] for talker in talkers if voice_of(talker) != voice_of(row)]
            if not others:
                raise InputError(f"talker for {utt_id}: no utterance of another speaker in the manifest.")
            path = others[rng.integers(len(others))]
            sources = [[path, _sounding_offset(read(path), path, rng)]]
        line = {"utt_id": utt_id, "kind": kind, "sources": sources, "snr_db": _decibels(snr_db), "seed": line_seed}
        if rir_paths:
            # its own generator, so that the room doesn't hang on what the noise drew
            rir_path = rir_paths[np.random.default_rng((line_seed, 1)).integers(len(rir_paths))]
            line["rir"] = os.path.abspath(rir_path)
        lines.append(line)
    return lines


def load_noise(line: dict, n_samples: int, read: Callable[[str], np.ndarray] = read_audio) -> np.ndarray:
    """The noise (n_samples,) float32 of one line of a noise manifest, at any level: `mix_at_snr` sets it.

    Args:
        line: from `make_noise_manifest` or `read_noise_manifest`.
        n_samples: length; recordings that are shorter begin again.
        read: reads a sound file as `read_audio` does; give one that caches where many lines share files.
    """
    rng = np.random.default_rng(line["seed"])
    if line["kind"] == "white":
        return white_noise(n_samples, rng)
    if line["kind"] == "pink":
        return pink_noise(n_samples, rng)
    talkers = [(read(path), offset) for path, offset in line["sources"]]
    for (waveform, offset), (path, _) in zip(talkers, line["sources"], strict=True):
        if offset >= len(waveform):
            raise InputError(
                f"noise for {line['utt_id']}: offset {offset} is past the end of {path} ({len(waveform)} samples); "
                "the file is not the one that the noise manifest was made of."
            )
    return _sum_talkers(talkers, n_samples)


def noise_hash(lines: list[dict]) -> str:
    """SHA-256 of a noise manifest: the same for the same noise, wherever its files lie and however it is sorted."""
    named = [_with_paths(line, lambda path: Path(path).name) for line in lines]
    return lines_hash([{**line, "snr_db": _decibels(line["snr_db"])} for line in named])


def write_noise_manifest(path: str | Path, lines: list[dict]) -> None:
    """Write noise lines as JSONL, whole or not at all; paths relative to the file's folder."""
    folder = os.path.abspath(Path(path).parent)
    write_jsonl(path, [_with_paths(line, lambda p: Path(os.path.relpath(p, folder)).as_posix()) for line in lines])


def read_noise_manifest(path: str | Path) -> list[dict]:
    """Read a noise manifest; paths become absolute.

    Raises:
        InputError: naming file and line: missing file, not JSON, wrong keys or types, unknown kind, a utt_id twice, a
            source that doesn't exist.
    """
    folder = os.path.abspath(Path(path).parent)

    def parse(text: bytes, where: str) -> dict:
        line = _parse_noise_line(text, where)
        line = _with_paths(line, lambda p: os.path.normpath(os.path.join(folder, p)))
        for file in [path for path, _ in line["sources"]] + ([line["rir"]] if "rir" in line else []):
            if not os.path.exists(file):
                raise InputError(f"{where}: {line['utt_id']}: noise file {file} doesn't exist.")
        return line

    return read_lines(path, "noise", parse)


def _parse_noise_line(text: bytes, where: str) -> dict:
    line = parse_object(text, where, NOISE_FIELDS, optional=("rir",))
    _check_kind(line["kind"], f"{where}: ")
    snr_db, seed, room_only = line["snr_db"], line["seed"], line["kind"] == ROOM_ONLY
    if not (snr_db is None if room_only else is_number(snr_db)) or not is_count(seed):
        raise InputError(f"{where}: snr_db must be a number and seed a count, found {snr_db!r} and {seed!r}.")
    sources = line["sources"]
    are_pairs = isinstance(sources, list) and all(isinstance(s, list) and len(s) == 2 for s in sources)
    if not are_pairs or not all(isinstance(p, str) and is_count(offset) for p, offset in sources):
        raise InputError(f"{where}: sources must be a list of [path, offset_samples], found {sources!r}.")
    if (line["kind"] in ("babble", "recorded", "talker")) != bool(sources):
        raise InputError(f"{where}: {line['kind']} noise with {len(sources)} sources.")
    if not isinstance(line.get("rir", ""), str) or (room_only and "rir" not in line):
        raise InputError(f"{where}: rir must be the path of an impulse response, found {line.get('rir')!r}.")
    return line


def _check_kind(kind: str, where: str) -> None:
    if kind not in (*KINDS, ROOM_ONLY):
        raise InputError(f"{where}noise kind {kind!r}: expected one of {', '.join((*KINDS, ROOM_ONLY))}.")


def _decibels(snr_db: float | None) -> float | None:
    return None if snr_db is None else float(snr_db)


def _with_paths(line: dict, change: Callable[[str], str]) -> dict:
    """A line with every path in it changed."""
    changed = {**line, "sources": [[change(path), offset] for path, offset in line["sources"]]}
    return changed | {"rir": change(line["rir"])} if "rir" in line else changed


def _sounding_offset(waveform: np.ndarray, path: str, rng: np.random.Generator) -> int:
    """A random place in a recording that isn't in a stretch of digital silence (ESC-50's clips are padded with it)."""
    sounding = np.flatnonzero(np.abs(waveform) > 1e-3)
    if sounding.size == 0:
        raise InputError(f"{path}: this noise is silent throughout.")
    return int(sounding[rng.integers(sounding.size)])


def _sum_talkers(talkers: list[tuple[np.ndarray, int]], n_samples: int) -> np.ndarray:
    """Equally loud sum of waveforms, each from its offset on and begun again where it ends."""
    total = np.zeros(n_samples, dtype=np.float32)
    for waveform, offset in talkers:
        rms = _rms(waveform)
        if rms > SILENT_RMS:
            total += np.resize(np.roll(waveform, -offset), n_samples) * np.float32(NOISE_RMS / rms)
    return total


def _rms(waveform: np.ndarray) -> float:
    # float64: the square of a 16-bit step underflows nothing, and long sums stay exact
    return math.sqrt(np.mean(np.square(waveform, dtype=np.float64)))


def _cached(read: Callable[[str], np.ndarray]) -> Callable[[str], np.ndarray]:
    known: dict[str, np.ndarray] = {}

    def reader(path: str) -> np.ndarray:
        if path not in known:
            known[path] = read(path)
        return known[path]

    return reader
