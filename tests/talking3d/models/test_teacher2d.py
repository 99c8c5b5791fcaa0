"""The 2D teacher: what it draws, what it listens and looks to, its losses against loops, and that it learns."""

import dataclasses

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from avsr.media.timing import samples_of
from talking3d.corpus.lip_dataset import LipDataset, collate
from talking3d.models.speech_encoder import SpeechEncoderConfig
from talking3d.models.syncnet2d import SyncNet2D, SyncNet2DConfig
from talking3d.models.teacher2d import Teacher2D, Teacher2DConfig

ENCODER = SpeechEncoderConfig(
    dim=16, layers=1, heads=2, ff_dim=32, kernel=5, dropout=0.0, freq_mask_bins=0, time_masks=0
)
TINY = Teacher2DConfig(encoder=ENCODER, channels=[4, 8, 12], drawn_frames=6)


@pytest.fixture
def dataset(lip_rows):
    return LipDataset(lip_rows)


def _teacher(config=TINY, expert=None, blank=False):
    """One that draws something: untrained, its last layer would leave the still as it is."""
    torch.manual_seed(0)
    model = Teacher2D(config, expert).eval()
    if not blank:
        torch.nn.init.normal_(model.last.weight, std=0.02)
    return model


def _expert():
    torch.manual_seed(1)
    return SyncNet2D(SyncNet2DConfig(width=16, dim=8, dropout=0.0, max_offset=4, visual_channels=[4, 4, 8])).eval()


def test_untrained_it_shows_the_still(dataset):
    lips = _teacher(blank=True).predict(dataset[3]["waveform"], dataset[3]["still"])
    assert lips.shape == dataset[3]["lips"].shape and lips.dtype == np.uint8
    assert (lips == dataset[3]["still"]).all()


def test_the_sound_and_the_still_both_matter(dataset):
    model = _teacher()
    waveform, still = dataset[4]["waveform"], dataset[4]["still"]
    lips = model.predict(waveform, still).astype(int)
    assert np.abs(lips - model.predict(dataset[6]["waveform"], still)[: len(lips)]).max() > 2
    assert np.abs(lips - model.predict(waveform, dataset[5]["still"])).mean() > 20  # another skin


def test_a_shift_says_where_pixels_come_from(dataset):
    """With a bias of 4 pixels for x in the last layer, each frame is the still moved 4 pixels to the left."""
    model = _teacher(blank=True)
    with torch.no_grad():
        model.last.bias[4] = 4 * 2 / 96
    still = np.random.default_rng(0).integers(0, 255, (96, 96), dtype=np.uint8)
    lips = model.predict(dataset[0]["waveform"], still)
    np.testing.assert_array_equal(lips[7, :, :92], still[:, 4:])


def test_a_clip_alone_is_what_it_is_in_a_padded_batch(dataset):
    model, batch = _teacher(), collate([dataset[0], dataset[9]])
    with torch.no_grad():
        sound = model.encoder(batch["waveform"], batch["lengths"])
        together = model.draw(sound, batch["still"].float() / 255)
    for b, i in enumerate((0, 9)):
        alone = model.predict(dataset[i]["waveform"], dataset[i]["still"])
        shown = (255 * together[b, : len(alone)]).round().clamp(0, 255).numpy()
        assert np.abs(shown - alone).max() <= 1  # a rounding at most


def test_losses_of_a_padded_batch_are_those_of_its_frames(dataset):
    model = _teacher(expert=_expert())
    with torch.no_grad():
        terms = model(collate([dataset[0], dataset[9]]))
        alone = [model(collate([dataset[i]])) for i in (0, 9)]
    for name in ("pixel", "edge", "sync"):
        expected = (25 * alone[0][name] + 43 * alone[1][name]) / 68
        assert terms[name].item() == pytest.approx(expected.item(), rel=1e-3), name
    for name in ("psnr_db", "still_db"):
        squares = [10 ** (-one[name].item() / 10) for one in alone]
        expected = -10 * np.log10((25 * squares[0] + 43 * squares[1]) / 68)
        assert terms[name].item() == pytest.approx(expected, rel=1e-3), name


