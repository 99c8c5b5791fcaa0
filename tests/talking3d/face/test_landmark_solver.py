import numpy as np
from scipy.optimize import least_squares

from talking3d.face import landmark_solver
from talking3d.face.landmark_solver import COEFFICIENT_BEND, POSE_BEND, Rig, project, solve


def small_rig(**changes) -> Rig:
    rng = np.random.default_rng(0)
    parts = {
        "rest": rng.uniform(-60, 60, (20, 3)),
        "basis": 8 * rng.standard_normal((3, 20, 3)),
        "weight": rng.uniform(0.3, 1, 20),
        "stay": np.full(3, 2.0),
        "low": np.zeros(3),
        "high": np.full(3, 0.5),
        "usual_turn": np.array([0.05, -0.1, 0.02]),
        "pose_stay": np.array([10.0, 10, 10, 0, 0, 50]),
        "gap_basis": rng.standard_normal((2, 3)),
        "gap_weight": 2.0,
    }
    return Rig(**{**parts, **changes})


def moved(rig: Rig, n_frames: int, rng: np.random.Generator):
    pose = np.zeros((n_frames, 6))
    pose[:, :3] = rig.usual_turn + 0.03 * np.sin(np.arange(n_frames) / 5)[:, None]
    pose[:, 3:5] = rng.uniform(-2, 2, 2)
    coefficients = 0.25 + 0.6 * np.sin(np.arange(n_frames)[:, None] / 2 + 2 * np.arange(3))
    return pose, coefficients


def test_the_banded_steps_end_where_a_general_solver_does(monkeypatch):
    monkeypatch.setattr(landmark_solver, "HUBER_MM", 1e9)
    monkeypatch.setattr(landmark_solver, "_DONE", 1e-7)
    rng = np.random.default_rng(1)
    rig, n_frames = small_rig(), 6
    points = project(rig, *moved(rig, n_frames, rng)) + rng.standard_normal((n_frames, 20, 2))
    gaps, seen = rng.standard_normal((n_frames, 2)), np.array([1, 1, 0, 1, 1, 1], bool)
    bend = np.concatenate([POSE_BEND, np.full(3, COEFFICIENT_BEND)])

    def residuals(flat):
        x = flat.reshape(n_frames, 9)
        off = rig.weight[:, None] * (project(rig, x[:, :6], x[:, 6:]) - points)
        return np.concatenate(
            [
                off[seen].ravel(),
                rig.gap_weight * (x[:, 6:] @ rig.gap_basis.T - gaps)[seen].ravel(),
                (bend * np.diff(x, 2, axis=0)).ravel(),
                (rig.pose_stay * (x[:, :6] - np.concatenate([rig.usual_turn, np.zeros(3)]))).ravel(),
                (rig.stay * x[:, 6:]).ravel(),
                1e-3 * x[:, 3:6].ravel(),
            ]
        )

    low = np.tile([-np.inf] * 6 + [0.0] * 3, n_frames)
    high = np.tile([np.inf] * 6 + [0.5] * 3, n_frames)
    start = np.tile(np.concatenate([rig.usual_turn, [0, 0, 0, 0.25, 0.25, 0.25]]), n_frames)
    # rotations are float32: finer differences would be rounding
    theirs = least_squares(residuals, start, "3-point", (low, high), diff_step=1e-3, xtol=1e-12, ftol=1e-12)
    pose, coefficients = solve(rig, points, seen, gaps)
    ours = np.concatenate([pose, coefficients], axis=1).ravel()
    assert np.square(residuals(ours)).sum() <= 2 * theirs.cost * (1 + 1e-4)
    np.testing.assert_allclose(ours, theirs.x, atol=5e-3)
    assert (coefficients == 0).any() and (coefficients == 0.5).any()


def test_a_lost_point_pulls_little():
    rng = np.random.default_rng(2)
    rig = small_rig(high=np.ones(3), low=-np.ones(3))
    pose, coefficients = moved(rig, 30, rng)
    points = project(rig, pose, coefficients)
    seen = np.ones(30, bool)
    clean = solve(rig, points, seen)
    points[10:13, 4] += 40.0
    bad = solve(rig, points, seen)
    away = project(rig, *bad) - project(rig, *clean)
    assert np.linalg.norm(np.delete(away, 4, axis=1), axis=-1).max() < 1.5


def test_a_single_frame_needs_no_neighbours():
    rng = np.random.default_rng(3)
    rig = small_rig()
    pose, coefficients = moved(rig, 1, rng)
    coefficients = np.clip(coefficients, 0, 0.5)
    found = solve(rig, project(rig, pose, coefficients), np.ones(1, bool))
    assert np.abs(project(rig, *found) - project(rig, pose, coefficients)).max() < 2.0
