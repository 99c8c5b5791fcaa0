"""Each metric against a slow, obvious twin; and what a user can get wrong."""

import math

import numpy as np
import pytest

from avsr.errors import InputError
from talking3d.metrics import closure_rate, closures, fdd, lip_errors, lve, lve_mm, mve_mm


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    true = [rng.normal(0, 0.004, (n, 12, 3)).astype(np.float32) for n in (5, 9)]
    return [(motion + rng.normal(0, 0.001, motion.shape).astype(np.float32), motion) for motion in true]


LIPS = np.array([1, 4, 7])
UPPER = np.array([0, 2, 11])


def _max_squared(pred, true, t):
    worst = 0.0
    for v in LIPS:
        worst = max(worst, sum((float(pred[t, v, axis]) - float(true[t, v, axis])) ** 2 for axis in range(3)))
    return worst


def test_lve_is_the_pooled_mean_of_the_largest_squared_distance(pairs):
    worst = [_max_squared(pred, true, t) for pred, true in pairs for t in range(len(true))]
    assert lve(pairs, LIPS) == pytest.approx(sum(worst) / 14, rel=1e-9)


def test_lve_mm_roots_each_frame_before_the_mean(pairs):
    worst_mm = [1e3 * math.sqrt(_max_squared(pred, true, t)) for pred, true in pairs for t in range(len(true))]
    assert lve_mm(pairs, LIPS) == pytest.approx(sum(worst_mm) / 14, rel=1e-9)
    assert lve_mm(pairs, LIPS) < 1e3 * math.sqrt(lve(pairs, LIPS))  # Jensen: not one the root of the other


def test_mve_is_the_mean_distance_over_frames_and_vertices(pairs):
    distances = [
        math.dist(map(float, pred[t, v]), map(float, true[t, v]))
        for pred, true in pairs
        for t in range(len(true))
        for v in range(12)
    ]
    assert mve_mm(pairs) == pytest.approx(1e3 * sum(distances) / len(distances), rel=1e-9)


def test_fdd_signed_and_absolute(pairs):
    def dynamics(motion):
        deviations = []
        for v in UPPER:
            squares = [sum(float(x) ** 2 for x in frame[v]) for frame in motion]
            mean = sum(squares) / len(squares)
            deviations.append(math.sqrt(sum((s - mean) ** 2 for s in squares) / len(squares)))
        return sum(deviations) / len(deviations)

    differences = [dynamics(true) - dynamics(pred) for pred, true in pairs]
    signed, absolute = fdd(pairs, UPPER)
    assert signed == pytest.approx(sum(differences) / 2, rel=1e-6)
    assert absolute == pytest.approx(sum(map(abs, differences)) / 2, rel=1e-6)


def test_fdd_is_positive_for_a_prediction_that_stands_still(pairs):
    still = [(np.zeros_like(true), true) for _, true in pairs]
    signed, absolute = fdd(still, UPPER)
    assert signed == absolute > 0


def test_a_longer_prediction_is_cut_to_the_truth(pairs):
    pred, true = pairs[0]
    longer = np.concatenate([pred, pred + 1])
    assert np.array_equal(lip_errors(longer, true, LIPS), lip_errors(pred, true, LIPS))


def test_closures_look_at_bilabials_only_and_before_the_burst():
    aperture_mm = np.full(25, 8.0)
    aperture_mm[9] = 0.2  # centre at 0.38 s
    phones = [(0.10, 0.20, "p"), (0.25, 0.35, "a"), (0.42, 0.50, "b"), (0.6, 0.7, "ˈm")]
    assert closures(aperture_mm, phones) == [False, True, False]
    assert closure_rate([(aperture_mm, phones)]) == pytest.approx(1 / 3)
    assert math.isnan(closure_rate([(aperture_mm, [(0.1, 0.2, "a")])]))


def test_another_topology_is_an_error(pairs):
    pred, true = pairs[0]
    with pytest.raises(InputError, match="one topology"):
        lip_errors(pred[:, :5], true, LIPS)


def test_a_shorter_prediction_is_an_error(pairs):
    pred, true = pairs[0]
    with pytest.raises(InputError, match="has 4 frames, the truth 5"):
        lip_errors(pred[:4], true, LIPS)


def test_a_phone_past_the_motion_is_an_error():
    with pytest.raises(InputError, match="outside the motion's 10 frames"):
        closures(np.ones(10), [(3.0, 3.1, "b")])
