"""Joint CTC and attention beam search over a batch of utterances (Watanabe et al., 2017).

Letters: B utterances, K hypotheses of each, U tokens so far, V vocabulary.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from avsr.models.espnet import BLANK
from avsr.search.ctc import CTCPrefixes

HOPELESS = -10.0  # nats from the best: see `Ended.fade`
State = list[Tensor]  # each (B, K, ...)


class Scorer(Protocol):
    """What says how well each token goes on from hypotheses of equal length."""

    def start(self) -> State:
        """The state of one hypothesis an utterance that has no token yet."""

    def __call__(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Log scores (B, K, V) of the tokens that may follow `tokens` (B, K, U), which begin with <sos/eos>."""

    def keep(self, utterances: Tensor) -> None:
        """Go on with some of the utterances only: their indices."""


class Ended:
    """The hypotheses of one utterance that have ended."""

    def __init__(self, n_best: int):
        self.n_best = n_best
        self.found: list[tuple[float, list[int]]] = []
        self.best_of_step: dict[int, float] = {}

    def add(self, score: float, tokens: list[int], step: int) -> None:
        self.found.append((score, tokens))
        self.best_of_step[step] = max(score, self.best_of_step.get(step, score))

    def best(self) -> list[tuple[list[int], float]]:
        return [(tokens, score) for score, tokens in heapq.nlargest(self.n_best, self.found)]

    def beats(self, score: float) -> bool:
        """Whether nothing of that score can come among the n best any more."""
        if len(self.found) < self.n_best:
            return False
        return score < heapq.nlargest(self.n_best, (ended for ended, _ in self.found))[-1]

    def fade(self, step: int) -> bool:
        """Whether three lengths in a row ended far below the best one: ESPnet's criterion, two steps late as there."""
        if not self.found:
            return False
        wanted = max(self.best_of_step.values()) + HOPELESS
        return all(self.best_of_step.get(step - late, torch.inf) < wanted for late in (2, 3, 4))


@torch.no_grad()
def beam_search(
    scorers: Sequence[tuple[float, Scorer]],
    ctc: CTCPrefixes | None,
    lengths: Tensor,
    *,
    vocab_size: int,
    beam_size: int,
    ctc_weight: float = 0.0,
    length_bonus: float = 0.0,
    n_best: int = 1,
) -> list[list[tuple[list[int], float]]]:
    """Find the token sequences of the highest weighted sum of log scores, for all utterances at once.

    An utterance's result is the same in every batch. It is what ESPnet's `BatchBeamSearch` finds without a preliminary
    beam; without a length bonus the search also stops as soon as nothing that goes on can become one of the n best.

    Args:
        scorers: weights and what they weigh: an attention decoder, a language model.
        ctc: CTC's prefixes; None: without.
        lengths: (B,) encoder frames; no hypothesis has more tokens.
        length_bonus: added for each token, <sos/eos> included.

    Returns:
        For each utterance the n best (token ids without <sos/eos>, score), or as many as ended; best first.
    """
    eos = vocab_size - 1
    device = lengths.device
    ended = [Ended(n_best) for _ in lengths]
    most = lengths.tolist()  # tokens of each utterance
    rows = list(range(len(most)))  # the utterances that go on
    tokens = torch.full((len(lengths), 1, 1), eos, device=device)
    summed = torch.zeros(len(lengths), 1, dtype=torch.float64, device=device)  # all but CTC, whose scores are of wholes
    states = [scorer.start() for _, scorer in scorers]
    prefixes = None if ctc is None else ctc.start()
    only_down = length_bonus <= 0.0 and all(weight >= 0.0 for weight, _ in scorers)
    for step in range(max(most)):
        last = tokens[:, :, -1]
        scores = (summed[:, :, None] + length_bonus).repeat(1, 1, vocab_size)
        for index, (weight, scorer) in enumerate(scorers):
            added, states[index] = scorer(tokens, states[index])
            scores += weight * added.double()
        scores[:, :, BLANK] = -torch.inf
        total = scores if ctc is None else scores + ctc_weight * ctc.scores(last, prefixes, eos)

        best, places = total.flatten(1).topk(min(beam_size, total[0].numel()))  # (B, K)
        parents, new = places // vocab_size, places % vocab_size
        tokens = torch.cat([_of_parents(tokens, parents), new[:, :, None]], dim=-1)
        summed = scores.flatten(1).gather(1, places)

        final = torch.tensor([most[row] == step + 1 for row in rows], device=device)
        ends = ((new == eos) | final[:, None]) & best.isfinite()
        for index, column in ends.nonzero().tolist():
            found = [token for token in tokens[index, column].tolist() if token != eos]
            ended[rows[index]].add(float(best[index, column]), found, step)
        best = best.masked_fill(ends, -torch.inf)
        summed = summed.masked_fill(best.isneginf(), -torch.inf)
        hopes = best.amax(dim=1).tolist()
        keep = [
            index
            for index, (row, hope) in enumerate(zip(rows, hopes, strict=True))
            if hope > -torch.inf and not ended[row].fade(step) and not (only_down and ended[row].beats(hope))
        ]
        if len(keep) == 0:
            break
        if ctc is not None:
            prefixes = tuple(_of_parents(part, parents) for part in prefixes)
            prefixes = ctc.advance(new, _of_parents(last, parents), prefixes)
        states = [[_of_parents(part, parents) for part in state] for state in states]
        if len(keep) < len(rows):
            rows = [rows[index] for index in keep]
            keep = torch.tensor(keep, device=device)
            tokens, summed = tokens[keep], summed[keep]
            states = [[part[keep] for part in state] for state in states]
            for _, scorer in scorers:
                scorer.keep(keep)
            if ctc is not None:
                prefixes = tuple(part[keep] for part in prefixes)
                ctc.keep(keep)
    return [one.best() for one in ended]


def _of_parents(values: Tensor, parents: Tensor) -> Tensor:
    """values (B, K, ...) of the hypotheses that `parents` (B, K) names."""
    return values[torch.arange(len(values), device=values.device)[:, None], parents]
