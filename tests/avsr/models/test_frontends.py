"""Front ends: frame rate, normalisation, a 3D-convolution twin, and indifference to padding."""

import pytest
import torch

from avsr.errors import InputError
from avsr.models.espnet import padding_mask
from avsr.models.frontends import (
    PRIOR_MELS,
    SPEECH_MEAN,
    SPEECH_STD,
    AudioFrontend,
    VideoFrontend,
    normalize_locally,
    normalize_log_mel,
    stack_context,
)

SPEC_AUGMENT = {"freq_masks": 2, "freq_width": 15, "time_masks": 2, "time_width": 20}
LENGTHS = (20, 11, 4)


@pytest.fixture(params=["conv1d", "conv2d"])
def audio(request) -> AudioFrontend:
    torch.manual_seed(0)
    return AudioFrontend(24, kind=request.param, dropout=0.2, spec_augment=SPEC_AUGMENT)


def waveforms(lengths: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(640 * length - 100, generator=generator) for length in lengths]  # last frame in part


def lip_clips(lengths: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (len(lengths), max(lengths), 88, 88), dtype=torch.uint8, generator=generator)


def test_audio_features_are_the_same_alone_and_in_a_padded_batch(audio):
    audio.eval()
    sounds = waveforms(LENGTHS)
    batch = torch.nn.utils.rnn.pad_sequence(sounds, batch_first=True)
    together = audio(batch, torch.tensor(LENGTHS))
    assert together.shape == (3, 20, 24)
    for index, length in enumerate(LENGTHS):
        alone = audio(sounds[index][None], torch.tensor([length]))
        assert torch.allclose(together[index, :length], alone[0], atol=1e-4)


def test_audio_features_do_not_hear_the_loudness(audio):
    audio.eval()
    sound = waveforms((12,))[0][None]
    lengths = torch.tensor([12])
    assert torch.allclose(audio(sound, lengths), audio(0.3 * sound, lengths), atol=2e-2)


def test_a_stretch_of_sound_moves_the_features_of_its_own_frames(audio):
    audio.eval()
    noise = 1e-2 * torch.randn(1, 640 * 41)
    before = audio(noise, torch.tensor([41]))
    changed = noise.clone()
    changed[:, 640 * 20 : 640 * 21] = 1e-2 * torch.randn(1, 640)  # as loud: the normalisation stays as it was
    difference = (audio(changed, torch.tensor([41])) - before).abs().sum(dim=-1)[0]
    assert difference.argmax() == 20
    assert max(difference[:18].max(), difference[23:].max()) < 0.1 * difference[20]


def test_log_mel_is_normalised_over_real_frames_only():
    torch.manual_seed(0)
    features = 3.0 + 2.0 * torch.randn(2, 40, 80)
    features[1, 25:] = 1e4
    padding = padding_mask(torch.tensor([40, 25]), 40)
    normal = normalize_log_mel(features, padding)
    assert (normal[padding] == 0).all()
    for index, length in enumerate((40, 25)):
        assert normal[index, :length].mean(dim=0).abs().max() < 1e-4
        assert (normal[index, :length].std(dim=0, correction=0) - 1).abs().max() < 1e-2


@pytest.mark.parametrize("past, future", [(0, 0), (6, 0), (4, 3), (100, 0), (0, 100), (100, 100)])
def test_local_normalisation_is_that_of_a_loop(past, future):
    torch.manual_seed(0)
    features = 2.0 + 3.0 * torch.randn(2, 30, 80)
    padding = padding_mask(torch.tensor([30, 11]), 30)
    normal = normalize_locally(features, padding, past, future)
    assert (normal[padding] == 0).all()
    for index, length in enumerate((30, 11)):
        for mel in range(length):
            heard = features[index, max(0, mel - past) : min(length, mel + future + 1)].double()
            n = PRIOR_MELS + len(heard)
            mean = (PRIOR_MELS * SPEECH_MEAN + heard.sum(0)) / n
            spread = PRIOR_MELS * (SPEECH_STD**2 + (SPEECH_MEAN - mean) ** 2) + (heard - mean).square().sum(0)
            expected = (features[index, mel] - mean) / (spread / n).sqrt()
            torch.testing.assert_close(normal[index, mel], expected.float(), atol=1e-5, rtol=1e-5)


