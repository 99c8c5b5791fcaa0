"""Fusion: a missing stream has no say, and both have one when both are there."""

import pytest
import torch

from avsr.models.fusion import GatedFusion


@pytest.fixture
def fusion() -> GatedFusion:
    torch.manual_seed(0)
    return GatedFusion(16, dropout=0.0)


def test_a_missing_stream_has_no_say(fusion):
    audio, video = torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    here, gone = torch.tensor([True, True]), torch.tensor([False, False])
    without_video = fusion(audio, video, here, gone)
    assert torch.equal(without_video, fusion(audio, 1e3 * torch.randn(2, 7, 16), here, gone))
    without_audio = fusion(audio, video, gone, here)
    assert torch.equal(without_audio, fusion(torch.zeros(2, 7, 16), video, gone, here))
    assert not torch.allclose(without_video, without_audio)


def test_utterances_of_a_batch_may_lack_different_streams(fusion):
    audio, video = torch.randn(3, 7, 16), torch.randn(3, 7, 16)
    has_audio, has_video = torch.tensor([True, False, True]), torch.tensor([True, True, False])
    together = fusion(audio, video, has_audio, has_video)
    for index in range(3):
        one = slice(index, index + 1)
        alone = fusion(audio[one], video[one], has_audio[one], has_video[one])
        assert torch.allclose(together[one], alone, atol=1e-6)


def test_both_streams_count_and_get_finite_gradients(fusion):
    audio, video = (torch.randn(2, 7, 16, requires_grad=True) for _ in range(2))
    fusion(audio, video, torch.tensor([True, True]), torch.tensor([True, False])).sum().backward()
    assert audio.grad.abs().min() > 0
    assert video.grad[0].abs().min() > 0 and (video.grad[1] == 0).all()
    assert all(parameter.grad.isfinite().all() for parameter in fusion.parameters())
