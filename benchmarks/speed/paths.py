"""Frames a second of the hot paths between a face and its lips on disk, on one core.

    python -m benchmarks.speed paths [--json OUT]

Each row is the median of several repeats over the same clip of the procedural face, after a warm-up that compiles the
kernels. "x real time" is against the kit's 25 frames a second; "of drawing" puts each beside the drawing of lip crops.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from avsr.media.audio import log_mel
from avsr.media.timing import FPS, samples_of
from avsr.media.video import read_lips, write_lips
from talking3d.face.procedural import procedural_face
from talking3d.render.look import Look
from talking3d.render.renderer import render_face, render_lips

REPEATS = 5
CLIP_FRAMES, PORTRAIT_FRAMES = 75, 10


def frames_per_second(path: Callable[[], object], n_frames: int) -> float:
    """Median over `REPEATS` of n_frames by the seconds of processor time that `path` takes; one run goes before."""
    path()
    rates = []
    for _ in range(REPEATS):
        began = time.process_time()
        path()
        rates.append(n_frames / (time.process_time() - began))
    return float(np.median(rates))


def measure() -> dict[str, float]:
    """Frames a second of each path."""
    torch.set_num_threads(1)
    face = procedural_face()
    coefficients = np.zeros((CLIP_FRAMES, len(face.articulation_names)), np.float32)
    coefficients[:, 0] = 0.4 + 0.4 * np.sin(np.arange(CLIP_FRAMES) / 3)  # the jaw
    head_pose = np.zeros((CLIP_FRAMES, 6), np.float32)
    offsets, look = face.offsets(coefficients), Look(pixel_noise=0.01, blur_px=0.5)
    lips = render_lips(face, offsets, head_pose, look)
    waveform = torch.randn(samples_of(CLIP_FRAMES))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lips.mp4"
        return {
            "pose the mesh": frames_per_second(lambda: face.offsets(coefficients), CLIP_FRAMES),
            "draw lip crops, 96 px": frames_per_second(
                lambda: render_lips(face, offsets, head_pose, look), CLIP_FRAMES
            ),
            "draw the head, 512 px": frames_per_second(
                lambda: render_face(face, offsets[:PORTRAIT_FRAMES], None, look), PORTRAIT_FRAMES
            ),
            "write lip crops": frames_per_second(lambda: write_lips(path, lips), CLIP_FRAMES),
            "read lip crops": frames_per_second(lambda: read_lips(path), CLIP_FRAMES),
            "log-mel of the sound": frames_per_second(lambda: log_mel(waveform), CLIP_FRAMES),
        }


def table(rates: dict[str, float]) -> str:
    """The rates as a Markdown table."""
    drawing = rates["draw lip crops, 96 px"]
    lines = ["| path | frames/s | x real time | of drawing |", "|---|---|---|---|"]
    lines += [f"| {path} | {rate:,.0f} | {rate / FPS:,.0f} | {rate / drawing:.2f} |" for path, rate in rates.items()]
    return "\n".join(lines)
