"""The embedded corpus: synthetic speakers with known words, phones and motion, made from a seed in about a minute.

A TTS engine speaks, rules move a procedural face, the renderer draws its lips. Out come `<split>/manifest.jsonl`,
`audio/`, `alignment/`, `motion/`, `lips/`, `templates/<speaker>.npz` and `speakers.json`. Everything measured on it is
measured on synthetic speech and synthetic faces.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from avsr.data.alignment import write_alignment
from avsr.data.manifest import write_manifest
from avsr.data.noise import pink_noise
from avsr.errors import InputError
from avsr.files import write_json
from avsr.media.audio import write_wav
from avsr.media.timing import FPS, SAMPLE_RATE
from avsr.media.video import write_lips
from avsr.parallel import worker_pool
from talking3d.corpus.articulation import LipAperture, Style, articulate, head_motion, random_style
from talking3d.corpus.sentences import distinct_sentences, grid_sentence, open_sentence, spoken_grid
from talking3d.corpus.tts import STRESS, Synthesizer
from talking3d.face.motion import Motion
from talking3d.face.procedural import random_identity
from talking3d.face.template import FaceTemplate
from talking3d.out_folder import claim
from talking3d.render.look import random_look
from talking3d.render.renderer import render_lips

# Variants of espeak-ng that speak plainly; the unseen speakers' never speak in training.
TRAIN_VOICES = ("m1", "f1", "m2", "f2", "m3", "f3", "m5", "f5", "m6", "linda", "adam", "belinda", "max", "steph", "ed")
TRAIN_VOICES += ("klatt2", "klatt3", "klatt6")
UNSEEN_VOICES = ("m4", "f4", "Andy", "anika", "m7", "klatt4", "paul", "klatt5")

# Speech and motion without pictures: the student learns from it, and `talking3d draw` draws it when lips are wanted.
MOTION_ONLY = ("open_train",)
CANDIDATES = 4  # of which open_train takes the sentence with the most m

IDLE_BEFORE_S, IDLE_AFTER_S = (0.1, 0.4), (0.16, 0.4)  # lips take time to close
SPEECH_RMS_DB, NOISE_BELOW_SPEECH_DB = (-30.0, -22.0), (35.0, 50.0)
PEAK = 0.95
TILT_DB_PER_OCTAVE, BUMP_DB = 2.0, 4.0  # how far a speaker's timbre and microphone may colour the sound

# First words of the seeds; a stream is never used for two things.
SPEAKER_STREAM, SENTENCE_STREAM, UTTERANCE_STREAM = 1, 2, 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preset:
    """Numbers of speakers, and of utterances in each split."""

    train_speakers: int
    unseen_speakers: int
    train: int
    valid: int
    test_seen: int
    test_unseen: int
    open_train: int
    open_valid: int
    open_test: int


PRESETS = {
    "smoke": Preset(6, 3, train=60, valid=10, test_seen=10, test_unseen=12, open_train=24, open_valid=4, open_test=6),
    "default": Preset(
        *(18, 7), train=960, valid=60, test_seen=100, test_unseen=150, open_train=1200, open_valid=40, open_test=60
    ),
    "full": Preset(
        *(54, 16), train=4800, valid=200, test_seen=300, test_unseen=450, open_train=6000, open_valid=100, open_test=200
    ),
}
SPLITS = tuple(field.name for field in dataclasses.fields(Preset))[2:]


@dataclass(frozen=True)
class Speaker:
    """A voice and a manner of moving; the face is in templates/<name>.npz."""

    name: str
    unseen: bool
    variant: str
    pitch: int
    pitch_range: int
    rate: int
    formant_scale: float
    tilt_db_per_octave: float
    bump_db: float
    bump_hz: float
    style: Style


@dataclass(frozen=True)
class Line:
    """One utterance to make."""

    utt_id: str
    split: str
    speaker: Speaker
    words: tuple[str, ...]
    seed: tuple[int, ...]


def make_mini(out_dir: str | Path, preset: str | Preset = "default", seed: int = 0, n_jobs: int = 2) -> Path:
    """Make the embedded corpus in `out_dir`; the same preset and seed give the same bytes, however many jobs.

    Utterances that are there already are kept, so an interrupted call continues and a finished one returns at once.

    Args:
        preset: "smoke", "default", "full", or a `Preset`.
        n_jobs: processes.

    Raises:
        InputError: an unknown preset, a folder that holds a corpus of another preset or seed, no espeak-ng.
    """
    out_dir, sizes = Path(out_dir), preset
    if not isinstance(sizes, Preset):
        if preset not in PRESETS:
            raise InputError(f"no preset {preset!r} of the embedded corpus: expected one of {', '.join(PRESETS)}")
        sizes = PRESETS[preset]
    claim(out_dir, {"preset": dataclasses.asdict(sizes), "seed": seed}, "a corpus made from", "corpus.json")
    if all((out_dir / split / "manifest.jsonl").is_file() for split in SPLITS):
        logger.info("%s holds the whole corpus already", out_dir)
        return out_dir

    engine = f"espeak-ng {_synthesizer().version}"
    speakers = draw_speakers(sizes, seed)
    for index, speaker in enumerate(speakers):
        path = out_dir / "templates" / f"{speaker.name}.npz"
        if not path.is_file():
            random_identity(np.random.default_rng((SPEAKER_STREAM, seed, index, 1))).save(path)
    who = [dataclasses.asdict(speaker) for speaker in speakers]
    write_json(out_dir / "speakers.json", {"engine": engine, "speakers": who})

    lines = draw_lines(sizes, seed, speakers)
    rows: dict[str, list[dict]] = {split: [] for split in SPLITS}
    made = _run(functools.partial(make_utterance, out_dir=str(out_dir)), lines, n_jobs)
    for line, row in zip(lines, tqdm(made, "utterances", total=len(lines), disable=None), strict=True):
        rows[line.split].append(row)
    for split in SPLITS:
        write_manifest(out_dir / split / "manifest.jsonl", rows[split])
    return out_dir


def draw_speakers(sizes: Preset, seed: int) -> list[Speaker]:
    """The speakers of training, then the unseen ones; voices are shared out in turn, the rest is drawn."""
    speakers = []
    for index in range(sizes.train_speakers + sizes.unseen_speakers):
        unseen = index >= sizes.train_speakers
        rng = np.random.default_rng((SPEAKER_STREAM, seed, index))
        voices, turn = (UNSEEN_VOICES, index - sizes.train_speakers) if unseen else (TRAIN_VOICES, index)
        speakers.append(
            Speaker(
                name=f"s{index + 1:02d}",
                unseen=unseen,
                variant=voices[turn % len(voices)],
                pitch=int(rng.integers(35, 66)),
                pitch_range=int(rng.integers(35, 70)),
                rate=int(rng.integers(130, 176)),
                formant_scale=round(float(rng.uniform(0.93, 1.07)), 3),
                tilt_db_per_octave=round(float(rng.uniform(-1, 1)) * TILT_DB_PER_OCTAVE, 2),
                bump_db=round(float(rng.uniform(-1, 1)) * BUMP_DB, 2),
                bump_hz=round(float(np.exp(rng.uniform(np.log(300), np.log(4000)))), 1),
                style=random_style(rng),
            )
        )
    return speakers


def draw_lines(sizes: Preset, seed: int, speakers: list[Speaker]) -> list[Line]:
    """Who says what: no sentence occurs twice in the corpus, so every test sentence is held out."""
    lines: list[Line] = []
    taken: set[tuple[str, ...]] = set()
    for split_index, split in enumerate(SPLITS):
        rng = np.random.default_rng((SENTENCE_STREAM, seed, split_index))
        sentences = distinct_sentences(functools.partial(_sentence, split, rng), getattr(sizes, split), taken)
        for i, words in enumerate(sentences):
            speaker = _speaker_of(split, i, speakers)
            utt_id = f"{speaker.name}-{split}-{i:04d}"
            lines.append(Line(utt_id, split, speaker, words, (UTTERANCE_STREAM, seed, split_index, i)))
    return lines


def make_utterance(line: Line, out_dir: str) -> dict:
    """Speak, move and, but for MOTION_ONLY, draw one utterance; return its manifest row. Keeps files that are there."""
    folder = Path(out_dir)
    audio, lips = folder / "audio" / f"{line.utt_id}.wav", folder / "lips" / f"{line.utt_id}.mp4"
    alignment, motion = folder / "alignment" / f"{line.utt_id}.json", folder / "motion" / f"{line.utt_id}.npz"
    template = folder / "templates" / f"{line.speaker.name}.npz"
    drawn = line.split not in MOTION_ONLY
    if not all(path.is_file() for path in (audio, alignment, motion, *([lips] if drawn else []))):
        rng = np.random.default_rng(line.seed)
        waveform, phones, words = _speak(line, rng)
        write_wav(audio, waveform)
        write_alignment(alignment, words, [(start, end, ipa.strip(STRESS)) for start, end, ipa in phones])
        face, aperture = _face(str(template))
        coefficients = articulate(phones, len(waveform) / SAMPLE_RATE, line.speaker.style, aperture, rng)
        head_pose = head_motion(len(coefficients), line.speaker.style, rng)
        Motion.of_template(face, FPS, coefficients=coefficients, head_pose=head_pose).save(motion)
        if drawn:
            write_lips(lips, render_lips(face, face.offsets(coefficients), head_pose, random_look(rng)))
    return {
        "utt_id": line.utt_id,
        "speaker": line.speaker.name,
        "text": " ".join(line.words),
        "audio": str(audio),
        "duration_s": soundfile.info(audio).frames / SAMPLE_RATE,
        "lips": str(lips) if drawn else None,
        "motion": str(motion),
        "template": str(template),
        "alignment": str(alignment),
        "source": "rendered",
        "generator": "rules",
        "language": "en",
    }


def _speak(line: Line, rng: np.random.Generator) -> tuple[np.ndarray, list, list]:
    """Waveform (S,) with idle room noise before and after speech, and the intervals of phones and words in it."""
    speaker = line.speaker
    said = _synthesizer().synthesize(
        " ".join(line.words),
        spoken=None if line.split.startswith("open") else spoken_grid(line.words),
        variant=speaker.variant,
        pitch=int(np.clip(speaker.pitch + rng.integers(-3, 4), 0, 99)),
        pitch_range=speaker.pitch_range,
        rate=speaker.rate + int(rng.integers(-12, 13)),
        formant_scale=speaker.formant_scale,
    )
    before, after = (round(rng.uniform(*idle_s) * SAMPLE_RATE) for idle_s in (IDLE_BEFORE_S, IDLE_AFTER_S))
    speech = _coloured(said.waveform.astype(np.float64), speaker)
    level = 10 ** (rng.uniform(*SPEECH_RMS_DB) / 20)
    speech *= level / np.sqrt(np.mean(speech**2))
    waveform = np.concatenate([np.zeros(before), speech, np.zeros(after)])
    room = pink_noise(len(waveform), rng).astype(np.float64)
    waveform += room * (level * 10 ** (-rng.uniform(*NOISE_BELOW_SPEECH_DB) / 20) / np.sqrt(np.mean(room**2)))
    waveform *= min(1.0, PEAK / np.abs(waveform).max())
    return waveform.astype(np.float32), *(_shifted(i, before / SAMPLE_RATE) for i in (said.phones, said.words))


def _coloured(speech: np.ndarray, speaker: Speaker) -> np.ndarray:
    """Speech (S,) through the speaker's equaliser: a tilt about 1 kHz and one broad bump or dip."""
    size = 1 << int(np.ceil(np.log2(len(speech) + 1)))
    hertz = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 50.0)
    gain_db = np.clip(speaker.tilt_db_per_octave * np.log2(hertz / 1000), -8, 8)
    gain_db += speaker.bump_db * np.exp(-0.5 * (np.log2(hertz / speaker.bump_hz) / 0.5) ** 2)
    return np.fft.irfft(np.fft.rfft(speech, size) * 10 ** (gain_db / 20), size)[: len(speech)]


