"""A generator that hears by a recogniser: features, batches, training, checkpoints, and recognisers that don't do."""

import shutil

import numpy as np
import pytest
import torch

from avsr.data.text import Tokenizer
from avsr.errors import InputError
from avsr.models.recognizer import Recognizer
from avsr.models.recognizer_parts import RecognizerConfig
from talking3d.corpus.motion_dataset import MotionDataset, collate, fit_motion_basis
from talking3d.models.audio2mesh import Audio2Mesh, Audio2MeshConfig
from talking3d.models.recognizer_speech import RecognizerSpeech
from talking3d.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig

SIZES = {"dim": 16, "heads": 2, "ff_dim": 24, "kernel": 5, "decoder_layers": 0, "vocab_size": 7}
SHAPE = {"dim": 12, "layers": 1, "heads": 2, "ff_dim": 24, "kernel": 5}


def _checkpoint(path, **changes):
    torch.manual_seed(1)
    tokenizer = Tokenizer("word", ["one", "two"])
    sizes = {**SIZES, "vocab_size": len(tokenizer), "modalities": "a", "layers": 1}
    recognizer = Recognizer(RecognizerConfig(**{**sizes, **changes})).eval()
    recognizer.save_pretrained(path, tokenizer)
    return path, recognizer


def _sound(n_frames, seed=0):
    return 0.1 * torch.randn(640 * n_frames - 100, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "changes",
    [{}, {"stream_layers": 2}, {"stream_layers": 1, "modalities": "av", "audio_frontend": "conv2d"}],
    ids=["sound", "sound of its own", "both streams"],
)
def test_it_hears_what_the_recogniser_hears(tmp_path, changes):
    path, recognizer = _checkpoint(tmp_path / "r", **changes)
    speech = SpeechEncoder(SpeechEncoderConfig(pretrained=str(path), **SHAPE)).eval().frontend
    waveform, lengths = _sound(9)[None], torch.tensor([9])
    with torch.no_grad():
        shallow = recognizer.audio(waveform, lengths)
        encoder = recognizer.stream_encoders["a"] if recognizer.stream_encoders else recognizer.encoder
        both = torch.cat([shallow, encoder(shallow, lengths)], dim=-1)
        torch.testing.assert_close(speech(waveform, lengths), speech.project(both))


def test_an_utterance_alone_is_what_it_is_in_a_padded_batch(tmp_path):
    path, _ = _checkpoint(tmp_path / "r", stream_layers=1)
    encoder = SpeechEncoder(SpeechEncoderConfig(pretrained=str(path), **SHAPE)).eval()
    lengths = torch.tensor([20, 9, 1])
    sounds = [_sound(n, seed=n) for n in lengths.tolist()]
    with torch.no_grad():
        together = encoder(torch.nn.utils.rnn.pad_sequence(sounds, batch_first=True), lengths)
        for b, length in enumerate(lengths.tolist()):
            alone = encoder(sounds[b][None], lengths[b : b + 1])
            torch.testing.assert_close(together[b, :length], alone[0], atol=1e-4, rtol=1e-4)
            assert not together[b, length:].any()


@pytest.mark.parametrize("finetune", [False, True])
def test_what_is_trained(tmp_path, finetune):
    path, _ = _checkpoint(tmp_path / "r")
    config = SpeechEncoderConfig(pretrained=str(path), finetune=finetune, dropout=0.0, **SHAPE)
    speech = SpeechEncoder(config).train().frontend
    sound, lengths = _sound(10)[None], torch.tensor([10])
    speech(sound, lengths).square().sum().backward()
    with_gradient = {name.split(".")[0] for name, p in speech.named_parameters() if p.grad is not None and p.grad.any()}
    assert with_gradient == ({"project", "network"} if finetune else {"project"})
    with torch.no_grad():  # what is frozen drops nothing and is not masked
        assert torch.equal(speech(sound, lengths), speech(sound, lengths)) != finetune


def test_a_student_learns_with_it_and_its_checkpoint_stands_alone(tmp_path, spoken_rows, tiny_face):
    path, _ = _checkpoint(tmp_path / "r")
    basis = fit_motion_basis(spoken_rows, 8)
    dataset = MotionDataset(spoken_rows, basis, speakers=["ann", "bob"])
    encoder = SpeechEncoderConfig(dropout=0.0, pretrained=str(path), **SHAPE)
    torch.manual_seed(0)
    model = Audio2Mesh(Audio2MeshConfig(encoder=encoder), basis, dataset.mean_motion(), tiny_face, ["ann", "bob"])
    batch, losses = collate([dataset[0], dataset[1]]), []
    optimizer = torch.optim.AdamW((p for p in model.train().parameters() if p.requires_grad), lr=1e-2)
    for _ in range(12):
        optimizer.zero_grad()
        losses.append(model(batch)["loss"])
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
    model.eval().save_pretrained(tmp_path / "checkpoint")
    shutil.rmtree(path)
    again = Audio2Mesh.from_pretrained(tmp_path / "checkpoint")
    waveform = dataset[0]["waveform"]
    np.testing.assert_array_equal(again.predict(waveform, "bob"), model.predict(waveform, "bob"))


def test_recognisers_that_have_no_ear_of_their_own_are_errors(tmp_path):
    for changes, message in (
        ({"modalities": "v"}, "a recogniser of video with stream_layers=0 has no encoder of sound to hear by"),
        ({"modalities": "av"}, "a recogniser of audio and video with stream_layers=0 .* give one of audio"),
    ):
        with pytest.raises(InputError, match=message):
            RecognizerSpeech(12, RecognizerConfig(**{**SIZES, **changes}), dropout=0.0, finetune=False)
    with pytest.raises(InputError, match="no such checkpoint folder"):
        SpeechEncoder(SpeechEncoderConfig(pretrained=str(tmp_path / "nowhere"), **SHAPE))
