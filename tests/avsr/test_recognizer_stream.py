"""Reading along gives what reading afterwards gives, whatever the pieces, and waits no longer than it says."""

import numpy as np
import pytest
import torch

from avsr.data.text import train_tokenizer
from avsr.decode import DecodeConfig
from avsr.errors import InputError
from avsr.models.espnet import BLANK
from avsr.models.recognizer import Recognizer, RecognizerConfig
from avsr.streaming import RecognizerStream
from avsr.transcribe import Transcriber

N_FRAMES = 90
BOUNDED = {"attention_past": 6, "attention_future": 2, "statistics_past_s": 1.0, "statistics_future_s": 0.2}


def make_model(**changes) -> Recognizer:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a b c d e f"], "word")
    tiny = {
        "dim": 16, "layers": 1, "stream_layers": 1, "heads": 2, "ff_dim": 24, "kernel": 5, "decoder_layers": 0,
        "visual_channels": [4, 4, 8], "vocab_size": len(tokenizer),
    }  # fmt: skip
    model = Recognizer(RecognizerConfig(**tiny | BOUNDED | changes)).eval()
    model.tokenizer = tokenizer
    with torch.no_grad():
        model.ctc.ctc_lo.weight.mul_(20)  # so that frames disagree and text comes out
        model.ctc.ctc_lo.bias[BLANK] = -5.0
    return model


@pytest.fixture
def recording():
    rng = np.random.default_rng(0)
    speech = np.convolve(rng.normal(0, 0.2, 640 * N_FRAMES), np.ones(4) / 4, "same").astype(np.float32)
    levels = rng.integers(0, 200, (N_FRAMES, 1, 1), dtype=np.uint8)  # frames differ as wholes, or features hardly do
    return speech, levels + rng.integers(0, 50, (N_FRAMES, 96, 96), dtype=np.uint8)


@pytest.mark.parametrize("build", [{}, {"fusion": "cross_attention"}, {"encoder": "e_branchformer"}])
@pytest.mark.parametrize("modality", ["a", "v", "av"])
def test_streamed_text_is_offline_text(recording, modality, build):
    model = make_model(**build)
    samples, lips = (value if letter in modality else None for value, letter in zip(recording, "av", strict=True))
    whole = Transcriber(model).transcribe(samples, lips, DecodeConfig(method="greedy", modality=modality)).text
    assert whole
    for frames in (3, 25, 200):
        stream = RecognizerStream(model, modality)
        for start in range(0, N_FRAMES, frames):
            stream.feed(
                None if samples is None else samples[640 * start : 640 * (start + frames)],
                None if lips is None else lips[start : start + frames],
            )
        assert stream.finish() == whole


@pytest.mark.parametrize("build", [{}, {"fusion": "cross_attention"}, {"encoder": "e_branchformer"}])
def test_a_frame_depends_on_its_view_alone(recording, build):
    model = make_model(**build)
    past, future = model.config.view_frames
    waveform, lips = torch.from_numpy(recording[0])[None], torch.from_numpy(recording[1])[None, :, 4:92, 4:92]
    there = torch.tensor([True])

    def encode(first: int, last: int) -> torch.Tensor:
        batch = {"waveform": waveform[:, 640 * first : 640 * last], "lips": lips[:, first:last]}
        batch |= {"lengths": torch.tensor([last - first]), "has_audio": there, "has_video": there}
        return model.encode(batch)[0][0]

    with torch.no_grad():
        whole, part = encode(0, N_FRAMES), encode(60 - past, 60 + future + 1)
        assert torch.allclose(part[past], whole[60], atol=1e-4)
        assert not torch.allclose(encode(60 - past, 61)[past], whole[60], atol=1e-4)


def test_text_comes_as_soon_as_the_lookahead_is_there(recording):
    model = make_model(modalities="v")
    stream, lips = RecognizerStream(model), recording[1]
    assert stream.lookahead_frames == 2 + 2 * (2 + 2) and stream.lookahead_ms == 400
    stream.feed(lips=lips[:40])
    decided = stream._next
    assert decided == 40 - stream.lookahead_frames
    other = np.concatenate([lips[:40], 255 - lips[40:]])  # what is not there yet cannot matter
    again = RecognizerStream(model)
    again.feed(lips=other)
    path = again._tokens
    assert path[: len(stream._tokens)] == stream._tokens


def test_memory_stays_bounded(recording):
    stream = RecognizerStream(make_model())
    for _ in range(5):
        stream.feed(*recording)
    past, future = stream.model.config.view_frames
    assert len(stream._lips) == past + future and len(stream._samples) == 640 * (past + future)


def test_streams_may_come_unevenly(recording):
    model = make_model()
    stream, (samples, lips) = RecognizerStream(model), recording
    stream.feed(samples[:30_000])
    assert stream._next == 0  # no lips yet
    stream.feed(samples[30_000:], lips[:80])
    stream.feed(lips=lips[80:])
    assert stream.finish() == Transcriber(model).transcribe(samples, lips, DecodeConfig(method="greedy")).text


def test_what_cannot_be_streamed_is_refused(recording):
    with pytest.raises(InputError, match="needs whole utterances and cannot read along"):
        RecognizerStream(make_model(attention_past=None, attention_future=None))
    stream = RecognizerStream(make_model(), "a")
    with pytest.raises(InputError, match="reads modality 'a' and was fed lips"):
        stream.feed(lips=recording[1])
    with pytest.raises(InputError, match=r"finite samples of shape \(samples,\), got shape \(2, 5\)"):
        stream.feed(np.zeros((2, 5)))
    stream.finish()
    with pytest.raises(InputError, match="has finished"):
        stream.feed(recording[0])
    with pytest.raises(InputError, match=r"lips \(frames, 96, 96\) of uint8, got \(3, 40, 40\)"):
        RecognizerStream(make_model(), "v").feed(lips=np.zeros((3, 40, 40), np.uint8))
