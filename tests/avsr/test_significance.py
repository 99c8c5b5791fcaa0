"""The bootstrap against a naive loop, and that it knows when there is nothing."""

import numpy as np
import pytest

from avsr.score import score
from avsr.significance import LEVEL, char_tally, difference, interval, pooled, resampled, word_tally


def tally_of(seed, mean, n=100):
    """Errors of n utterances of 5 to 9 words."""
    rng = np.random.default_rng(seed)
    words = rng.integers(5, 10, size=n)
    return np.stack([100.0 * rng.binomial(words, mean), words], axis=-1)


def test_pooled_is_a_ratio_of_sums():
    assert pooled(np.array([[100, 4], [0, 1], [200, 5]])) == pytest.approx(30.0)
    both = pooled(np.array([[[1, 1], [0, 0]], [[3, 1], [0, 0]]]))
    assert both[0] == 2 and np.isnan(both[1])


def test_drawing_is_a_loop_over_utterances():
    tally = tally_of(0, 0.3, n=12)
    rng, naive = np.random.default_rng(7), []
    for drawn in rng.integers(12, size=(40, 12)):
        naive.append(sum(tally[i, 0] for i in drawn) / sum(tally[i, 1] for i in drawn))
    np.testing.assert_allclose(resampled(tally, 40, seed=7), naive)
    # several figures at once are drawn together, and no chunk repeats another
    both = resampled(np.stack([tally, tally * [2, 1]], axis=1), 2300, seed=7)
    assert both.shape == (2300, 2)
    np.testing.assert_allclose(both[:40, 0], naive)
    assert not np.array_equal(both[:1000], both[1000:2000])
    np.testing.assert_allclose(both[:, 1], 2 * both[:, 0])


def test_interval_covers_the_rate_and_narrows_with_more_utterances():
    few, many = tally_of(1, 0.3, 30), tally_of(1, 0.3, 480)
    (low, high), (low_many, high_many) = interval(few), interval(many)
    assert low < pooled(few) < high and low_many < pooled(many) < high_many
    assert (high - low) / (high_many - low_many) == pytest.approx(4, rel=0.5)
    assert interval(few) == interval(few)


def test_intervals_cover_the_truth_as_often_as_they_say():
    held = [low <= 30 <= high for low, high in (interval(tally_of(seed, 0.3), draws=300) for seed in range(200))]
    assert np.mean(held) == pytest.approx(LEVEL, abs=0.05)


def test_a_difference_is_found_and_none_is_not():
    bad = tally_of(2, 0.5)
    good = bad.copy()
    good[::2, 0] = 0
    found = difference(bad, good, draws=2000)
    assert found.difference == pytest.approx(pooled(good) - pooled(bad))
    assert found.low <= found.difference <= found.high < 0 and found.p == pytest.approx(2 / 2001)
    other_way = difference(good, bad, draws=2000)
    assert (other_way.low, other_way.high) == pytest.approx((-found.high, -found.low)) and other_way.p == found.p
    same = difference(bad, bad)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_p_is_small_by_chance_as_often_as_it_says():
    ps = [difference(tally_of(seed, 0.3), tally_of(1000 + seed, 0.3), draws=300).p for seed in range(300)]
    assert np.mean(np.array(ps) < 0.1) == pytest.approx(0.1, abs=0.06)


def test_draws_without_weight_are_left_out():
    tally = np.array([[1.0, 1.0], [0.0, 0.0]])
    assert np.isnan(resampled(tally, 50)).any()
    low, high = interval(tally)
    assert (low, high) == (1, 1)
    assert difference(tally, 2 * tally * [1, 0.5]).difference == pytest.approx(1.0)


def test_tallies_of_texts():
    scores = score({"u1": "set red", "u2": "now"}, {"u1": "set white", "u2": ""})
    assert word_tally(scores).tolist() == [[100, 2], [100, 1]]
    assert char_tally(scores)[1].tolist() == [300, 3]
    assert pooled(char_tally(scores)) == pytest.approx(scores.cer)
