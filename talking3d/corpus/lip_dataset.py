"""Speech with the lips that spoke it, filmed or drawn, as training batches of the 2D teacher and of its sync expert.

A row is a manifest row with `audio` and `lips`. Beside its lips an utterance has one still picture of them, which tells
who speaks, in what light and from where, but not what is said.

Letters: B batch, S samples, T video frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from avsr.data.arrays import ArrayCache, fit_frames, pad_arrays
from avsr.data.batching import BucketBatchSampler
from avsr.data.manifest import read_manifest
from avsr.errors import InputError
from avsr.media.audio import read_audio
from avsr.media.timing import SAMPLE_RATE, frames_of
from avsr.media.video import read_lips
from talking3d.corpus.motion_dataset import phones_of
from talking3d.corpus.perturb import PerturbConfig, perturb, retime_pictures

NEED = ("audio", "lips", "duration_s")  # fields of a row that this module reads
FLIPPED = 0.5  # share of the training clips that are mirrored, with their still


@dataclass
class LipDataConfig:
    """Manifests of speech with lips, and how they are batched."""

    train: list[str] = field(default_factory=list)
    valid: list[str] = field(default_factory=list)
    max_frames_per_batch: int = 800  # padding included
    max_utts: int = 8  # small batches: more steps for the same minutes
    cache_mb: int = 1024  # decoded speech and lips kept in memory, for training and for validation each
    perturb: PerturbConfig = field(default_factory=PerturbConfig)


class LipDataset(torch.utils.data.Dataset):
    """Rows of speech with lips: items {utt_id, waveform (S,), lips (T, 96, 96) uint8, still (96, 96) uint8}.

    In evaluation the still is the clip's first frame; in training any of its frames, so that none is special.

    Args:
        rows: manifest rows with `audio` and `lips`.
        perturb: how to vary the speech; with it clips are mirrored too. None leaves all as it is (evaluation).
        seed: with the epoch and the index it determines an item: a resumed run sees the same.
        cache_mb: bound on the decoded speech and lips that are kept in memory.

    Raises:
        InputError: naming the utterance, when it is read: sound and lips that differ by more than five frames, a file
            that is missing or corrupt.
    """

    def __init__(self, rows: Sequence[dict], *, perturb: PerturbConfig | None = None, seed: int = 0, cache_mb: int = 0):
        self.rows = list(rows)
        self.perturb = perturb
        self.seed = seed
        self.epoch = 0
        self._cache = ArrayCache(cache_mb)

    @property
    def lengths_frames(self) -> list[int]:
        """Frames of each row's sound; speed perturbation changes an item's by its share."""
        return [frames_of(round(row["duration_s"] * SAMPLE_RATE)) for row in self.rows]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose perturbations the next items get."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict:
        row = self.rows[i]
        try:
            waveform = self._cache.get(row["audio"], lambda: read_audio(row["audio"]))
            lips = self._cache.get(row["lips"], lambda: read_lips(row["lips"]))
            lips = fit_frames(lips, frames_of(len(waveform)))
        except InputError as error:
            raise InputError(f"{row['utt_id']}: {error}") from error
        still = lips[0]
        if self.perturb is not None:
            rng = np.random.default_rng((self.seed, self.epoch, i))
            still = lips[rng.integers(len(lips))]
            if rng.random() < FLIPPED:
                still, lips = still[:, ::-1], lips[:, :, ::-1]
            waveform, speed = perturb(waveform, self.perturb, rng, phones_of(row))
            lips = retime_pictures(lips, speed, frames_of(len(waveform)))
        return {"utt_id": row["utt_id"], "waveform": waveform, "lips": lips, "still": still}


def collate(items: list[dict]) -> dict:
    """Batch items: waveform (B, S) and lips (B, T, 96, 96) uint8 zero-padded, still (B, 96, 96), lengths (B,) frames.

    utt_ids is a list.
    """
    return {
        "utt_ids": [item["utt_id"] for item in items],
        "waveform": pad_arrays([item["waveform"] for item in items], 0),
        "lips": pad_arrays([item["lips"] for item in items], 0),
        "still": torch.from_numpy(np.stack([item["still"] for item in items])),
        "lengths": torch.tensor([len(item["lips"]) for item in items]),
    }


@dataclass(frozen=True)
class LipData:
    """What a training on lips needs: datasets with their batch samplers."""

    train: LipDataset
    train_sampler: BucketBatchSampler
    valid: LipDataset
    valid_sampler: BucketBatchSampler


def lip_data(config: LipDataConfig, seed: int) -> LipData:
    """Read the manifests of a training on lips. Raises InputError where train or valid names no manifest."""
    rows = {}
    for name in ("train", "valid"):
        paths = getattr(config, name)
        if not paths:
            raise InputError(f"data.{name} names no manifest: give a list, as in data.{name}=[{name}/manifest.jsonl]")
        rows[name] = [row for path in paths for row in read_manifest(path, need=NEED, use=("alignment",))]
    train = LipDataset(rows["train"], perturb=config.perturb, seed=seed, cache_mb=config.cache_mb)
    valid = LipDataset(rows["valid"], seed=seed, cache_mb=config.cache_mb)
    bounds = {"max_frames": config.max_frames_per_batch, "max_utts": config.max_utts, "seed": seed}
    return LipData(
        train=train,
        train_sampler=BucketBatchSampler(train.lengths_frames, shuffle=True, **bounds),
        valid=valid,
        valid_sampler=BucketBatchSampler(valid.lengths_frames, shuffle=False, **bounds),
    )
