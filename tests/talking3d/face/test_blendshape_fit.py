from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from talking3d.face import blendshape_fit
from talking3d.face.blendshape_fit import ARKIT_OF, bounds, fit_coefficients, starting_coefficients
from talking3d.face.procedural import procedural_face


def test_the_solver_finds_the_bounded_minimum():
    rng = np.random.default_rng(0)
    rows, wanted, start = rng.normal(size=(30, 6)), 6 * rng.normal(size=(4, 30)), rng.uniform(0, 1, (4, 6))
    stay, low, high = rng.uniform(0.1, 3, 6), np.zeros(6), np.ones(6)
    found = blendshape_fit._solve(rows, wanted, start, stay, low, high)
    for goal, first, ours in zip(wanted, start, found, strict=True):
        theirs = lsq_linear(
            np.concatenate([rows, np.diag(stay)]), np.concatenate([goal, stay * first]), (low, high), tol=1e-12
        ).x
        np.testing.assert_allclose(ours, theirs, atol=2e-4)
    assert ((found > 0.01) & (found < 0.99)).any() and (found == 0).any() and (found == 1).any()


def test_a_rig_is_fitted_to_itself():
    face = procedural_face()
    coefficients = np.random.default_rng(0).uniform(0, 0.8, (5, 16)).astype(np.float32)
    coefficients[:, face.articulation_names.index("lower_depress")] = 0.5  # keeps the lips apart
    found = fit_coefficients(face, face, face.offsets(coefficients), coefficients)
    np.testing.assert_allclose(found, coefficients, atol=0.02)
    blind = fit_coefficients(face, face, face.offsets(coefficients))
    lips = face.region("lips")
    away = 1e3 * np.linalg.norm((face.offsets(blind) - face.offsets(coefficients))[:, lips], axis=-1)
    assert away.mean() < 1.0


def test_bounds_follow_the_names():
    face = procedural_face()
    names = ("jawOpen", "mouthSmile_L", "expression_003", "jaw_open")
    face = replace(face, articulation_basis=face.articulation_basis[:4], articulation_names=names)
    low, high = bounds(face)
    assert low.tolist() == [0, 0, -3, -0.5] and high.tolist() == [1, 1, 3, 1.4]


def test_the_table_is_used_in_both_directions():
    own = procedural_face()
    arkit = sorted({shape for shapes in ARKIT_OF.values() for shape in shapes})
    still = np.zeros((len(arkit), *own.verts.shape), np.float32)
    other = replace(own, articulation_basis=still, articulation_names=tuple(arkit))
    coefficients = np.zeros((1, 16), np.float32)
    coefficients[0, [0, 14]] = 0.5, 1.0  # jaw_open, blink
    start = starting_coefficients(own, other, 1, coefficients)
    named = {name: value for name, value in zip(arkit, start[0], strict=True) if value}
    assert named == pytest.approx({"jawOpen": 0.24, "eyeBlink_L": 1.0, "eyeBlink_R": 1.0})
    back = starting_coefficients(other, own, 1, start)
    assert back[0, 0] == pytest.approx(0.5) and back[0, 14] == pytest.approx(1.0)
    assert not starting_coefficients(own, other, 2, None).any()
