"""The speech encoder: rate, width, independence of padding, and how far it looks."""

import pytest
import torch

from avsr.errors import InputError
from avsr.models import frontends
from talking3d.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig


def _encoder(**changes):
    torch.manual_seed(0)
    return SpeechEncoder(SpeechEncoderConfig(**{"dim": 16, "layers": 2, "heads": 2, "ff_dim": 32, **changes})).eval()


def test_one_feature_a_video_frame():
    encoder = _encoder()
    waveform = torch.randn(2, 20 * 640 - 100)
    assert encoder(waveform, torch.tensor([20, 13])).shape == (2, 20, 16)


def test_an_utterance_alone_is_what_it_is_in_a_padded_batch():
    for kind in ("conformer", "e_branchformer"):
        encoder = _encoder(encoder=kind)
        batch = torch.randn(3, 60 * 640)
        lengths = torch.tensor([60, 31, 7])
        for b, length in enumerate(lengths.tolist()):
            batch[b, length * 640 :] = 0
        with torch.no_grad():
            together = encoder(batch, lengths)
            for b, length in enumerate(lengths.tolist()):
                alone = encoder(batch[b : b + 1, : length * 640], lengths[b : b + 1])
                torch.testing.assert_close(together[b : b + 1, :length], alone, atol=1e-4, rtol=1e-4)
                assert not together[b, length:].any()


def _heard_frames(encoder, n_frames, frame):
    """The frames whose sound changes this frame's feature at all, from first to last."""
    torch.manual_seed(1)
    waveform, lengths = 0.1 * torch.randn(1, n_frames * 640), torch.tensor([n_frames])
    with torch.no_grad():
        before = encoder(waveform, lengths)[0, frame]
        heard = []
        for other in range(n_frames):
            changed = waveform.clone()
            changed[0, other * 640 : (other + 1) * 640] *= 0.3
            if not torch.equal(encoder(changed, lengths)[0, frame], before):
                heard.append(other)
    assert heard == list(range(heard[0], heard[-1] + 1))
    return heard[0], heard[-1]


@pytest.mark.parametrize("kind", ["conformer", "e_branchformer"])
@pytest.mark.parametrize(
    "changes",
    [
        {"attention_past": 4, "attention_future": 1, "kernel": 3, "statistics_past_s": 0.3, "statistics_future_s": 0.0},
        {
            "attention_past": 1,
            "attention_future": 0,
            "kernel": 7,
            "statistics_past_s": 0.04,
            "statistics_future_s": 0.1,
        },
        {
            "attention_past": 3,
            "attention_future": 5,
            "kernel": 5,
            "layers": 1,
            "statistics_past_s": 0.55,
            "statistics_future_s": 0.21,
        },
    ],
)
def test_the_view_follows_from_the_config(kind, changes, monkeypatch):
    """Not a sample outside it changes anything, and its first and last frame do."""
    monkeypatch.setattr(frontends, "PRIOR_MELS", 1)  # or the first frame's share is lost in float32
    encoder = _encoder(encoder=kind, dropout=0.0, **changes)
    config = SpeechEncoderConfig(encoder=kind, **{"layers": 2, **changes})
    past, future = config.view_frames
    assert _heard_frames(encoder, 61, 30) == (30 - past, 30 + future)


def test_a_whole_view_hears_everything():
    assert SpeechEncoderConfig().view_frames is None
    assert SpeechEncoderConfig(statistics_past_s=3.0, statistics_future_s=0.0).view_frames is None
    assert SpeechEncoderConfig(attention_past=2, attention_future=2).view_frames is None
    assert _heard_frames(_encoder(), 41, 20) == (0, 40)


def test_narrow_attention_is_full_attention_where_it_sees_all():
    wide, whole = (_encoder(attention_past=n, attention_future=n, kernel=5) for n in (30, None))
    waveform, lengths = torch.randn(2, 30 * 640), torch.tensor([30, 17])
    with torch.no_grad():
        torch.testing.assert_close(wide(waveform, lengths), whole(waveform, lengths))


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"attention_future": 1},
            "attention_past and attention_future are frames from 0, or both null; got None and 1",
        ),
        ({"attention_past": 25, "attention_future": -1}, "attention_future are frames from 0.*; got 25 and -1"),
        (
            {"statistics_past_s": 3.0},
            "statistics_past_s and statistics_future_s are seconds from 0.*; got 3.0 and None",
        ),
        ({"statistics_past_s": -1.0, "statistics_future_s": 1.0}, "seconds from 0, or both null; got -1.0 and 1.0"),
    ],
)
def test_a_view_that_cannot_be_is_an_error(changes, message):
    with pytest.raises(InputError, match=message):
        SpeechEncoderConfig(**changes)


def test_spec_augment_works_in_training_only():
    encoder = _encoder(dropout=0.0)
    waveform, lengths = torch.randn(1, 40 * 640), torch.tensor([40])
    with torch.no_grad():
        assert torch.equal(encoder(waveform, lengths), encoder(waveform, lengths))
        encoder.train()
        assert not torch.equal(encoder(waveform, lengths), encoder(waveform, lengths))
