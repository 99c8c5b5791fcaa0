"""The ResNet over the waveform: its rate, indifference to padding and loudness, masks in training only."""

import pytest
import torch

from avsr.models.waveform_frontend import WaveformFrontend, normalize_waveform

LENGTHS = (12, 7, 3)


@pytest.fixture(scope="module")
def frontend() -> WaveformFrontend:
    torch.manual_seed(0)
    frontend = WaveformFrontend(24, dropout=0.0, time_masks=2, time_mask_mels=20)
    with torch.no_grad():
        frontend(sounds(), torch.tensor(LENGTHS))  # statistics that are not zero and one
    return frontend.eval()


def sounds() -> torch.Tensor:
    """Noise, in the padding as well."""
    return 0.1 * torch.randn(3, 640 * max(LENGTHS), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_features_are_the_same_alone_and_in_a_padded_batch(frontend):
    waveform = sounds()
    together = frontend(waveform, torch.tensor(LENGTHS))
    assert together.shape == (3, 12, 24)
    for index, length in enumerate(LENGTHS):
        alone = frontend(waveform[index : index + 1, : 640 * length], torch.tensor([length]))
        torch.testing.assert_close(together[index, :length], alone[0], atol=1e-5, rtol=1e-5)
    longer = torch.cat([waveform, torch.ones(3, 6400)], dim=1)  # further than any utterance goes
    torch.testing.assert_close(frontend(longer, torch.tensor(LENGTHS)), together)


@torch.no_grad()
def test_a_sound_that_ends_within_a_frame_is_filled_up_with_silence(frontend):
    waveform = sounds()[:1]
    cut = frontend(waveform[:, : 640 * 12 - 250], torch.tensor([12]))
    waveform[:, 640 * 12 - 250 :] = 0.0
    torch.testing.assert_close(cut, frontend(waveform, torch.tensor([12])))


@torch.no_grad()
def test_a_stretch_of_sound_moves_the_features_of_its_own_frames(frontend):
    waveform = sounds()[:1]
    before = frontend(waveform, torch.tensor([12]))
    changed = waveform.clone()
    changed[:, 640 * 5 : 640 * 6] = waveform[:, 640 * 5 : 640 * 6].flip(1)  # mean and variance stay
    difference = (frontend(changed, torch.tensor([12])) - before).abs().sum(dim=-1)[0]
    assert difference.argmax() == 5
    assert max(difference[:3].max(), difference[8:].max()) < 1e-4 < difference[5]


def test_the_waveform_has_zero_mean_and_unit_variance_over_real_frames():
    waveform, lengths = 3.0 + 5.0 * sounds(), torch.tensor(LENGTHS)
    normal = normalize_waveform(waveform, lengths)
    for index, length in enumerate(LENGTHS):
        real = waveform[index, : 640 * length]
        expected = torch.nn.functional.layer_norm(real, real.shape, eps=1e-8)
        torch.testing.assert_close(normal[index, : 640 * length], expected, atol=1e-5, rtol=1e-5)
        assert (normal[index, 640 * length :] == 0).all()


def test_masks_and_gradients_are_those_of_training(frontend):
    waveform, lengths = sounds(), torch.tensor(LENGTHS)
    torch.manual_seed(0)
    masked = frontend._mask_stretches(torch.ones(64, 640 * 12))
    silent = (masked == 0).sum(dim=1)
    assert 0 < silent.max() <= 2 * 20 * 160 and (silent > 0).float().mean() > 0.9
    assert torch.equal(frontend(waveform, lengths), frontend(waveform, lengths))
    frontend.train()
    try:
        frontend(waveform, lengths).square().sum().backward()
    finally:
        frontend.eval()
    assert all(parameter.grad is not None for parameter in frontend.parameters())
    assert frontend.trunk.conv1.weight.grad.abs().sum() > 0
