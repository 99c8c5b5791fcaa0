"""Texts to learn a language from: manifests or text files, as tokens, in batches.

Letters: B batch, U tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from avsr.data.arrays import pad_arrays
from avsr.data.batching import BucketBatchSampler
from avsr.data.dataset import NO_TOKEN
from avsr.data.manifest import read_manifest
from avsr.data.text import Tokenizer, load_tokenizer
from avsr.errors import InputError


@dataclass
class TextDataConfig:
    """Which texts a language model learns from."""

    train: list[str] = field(default_factory=list)  # manifests (.jsonl), or text files with one sentence a line
    valid: list[str] = field(default_factory=list)
    tokenizer: str = ""
    max_tokens_per_batch: int = 2000  # texts x tokens of the longest
    max_texts: int = 64


def read_texts(paths: Iterable[str | Path]) -> list[str]:
    """The texts of manifests (.jsonl), and of text files with one sentence a line. InputError: no such file."""
    texts = []
    for path in map(Path, paths):
        if path.suffix == ".jsonl":
            texts += [row["text"] for row in read_manifest(path, need=("text",), check_files=False)]
        elif path.is_file():
            texts += [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        else:
            raise InputError(f"{path}: no such file; expected a manifest (.jsonl) or a text file, one sentence a line")
    return texts


class TextDataset:
    """Token ids (U,) of texts."""

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer):
        self.tokens = [np.array(tokenizer.encode(text), dtype=np.int64) for text in texts]

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.tokens[index]


def collate_texts(items: list[np.ndarray]) -> dict:
    """tokens (B, U) int64, padded with -1; token_lengths (B,)."""
    return {"tokens": pad_arrays(items, NO_TOKEN), "token_lengths": torch.tensor([len(item) for item in items])}


def text_data(
    config: TextDataConfig, seed: int
) -> tuple[Tokenizer, tuple[TextDataset, BucketBatchSampler], tuple[TextDataset, BucketBatchSampler]]:
    """The tokenizer, and for training and validation the dataset and its sampler."""
    tokenizer = load_tokenizer(config.tokenizer)

    def split(paths: list[str], shuffle: bool) -> tuple[TextDataset, BucketBatchSampler]:
        dataset = TextDataset(read_texts(paths), tokenizer)
        sampler = BucketBatchSampler(
            [len(tokens) for tokens in dataset.tokens],
            max_frames=config.max_tokens_per_batch,
            max_utts=config.max_texts,
            shuffle=shuffle,
            seed=seed,
        )
        return dataset, sampler

    return tokenizer, split(config.train, True), split(config.valid, False)
