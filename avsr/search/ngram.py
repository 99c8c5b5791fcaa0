"""An n-gram language model of tokens as a scorer of the beam search.

Letters: B utterances, K hypotheses of each, U tokens so far, V tokens.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from avsr.data.text import Tokenizer
from avsr.errors import InputError
from avsr.lm import Context, NgramModel, load_ngram


def ngram_scorer(path: str | Path, tokenizer: Tokenizer) -> NgramScorer:
    """The scorer of an ARPA file. Raises InputError as `avsr.lm.load_ngram` and the scorer do."""
    return NgramScorer(load_ngram(path), tokenizer, path)


class NgramScorer:
    """Log probabilities of the tokens that follow hypotheses; it needs no state, for it looks a few tokens back.

    Raises InputError, opened by `where`, when most of the tokenizer's tokens are not among the model's words.
    """

    def __init__(self, model: NgramModel, tokenizer: Tokenizer, where: str | Path):
        units = tokenizer.tokens[2:-1]
        known = sum(unit in model.words for unit in units)
        if 2 * known < len(units):
            raise InputError(
                f"{where}: the language model knows {known} of the {len(units)} tokens that the recogniser has; make "
                "one of its tokens: avsr lm TEXTS --tokenizer CHECKPOINT/tokenizer.model"
            )
        self.model = model
        self.names = [*tokenizer.tokens[:-1], model.END]
        self._ids = {name: token for token, name in enumerate(self.names)}
        self._rows: dict[Context, Tensor] = {}

    def start(self) -> list[Tensor]:
        return []

    def __call__(self, tokens: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Log probabilities (B, K, V) of what follows tokens (B, K, U), which begin with <sos/eos>."""
        rows = [
            self._row(self.model.context([self.names[token] for token in hypothesis[1:]]))
            for hypothesis in tokens.flatten(0, 1).tolist()
        ]
        return torch.stack(rows).view(*tokens.shape[:2], -1).to(tokens.device), state

    def keep(self, utterances: Tensor) -> None:
        """Nothing here belongs to an utterance."""

    def _row(self, context: Context) -> Tensor:
        if context not in self._rows:
            if context:
                row = self._row(context[1:]) + self.model.backoffs.get(context, 0.0)
            else:
                row = torch.full((len(self.names),), self.model.followers[()][self.model.UNKNOWN], dtype=torch.float64)
            for word, log_prob in self.model.followers.get(context, {}).items():
                if word in self._ids:
                    row[self._ids[word]] = log_prob
            self._rows[context] = row
        return self._rows[context]
