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
from avsr.media.timing import FPS, frames_of
from avsr.media.video import write_video
from talking3d.activity import speech_activity
from talking3d.face.align import common_landmarks
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face
from talking3d.face.template import FaceTemplate
from talking3d.face.transfer import transfer
from talking3d.generators import load_generator
from talking3d.models.head_pose import PoseVAE
from talking3d.models.motion_model import MotionModel
from talking3d.render.renderer import render_face, render_lips
from talking3d.style import style_of_clips

SUFFIXES = (".mp4", ".npz")
CHECKPOINT_VARIABLE = "LIPLOOP_AUDIO2MESH"
RECIPE_CHECKPOINT = Path(__file__).resolve().parents[1] / "egs/mini/exp/default/audio2mesh/checkpoint"

SWAY_DEG = (1.0, 1.6, 0.8)  # nod, turn, tilt: standard deviations

LIDS = ("blink", "eyeBlink_L", "eyeBlink_R", "eyeBlinkLeft", "eyeBlinkRight")  # ours, ICT-FaceKit's, ARKit's
BLINKS_PER_MINUTE = 26  # in conversation, of 150 people (Bentivoglio et al., Movement Disorders 12, 1997)
# Between blinks time is skewed: mostly short, at times long (Garcia et al., IOVS 52, 2011); a log-normal distribution
# with this coefficient of variation from one blink to the next (Doughty, Clin. Exp. Optom. 99, 2016).
INTERVAL_VARIATION = 0.8
# Lids close within about 0.1 s (Stern et al., Psychophysiology 21, 1984), 1.43 times as fast as they open again (Sforza
# et al., Ophthalmic Physiol. Opt. 28, 2008). Shut they stay for one frame, so that every blink is seen.
CLOSING_S, OPENING_S, SHUT_S = 0.1, 0.143, 1 / FPS
LENGTH_SPREAD = 0.2  # standard deviation of the logarithm of a blink's length against the average one's
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
    head: str | Path | None = None,
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
        head: checkpoint of a `PoseVAE` that moves the head; None: it sways a little (`head_sway`), whatever is said.

    Raises:
        InputError: unknown suffix of `out`, `head` without `idle`, unreadable or silent speech, no checkpoint, an
            unknown style, a template of another topology without the landmarks that motion is carried over by.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise InputError(f"{out}: cannot write {out.suffix or 'a file without suffix'!r}; use {' or '.join(SUFFIXES)}")
    if head is not None and not idle:
        raise InputError(f"a head that stands still cannot move as {head} has it: give either --head or --no_idle")
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
        motion = add_blinks(motion, speaker, rng)
        motion = dataclasses.replace(motion, head_pose=move_head(waveform, rng, head))
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
    """The motion with blinks of both eyes at once, if the template has an articulation of `LIDS`; else as it is."""
    lids = [k for k, name in enumerate(template.articulation_names) if name in LIDS]
    if not lids:
        return motion
    articulation = np.zeros((motion.n_frames, len(template.articulation_names)), np.float32)
    articulation[:, lids] = _blinks(motion.n_frames, rng)[:, None]
    if motion.coefficients is None:
        return dataclasses.replace(motion, offsets=motion.offsets + template.offsets(articulation))
    return dataclasses.replace(motion, coefficients=motion.coefficients + articulation)


def move_head(waveform: np.ndarray, rng: np.random.Generator, checkpoint: str | Path | None = None) -> np.ndarray:
    """Head pose (T, 6) for speech (S,): of a `PoseVAE`, facing the viewer; `head_sway` without one."""
    if checkpoint is None:
        return head_sway(frames_of(len(waveform)), rng)
    return PoseVAE.from_pretrained(checkpoint).sample(waveform, rng, posture=np.zeros(6))


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
    """Closure of the eyelids (T,) in [0, 1] of someone who speaks; the first blink is an interval after the start.

    From the start of a blink to that of the next it takes 60 / BLINKS_PER_MINUTE s on average, a log-normal variable of
    the coefficient of variation INTERVAL_VARIATION. A longer clip begins as a shorter one does.
    """
    spread = np.sqrt(np.log1p(INTERVAL_VARIATION**2))
    middle_s = 60 / BLINKS_PER_MINUTE * np.exp(-(spread**2) / 2)
    times_s = (np.arange(n_frames) + 0.5) / FPS
    closure = np.zeros(n_frames, np.float32)
    start_s = 0.0
    while True:
        interval, length = rng.standard_normal(2)
        start_s += middle_s * np.exp(spread * interval)
        if start_s * FPS >= n_frames:
            return closure
        slow = np.exp(LENGTH_SPREAD * length)
        knots_s = start_s + np.cumsum([0, slow * CLOSING_S, SHUT_S, slow * OPENING_S])
        frames = slice(int(start_s * FPS), int(knots_s[-1] * FPS) + 1)
        lids = np.interp(times_s[frames], knots_s, [0.0, 1.0, 1.0, 0.0])
        closure[frames] = np.maximum(closure[frames], lids * lids * (3 - 2 * lids))
