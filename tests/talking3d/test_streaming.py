"""A stream says what the whole recording says, whatever the pieces; it remembers little, and rests in silence."""

import dataclasses

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from avsr.media.audio import read_audio
from avsr.media.timing import SAMPLES_PER_FRAME, frames_of
from talking3d.animate import speak
from talking3d.face.procedural import procedural_face
from talking3d.models.audio2mesh import Audio2Mesh, Audio2MeshConfig
from talking3d.models.speech_encoder import SpeechEncoderConfig
from talking3d.streaming import MotionStream

ENCODER = SpeechEncoderConfig(
    dim=16,
    heads=2,
    ff_dim=32,
    kernel=5,
    attention_past=6,
    attention_future=1,
    statistics_past_s=1.0,
    statistics_future_s=0.1,
)


def _model(encoder=ENCODER, **changes):
    face = procedural_face()
    torch.manual_seed(0)
    config = Audio2MeshConfig(encoder=encoder, **changes)
    model = Audio2Mesh(config, face.articulation_basis[[0, 2, 3]], np.array([0.3, 0.1, 0.1]), face, ["ann", "bob"])
    with torch.no_grad():
        model.head.weight.normal_(std=0.1)
        model.styles.weight.normal_()
    return model.eval()


@pytest.fixture(scope="module")
def speech(shared):
    """Two recorded sentences, a pause between them, silence at the end; 8 s or so, not in whole frames."""
    rng = np.random.default_rng(0)
    one, other = (read_audio(shared / "speech" / "utterances" / f"{name}.wav") for name in ("spk1_snt1", "spk2_snt2"))
    rests = [1e-3 * rng.standard_normal(n).astype(np.float32) for n in (5_000, 16_000, 20_123)]
    return np.concatenate([rests[0], one, rests[1], other, rests[2]])


def _pieces(n_samples, how):
    rng = np.random.default_rng(1)
    while n_samples > 0:
        size = min(n_samples, how if isinstance(how, int) else int(rng.integers(*how)))
        yield size
        n_samples -= size


