"""Fusion: a missing stream has no say, and both have one when both are there."""

import pytest
import torch

from avsr.errors import InputError
from avsr.models.fusion import CROSS_FRAMES, FUSIONS, build_fusion

REAL = torch.zeros(3, 7, dtype=torch.bool)  # no padding


@pytest.fixture(params=FUSIONS)
def fusion(request) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_fusion(request.param, dim=16, dropout=0.0, heads=2)


def test_a_missing_stream_has_no_say(fusion):
    audio, video = torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    here, gone = torch.tensor([True, True]), torch.tensor([False, False])
    without_video = fusion(audio, video, here, gone, REAL[:2])
    assert torch.equal(without_video, fusion(audio, 1e3 * torch.randn(2, 7, 16), here, gone, REAL[:2]))
    without_audio = fusion(audio, video, gone, here, REAL[:2])
    assert torch.equal(without_audio, fusion(torch.zeros(2, 7, 16), video, gone, here, REAL[:2]))
    assert not torch.allclose(without_video, without_audio)


def test_an_untrained_gate_lets_a_lone_stream_through_and_means_two():
    fusion = build_fusion("gated", dim=16, dropout=0.0, heads=2)
    audio, video = torch.randn(3, 7, 16), torch.randn(3, 7, 16)
    has_audio, has_video = torch.tensor([True, False, True]), torch.tensor([False, True, True])
    fused = fusion(audio, video, has_audio, has_video, REAL)
    heard, seen = (torch.nn.functional.layer_norm(stream, (16,)) for stream in (audio, video))
    expected = torch.stack([heard[0], seen[1], (heard[2] + seen[2]) / 2])
    torch.testing.assert_close(fused, expected, atol=1e-6, rtol=0)


def test_utterances_of_a_batch_may_lack_different_streams(fusion):
    audio, video = torch.randn(3, 7, 16), torch.randn(3, 7, 16)
    has_audio, has_video = torch.tensor([True, False, True]), torch.tensor([True, True, False])
    together = fusion(audio, video, has_audio, has_video, REAL)
    for index in range(3):
        one = slice(index, index + 1)
        alone = fusion(audio[one], video[one], has_audio[one], has_video[one], REAL[one])
        assert torch.allclose(together[one], alone, atol=1e-6)


def test_both_streams_count_and_get_finite_gradients(fusion):
    audio, video = (torch.randn(2, 7, 16, requires_grad=True) for _ in range(2))
    fused = fusion(audio, video, torch.tensor([True, True]), torch.tensor([True, False]), REAL[:2])
    (fused * torch.randn_like(fused)).sum().backward()
    assert audio.grad.abs().min() > 0
    assert video.grad[0].abs().min() > 0 and (video.grad[1] == 0).all()
    assert all(parameter.grad.isfinite().all() for parameter in fusion.parameters())


def test_padding_beside_an_utterance_changes_nothing(fusion):
    audio, video, there = torch.randn(1, 20, 16), torch.randn(1, 20, 16), torch.tensor([True])
    padding = (torch.arange(20) >= 9)[None]
    alone = fusion(audio[:, :9], video[:, :9], there, there, padding[:, :9])
    padded = fusion(audio, video, there, there, padding)
    assert padded.isfinite().all()
    assert torch.allclose(padded[:, :9], alone, atol=1e-6)


def test_cross_attention_looks_half_a_second_around():
    torch.manual_seed(0)
    fusion = build_fusion("cross_attention", dim=16, dropout=0.0, heads=2)
    n, there = 4 * CROSS_FRAMES, torch.tensor([True])
    audio, video, real = torch.randn(1, n, 16), torch.randn(1, n, 16), torch.zeros(1, n, dtype=torch.bool)
    changed = video.clone()
    changed[:, n // 2] = torch.randn(16)
    moved = (fusion(audio, video, there, there, real) - fusion(audio, changed, there, there, real)).abs().amax((0, 2))
    reached = torch.nonzero(moved > 1e-7)[:, 0]
    assert (reached.min(), reached.max()) == (n // 2 - CROSS_FRAMES, n // 2 + CROSS_FRAMES)


def test_an_unknown_fusion_is_named():
    with pytest.raises(InputError, match="unknown fusion 'sum'; expected gated, concat, concat_norm, cross_attention"):
        build_fusion("sum", dim=16, dropout=0.0, heads=2)