def _shifted(intervals: list, by_s: float) -> list:
    return [(round(start + by_s, 5), round(end + by_s, 5), label) for start, end, label in intervals]


def _sentence(split: str, rng: np.random.Generator, i: int) -> tuple[str, ...]:
    """Every other sentence of open_test has words that training lacks.

    open_train is rich in m: chance gives ten n for each, and a student that takes m for n leaves the mouth open.
    """
    if split == "open_train":
        return max((open_sentence(rng) for _ in range(CANDIDATES)), key=lambda words: "".join(words).count("m"))
    if split.startswith("open"):
        return open_sentence(rng, held_out=split == "open_test" and i % 2 == 0)
    return grid_sentence(rng)


def _speaker_of(split: str, i: int, speakers: list[Speaker]) -> Speaker:
    """Speakers take turns; every other pair of open_test is unseen speakers', with and without new words."""
    unseen, turn = split == "test_unseen", i
    if split == "open_test":
        unseen, turn = i % 4 >= 2, i // 4 * 2 + i % 2
    cast = [speaker for speaker in speakers if speaker.unseen == unseen]
    return cast[turn % len(cast)]


def _run(make: Callable[[Line], dict], lines: list[Line], n_jobs: int) -> Iterator[dict]:
    """make(line) for all lines, in order."""
    if n_jobs <= 1:
        yield from _single_threaded(make, lines)
        return
    # The first is made here, so that the renderer's kernels are compiled and cached once, before the workers load them.
    yield from _single_threaded(make, lines[:1])
    with worker_pool(n_jobs) as pool:
        yield from pool.map(make, lines[1:], chunksize=4)


def _single_threaded(make: Callable[[Line], dict], lines: list[Line]) -> Iterator[dict]:
    """As a worker process does it: sums in the resampler depend on the number of threads."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from map(make, lines)
    finally:
        torch.set_num_threads(n_threads)


@functools.cache
def _synthesizer() -> Synthesizer:
    return Synthesizer()


@functools.lru_cache(maxsize=64)
def _face(path: str) -> tuple[FaceTemplate, LipAperture]:
    template = FaceTemplate.load(path)
    return template, LipAperture.of_template(template)
