"""Motion for every utterance of a manifest: a student's, and the controls that a judge of motion must tell from it."""

import hashlib
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from avsr.data.manifest import speaker_of, write_manifest
from avsr.errors import InputError
from avsr.media.audio import read_audio
from avsr.media.timing import FPS, frames_of
from talking3d.animate import head_sway, speak
from talking3d.face.template import FaceTemplate
from talking3d.models.motion_model import MotionModel
from talking3d.runtime import Runtime, device_name

MOTIONS = ("student", "mean", "shuffled", "static")


def predict_manifest(
    rows: list[dict], model: MotionModel, out_dir: str | Path, motion: str = "student", seed: int = 0
) -> Path:
    """Write out_dir/motion/<utt_id>.npz for each row and out_dir/manifest.jsonl, whose rows name it.

    For the student also out_dir/motion/runtime.json: how long each utterance took from sound to coefficients, one at a
    time. The first is said twice, so that what is done once for all is not counted.

    Args:
        rows: manifest rows with `audio`. A row's `template` is the face that moves, the model's own where it has none;
            a speaker whom the model knows speaks in that style.
        motion: "student"; or a control: "mean", the mean training motion in every frame; "shuffled", what the student
            says to another utterance's sound; "static", the face at rest.
        seed: of the shuffling and of the head's sway. An utterance sways alike in all four.

    Returns:
        the manifest's path; its rows have `motion`, `template`, `generator`, and `lips` no longer.

    Raises:
        InputError: an unknown motion, one utterance alone to shuffle, a template of another topology.
    """
    if motion not in MOTIONS:
        raise InputError(f"unknown motion {motion!r}; expected one of {', '.join(MOTIONS)}")
    out_dir = Path(out_dir)
    sources = derangement(len(rows), seed) if motion == "shuffled" else range(len(rows))
    if any(row.get("template") is None for row in rows):
        model.template.save(out_dir / "template.npz")
    written = []
    runtime = Runtime(device_name(next(model.parameters()).device))
    if motion == "student" and rows:
        speak(model, read_audio(rows[0]["audio"]))
    for row, source in zip(tqdm(rows, desc=f"{motion} motion", unit="utt", disable=None), sources, strict=True):
        n_frames = frames_of(len(read_audio(row["audio"])))
        waveform = read_audio(rows[source]["audio"])
        began_s = time.perf_counter()
        coefficients = _coefficients(model, waveform, row["speaker"], motion, n_frames)
        runtime.seconds[row["utt_id"]] = time.perf_counter() - began_s
        template = out_dir / "template.npz" if row.get("template") is None else Path(row["template"])
        try:
            face = FaceTemplate.load(template)
            moved = model.motion(coefficients, face, head_sway(n_frames, utterance_rng(seed, row["utt_id"])))
        except InputError as error:
            raise InputError(f"{row['utt_id']}: {error}") from error
        path = out_dir / "motion" / f"{row['utt_id']}.npz"
        moved.save(path)
        generator = model.NAME if motion == "student" else f"{model.NAME}-{motion}"
        written.append(moved_row(row, path, template, n_frames, generator))
    if motion == "student":
        runtime.save(out_dir / "motion")
    manifest = out_dir / "manifest.jsonl"
    write_manifest(manifest, written)
    return manifest


def moved_row(row: dict, motion: Path, template: Path, n_frames: int, generator: str) -> dict:
    """A manifest's row with another motion: of what was filmed or drawn nothing stays."""
    files = {"motion": str(motion), "template": str(template), "lips": None, "video": None, "landmarks": None}
    return {**row, **files, "duration_s": n_frames / FPS, "generator": generator}


def with_faces(rows: list[dict], faces: str | Path) -> list[dict]:
    """The rows with other templates: a file for all, or of each speaker a folder's <speaker>.npz.

    Raises InputError: a file that is not there, naming the utterance.
    """
    faces = Path(faces).resolve()
    given = []
    for row in rows:
        face = faces / f"{speaker_of(row)}.npz" if faces.is_dir() else faces
        if not face.is_file():
            raise InputError(f"{row['utt_id']}: no face {face}; give a template, or a folder with one for each speaker")
        given.append({**row, "template": str(face)})
    return given


def _coefficients(
    model: MotionModel, waveform: np.ndarray, speaker: str | None, motion: str, n_frames: int
) -> np.ndarray:
    """(n_frames, K); speech of another length than its motion shall have is cut or begun again."""
    if motion == "static":
        return np.zeros((n_frames, len(model.mean)), np.float32)
    if motion == "mean":
        return np.tile(model.mean.cpu().numpy(), (n_frames, 1))
    coefficients = speak(model, waveform, speaker if speaker in model.speakers else None)
    return coefficients[np.arange(n_frames) % len(coefficients)]


def derangement(n: int, seed: int) -> np.ndarray:
    """A permutation without fixed points: every utterance gets another one's sound."""
    if n < 2:
        raise InputError("shuffling needs at least two utterances: each gets the sound of another")
    order = np.random.default_rng(seed).permutation(n)
    shuffled = np.empty(n, dtype=int)
    shuffled[order] = np.roll(order, 1)
    return shuffled


def utterance_rng(seed: int, utt_id: str) -> np.random.Generator:
    """Random numbers that depend on the utterance, not on its company."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed} {utt_id}".encode()).digest()[:8], "big"))
