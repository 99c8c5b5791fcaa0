"""What a landmark detector would say of a template that talks, with the motion known."""

import numpy as np

from avsr.media.landmarks import Landmarks
from talking3d.face.template import FaceTemplate
from talking3d.render.camera import apply_head_pose

PX_PER_MM = 0.8
DETECTED_GAP_MM = 3.0  # of the inner lips where they touch


def talk(face: FaceTemplate, rng: np.random.Generator, n_frames: int = 100) -> np.ndarray:
    """Coefficients (T, K): at rest for half a second, then open and shut, round and spread by turns."""
    time = np.maximum(0, np.arange(n_frames) - 12) / 25
    column = {name: k for k, name in enumerate(face.articulation_names)}
    coefficients = np.zeros((n_frames, len(column)), np.float32)
    phase = rng.uniform(-0.5, 0.5)
    coefficients[:, column["jaw_open"]] = 0.5 * np.clip(np.sin(np.pi * 1.7 * time) * 1.3, 0, 1)
    coefficients[:, column["lip_spread"]] = 0.4 * np.sin(np.pi * 1.1 * time + phase) * np.minimum(time, 1)
    return coefficients


def sway(n_frames: int) -> np.ndarray:
    """A slow head pose (T, 6)."""
    time = np.arange(n_frames) / 25
    pose = np.zeros((n_frames, 6), np.float32)
    pose[:, 0], pose[:, 1] = 0.04 * np.sin(1.5 * time), 0.06 * np.sin(time)
    pose[:, 3] = 0.004 * np.sin(2 * time)
    return pose


def film(
    face: FaceTemplate, coefficients: np.ndarray, rng: np.random.Generator | None = None, noise_px: float = 0.3
) -> Landmarks:
    """The landmarks (T, 68, 2) of the moving face, through a distant camera; without rng they are exact."""
    verts = apply_head_pose(face.verts + face.offsets(coefficients), sway(len(coefficients)))
    points = 1e3 * verts[:, face.landmarks, :2].astype(np.float64)
    points[:, [61, 62, 63], 1] += DETECTED_GAP_MM / 2
    points[:, [65, 66, 67], 1] -= DETECTED_GAP_MM / 2
    points = PX_PER_MM * points * (1, -1) + (180, 170)
    if rng is not None:
        points += noise_px * rng.standard_normal(points.shape)
    return Landmarks(points.astype(np.float32), np.ones(len(points), bool), "dlib")
