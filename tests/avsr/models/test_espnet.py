"""ESPnet's modules behind their one door: no padding leak, exact decoder steps, losses in nats per token."""

import itertools
import math

import pytest
import torch

from avsr.errors import InputError
from avsr.models.espnet import (
    attention_loss,
    build_ctc,
    build_decoder,
    build_encoder,
    build_spec_augment,
    ctc_loss,
    padding_mask,
)

SIZES = {"dim": 32, "layers": 2, "heads": 4, "ff_dim": 48, "kernel": 7, "dropout": 0.1}
LENGTHS = (23, 9, 3)


def padded_batch(dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor(LENGTHS)
    return torch.randn(len(LENGTHS), max(LENGTHS), dim), lengths  # noise at padding: none of it may matter


def largest_leak(encode, features: torch.Tensor, lengths: torch.Tensor) -> float:
    together = encode(features, lengths)
    leak = 0.0
    for index, length in enumerate(lengths.tolist()):
        alone = encode(features[index : index + 1, :length], lengths[index : index + 1])
        leak = max(leak, float((together[index, :length] - alone[0]).abs().max()))
    return leak


@pytest.mark.parametrize("kind", ["conformer", "e_branchformer"])
def test_an_utterance_is_encoded_the_same_alone_and_in_a_padded_batch(kind):
    torch.manual_seed(0)
    encoder = build_encoder(kind, **SIZES).eval()
    features, lengths = padded_batch(SIZES["dim"])
    with torch.no_grad():
        assert largest_leak(encoder, features, lengths) < 1e-4
        bare = largest_leak(lambda x, n: encoder(x, n), features, lengths)
        encoder.encoder.apply(lambda module: module._forward_pre_hooks.clear())
        leaking = largest_leak(encoder, features, lengths)
    assert bare < 1e-4 < 1e-2 < leaking  # ESPnet's own encoder does leak: the check can see it


@pytest.mark.parametrize("kind", ["conformer", "e_branchformer"])
def test_padded_frames_come_out_as_zeros_and_get_no_gradient(kind):
    torch.manual_seed(0)
    encoder = build_encoder(kind, **SIZES).eval()
    features, lengths = padded_batch(SIZES["dim"])
    features.requires_grad_()
    encoded = encoder(features, lengths)
    padding = padding_mask(lengths, max(LENGTHS))
    assert (encoded[padding] == 0).all() and (encoded[~padding] != 0).any()
    encoded.square().sum().backward()
    assert (features.grad[padding] == 0).all()
    assert features.grad[~padding].abs().min() > 0


def test_half_precision_leaves_the_table_of_positions_exact():
    encoder = build_encoder("conformer", **SIZES).eval()
    features, lengths = padded_batch(SIZES["dim"])
    with torch.no_grad():
        before = encoder(features, lengths)
        encoder(features.bfloat16(), lengths)
        assert torch.equal(before, encoder(features, lengths))


def test_encoder_settings_that_cannot_be_built_are_refused():
    with pytest.raises(InputError, match="odd kernel"):
        build_encoder("conformer", **{**SIZES, "kernel": 8})
    with pytest.raises(InputError, match="unknown encoder 'lstm'"):
        build_encoder("lstm", **SIZES)
    with pytest.raises(InputError, match="unknown ff_activation 'gelu'"):
        build_encoder("conformer", **SIZES, ff_activation="gelu")


def test_ctc_loss_is_torchs_per_token():
    torch.manual_seed(0)
    ctc = build_ctc(6, 8)
    encoded, lengths = torch.randn(2, 12, 8), torch.tensor([12, 9])
    tokens, token_lengths = torch.tensor([[2, 3, 4], [4, 2, -1]]), torch.tensor([3, 2])
    expected = 0.0
    for index in range(2):
        log_probs = ctc.ctc_lo(encoded[index : index + 1, : lengths[index]]).log_softmax(-1).transpose(0, 1)
        target = tokens[index : index + 1, : token_lengths[index]]
        expected += torch.nn.functional.ctc_loss(
            log_probs, target, lengths[index : index + 1], token_lengths[index : index + 1], reduction="sum"
        )
    assert torch.allclose(ctc_loss(ctc, encoded, lengths, tokens, token_lengths), expected / 5, atol=1e-5)


def _loss_by_hand(ctc, encoded, lengths, tokens, token_lengths, token_frames):
    """Minus the log of the probability of all paths that spell the tokens, each within its frames, per token."""
    total = 0.0
    for features, length, ids, n_tokens, frames in zip(
        encoded, lengths.tolist(), tokens.tolist(), token_lengths.tolist(), token_frames.tolist(), strict=True
    ):
        log_probs = ctc.ctc_lo(features[:length]).log_softmax(-1)
        paths = []
        for path in itertools.product(range(log_probs.shape[-1]), repeat=length):
            runs = [(token, [t for t, _ in run]) for token, run in itertools.groupby(enumerate(path), lambda x: x[1])]
            said = [(token, times) for token, times in runs if token != 0]
            if [token for token, _ in said] == ids[:n_tokens] and all(
                first <= times[0] and times[-1] < stop
                for (_, times), (first, stop) in zip(said, frames[:n_tokens], strict=True)
            ):
                paths.append(sum(log_probs[t, token] for t, token in enumerate(path)))
        total = total - torch.stack(paths).logsumexp(0)
    return total / token_lengths.sum()


@pytest.mark.parametrize("whole", [True, False])
def test_ctc_loss_counts_the_paths_that_say_each_token_within_its_frames(whole):
    torch.manual_seed(0)
    ctc = build_ctc(5, 8)
    lengths, tokens, token_lengths = torch.tensor([5, 4]), torch.tensor([[2, 3, 3], [1, 2, -1]]), torch.tensor([3, 2])
    frames = [[[0, 2], [1, 3], [2, 5]], [[0, 2], [1, 4], [0, 0]]]
    if whole:
        frames = [[[0, 5]] * 3, [[0, 4], [0, 4], [0, 0]]]
    encoded = torch.randn(2, 5, 8, requires_grad=True)
    arguments = lengths, tokens, token_lengths, torch.tensor(frames)
    fast, slow = ctc_loss(ctc, encoded, *arguments), _loss_by_hand(ctc, encoded, *arguments)
    assert torch.allclose(fast, slow, atol=1e-5)
    gradients = [torch.autograd.grad(loss, [encoded, *ctc.parameters()]) for loss in (fast, slow)]
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    assert torch.allclose(fast, ctc_loss(ctc, encoded, *arguments[:3]), atol=1e-5) == whole


def test_attention_loss_does_not_depend_on_padding():
    torch.manual_seed(0)
    decoder = build_decoder(7, dim=16, layers=2, heads=2, ff_dim=32, dropout=0.1).eval()
    encoded, lengths = torch.randn(2, 12, 16), torch.tensor([12, 5])
    tokens, token_lengths = torch.tensor([[2, 3, 4, 5], [4, 2, -1, -1]]), torch.tensor([4, 2])
    together = attention_loss(decoder, encoded, lengths, tokens, token_lengths, smoothing=0.0)
    alone = []
    for index, (n_frames, n_tokens) in enumerate([(12, 4), (5, 2)]):
        one = slice(index, index + 1)
        unpadded = (encoded[one, :n_frames], lengths[one], tokens[one, :n_tokens], token_lengths[one])
        alone.append(attention_loss(decoder, *unpadded, smoothing=0.0))
    assert torch.allclose(together, (alone[0] * 5 + alone[1] * 3) / 8, atol=1e-5)  # <eos> counts as a token
    assert 0.5 < together.item() / math.log(7) < 2.0


def test_spec_augment_masks_bands_and_stretches_with_zeros():
    torch.manual_seed(0)
    augment = build_spec_augment(freq_masks=1, freq_width=10, time_masks=1, time_width=12)
    masked, _ = augment(torch.ones(64, 100, 80))
    bands = (masked == 0).all(dim=1).sum(dim=1)  # of 80
    stretches = (masked == 0).all(dim=2).sum(dim=1)  # of 100
    assert bands.max() == 10 and stretches.max() == 12
    assert ((masked == 0).float().mean(dim=(1, 2)) <= 10 / 80 + 12 / 100).all()
