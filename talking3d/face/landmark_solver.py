"""A rigged face laid over 2D landmarks: pose and coefficients of a whole clip, by bounded penalised least squares.

Each frame has six numbers of pose (a rotation vector about the head's pivot, a shift, a share of scale: the camera is a
weak perspective one) and K coefficients. Points are weighed by Huber's function, so that a few that a detector lost do
little; second differences over time and the distance of coefficients from 0 cost. Gauss-Newton steps on all frames at
once: their normal equations are banded, and are solved exactly. Coefficients that would leave their bounds stop there
(an active set: Nocedal and Wright, Numerical Optimization, chapter 16).

Lengths are millimetres of the template throughout. Letters: T frames, P landmarks, K coefficients, N = 6 + K, R rows.
"""

from dataclasses import dataclass

import numpy as np

from talking3d.render.camera import PIVOT_M, rotation_matrices

N_POSE = 6
PIVOT_MM = 1e3 * PIVOT_M.astype(np.float64)
HUBER_MM = 1.5  # a point further off than this pulls no harder
# The dearness of bending over time, mm: a second difference of 1 costs as much as such an error of one point.
POSE_BEND = np.array([150.0, 150.0, 150.0, 3.0, 3.0, 300.0])  # rad, mm and the share of scale: a head is slow
COEFFICIENT_BEND = 2.0
_STEPS, _TIGHTENINGS = 25, 6
_DONE = 1e-3


@dataclass(frozen=True)
class Rig:
    """What moves: points at rest (P, 3), their displacements (K, P, 3) by unit, the weight of each point (P,), how dear
    (K,) each coefficient is, its bounds low, high (K,); a rotation vector (3,), and how dear (6,) it is
    to leave it and no shift and the scale of 1. Extra rows: `gap_basis` (C, K), weighed by `gap_weight`."""

    rest: np.ndarray
    basis: np.ndarray
    weight: np.ndarray
    stay: np.ndarray
    low: np.ndarray
    high: np.ndarray
    usual_turn: np.ndarray
    pose_stay: np.ndarray
    gap_basis: np.ndarray | None = None
    gap_weight: float = 0.0


