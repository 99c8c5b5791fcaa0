"""What a training keeps on disk so that a killed run goes on exactly where it was.

Two folders in the run's own: `state/` holds one folder, the newest state (weights, optimiser, random generators of
each process, position); `weights/` holds the weights after the last epochs and after the best one.
"""

import contextlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from avsr.errors import InputError
from avsr.files import atomic_path, write_json
from avsr.training.checkpoint import average_state_dicts, read_weights, save_weights

Sums = dict[str, list[float]]  # name of a scalar: [sum of weight * value, sum of weights]


@dataclass
class Progress:
    """The position of a training and what it has found out so far; everything in it can be written as JSON."""

    batches_per_epoch: int  # of one process
    processes: int
    epoch: int = 0  # the one running, from 0
    batches: int = 0  # of that epoch, already used
    steps: int = 0  # optimiser steps since the start
    seconds: float = 0.0
    sums: Sums = field(default_factory=dict)  # the running epoch's training scalars
    best: dict[str, float] | None = None  # epoch, value of the monitored scalar
    history: list[dict] = field(default_factory=list)  # per epoch: training and validation means


def add_weighted(sums: Sums, values: Mapping[str, float], weight: float) -> None:
    """Add scalars to running sums; a scalar may be absent from some batches."""
    for name, value in values.items():
        so_far = sums.setdefault(name, [0.0, 0.0])
        so_far[0] += weight * value
        so_far[1] += weight


def merge_sums(parts: Iterable[Sums]) -> Sums:
    """The sums of several processes as one."""
    total: Sums = {}
    for part in parts:
        for name, (weighted, weight) in part.items():
            so_far = total.setdefault(name, [0.0, 0.0])
            so_far[0] += weighted
            so_far[1] += weight
    return total


def means(sums: Sums) -> dict[str, float]:
    """Weighted means of running sums."""
    return {name: weighted / weight for name, (weighted, weight) in sums.items()}


class RunState:
    """The states and weights that one run has on disk. Every process makes every call; the main one writes.

    Args:
        average_last: how many of the last epochs' weights to keep
    """

    def __init__(self, out_dir: Path, accelerator: Accelerator, average_last: int):
        self.accelerator, self.average_last = accelerator, average_last
        self.state_dir, self.weights_dir = out_dir / "state", out_dir / "weights"

    def load(self, fresh: Progress) -> Progress | None:
        """Put the newest state into what the accelerator has prepared; None where there is no state yet.

        Raises InputError when the state's batches or processes aren't those of `fresh`, this run's beginning.
        """
        if self.accelerator.is_main_process:
            for partial in (*self.state_dir.glob(".*"), *self.weights_dir.glob(".*")):
                shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed while writing
        states = sorted(self.state_dir.glob("epoch_*"))
        if not states:
            return None
        saved = Progress(**json.loads((states[-1] / "progress.json").read_text(encoding="utf-8")))
        for what in ("batches_per_epoch", "processes"):
            before, now = getattr(saved, what), getattr(fresh, what)
            if before != now:
                raise InputError(
                    f"{states[-1]}: the training begun here had {what} = {before}, now it is {now}. Resume with the "
                    "same data, batch sizes and number of processes, or train into another folder"
                )
        self.accelerator.load_state(str(states[-1]))
        return saved

    def save(self, progress: Progress) -> None:
        """Write a state, whole or not at all, then remove the older states and the weights that it makes needless."""
        main = self.accelerator.is_main_process
        # A new name each time: to replace a folder takes two renames, and a kill between them would leave none.
        path = self.state_dir / f"epoch_{progress.epoch:04d}_batch_{progress.batches:06d}"
        with atomic_path(path) if main else contextlib.nullcontext() as partial:
            everyones = [str(partial)]
            broadcast_object_list(everyones)
            self.accelerator.save_state(everyones[0])
            if main:
                write_json(partial / "progress.json", asdict(progress))
            self.accelerator.wait_for_everyone()
        if main:
            self._remove_all_but(path, progress)
        self.accelerator.wait_for_everyone()

    def save_weights(self, epoch: int, state_dict: Mapping[str, Tensor]) -> None:
        """Keep the weights after `epoch`."""
        if self.accelerator.is_main_process:
            save_weights(self._weights_path(epoch), state_dict)

    def average(self, epochs: Iterable[int]) -> dict[str, Tensor]:
        """The mean of the weights after these epochs, on the CPU."""
        return average_state_dicts([read_weights(self._weights_path(epoch)) for epoch in epochs])

    def remove(self) -> None:
        """Remove all states and weights: the training is over."""
        if self.accelerator.is_main_process:
            shutil.rmtree(self.state_dir)
            shutil.rmtree(self.weights_dir)

    def _weights_path(self, epoch: int) -> Path:
        return self.weights_dir / f"epoch_{epoch:04d}.safetensors"

    def _remove_all_but(self, newest: Path, progress: Progress) -> None:
        kept = {self._weights_path(epoch) for epoch in range(progress.epoch - self.average_last, progress.epoch)}
        if progress.best is not None:
            kept.add(self._weights_path(int(progress.best["epoch"])))
        for state in self.state_dir.glob("epoch_*"):
            if state != newest:
                shutil.rmtree(state)
        for weights in self.weights_dir.glob("epoch_*"):
            if weights not in kept:
                weights.unlink()
