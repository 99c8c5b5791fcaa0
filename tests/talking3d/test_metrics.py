"""Each metric against a slow, obvious twin; and what a user can get wrong."""

import math

import numpy as np
import pytest

from avsr.errors import InputError
from talking3d.face.from_mesh import read_indices
from talking3d.metrics import (
    closure_rate,
    closures,
    fdd,
    ldtw_mm,
    lip_errors,
    lip_intensity_mm,
    lve,
    lve_mm,
    mtm_ms,
    mve_mm,
    slcc_terms,
)


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


def test_the_literatures_masks_on_motion_of_biwis_size(shared):
    """CodeTalker's index lists as they are published, against loops over their numbers."""
    lips, upper = (read_indices(shared / "biwi" / name, 23370) for name in ("lve.txt", "fdd.txt"))
    assert (len(lips), len(upper)) == (4996, 7784)
    for name, indices in (("lve.txt", lips), ("fdd.txt", upper)):
        listed = [int(number) for number in (shared / "biwi" / name).read_text().split(",")]
        assert indices.tolist() == sorted(listed) and len(set(listed)) == len(listed)
    rng = np.random.default_rng(0)
    true = [rng.normal(0, 2e-3, (n, 23370, 3)).astype(np.float32) for n in (3, 5)]
    pairs = [(motion + rng.normal(0, 1e-3, motion.shape).astype(np.float32), motion) for motion in true]

    def squared(a, b):
        return sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))

    worst = [max(squared(p[v], t[v]) for v in lips) for pred, true in pairs for p, t in zip(pred, true, strict=True)]
    assert lve(pairs, lips) == pytest.approx(sum(worst) / 8, rel=1e-6)
    assert lve_mm(pairs, lips) == pytest.approx(1e3 * sum(map(math.sqrt, worst)) / 8, rel=1e-6)

    def dynamics(motion):
        deviations = []
        for v in upper:
            moved = [squared(frame[v], (0, 0, 0)) for frame in motion]
            mean = sum(moved) / len(moved)
            deviations.append(math.sqrt(sum((m - mean) ** 2 for m in moved) / len(moved)))
        return sum(deviations) / len(deviations)

    differences = [dynamics(true) - dynamics(pred) for pred, true in pairs]
    signed, absolute = fdd(pairs, upper)
    assert signed == pytest.approx(sum(differences) / 2, rel=1e-5)
    assert absolute == pytest.approx(sum(map(abs, differences)) / 2, rel=1e-5)


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


def test_ldtw_is_the_cheapest_monotonic_path(pairs):
    """Against every path, by recursion; what is left is the mean cost along it."""

    def cheapest(cost, i, j):
        if i == j == 0:
            return [(0, 0)]
        before = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        paths = [cheapest(cost, a, b) for a, b in before if a >= 0 and b >= 0]
        return min(paths, key=lambda path: sum(cost[k] for k in path)) + [(i, j)]

    expected = []
    for pred, true in pairs:
        n = 5
        cost = {
            (i, j): np.mean([math.dist(map(float, pred[i, v]), map(float, true[j, v])) for v in LIPS])
            for i in range(n)
            for j in range(n)
        }
        path = cheapest(cost, n - 1, n - 1)
        expected.append(sum(cost[k] for k in path) / len(path))
    assert ldtw_mm([(p[:5], t[:5]) for p, t in pairs], LIPS) == pytest.approx(1e3 * np.mean(expected), rel=1e-5)


def test_ldtw_forgives_timing_and_lve_does_not():
    rng = np.random.default_rng(0)
    true = np.cumsum(rng.normal(0, 0.001, (40, 12, 3)), axis=0).astype(np.float32)
    late = true[np.maximum(np.arange(40) - 2, 0)]
    assert ldtw_mm([(late, true)], LIPS) < 0.5 * mve_mm([(late, true)])
    assert ldtw_mm([(true, true)], LIPS) == 0


def opening(n, shift=0.0):
    """A mouth that opens every 16 frames or so, never twice alike."""
    t = np.arange(n) - shift
    return 5 + 4 * np.sin(2 * np.pi * t / 16) * (1 + 0.3 * np.sin(2 * np.pi * t / 70))


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_mtm_is_the_shift_of_a_shifted_mouth(shift):
    """Each extremum lies `shift` frames of 40 ms later; the smoothing moves both alike."""
    misaligned, paired = mtm_ms([(opening(200, shift), opening(200))])
    assert misaligned == pytest.approx(40 * shift, abs=4) and paired > 0.9
    back, _ = mtm_ms([(opening(200), opening(200, shift))])
    assert back == pytest.approx(misaligned, abs=4)


def test_mtm_does_not_depend_on_size_and_pools_extrema():
    one, other = (opening(200, 2), opening(200)), (opening(100), opening(100))
    scaled = mtm_ms([(3 * one[0] + 1, one[1])])[0]
    assert scaled == pytest.approx(mtm_ms([one])[0], abs=8)
    pooled = mtm_ms([one, other])[0]
    assert mtm_ms([other])[0] < pooled < mtm_ms([one])[0]


def test_mtm_of_a_mouth_that_never_moves():
    misaligned, paired = mtm_ms([(np.full(100, 3.0), opening(100))])
    assert np.isnan(misaligned) and paired == 0.0


def test_mtm_of_unequal_lengths():
    with pytest.raises(InputError, match="lip openings of 90 and 100 frames: give both of one length"):
        mtm_ms([(opening(90), opening(100))])


def test_lip_intensity_is_the_naive_loop():
    offsets = 1e-3 * np.random.default_rng(0).standard_normal((9, 12, 3))
    lips = np.array([1, 4, 7])
    means = [np.mean([np.linalg.norm(offsets[t + 1, v] - offsets[t, v]) for v in lips]) for t in range(8)]
    assert lip_intensity_mm(offsets, lips) == pytest.approx(1e3 * np.sqrt(np.mean(np.square(means))))
    assert lip_intensity_mm(offsets[:1], lips) == 0
    assert lip_intensity_mm(offsets + 0.3, lips) == pytest.approx(lip_intensity_mm(offsets, lips))


def test_slcc_is_pearsons_r_of_what_is_normalised_by_speaker():
    rng = np.random.default_rng(1)
    speakers = np.repeat(["a", "b", "c"], [5, 9, 6])
    level = {"a": 0.01, "b": 0.2, "c": 3.0}
    speech = np.array([level[who] for who in speakers]) * (1 + rng.random(20))
    lips = 2 * speech / np.array([level[who] ** 2 for who in speakers]) + rng.random(20)
    z = [np.concatenate([(v - v.mean()) / v.std() for v in np.split(x, [5, 14])]) for x in (speech, lips)]
    terms = slcc_terms(speech, lips, speakers)
    assert terms.mean() == pytest.approx(np.corrcoef(*z)[0, 1])
    order = rng.permutation(20)
    np.testing.assert_allclose(slcc_terms(speech[order], lips[order], speakers[order]), terms[order])
    assert slcc_terms(speech, speech, speakers).mean() == pytest.approx(1)


def test_slcc_leaves_out_who_never_varies():
    speech, lips = np.arange(1.0, 10), np.array([0.3, 0.3, 0.3, 4, 5, 6, np.nan, 1, 2])
    terms = slcc_terms(speech, lips, list("aaabbbbcc"))
    assert np.isfinite(terms).tolist() == [False] * 3 + [True] * 3 + [False] * 3
    assert terms[3:6].mean() == pytest.approx(1)
