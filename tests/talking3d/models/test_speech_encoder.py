"""The speech encoder: rate, width, independence of padding, and how far it looks."""

import torch

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


def test_spec_augment_works_in_training_only():
    encoder = _encoder(dropout=0.0)
    waveform, lengths = torch.randn(1, 40 * 640), torch.tensor([40])
    with torch.no_grad():
        assert torch.equal(encoder(waveform, lengths), encoder(waveform, lengths))
        encoder.train()
        assert not torch.equal(encoder(waveform, lengths), encoder(waveform, lengths))