def test_losses_are_loops_over_pixels(dataset):
    model, item = _teacher(), dataset[2]
    with torch.no_grad():
        terms = model(collate([item]))
        sound = model.encoder(torch.from_numpy(item["waveform"])[None], torch.tensor([len(item["lips"])]))
        lips = model.draw(sound, torch.from_numpy(item["still"].copy())[None].float() / 255)[0].numpy()
    true = item["lips"] / 255.0
    apart = np.abs(true - item["still"] / 255.0).mean(0) + 1e-3
    weight = 0.5 + 0.5 * apart / apart.mean()
    error = lips - true
    assert terms["pixel"].item() == pytest.approx((weight * np.abs(error)).mean(), rel=1e-3)
    across = (weight[:, 1:] * np.abs(np.diff(error, axis=2))).mean()
    down = (weight[1:] * np.abs(np.diff(error, axis=1))).mean()
    assert terms["edge"].item() == pytest.approx(across + down, rel=1e-3)
    shown = lips.clip(0, 1)
    assert terms["psnr_db"].item() == pytest.approx(-10 * np.log10(np.square(shown - true).mean()), rel=1e-3)


def test_the_sync_loss_reaches_the_generator_and_leaves_the_expert(dataset):
    expert = _expert()
    model = _teacher(expert=expert).train()
    torch.manual_seed(2)
    model(collate([dataset[1], dataset[5]]))["sync"].backward()
    assert model.last.weight.grad.abs().max() > 0 and model.encoder.frontend.project.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in expert.parameters())
    assert not expert.training and not any("expert" in name for name in model.state_dict())


def test_it_learns_to_speak_with_the_still_it_is_given(lip_rows):
    """Overfitted to clips of two skins, it opens mouths with the sound and keeps whose mouth it is."""
    data = LipDataset(lip_rows)
    batch = collate([data[i] for i in range(0, 10, 3)])
    model = _teacher(dataclasses.replace(TINY, drawn_frames=4), blank=True).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        model(batch)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        terms = model.eval()(batch)
    assert terms["psnr_db"] > terms["still_db"] + 2
    item, other = data[9], data[6]  # ann and bob
    opening = -item["lips"].mean((1, 2))
    for still in (item["still"], other["still"]):
        shown = model.predict(item["waveform"], still).astype(float)
        assert np.corrcoef(-shown.mean((1, 2)), opening)[0, 1] > 0.5
        assert np.abs(shown[:, :8].mean() - still[:8].mean()) < 15  # the skin far above the mouth


def test_long_speech_is_heard_in_windows(dataset):
    """Where windows meet, what was heard with two seconds around it is what one window hears, but for its level."""
    rng = np.random.default_rng(0)
    waveform = (0.1 * rng.standard_normal(samples_of(250))).astype(np.float32)
    still = dataset[0]["still"]
    whole = _teacher(dataclasses.replace(TINY, window_s=20.0)).predict(waveform, still).astype(int)
    cut = _teacher(dataclasses.replace(TINY, window_s=6.0)).predict(waveform, still)
    assert whole.shape == cut.shape == (250, 96, 96)
    assert np.abs(whole - cut).mean() < 0.25 * np.abs(whole - still).mean()


def test_saved_and_loaded_it_draws_alike(dataset, tmp_path):
    model = _teacher(expert=_expert())
    model.save_pretrained(tmp_path / "teacher", facts={"trained on": "nothing"})
    again = Teacher2D.from_pretrained(tmp_path / "teacher")
    assert again.config == TINY
    expected = model.predict(dataset[4]["waveform"], dataset[4]["still"])
    np.testing.assert_array_equal(again.predict(dataset[4]["waveform"], dataset[4]["still"]), expected)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"drawn_frames": 0}, "drawn_frames is 0; expected at least 1"),
        ({"channels": [8]}, "needs at least two scales"),
        ({"channels": [4] * 7}, "has 7 scales, which 96 pixels cannot be cut to"),
        ({"window_s": 4.0}, "must be longer than twice context_s"),
    ],
)
def test_a_config_that_cannot_be(changes, message):
    with pytest.raises(InputError, match=message):
        Teacher2DConfig(**changes)


def test_a_still_that_is_no_lip_crop(dataset):
    with pytest.raises(InputError, match=r"the still must be \(96, 96\) uint8 gray, got \(88, 88\) uint8"):
        _teacher().predict(dataset[0]["waveform"], np.zeros((88, 88), np.uint8))


def test_silence_has_no_lips(dataset):
    with pytest.raises(InputError, match="speech to draw lips for: the sound is silent"):
        _teacher().predict(np.zeros(6400, np.float32), dataset[0]["still"])
