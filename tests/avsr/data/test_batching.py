"""avsr.data.batching: every utterance once, bounds kept, the same number of batches in every epoch."""

import numpy as np
import pytest

from avsr.data.batching import BucketBatchSampler
from avsr.errors import InputError


def lengths_of(kind):
    rng = np.random.default_rng(0)
    return {
        "alike": np.full(101, 75),
        "grid": rng.integers(60, 90, 500),
        "lrs": np.clip(rng.lognormal(4.3, 0.8, 700), 1, 1500).astype(int),
        "few": np.array([3, 900]),
    }[kind]


@pytest.mark.parametrize("kind", ["alike", "grid", "lrs", "few"])
@pytest.mark.parametrize("max_utts", [1, 16, 1000])
def test_epochs_hold_every_utterance_once_within_bounds(kind, max_utts):
    lengths = lengths_of(kind)
    sampler = BucketBatchSampler(lengths, max_frames=1500, max_utts=max_utts, shuffle=True, seed=3)
    for epoch in range(4):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
        for batch in batches:
            assert 1 <= len(batch) <= max_utts
            assert len(batch) * lengths[batch].max() <= 1500


def test_padding_is_small():
    lengths = lengths_of("lrs")
    sampler = BucketBatchSampler(lengths, max_frames=3000, max_utts=64, shuffle=True, seed=0)
    padded = sum(len(batch) * lengths[batch].max() for batch in sampler)
    assert padded < 1.1 * lengths.sum()
    assert len(sampler) < 1.3 * lengths.sum() / 3000  # and batches are nearly full


def test_batches_depend_on_seed_and_epoch_only():
    def epochs(seed):
        sampler = BucketBatchSampler(lengths_of("grid"), max_frames=1200, max_utts=16, shuffle=True, seed=seed)
        found = []
        for epoch in (0, 1, 0):
            sampler.set_epoch(epoch)
            found.append(list(sampler))
        return found

    first, second, first_again = epochs(0)
    assert first == first_again
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}
    assert epochs(0) == [first, second, first]
    assert epochs(1)[0] != first


def test_without_shuffling_the_shortest_come_first():
    lengths = lengths_of("lrs")
    sampler = BucketBatchSampler(lengths, max_frames=1500, max_utts=8, shuffle=False, seed=0)
    order = [i for batch in sampler for i in batch]
    assert order == np.argsort(lengths, kind="stable").tolist()
    sampler.set_epoch(7)
    assert [i for batch in sampler for i in batch] == order


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([], "no utterances"),
        ([10, 101], r"10 to 101 frames \(the longest is number 1 .*raise max_frames"),
        ([0, 10], "0 to 10 frames"),
    ],
)
def test_what_cannot_be_batched(lengths, message):
    with pytest.raises(InputError, match=message):
        BucketBatchSampler(lengths, max_frames=100, max_utts=4, shuffle=True, seed=0)
    with pytest.raises(InputError, match="max_utts 0"):
        BucketBatchSampler([1], max_frames=100, max_utts=0, shuffle=True, seed=0)
