"""Batches of utterances of like length, bounded by their padded size."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from avsr.errors import InputError

BUCKET_RATIO = 1.08  # within a bucket the longest utterance is at most this much longer than the shortest


class BucketBatchSampler:
    """Batches of dataset indices, for `DataLoader(batch_sampler=...)`.

    Utterances are sorted into buckets of like length. An epoch shuffles inside each bucket and cuts the row of all
    buckets where a batch would grow too large *if it were filled from the longest of its bucket*. So the cuts, and with
    them the number of batches, are the same in every epoch, and no epoch breaks the bounds.

    Args:
        lengths_frames: video frames of each utterance.
        max_frames: bound on a batch's padded size: utterances x frames of the longest.
        max_utts: bound on its utterances.
        shuffle: shuffle inside buckets and the order of batches, otherwise the shortest come first.
        seed: of the shuffling; with the epoch it determines the batches.

    Raises:
        InputError: no utterances, a length < 1, or an utterance that is longer than max_frames.
    """

    def __init__(
        self, lengths_frames: Sequence[int], *, max_frames: int, max_utts: int, shuffle: bool, seed: int
    ) -> None:
        lengths = np.asarray(lengths_frames, dtype=np.int64)
        if lengths.size == 0:
            raise InputError("no utterances to make batches of.")
        if max_utts < 1:
            raise InputError(f"a batch must hold at least one utterance, found max_utts {max_utts}.")
        longest = int(lengths.argmax())
        if lengths.min() < 1 or lengths[longest] > max_frames:
            raise InputError(
                f"utterances of {lengths.min()} to {lengths[longest]} frames (the longest is number {longest} of the "
                f"manifest, from 0) don't fit batches of 1 to {max_frames} frames: raise max_frames or cut it."
            )
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self._order = np.argsort(lengths, kind="stable")
        self._buckets = _bucket_spans(lengths[self._order])
        self._cuts = _batch_cuts(lengths[self._order], self._buckets, max_frames, max_utts)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._cuts) - 1

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order.copy()
        batches = np.arange(len(self))
        if self.shuffle:
            rng = np.random.default_rng((self.seed, self.epoch))
            for first, last in self._buckets:
                rng.shuffle(order[first:last])
            rng.shuffle(batches)
        for batch in batches:
            yield order[self._cuts[batch] : self._cuts[batch + 1]].tolist()


def _bucket_spans(lengths: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) positions of each bucket in the sorted lengths."""
    spans = []
    first = 0
    while first < len(lengths):
        ceiling = max(lengths[first], math.floor(lengths[first] * BUCKET_RATIO))
        last = int(np.searchsorted(lengths, ceiling, side="right"))
        spans.append((first, last))
        first = last
    return spans


def _batch_cuts(lengths: np.ndarray, buckets: list[tuple[int, int]], max_frames: int, max_utts: int) -> list[int]:
    """Positions where batches begin, and the end: each utterance counts as the longest of its bucket."""
    cuts = [0]
    for first, last in buckets:
        longest = int(lengths[last - 1])
        for position in range(first, last):
            count = position - cuts[-1] + 1
            if count > max_utts or count * longest > max_frames:
                cuts.append(position)
    return [*cuts, len(lengths)]