def project(rig: Rig, pose: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Points (T, P, 2) of the rig: pose (T, 6) as rotation vector, shift, share of scale; coefficients (T, K)."""
    turned, _ = _turned(rig, pose, coefficients)
    return _scale(pose) * (turned[..., :2] + PIVOT_MM[:2] + pose[:, None, 3:5])


def solve(
    rig: Rig, points: np.ndarray, seen: np.ndarray, gaps: np.ndarray | None = None, start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pose (T, 6) and coefficients (T, K) that lay the rig over points (T, P, 2).

    seen (T,): frames whose points count; the others are bridged. gaps (T, C): what `rig.gap_basis` shall come to.
    start (T, N): of an earlier solution.
    """
    n_frames, n_basis = len(points), len(rig.basis)
    x = np.zeros((n_frames, N_POSE + n_basis))
    x[:, :3] = rig.usual_turn
    x = x if start is None else start.copy()
    low = np.concatenate([np.full(N_POSE, -np.inf), rig.low])
    high = np.concatenate([np.full(N_POSE, np.inf), rig.high])
    bend = np.square(np.concatenate([POSE_BEND, np.full(n_basis, COEFFICIENT_BEND)]))
    stay = np.square(np.concatenate([rig.pose_stay, rig.stay]))
    home = np.concatenate([rig.usual_turn, np.zeros(3 + n_basis)])
    for _ in range(_STEPS):
        hessian, gradient = _normal_equations(rig, x, points, seen, gaps)
        hessian[:, np.arange(len(stay)), np.arange(len(stay))] += stay + 1e-6
        gradient += stay * (x - home) + bend * _bending(x)
        step = _bounded_step(hessian, bend, gradient, low - x, high - x)
        x = x + step
        if np.abs(step).max() < _DONE:
            break
    return x[:, :N_POSE], x[:, N_POSE:]


def _scale(pose):
    return 1 + pose[:, 5, None, None]


def _turned(rig: Rig, pose, coefficients):
    """The rig's points (T, P, 3) turned about the pivot, from there; and the rotations (T, 3, 3)."""
    rotations = rotation_matrices(pose[:, :3]).astype(np.float64)
    moved = rig.rest - PIVOT_MM + np.tensordot(coefficients, rig.basis, axes=1)
    return moved @ np.swapaxes(rotations, 1, 2), rotations


def _normal_equations(rig: Rig, x, points, seen, gaps):
    """Second derivative (T, N, N), but for what frames share, and gradient (T, N) of the data's cost, halved."""
    n_frames, n_points = points.shape[:2]
    turned, rotations = _turned(rig, x[:, :N_POSE], x[:, N_POSE:])
    scale = _scale(x)
    unscaled = turned[..., :2] + PIVOT_MM[:2] + x[:, None, 3:5]
    residual = scale * unscaled - points  # (T, P, 2)
    jacobian = np.zeros((n_frames, n_points, 2, x.shape[1]))
    jacobian[..., 0, 1], jacobian[..., 0, 2] = turned[..., 2], -turned[..., 1]  # a further turn: cross products
    jacobian[..., 1, 0], jacobian[..., 1, 2] = -turned[..., 2], turned[..., 0]
    further = np.eye(3) + 0.5 * np.cross(x[:, None, :3], np.eye(3)).swapaxes(1, 2)  # of the vector: to first order
    jacobian[..., :3] = jacobian[..., :3] @ further[:, None]
    jacobian[..., 0, 3] = jacobian[..., 1, 4] = 1.0
    jacobian[..., N_POSE:] = np.einsum("tij,kpj->tpik", rotations[:, :2], rig.basis, optimize=True)
    jacobian *= scale[..., None]
    jacobian[..., 5] = unscaled
    off = np.linalg.norm(residual, axis=-1)
    weight = np.square(rig.weight) * np.minimum(1, HUBER_MM / np.maximum(off, 1e-9)) * seen[:, None]
    rows = jacobian.reshape(n_frames, 2 * n_points, -1)
    weighed = rows * np.repeat(weight, 2, axis=1)[..., None]
    hessian = np.swapaxes(weighed, 1, 2) @ rows
    gradient = np.einsum("trn,tr->tn", weighed, residual.reshape(n_frames, -1))
    if gaps is not None:
        share = rig.gap_weight**2 * seen[:, None]
        hessian[:, N_POSE:, N_POSE:] += share[..., None] * (rig.gap_basis.T @ rig.gap_basis)
        gradient[:, N_POSE:] += share * (x[:, N_POSE:] @ rig.gap_basis.T - gaps) @ rig.gap_basis
    return hessian, gradient


def _bending(x):
    """The gradient (T, N) of half the sum of squared second differences over time."""
    out = np.zeros_like(x)
    if len(x) > 2:
        second = x[:-2] - 2 * x[1:-1] + x[2:]
        out[:-2] += second
        out[1:-1] -= 2 * second
        out[2:] += second
    return out


def _bounded_step(hessian, bend, gradient, low, high):
    """A step (T, N) towards the minimum between low and high (T, N): what would leave them stops there, and the others
    are solved for again."""
    held = ((low >= 0) & (gradient > 0)) | ((high <= 0) & (gradient < 0))
    stopped = np.zeros_like(gradient)
    for _ in range(_TIGHTENINGS):
        rest = gradient + (hessian @ stopped[..., None])[..., 0] + bend * _bending(stopped)
        step = stopped - _banded_solve(hessian, bend, rest, held)
        over = ~held & ((step < low) | (step > high))
        if not over.any():
            break
        stopped = np.where(over, np.clip(step, low, high), stopped)
        held |= over
    return np.clip(step, low, high)


def _banded_solve(hessian, bend, gradient, held):
    """The step (T, N) of all frames together; `held` (T, N) ones stay."""
    from scipy.linalg import solveh_banded

    n_frames, size = gradient.shape
    free = ~held
    hessian = hessian * (free[:, :, None] & free[:, None, :])
    rows, columns = np.tril_indices(size)
    band = np.zeros((2 * size + 1, n_frames, size))
    band[(rows - columns)[None], np.arange(n_frames)[:, None], columns[None]] = hessian[:, rows, columns]
    if n_frames > 2:  # the squared second difference: 1 -2 1 with itself
        for first, second, share in ((0, 0, 1), (1, 1, 4), (2, 2, 1), (0, 1, -2), (1, 2, -2), (0, 2, 1)):
            both = free[first : n_frames - 2 + first] & free[second : n_frames - 2 + second]
            band[(second - first) * size, first : n_frames - 2 + first] += share * bend * both
    band[0] += held
    step = solveh_banded(band.reshape(2 * size + 1, -1), (gradient * free).ravel(), lower=True, overwrite_ab=True)
    return step.reshape(n_frames, size)
