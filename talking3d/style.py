"""The style of somebody who was not heard in training, from clips of how they speak.

Letters: B clips, S samples, T video frames, K basis size, D style size.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avsr.errors import InputError
from avsr.media.audio import check_waveform, read_audio
from avsr.media.timing import FPS, frames_of, samples_of
from talking3d.corpus.motion_dataset import MAX_GAP_FRAMES, collate
from talking3d.face.motion import Motion
from talking3d.models.motion_model import MotionModel

PRIOR = 0.1  # loss of a style that lies a standard deviation from the training speakers' mean in every direction
STEPS = 20  # of L-BFGS


def fit_style(model: MotionModel, clips: Sequence[tuple[np.ndarray, np.ndarray]]) -> Tensor:
    """Find the style (D,) in which the model moves most like these clips, its weights as they are.

    The losses are those of training, but for a prior: styles are distributed as those of the training speakers.

    Args:
        model: a generator with `styles`, in eval mode.
        clips: speech (S,) at 16 kHz with its motion (T, K) in the model's basis.

    Raises:
        InputError: no clips; speech and motion that differ in length by more than five frames.
    """
    if not clips:
        raise InputError("no clip to take a style from: give at least one, with its sound")
    items = []
    for number, (waveform, motion) in enumerate(clips, start=1):
        n_frames = frames_of(len(waveform))
        if abs(n_frames - len(motion)) > MAX_GAP_FRAMES:
            raise InputError(
                f"style clip {number}: {len(motion)} frames of motion, but {n_frames} of sound at {FPS} fps: "
                "give the sound that belongs to the motion"
            )
        n_frames = min(n_frames, len(motion))
        clip = {"waveform": waveform[: samples_of(n_frames)], "motion": motion[:n_frames]}
        items.append({**clip, "utt_id": str(number), "template": None, "speaker": 0})
    batch = {k: v.to(model.basis.device) if isinstance(v, Tensor) else v for k, v in collate(items).items()}
    learned = model.styles.weight.detach()
    mean, spread = learned.mean(0), learned.std(0, correction=0).clamp(min=1e-6)
    offset = torch.zeros_like(mean, requires_grad=True)  # from the mean, in standard deviations
    optimizer = torch.optim.LBFGS([offset], max_iter=STEPS, line_search_fn="strong_wolfe")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def loss() -> Tensor:
        optimizer.zero_grad()
        speakers = (mean + offset * spread).expand(len(clips), -1)
        total = model({**batch, "speakers": speakers})["loss"] + PRIOR * offset.square().mean()
        total.backward()
        return total

    model.requires_grad_(False)
    try:
        optimizer.step(loss)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    return (mean + offset * spread).detach()


def style_of_clips(model: MotionModel, motions: Sequence[str | Path], sounds: Sequence[str | Path]) -> Tensor:
    """Find the style (D,) of motion files and the files of their sounds, in the same order.

    Raises InputError as `fit_style`, and: files that cannot be read, not one sound for each motion, silence, motion of
    another topology than the model's or at another rate.
    """
    if len(motions) != len(sounds):
        raise InputError(f"{len(motions)} style clips, but {len(sounds)} sounds: give one for each, in the same order")
    clips = []
    for motion_path, sound_path in zip(motions, sounds, strict=True):
        motion, waveform = Motion.load(motion_path), read_audio(sound_path)
        check_waveform(waveform, sound_path)
        if motion.fps != FPS:
            raise InputError(f"{motion_path} runs at {motion.fps:g} fps, expected {FPS}: resample it first")
        clips.append((waveform, model.project(motion)))
    return fit_style(model, clips)
