"""Speech to a talking face: read, predict, rest in silence, move head and eyes, draw, write.

Letters: S samples, T video frames, K basis size.
"""

import dataclasses
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from avsr.errors import InputError
from avsr.media.audio import check_waveform, read_audio
from avsr.media.timing import FPS
from avsr.media.video import write_video
from talking3d.activity import speech_activity
from talking3d.face.align import common_landmarks
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face
from talking3d.face.template import FaceTemplate
from talking3d.face.transfer import transfer
from talking3d.generators import load_generator
from talking3d.models.motion_model import MotionModel
from talking3d.render.renderer import render_face, render_lips
from talking3d.style import style_of_clips

SUFFIXES = (".mp4", ".npz")
CHECKPOINT_VARIABLE = "LIPLOOP_AUDIO2MESH"
RECIPE_CHECKPOINT = Path(__file__).resolve().parents[1] / "egs/mini/exp/default/audio2mesh/checkpoint"

SWAY_DEG = (1.0, 1.6, 0.8)  # nod, turn, tilt: standard deviations
BLINK = np.array([0.35, 0.9, 1.0, 0.75, 0.4, 0.15], np.float32)  # lids fall faster than they rise
DRAWN_AT_ONCE = 50  # frames
FACE_SIZE = 512  # px a side

logger = logging.getLogger(__name__)


def find_checkpoint(checkpoint: str | Path | None) -> Path | str:
    """The student to use: as given, else `$LIPLOOP_AUDIO2MESH`, else what egs/mini/run.sh trained in this checkout."""
    if checkpoint is not None:
        return checkpoint
    if CHECKPOINT_VARIABLE in os.environ:
        return os.environ[CHECKPOINT_VARIABLE]
    if RECIPE_CHECKPOINT.is_dir():
        return RECIPE_CHECKPOINT
    raise InputError(
        f"no student yet: run egs/mini/run.sh, which trains one, or give --checkpoint (or {CHECKPOINT_VARIABLE}) "
        "the folder of one"
    )


def animate(
    speech: str | Path,
    out: str | Path,
    checkpoint: str | Path | None = None,
    *,
    template: str | Path | None = None,
    style: str | None = None,
    style_clips: Sequence[str | Path] = (),
    style_sounds: Sequence[str | Path] = (),
    idle: bool = True,
    seed: int = 0,
    size: int = FACE_SIZE,
) -> Motion:
    """Animate a face to a file of speech and write a clip with its sound, or the motion.

    Args:
        speech: any sound or video file that `read_audio` reads.
        out: .mp4 (size x size pixels, 25 fps, with the sound) or .npz (`Motion`).
        checkpoint: of a generator (`generators.py`); None as `find_checkpoint` has it.
        template: another face, .npz; None: the checkpoint's own. To a face of another topology the motion is carried
            over (`talking3d.face.transfer`) and the error of that is logged.
        style: a training speaker's name; None: the average style, or that of `style_clips`.
        style_clips, style_sounds: motion files of somebody else and their sounds, whose style is found (`style.py`).
        idle: let the eyes blink and the head move a little; seed varies it.

    Raises:
        InputError: unknown suffix of `out`, unreadable or silent speech, no checkpoint, an unknown style, a template
            of another topology without the landmarks that motion is carried over by.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise InputError(f"{out}: cannot write {out.suffix or 'a file without suffix'!r}; use {' or '.join(SUFFIXES)}")
    waveform = read_audio(speech)
    check_waveform(waveform, speech)
    checkpoint = find_checkpoint(checkpoint)
    logger.info("student: %s", checkpoint)
    model = load_generator(checkpoint)
    if style is not None and (style_clips or style_sounds):
        raise InputError(f"a face speaks in one style: give either style ({style!r}) or style_clips")
    if style_clips or style_sounds:
        style = style_of_clips(model, style_clips, style_sounds)
    face = model.template if template is None else FaceTemplate.load(template)
    same = face.topology_hash == model.template.topology_hash
    speaker = face if same else model.template
    if not same:
        common_landmarks(speaker, face)
    motion = model.motion(speak(model, waveform, style), speaker)
    if idle:
        rng = np.random.default_rng(seed)
        motion = dataclasses.replace(add_blinks(motion, speaker, rng), head_pose=head_sway(motion.n_frames, rng))
    if not same:
        motion, error = transfer(motion, speaker, face)
        logger.warning("motion of %r carried to %r by %s", speaker.name, face.name, error)
    if out.suffix == ".npz":
        motion.save(out)
    else:
        render_clip(out, motion, face, waveform, size=size)
    return motion


def speak(model: MotionModel, waveform: np.ndarray, style: str | Tensor | None = None) -> np.ndarray:
    """Coefficients (T, K) of the face that speaks `waveform` (S,) and rests where nothing is said."""
    return model.predict(waveform, style) * speech_activity(waveform)[:, None]


def add_blinks(motion: Motion, template: FaceTemplate, rng: np.random.Generator) -> Motion:
    """The motion with blinks, if the template has an articulation "blink"; as it is otherwise."""
    if "blink" not in template.articulation_names:
        return motion
    articulation = np.zeros((motion.n_frames, len(template.articulation_names)), np.float32)
    articulation[:, template.articulation_names.index("blink")] = _blinks(motion.n_frames, rng)
    if motion.coefficients is None:
        return dataclasses.replace(motion, offsets=motion.offsets + template.offsets(articulation))
    return dataclasses.replace(motion, coefficients=motion.coefficients + articulation)


def head_sway(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Head pose (T, 6) of someone who speaks to you: rotations of a degree or so that wander and return, no shift."""
    window = np.hanning(4 * FPS + 1)
    drive = rng.standard_normal((3, n_frames + len(window) - 1))
    slow = [np.convolve(axis, window, mode="valid") / np.linalg.norm(window) for axis in drive]
    pose = np.zeros((n_frames, 6), np.float32)
    pose[:, :3] = np.deg2rad(SWAY_DEG) * np.stack(slow, axis=1)
    return pose