def test_local_normalisation_stays_exact_in_long_sound():
    torch.manual_seed(0)
    once = -6.0 + 4.0 * torch.randn(1, 1_000, 80)
    often = once.repeat(1, 50, 1)
    one, fifty = (normalize_locally(x, torch.zeros(x.shape[:2], dtype=torch.bool), 300, 9) for x in (once, often))
    torch.testing.assert_close(fifty[:, -500:], one[:, -500:], atol=1e-5, rtol=1e-5)


def test_spec_augment_runs_in_training_only(audio):
    sounds, lengths = waveforms((20,))[0][None], torch.tensor([20])
    audio.dropout.p = 0.0
    assert not torch.equal(audio.train()(sounds, lengths), audio(sounds, lengths))
    assert torch.equal(audio.eval()(sounds, lengths), audio(sounds, lengths))


def test_convolving_stacks_is_a_3d_convolution():
    torch.manual_seed(0)
    lips, lengths = torch.randn(2, 9, 12, 12), torch.tensor([9, 6])
    flat = torch.nn.Conv2d(5, 4, 3, padding=1)
    solid = torch.nn.Conv3d(1, 4, (5, 3, 3), padding=(2, 1, 1))
    solid.load_state_dict({"weight": flat.weight[:, None], "bias": flat.bias})
    stacks, real = stack_context(lips, lengths)
    assert real.sum() == 15 and stacks.shape == (15, 5, 12, 12)
    expected = [solid(lips[i : i + 1, None, :n])[0].transpose(0, 1) for i, n in enumerate((9, 6))]
    assert torch.allclose(flat(stacks), torch.cat(expected), atol=1e-5)


@pytest.mark.parametrize("kind", ["small", "resnet18", "resnet18_swish", "resnet18_prelu"])
def test_lip_features_are_the_same_alone_and_in_a_padded_batch(kind):
    torch.manual_seed(0)
    video = VideoFrontend(16, kind=kind, channels=[4, 8, 8], dropout=0.1).eval()
    clips = lip_clips(LENGTHS)  # padding holds noise
    with torch.no_grad():
        together = video(clips, torch.tensor(LENGTHS))
        assert together.shape == (3, 20, 16)
        for index, length in enumerate(LENGTHS):
            alone = video(clips[index : index + 1, :length], torch.tensor([length]))
            assert torch.allclose(together[index, :length], alone[0], atol=1e-4)
            assert (together[index, length:] == 0).all()


def test_the_plain_resnet_is_torchvisions():
    from torchvision.models import resnet18

    torch.manual_seed(0)
    ours = VideoFrontend(16, kind="resnet18", channels=[], dropout=0.0).trunk.eval()
    theirs = resnet18(weights=None).eval()
    theirs.conv1, theirs.fc = torch.nn.Conv2d(5, 64, 7, 2, 3, bias=False), torch.nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    stacks = torch.randn(2, 5, 88, 88)
    with torch.no_grad():
        torch.testing.assert_close(ours(stacks), theirs(stacks))


def test_batch_statistics_in_training_come_from_real_frames():
    torch.manual_seed(0)
    video = VideoFrontend(16, kind="small", channels=[4, 8, 8], dropout=0.0).train()
    clips, lengths = lip_clips(LENGTHS), torch.tensor(LENGTHS)
    longer = torch.cat([clips, torch.zeros(3, 30, 88, 88, dtype=torch.uint8)], dim=1)
    with torch.no_grad():
        assert torch.allclose(video(clips, lengths), video(longer, lengths)[:, :20], atol=1e-5)


def test_unknown_visual_front_ends_are_refused():
    with pytest.raises(InputError, match="unknown visual_frontend 'vit'"):
        VideoFrontend(16, kind="vit", channels=[4, 8, 8], dropout=0.0)
    with pytest.raises(InputError, match="three convolutions"):
        VideoFrontend(16, kind="small", channels=[4, 8], dropout=0.0)


def test_unknown_audio_front_ends_are_refused():
    with pytest.raises(InputError, match="unknown audio_frontend 'wavelet'"):
        AudioFrontend(16, kind="wavelet", dropout=0.0, spec_augment=SPEC_AUGMENT)