def _stream(model, waveform, how, style=None):
    stream = MotionStream(model, style)
    given, start = [], 0
    for size in _pieces(len(waveform), how):
        given.append(stream.feed(waveform[start : start + size]))
        start += size
        decided = sum(map(len, given))
        assert decided == max(0, start // SAMPLES_PER_FRAME - stream.lookahead_frames)
    return np.concatenate([*given, stream.finish()])


@pytest.mark.parametrize("how", [640, 1_001, 333, (1, 30_000), 10**9], ids=str)
@pytest.mark.parametrize("kind", ["conformer", "e_branchformer"])
def test_a_stream_says_what_the_whole_recording_says(speech, how, kind):
    model = _model(dataclasses.replace(ENCODER, encoder=kind))
    whole = speak(model, speech, "bob")
    assert np.abs(whole).max() > 0.1
    streamed = _stream(model, speech, how, "bob")
    assert streamed.shape == whole.shape == (frames_of(len(speech)), 3)
    np.testing.assert_allclose(streamed, whole, atol=1e-4)


def test_long_speech_is_predicted_exactly(speech):
    """In windows much shorter than the speech, and in one."""
    whole, windowed = (_model(window_s=s, context_s=0.5) for s in (60.0, 1.1))
    np.testing.assert_allclose(windowed.predict(speech), whole.predict(speech), atol=1e-4)
    np.testing.assert_allclose(_stream(windowed, speech, 10**9), speak(whole, speech), atol=1e-4)


@pytest.mark.parametrize("n_samples", [0, 1, 639, 640, 641, 5_000])
def test_a_moment(n_samples):
    model = _model()
    waveform = np.random.default_rng(0).uniform(-0.1, 0.1, n_samples).astype(np.float32)
    whole = speak(model, waveform) if n_samples else np.zeros((0, 3))
    np.testing.assert_allclose(_stream(model, waveform, 640), whole, atol=1e-4)


def test_nothing_beyond_the_look_ahead_matters(speech):
    """Not a bit of a frame changes with the samples after its look-ahead; with those in it, it does."""
    model, frame = _model(), 60
    end = (frame + 1 + model.view_frames[1]) * SAMPLES_PER_FRAME
    before = model.predict(speech)[frame]
    later, sooner = speech.copy(), speech.copy()
    later[end:] = np.random.default_rng(2).uniform(-0.5, 0.5, len(speech) - end)
    sooner[(frame + 1) * SAMPLES_PER_FRAME : end] *= 0.1
    np.testing.assert_array_equal(model.predict(later)[frame], before)
    assert np.abs(model.predict(sooner)[frame] - before).max() > 1e-3


def test_gradients_stop_at_the_look_ahead():
    """Of one frame's coefficients with respect to the normalised log-mel that the encoder's convolutions hear."""
    model, frame = _model(dataclasses.replace(ENCODER, statistics_future_s=0.0)), 40
    heard = torch.randn(1, 80, 4 * 90, requires_grad=True)  # (B, mel bands, L), normalised
    front, lengths = model.encoder.frontend, torch.tensor([90])
    features = heard
    for convolution, norm in zip(front.convolutions, front.norms, strict=True):
        features = torch.nn.functional.silu(norm(convolution(features).transpose(1, 2))).transpose(1, 2)
    features = model.encoder.encoder(front.project(features.transpose(1, 2)), lengths)
    contact = model.contact(features, lengths)
    (features[0, frame].sum() + contact[0, frame]).backward()
    reached = heard.grad[0].abs().sum(0).nonzero().flatten() // 4
    assert reached.max() == frame + model.view_frames[1]
    assert reached.min() == frame - 2 * (6 + 2) - 2 - 2  # two layers' attention and convolution, front end, contact


@pytest.mark.parametrize("how", [16_000, 10**9], ids=["by the second", "at once"])
def test_memory_is_flat(speech, how, monkeypatch):
    """In the second minute the stream holds no more than in the first, and the model hears no more at once."""
    model = _model(window_s=4.0, context_s=0.5)
    minute, stream, heard, held = np.tile(speech, 10)[: 60 * 16_000], MotionStream(model), [], []
    coefficients = model.coefficients
    monkeypatch.setattr(
        model, "coefficients", lambda sound, *rest: heard.append(sound.shape[1]) or coefficients(sound, *rest)
    )
    for _ in range(2):
        for start in range(0, len(minute), how):
            stream.feed(minute[start : start + how])
        held.append((len(stream._samples), len(stream._powers)))
        assert stream._samples.base is None and stream._powers.base is None
    assert held[0] == held[1]
    assert held[0][0] < (sum(model.view_frames) + 26) * SAMPLES_PER_FRAME and held[0][1] < 31 * 25
    assert max(heard) <= sum(model.view_frames) * SAMPLES_PER_FRAME + min(how, 4 * 16_000)


def test_it_rests_in_silence_and_at_the_end(speech):
    streamed = _stream(_model(), speech, 1_000)
    assert not streamed[-20:].any()
    n_first = frames_of(5_000 + 30_000)
    assert np.abs(streamed[:n_first]).max() > 0.1
    quiet = MotionStream(_model())
    assert not quiet.feed(np.zeros(160_000, np.float32)).any() and not quiet.finish().any()


def test_the_delay_is_stated():
    narrow = dataclasses.replace(ENCODER, kernel=3, attention_future=0, statistics_future_s=0.0)
    stream = MotionStream(_model(narrow))
    assert stream.model.view_frames[1] == 6 and stream.lookahead_frames == 14  # which rests wait for
    wide = MotionStream(_model(dataclasses.replace(ENCODER, attention_future=5)))
    assert wide.lookahead_frames == wide.model.view_frames[1] == 21 and wide.lookahead_ms == 840


def test_a_model_that_hears_whole_utterances_is_an_error():
    whole = dataclasses.replace(ENCODER, attention_past=None, attention_future=None)
    with pytest.raises(InputError, match="this audio2mesh hears whole utterances and cannot speak along"):
        MotionStream(_model(whole))


def test_bad_input_is_an_error():
    model = _model()
    with pytest.raises(InputError, match="unknown style 'eve'"):
        MotionStream(model, "eve")
    stream = MotionStream(model)
    with pytest.raises(InputError, match=r"finite samples of shape \(samples,\), got shape \(2, 640\)"):
        stream.feed(np.zeros((2, 640)))
    with pytest.raises(InputError, match="finite samples"):
        stream.feed(np.full(640, np.nan))
    stream.finish()
    with pytest.raises(InputError, match="this stream has finished"):
        stream.feed(np.zeros(640))
