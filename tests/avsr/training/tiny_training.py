"""A tiny training with everything that could make a resume inexact; run as a script so that tests can kill it.

Dropout and BatchNorm in the model, augmentation seeded by (seed, epoch, index), shuffled batches, accumulation.
    python tiny_training.py OUT_DIR KILL_AT_BATCH key=value … [plain=1]
kills itself (SIGKILL) as it is given its KILL_AT_BATCH-th training batch (0: never); `plain` leaves out what is random.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from avsr.training.checkpoint import save_weights
from avsr.training.config import from_dict
from avsr.training.trainer import Trainer, TrainerConfig

N_TRAIN, N_VALID, WIDTH = 22, 7, 8


class TinyDataset:
    """Noisy points on a plane; item i of an epoch is always the same."""

    def __init__(self, size: int, seed: int, augment: bool):
        self.size, self.seed, self.augment, self.epoch = size, seed, augment, 0
        self.seen: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return self.size

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict:
        self.seen.append((self.epoch, index))
        x = np.random.default_rng([self.seed, index]).standard_normal(WIDTH)
        target = x.sum() / 2
        if self.augment:
            x = x + 0.1 * np.random.default_rng([self.seed, self.epoch, index]).standard_normal(WIDTH)
        return {"utt_id": f"utt{index}", "x": x.astype(np.float32), "target": np.float32(target)}


class TinySampler:
    """Batches of 1 to 3 items, shuffled anew each epoch."""

    def __init__(self, size: int, seed: int | None):
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def _sizes(self) -> list[int]:
        sizes = []
        while sum(sizes) < self.size:
            sizes.append(min(1 + len(sizes) % 3, self.size - sum(sizes)))
        return sizes

    def __len__(self) -> int:
        return len(self._sizes())

    def __iter__(self):
        order = list(range(self.size))
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.size).tolist()
        for size in self._sizes():
            yield [order.pop() for _ in range(size)]


def tiny_collate(items: list[dict]) -> dict:
    return {
        "utt_ids": [item["utt_id"] for item in items],
        "x": torch.from_numpy(np.stack([item["x"] for item in items])),
        "target": torch.tensor([item["target"] for item in items]),
    }


class TinyModel(nn.Module):
    """Linear layers around BatchNorm and dropout; reports a second term, and a third one in eval mode."""

    def __init__(self, kill_at: int = 0, plain: bool = False):
        super().__init__()
        self.inner, self.norm = nn.Linear(WIDTH, 16), nn.LayerNorm(16) if plain else nn.BatchNorm1d(16)
        self.dropout, self.outer = nn.Dropout(0.0 if plain else 0.3), nn.Linear(16, 1)
        self.jitter = 0.0 if plain else 0.01
        self.kill_at, self.calls = kill_at, 0

    def forward(self, batch: dict) -> dict[str, Tensor]:
        if self.training:
            self.calls += 1
            if self.calls == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        hidden = self.inner(batch["x"])
        if len(hidden) > 1 or not self.training:  # BatchNorm can't train on one item
            hidden = self.norm(hidden)
        guess = self.outer(self.dropout(hidden).relu())[:, 0]
        # The third random generator that a state must hold, beside torch's and (unused) Python's.
        jitter = 1 + self.jitter * np.random.standard_normal() if self.training else 1.0
        square = (guess - batch["target"]).float().square().mean() * jitter
        loss = square * (1 + batch["progress"])
        return {"loss": loss, "square": square} | ({} if self.training else {"bias": (guess - batch["target"]).mean()})


def tiny_trainer(out_dir: Path, config: TrainerConfig, model: nn.Module | None = None) -> Trainer:
    torch.manual_seed(config.seed)
    return Trainer(
        TinyModel() if model is None else model,
        config,
        out_dir,
        train_dataset=TinyDataset(N_TRAIN, config.seed, augment=True),
        train_sampler=TinySampler(N_TRAIN, config.seed),
        valid_dataset=TinyDataset(N_VALID, config.seed + 1, augment=False),
        valid_sampler=TinySampler(N_VALID, None),
        collate=tiny_collate,
        export=lambda state_dict, folder: save_weights(folder / "model.safetensors", state_dict),
    )


def main() -> None:
    out_dir, kill_at, *overrides = sys.argv[1:]
    settings = {"max_epochs": 3, "num_threads": 1, "accumulate": 2, "lr": 0.01, "average_last": 2, "log_every_steps": 5}
    settings |= dict(override.split("=") for override in overrides)
    plain = bool(settings.pop("plain", False))
    config = from_dict(TrainerConfig, settings, "test")
    torch.manual_seed(config.seed)
    tiny_trainer(Path(out_dir), config, TinyModel(int(kill_at), plain)).fit()


if __name__ == "__main__":
    main()