def render_clip(
    out: str | Path,
    motion: Motion,
    template: FaceTemplate,
    waveform: np.ndarray | None = None,
    *,
    size: int = FACE_SIZE,
    backend: str = "auto",
) -> None:
    """Draw a motion as a clip of the whole head, size x size, with sound where `waveform` is given.

    backend: of `rasterize.BACKENDS`. Memory is bounded.
    """

    def pictures() -> Iterator[np.ndarray]:
        for start in range(0, motion.n_frames, DRAWN_AT_ONCE):
            part = motion.part(slice(start, start + DRAWN_AT_ONCE))
            yield from render_face(template, part.offsets_for(template), part.head_pose, size=size, backend=backend)

    write_video(out, pictures(), waveform)


def render_motion(
    motion_path: str | Path,
    out: str | Path,
    *,
    template: str | Path | None = None,
    view: str = "face",
    audio: str | Path | None = None,
    size: int = FACE_SIZE,
    backend: str = "auto",
) -> None:
    """Draw a motion file as an .mp4: the head ("face") or the recogniser's view ("lips"), with `audio`'s sound.

    size: of the head's pictures, pixels a side. backend: of `rasterize.BACKENDS`.
    """
    out = Path(out)
    if out.suffix != ".mp4":
        raise InputError(f"{out}: cannot write {out.suffix or 'a file without suffix'!r}; use .mp4")
    motion = Motion.load(motion_path)
    if motion.fps != FPS:
        raise InputError(f"{motion_path} runs at {motion.fps:g} fps, expected {FPS}: resample it first")
    face = procedural_face() if template is None else FaceTemplate.load(template)
    waveform = None if audio is None else read_audio(audio)
    if view == "lips":
        lips = render_lips(face, motion.offsets_for(face), motion.head_pose, backend=backend)
        write_video(out, lips, waveform)
    else:
        render_clip(out, motion, face, waveform, size=size, backend=backend)


def _blinks(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Closure of the eyelids (T,) in [0, 1]: blinks of about a quarter of a second, every four seconds or so."""
    closure = np.zeros(n_frames, np.float32)
    start = 0
    while (start := start + round(FPS * rng.uniform(2.0, 6.0))) < n_frames:
        shape = BLINK[: n_frames - start]
        closure[start : start + len(shape)] = shape
    return closure
