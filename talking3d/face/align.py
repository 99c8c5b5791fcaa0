"""Laying one face over another by their landmarks.

Letters: N points, P pairs of points.
"""

from dataclasses import dataclass, replace

import numpy as np

from avsr.errors import InputError
from talking3d.face.template import FaceTemplate

MOUTH = range(48, 68)
CLOSEST_M = 1e-4  # landmarks nearer to each other than this count as one
# Of each iBUG point the one on the other side of the face.
MIRRORED = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36,
     41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)  # fmt: skip


@dataclass(frozen=True)
class Similarity:
    """points -> scale * rotation @ point + shift; rotation (3, 3), shift (3,)."""

    scale: float
    rotation: np.ndarray
    shift: np.ndarray

    def points(self, points: np.ndarray) -> np.ndarray:
        return self.scale * points @ self.rotation.T + self.shift

    def vectors(self, vectors: np.ndarray) -> np.ndarray:
        """Displacements (..., 3): scaled and turned, not shifted."""
        return self.scale * vectors @ self.rotation.T


def similarity(source: np.ndarray, target: np.ndarray) -> Similarity:
    """The similarity that takes points (P, 3) nearest to others (P, 3), in the least-squares sense.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    middle, goal = source.mean(axis=0), target.mean(axis=0)
    u, strengths, vt = np.linalg.svd((target - goal).T @ (source - middle))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u * signs @ vt
    scale = float((strengths * signs).sum() / np.square(source - middle).sum())
    return Similarity(scale, rotation, goal - scale * rotation @ middle)


def common_landmarks(source: FaceTemplate, target: FaceTemplate) -> np.ndarray:
    """The iBUG numbers that both templates have; InputError where the mouth's are not among them."""
    for face in (source, target):
        absent = [n for n in MOUTH if face.landmarks[n] < 0]
        if absent:
            raise InputError(
                f"face template {face.name!r} lacks the mouth's iBUG landmarks {absent}: motion is carried over by "
                "them; set them to vertex indices"
            )
    return np.flatnonzero((source.landmarks >= 0) & (target.landmarks >= 0))


def warp_by_landmarks(source: FaceTemplate, target: FaceTemplate, points: np.ndarray) -> np.ndarray:
    """Where points (N, 3) near the source's face lie on the target's: metres to metres.

    A similarity lays the source's landmarks over the target's; the biharmonic spline of what then remains takes each
    exactly to its fellow (radial basis |r| with an affine part: the thin-plate spline of three dimensions).
    """
    from scipy.interpolate import RBFInterpolator

    numbers = common_landmarks(source, target)
    here, there = (face.verts[face.landmarks[numbers]].astype(np.float64) for face in (source, target))
    laid = similarity(here, there)
    here = laid.points(here)
    apart = np.linalg.norm(here[:, None] - here[None], axis=-1) + np.eye(len(here))
    kept = ~(np.tril(apart < CLOSEST_M).any(axis=1))
    spline = RBFInterpolator(here[kept], (there - here)[kept], kernel="linear", degree=1)
    moved = laid.points(np.asarray(points, np.float64))
    return moved + spline(moved)


def shift_landmarks(face: FaceTemplate, numbers: np.ndarray, shifts_m: np.ndarray, smoothing: float) -> FaceTemplate:
    """The face whose landmarks `numbers` (P,) lie about shifts_m (P, 3) further, and all the rest with them.

    Shifts are made symmetrical: a detector's left and right points mean different things, a face's hardly do.
    smoothing: how far the spline of `warp_by_landmarks` may leave single shifts, 0 for not at all.
    """
    from scipy.interpolate import RBFInterpolator

    asked = np.full((len(MIRRORED), 3), np.nan)
    asked[numbers] = shifts_m
    both = np.stack([asked, asked[MIRRORED] * (-1, 1, 1)])[:, numbers]
    shifts = np.nanmean(both, axis=0)
    here = face.verts[face.landmarks[numbers]].astype(np.float64)
    spline = RBFInterpolator(here, shifts, kernel="linear", degree=0, smoothing=smoothing)
    return replace(face, verts=face.verts + spline(face.verts.astype(np.float64)))
