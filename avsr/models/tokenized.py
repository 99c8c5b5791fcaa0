"""Checkpoints of models that speak in tokens: the tokenizer is one of their files."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from avsr.data.text import Tokenizer, load_tokenizer
from avsr.errors import InputError
from avsr.training.checkpoint import Checkpoint, save_pretrained

TOKENIZER_FILE = "tokenizer.model"


def save_with_tokenizer(
    folder: str | Path, tokenizer: Tokenizer, *, name: str, config: Any, state_dict: Mapping[str, Tensor], card: str
) -> None:
    """Write a checkpoint folder, as `save_pretrained`, with its tokenizer."""
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer_file = Path(scratch) / TOKENIZER_FILE
        tokenizer.save(tokenizer_file)
        files = {TOKENIZER_FILE: tokenizer_file}
        save_pretrained(folder, name=name, config=config, state_dict=state_dict, files=files, card=card)


def tokenizer_of(checkpoint: Checkpoint, vocab_size: int) -> Tokenizer:
    """A checkpoint's tokenizer. Raises InputError where it has not the model's `vocab_size` tokens."""
    tokenizer = load_tokenizer(checkpoint.folder / TOKENIZER_FILE)
    if len(tokenizer) != vocab_size:
        raise InputError(
            f"{checkpoint.folder}: {TOKENIZER_FILE} has {len(tokenizer)} tokens and the model {vocab_size}; they come "
            "from different trainings"
        )
    return tokenizer
