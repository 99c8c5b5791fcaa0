"""CTC's probabilities of prefixes, for searches.

Letters: B utterances, K hypotheses of each, T encoder frames, V tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avsr.models.espnet import BLANK, padding_mask

LEAST = -1e4  # log probability below which a token is taken for impossible; sums of it stay exact in float64


class CTCPrefixes:
    """Log probabilities that an utterance's tokens begin with a prefix (Watanabe et al., 2017, algorithm 2).

    Everything is computed for all utterances, hypotheses and next tokens at once, with no loop over frames: a next
    token's probability is a sum over the frame of its first appearance, so it is a matrix product; the recursions of
    Graves et al. (2006) for the prefixes that a search keeps are cumulative sums.

    Args:
        log_probs: (B, T, V) of CTC; padded frames may hold anything.
        lengths: (B,) frames of each utterance, at least 1.
    """

    def __init__(self, log_probs: Tensor, lengths: Tensor):
        log_probs = log_probs.double().clamp(min=LEAST)
        self.padding = padding_mask(lengths, log_probs.shape[1])  # (B, T)
        self.ends = lengths - 1
        self.log_probs = log_probs.masked_fill(self.padding[:, :, None], 0.0)
        self.probs = log_probs.exp().masked_fill(self.padding[:, :, None], 0.0)

    def start(self) -> tuple[Tensor, Tensor, Tensor]:
        """The state of one empty prefix an utterance.

        A state is three tensors: log probabilities (B, K, T) that by frame t the prefix has been emitted and frame t is
        its last token, or is blank; and what comes before the first frame (B, K), 0 for the empty prefix alone.
        """
        blank = self.log_probs[:, None, :, BLANK].cumsum(dim=-1)
        return torch.full_like(blank, -torch.inf), blank, blank.new_zeros(blank.shape[:2])

    def scores(self, last: Tensor, state: tuple[Tensor, Tensor, Tensor], eos: int) -> Tensor:
        """Log probabilities (B, K, V) of the prefixes with each token added; at `eos`, that the prefix is all there is.

        last: (B, K), the last token of each prefix, which needs a blank before it can be said again.
        """
        token, blank, before = state
        extended = self._summed(self._previous(torch.logaddexp(token, blank), before), self.probs)
        of_last = self.probs.transpose(1, 2).gather(1, last[:, :, None].expand(-1, -1, token.shape[-1]))  # (B, K, T)
        weights, largest = self._weights(self._previous(blank, before))
        repeated = (weights * of_last).sum(dim=-1).log() + largest
        extended = extended.scatter(2, last[:, :, None], repeated[:, :, None])
        ends = self.ends[:, None, None].expand(-1, token.shape[1], 1)
        whole = torch.logaddexp(token.gather(2, ends), blank.gather(2, ends))
        extended[:, :, eos : eos + 1] = whole
        extended[:, :, BLANK] = -torch.inf
        return extended

    def advance(
        self, tokens: Tensor, last: Tensor, state: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The state of prefixes that have got `tokens` (B, K); `last` and `state` are those before."""
        token, blank, before = state
        free = self._previous(torch.where((tokens == last)[:, :, None], blank, torch.logaddexp(token, blank)), before)
        said = self.log_probs.transpose(1, 2).gather(1, tokens[:, :, None].expand(-1, -1, token.shape[-1]))
        new_token = _decayed_sum(free, said)
        nothing = torch.full_like(before, -torch.inf)
        silent = self.log_probs[:, None, :, BLANK].expand_as(new_token)
        return new_token, _decayed_sum(self._previous(new_token, nothing), silent), nothing

    def keep(self, utterances: Tensor) -> None:
        """Go on with some of the utterances only: their indices."""
        self.padding, self.ends = self.padding[utterances], self.ends[utterances]
        self.log_probs, self.probs = self.log_probs[utterances], self.probs[utterances]

    def _previous(self, values: Tensor, before: Tensor) -> Tensor:
        """(B, K, T) values one frame earlier, with (B, K) before the first; impossible in padding."""
        shifted = torch.cat([before[:, :, None], values[:, :, :-1]], dim=-1)
        return shifted.masked_fill(self.padding[:, None, :], -torch.inf)

    @staticmethod
    def _weights(logs: Tensor) -> tuple[Tensor, Tensor]:
        largest = logs.amax(dim=-1).clamp(min=-1e300)  # all may be impossible
        return (logs - largest[:, :, None]).exp(), largest

    def _summed(self, logs: Tensor, probs: Tensor) -> Tensor:
        """log of the sum over frames of exp(logs) (B, K, T) times probs (B, T, V) -> (B, K, V)."""
        weights, largest = self._weights(logs)
        return (weights @ probs).log() + largest[:, :, None]


def _decayed_sum(entering: Tensor, log_probs: Tensor) -> Tensor:
    """r[t] = (r[t-1] + entering[t]) p[t] along the last dimension, in logarithms."""
    total = log_probs.cumsum(dim=-1)
    return total + torch.logcumsumexp(entering - total + log_probs, dim=-1)
