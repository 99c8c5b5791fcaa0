"""The batched beam search: what ESPnet's finds, what trying everything finds, the same in every batch."""

import math

import pytest
import torch
from brute_force import all_texts

from avsr.models.decoder_steps import DecoderSteps
from avsr.models.espnet import build_ctc, build_decoder, espnet_beam_search
from avsr.search.beam import beam_search
from avsr.search.ctc import CTCPrefixes

DIM = 16
LENGTHS = torch.tensor([12, 7, 1, 3])


def random_model(seed: int, vocab_size: int):
    """A decoder and a CTC head with opinions, and what an encoder might give (4, 12, DIM)."""
    torch.manual_seed(seed)
    decoder = build_decoder(vocab_size, dim=DIM, layers=2, heads=2, ff_dim=32, dropout=0.1).eval()
    ctc = build_ctc(vocab_size, DIM).eval()
    with torch.no_grad():
        ctc.ctc_lo.weight *= 4
        decoder.output_layer.weight *= 3
        decoder.output_layer.bias[0] -= 30  # without CTC nothing else would keep ESPnet's search from blanks
    return decoder, ctc, 2 * torch.randn(len(LENGTHS), int(LENGTHS.max()), DIM)


def search(decoder, ctc, encoded, lengths, ctc_weight, **settings):
    with torch.no_grad():
        prefixes = CTCPrefixes(ctc.log_softmax(encoded), lengths) if ctc_weight > 0 else None
        scorers = [(1 - ctc_weight, DecoderSteps(decoder, encoded, lengths))] if ctc_weight < 1 else []
        vocab_size = ctc.ctc_lo.out_features
        return beam_search(scorers, prefixes, lengths, vocab_size=vocab_size, ctc_weight=ctc_weight, **settings)


@pytest.mark.parametrize(
    ("ctc_weight", "length_bonus", "beam_size"),
    [(0.4, 0.0, 3), (0.0, 0.0, 4), (1.0, 0.0, 5), (0.3, 0.7, 4), (0.1, 3.0, 5), (0.5, -0.3, 1)],
)
@pytest.mark.parametrize("vocab_size", [5, 9, 20])
def test_it_finds_what_espnets_search_finds(vocab_size, ctc_weight, length_bonus, beam_size):
    settings = {"ctc_weight": ctc_weight, "length_bonus": length_bonus, "beam_size": beam_size}
    compared = 0
    for seed in range(4):
        decoder, ctc, encoded = random_model(seed, vocab_size)
        found = search(decoder, ctc, encoded, LENGTHS, **settings, n_best=3)
        for ours, one, length in zip(found, encoded, LENGTHS.tolist(), strict=True):
            wanted = espnet_beam_search(
                one[:length], ctc=ctc, decoder=decoder, vocab_size=vocab_size, pre_beam=False, **settings
            )
            wanted = [(tokens, score) for tokens, score in wanted if score > -1e8][:3]  # what CTC can emit
            assert [tokens for tokens, _ in ours] == [tokens for tokens, _ in wanted]
            assert [score for _, score in ours] == pytest.approx([score for _, score in wanted], abs=1e-4)
            compared += len(ours)
    assert compared >= 16


@pytest.mark.parametrize("ctc_weight", [0.0, 0.4, 1.0])
def test_an_utterance_is_decoded_the_same_alone_and_in_a_padded_batch(ctc_weight):
    decoder, ctc, encoded = random_model(0, 20)
    together = search(decoder, ctc, encoded, LENGTHS, ctc_weight, beam_size=6, n_best=4)
    for index, length in enumerate(LENGTHS.tolist()):
        one = slice(index, index + 1)
        (alone,) = search(decoder, ctc, encoded[one, :length], LENGTHS[one], ctc_weight, beam_size=6, n_best=4)
        assert [tokens for tokens, _ in alone] == [tokens for tokens, _ in together[index]]
        assert [score for _, score in alone] == pytest.approx([score for _, score in together[index]], abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_the_best_of_all_texts(seed):
    _, ctc, encoded = random_model(seed, 4)
    with torch.no_grad():
        ctc.ctc_lo.bias[3] = -30.0  # <eos> never stands in a CTC path
        encoded, lengths = encoded[:2, :6], torch.tensor([6, 4])
        log_probs = ctc.log_softmax(encoded)
    found = search(None, ctc, encoded, lengths, 1.0, beam_size=60, n_best=5)
    for one, frames, length in zip(found, log_probs, lengths.tolist(), strict=True):
        exact = all_texts(frames[:length])
        wanted = sorted(exact, key=exact.get, reverse=True)[:5]
        assert [tuple(tokens) for tokens, _ in one] == wanted
        assert [score for _, score in one] == pytest.approx([math.log(exact[text]) for text in wanted], abs=1e-5)


def test_the_joint_score_is_that_of_its_parts():
    decoder, ctc, encoded = random_model(1, 9)
    encoded, lengths = encoded[:1, :5], torch.tensor([5])
    with torch.no_grad():
        ctc.ctc_lo.bias[8] = -30.0
        ctc.ctc_lo.bias[0] += 3
        exact = all_texts(ctc.log_softmax(encoded)[0, :, :9])
    ((tokens, score), *_) = search(decoder, ctc, encoded, lengths, 0.3, beam_size=20, length_bonus=0.5)[0]
    assert 0 < len(tokens) < 5
    text = torch.tensor([[8, *tokens, 8]])
    with torch.no_grad():
        logits, _ = decoder(encoded, lengths, text[:, :-1], torch.tensor([len(tokens) + 1]))
    attention = logits.log_softmax(-1)[0].gather(1, text[0, 1:, None]).sum()
    bonus = 0.5 * (len(tokens) + 1)
    assert score == pytest.approx(0.3 * math.log(exact[tuple(tokens)]) + 0.7 * float(attention) + bonus, abs=1e-4)


@pytest.mark.parametrize("beam_size", [1, 3, 50])
def test_it_keeps_clear_of_blank_and_eos_with_any_beam(beam_size):
    decoder, ctc, encoded = random_model(2, 5)
    decoder.output_layer.bias.data[0] += 60
    for ctc_weight in (0.0, 0.3, 1.0):
        for one in search(decoder, ctc, encoded, LENGTHS, ctc_weight, beam_size=beam_size):
            ((tokens, score),) = one
            assert all(0 < token < 4 for token in tokens) and -1000 < score < 0
