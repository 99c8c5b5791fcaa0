"""Batches by position: any epoch's batches, from any batch on, the same in every run.

The trainer resumes in the middle of an epoch, and its workers live for the whole training (so that their caches do).
Both need batches that know their epoch: the sampler below hands the dataset (epoch, index) pairs, and the dataset
changes epoch by itself, in whichever process it lives.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from typing import Any

from accelerate.data_loader import DataLoaderShard
from torch import Generator, device
from torch.utils.data import Dataset

from avsr.errors import InputError


class EpochBatches:
    """One process's share of a batch sampler's batches, as lists of (epoch, index) pairs.

    Process `rank` of `world` takes every `world`-th batch. In training the last round is filled with the epoch's first
    batches (`fill`), because processes that wait for one another's gradients need equally many; in validation no
    batch may count twice, so shares can differ by one. A single process sees exactly the sampler's batches.

    Args:
        sampler: yields lists of indices; has a stable `__len__` and, if it shuffles, `set_epoch`
    """

    def __init__(self, sampler: Any, *, rank: int, world: int, fill: bool):
        if len(sampler) == 0:
            raise InputError("no batches: the manifest is empty, or every utterance is longer than a batch may be")
        self.sampler, self.rank, self.world, self.fill = sampler, rank, world, fill
        self.per_epoch = -(-len(sampler) // world) if fill else len(range(rank, len(sampler), world))
        self.start(epoch=0)

    def start(self, epoch: int, first: int = 0) -> None:
        """Let the next iteration run through `epoch`, beginning at this share's batch number `first`."""
        self.epoch, self.first = epoch, first

    def __len__(self) -> int:
        return self.per_epoch - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(self.epoch)
        batches = list(self.sampler)
        if len(batches) != len(self.sampler):
            raise RuntimeError(f"{type(self.sampler).__name__} says {len(self.sampler)} batches, gave {len(batches)}")
        if self.fill:
            batches = list(islice(cycle(batches), self.per_epoch * self.world))
        for batch in batches[self.rank :: self.world][self.first :]:
            yield [(self.epoch, index) for index in batch]


class EpochDataset(Dataset):
    """A dataset asked by (epoch, index); it calls the inner dataset's `set_epoch`, if any, at each new epoch."""

    def __init__(self, dataset: Any):
        self.dataset, self.epoch = dataset, None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        epoch, index = key
        if epoch != self.epoch and hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)
        self.epoch = epoch
        return self.dataset[index]


def build_loader(
    dataset: Any, batches: EpochBatches, collate: Callable[[Sequence], dict], *, num_workers: int, to: device
) -> DataLoaderShard:
    """A loader over `batches` that moves tensors to the device `to` and tells Accelerate when an epoch ends.

    It is Accelerate's own loader, built directly: `Accelerator.prepare` would shard and even out the batches its way.
    """
    return DataLoaderShard(
        EpochDataset(dataset),
        device=to,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=to.type == "cuda",
        generator=Generator(),  # its own: an iteration's start must not draw from the generator that dropout uses
    )
