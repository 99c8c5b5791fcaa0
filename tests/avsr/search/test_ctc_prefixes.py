"""CTC's prefix probabilities against the sums over all paths that define them."""

import math

import pytest
import torch
from brute_force import all_texts

from avsr.search.ctc import CTCPrefixes

EOS = 3


def random_log_probs(seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    logits = 3 * torch.randn(2, 6, 4)
    logits[:, :, EOS] = -torch.inf  # CTC has no such token
    return logits.log_softmax(-1)


@pytest.mark.parametrize("text", [(), (1,), (2, 1), (1, 1), (1, 1, 2), (2, 2, 2), (1, 2, 1, 2, 1, 2)])
def test_prefixes_have_the_mass_of_all_texts_that_begin_with_them(text):
    log_probs, lengths = random_log_probs(0), torch.tensor([6, 4])
    prefixes = CTCPrefixes(log_probs, lengths)
    state, last = prefixes.start(), torch.full((2, 1), EOS)
    for token in text:
        token = torch.full((2, 1), token)
        state, last = prefixes.advance(token, last, state), token
    scores = prefixes.scores(last, state, EOS)
    for utterance, length in enumerate(lengths.tolist()):
        exact = all_texts(log_probs[utterance, :length])
        for token in (1, 2):
            longer = (*text, token)
            mass = sum(p for other, p in exact.items() if other[: len(longer)] == longer)
            assert math.exp(scores[utterance, 0, token]) == pytest.approx(mass, rel=1e-5, abs=1e-12)
        assert math.exp(scores[utterance, 0, EOS]) == pytest.approx(exact.get(text, 0.0), rel=1e-5, abs=1e-12)
        assert scores[utterance, 0, 0] == -torch.inf


def test_long_utterances_stay_exact():
    """Ten seconds whose every path is as improbable as e^-2000, against torch's CTC loss."""
    torch.manual_seed(0)
    log_probs = (8 * torch.randn(1, 250, 6, dtype=torch.float64)).log_softmax(-1)
    text = torch.tensor([1, 2, 2, 3, 1, 4, 4, 2])
    prefixes = CTCPrefixes(log_probs, torch.tensor([250]))
    state, last = prefixes.start(), torch.tensor([[5]])
    for token in text.view(-1, 1, 1):
        state, last = prefixes.advance(token, last, state), token
    whole = prefixes.scores(last, state, 5)[0, 0, 5]
    loss = torch.nn.functional.ctc_loss(
        log_probs.transpose(0, 1), text[None], torch.tensor([250]), torch.tensor([8]), reduction="sum"
    )
    assert -loss < -500 and float(whole) == pytest.approx(float(-loss), rel=1e-9)
