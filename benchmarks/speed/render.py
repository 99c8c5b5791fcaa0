"""Frames a second of drawing the mini face on one core (and on a GPU where there is one), by every backend.

    python -m benchmarks.speed render [--json OUT]

"draw" is `renderer.render_lips` or `render_face`, which give uint8 pictures; "forward" is the differentiable road
without and "forward+backward" with gradients to the vertices. One sample a pixel is what PyTorch3D's rasteriser takes;
clips are drawn with 2 x 2. Each figure is the median of several repeats after a warm-up, in seconds of processor time
(on a GPU: of the clock). "of torch" is against the vectorised torch backend on the CPU, in the same run.
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from avsr.errors import InputError
from talking3d.face.procedural import procedural_face
from talking3d.face.template import FaceTemplate
from talking3d.render.culling import part_in_view
from talking3d.render.differentiable import Painter, outside_bits
from talking3d.render.look import Look
from talking3d.render.renderer import face_shot, lip_shot, render_face, render_lips

REPEATS = 5
FACE_SIZE = 512
FRAMES = {"lips": 100, "face": 10}
TWIN_FRAMES = {"lips": 20, "face": 2}  # the slow ones', to keep the run short


def talking(template: FaceTemplate, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (T, V, 3) and head pose (T, 6) of a face that opens and rounds its mouth and turns a little."""
    names, phase = list(template.articulation_names), np.arange(n_frames) / 3
    coefficients = np.zeros((n_frames, len(names)), np.float32)
    coefficients[:, names.index("jaw_open")] = 0.4 + 0.4 * np.sin(phase)
    coefficients[:, names.index("lip_round")] = 0.4 + 0.4 * np.sin(0.7 * phase)
    head_pose = np.zeros((n_frames, 6), np.float32)
    head_pose[:, 1] = 0.05 * np.sin(0.2 * phase)
    return template.offsets(coefficients), head_pose


def frames_per_second(run: Callable[[], object], n_frames: int, device: str = "cpu") -> float:
    """Median rate over `REPEATS` runs, after one that warms up."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    rates = []
    for _ in range(REPEATS + 1):
        began = clock()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        rates.append(n_frames / (clock() - began))
    return float(np.median(rates[1:]))


def measure() -> list[dict]:
    """Rows of view, size, triangles in view, samples, backend, device, what, frames_per_s."""
    torch.set_num_threads(1)
    face, rows = procedural_face(), []
    for view, size in (("lips", 96), ("face", FACE_SIZE)):
        for samples in (1, 2) if view == "lips" else (2,):
            for backend, device in _backends(face):
                rows += _measure_view(face, view, size, samples, backend, device)
    return rows


def _backends(face: FaceTemplate):
    yield from (("cpu", "cpu"), ("torch", "cpu"))
    if torch.cuda.is_available():
        yield "torch", "cuda"
    try:
        render_lips(face, np.zeros((1, *face.verts.shape), np.float32), backend="pytorch3d")
        yield "pytorch3d", "cuda" if torch.cuda.is_available() else "cpu"
    except InputError:
        pass  # not installed


def _measure_view(face, view, size, samples, backend, device) -> list[dict]:
    n_frames = (FRAMES if backend == "cpu" or device == "cuda" else TWIN_FRAMES)[view]
    offsets, head_pose = talking(face, n_frames)
    look = Look()
    shot = lip_shot(face, offsets, head_pose, look) if view == "lips" else face_shot(face, n_frames, look, size)
    painter = Painter(face, look, samples=samples, backend=backend).to(device)
    moved = painter.tensor(offsets)

    def draw():
        if view == "lips":
            return render_lips(face, offsets, head_pose, look, samples=samples, backend=backend)
        return render_face(face, offsets, head_pose, look, size, backend=backend)

    def forward():
        with torch.no_grad():
            return painter.linear(moved, head_pose, shot)

    def forward_backward():
        leaf = moved.clone().requires_grad_()
        painter.linear(leaf, head_pose, shot).square().mean().backward()

    outside = outside_bits(painter.points(moved, head_pose, shot)[0], (samples * size, samples * size))
    in_view = len(part_in_view(face.faces, painter.surface.interior_faces, outside).faces)
    ways = {"draw": draw} if backend == "cpu" else {}
    ways |= {"forward": forward, "forward+backward": forward_backward}
    described = {"view": view, "size": size, "triangles": in_view, "samples": samples, "backend": backend}
    return [
        described | {"device": device, "what": what, "frames_per_s": frames_per_second(run, n_frames, device)}
        for what, run in ways.items()
    ]


def table(rows: list[dict]) -> str:
    """The rows as a Markdown table, each beside the torch backend's rate for the same task."""
    twin = {_task(row): row["frames_per_s"] for row in rows if (row["backend"], row["device"]) == ("torch", "cpu")}
    lines = ["| view | triangles in view | samples/px | backend | device | | frames/s | of torch |", "|" + "---|" * 8]
    for row in rows:
        of = twin.get(_task(row if row["what"] != "draw" else row | {"what": "forward"}))
        lines.append(
            f"| {row['view']} {row['size']} px | {row['triangles']:,} | {row['samples']} x {row['samples']} | "
            f"{row['backend']} | {row['device']} | {row['what']} | {row['frames_per_s']:,.0f} | "
            f"{row['frames_per_s'] / of:.1f} |"
        )
    return "\n".join(lines)


def _task(row: dict) -> tuple:
    return row["view"], row["samples"], row["what"]
