"""Styles from clips: found again, better than the average on other clips, the weights untouched, and bad clips."""

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from avsr.media.audio import write_wav
from avsr.media.timing import FPS
from talking3d.animate import animate
from talking3d.corpus.motion_dataset import fit_motion_basis
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate
from talking3d.models.audio2mesh import Audio2Mesh, Audio2MeshConfig
from talking3d.models.faceformer import FaceFormer, FaceFormerConfig
from talking3d.models.speech_encoder import SpeechEncoderConfig
from talking3d.style import fit_style, style_of_clips

TINY = SpeechEncoderConfig(dim=16, layers=1, heads=2, ff_dim=32, kernel=5)
SPEAKERS = ["ann", "bob", "cid", "dot"]


@pytest.fixture(params=["audio2mesh", "faceformer"])
def model(request, spoken_rows, tiny_face):
    torch.manual_seed(0)
    basis = fit_motion_basis(spoken_rows, 8)
    of = Audio2Mesh if request.param == "audio2mesh" else FaceFormer
    config = Audio2MeshConfig(encoder=TINY) if of is Audio2Mesh else FaceFormerConfig(encoder=TINY, heads=2, ff_dim=32)
    model = of(config, basis, np.zeros(len(basis)), tiny_face, SPEAKERS)
    with torch.no_grad():
        model.head.weight.normal_(std=0.5)
        model.styles.weight.normal_(std=0.5)
        if of is Audio2Mesh:
            model.contact.project.bias.fill_(-20.0)  # apart
    return model.eval()


def _sound(seed, n_frames=20):
    return np.random.default_rng(seed).normal(0, 0.1, 640 * n_frames).astype(np.float32)


def _stranger(model):
    """A style between those of two speakers, and clips of it."""
    style = 0.5 * (model.styles.weight[0] + model.styles.weight[1]).detach()
    return style, [(_sound(seed), model.predict(_sound(seed), style)) for seed in range(3)]


def test_a_style_is_found_that_moves_as_the_clips_do(model):
    style, clips = _stranger(model)
    found = fit_style(model, clips[:2])
    assert found.shape == style.shape and not found.requires_grad

    def error(one):
        waveform, motion = clips[2]  # a clip that was not shown
        return np.square(model.predict(waveform, one) - motion).mean()

    assert error(found) < 0.3 * error(None)
    average = model.styles.weight.mean(0).detach()
    np.testing.assert_array_equal(model.predict(clips[2][0], average), model.predict(clips[2][0]))


def test_only_the_style_is_fitted(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.styles.requires_grad_(False)
    _, clips = _stranger(model)
    assert torch.equal(fit_style(model, clips), fit_style(model, clips))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model.styles.weight.requires_grad and model.head.weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_known_style_is_its_vector(model):
    waveform = _sound(0)
    np.testing.assert_array_equal(model.predict(waveform, "bob"), model.predict(waveform, model.styles.weight[1]))


def test_motion_becomes_coefficients_and_back(model, tiny_face):
    coefficients = np.random.default_rng(0).normal(size=(7, len(model.basis))).astype(np.float32)
    np.testing.assert_allclose(model.project(model.motion(coefficients, tiny_face)), coefficients, atol=1e-4)


@pytest.fixture
def files(model, tiny_face, tmp_path):
    """A checkpoint, and a clip of a stranger's as files."""
    model.save_pretrained(tmp_path / "checkpoint")
    _, [(waveform, motion), *_] = _stranger(model)
    write_wav(tmp_path / "clip.wav", waveform)
    model.motion(motion, tiny_face).save(tmp_path / "clip.npz")
    return tmp_path


def test_a_file_of_speech_is_animated_in_the_style_of_a_clip(model, files):
    clip = {"style_clips": [files / "clip.npz"], "style_sounds": [files / "clip.wav"]}
    out = animate(files / "clip.wav", files / "out.npz", files / "checkpoint", idle=False, **clip)
    plain = animate(files / "clip.wav", files / "plain.npz", files / "checkpoint", idle=False)
    true = Motion.load(files / "clip.npz").coefficients
    middle = slice(5, -5)  # the face rests at the ends
    assert np.abs(out.coefficients - true)[middle].mean() < 0.7 * np.abs(plain.coefficients - true)[middle].mean()


def test_bad_clips_are_errors(model, files):
    with pytest.raises(InputError, match="no clip to take a style from"):
        fit_style(model, [])
    with pytest.raises(InputError, match="style clip 1: 9 frames of motion, but 20 of sound"):
        fit_style(model, [(_sound(0), np.zeros((9, len(model.basis)), np.float32))])
    with pytest.raises(InputError, match="1 style clips, but 0 sounds"):
        style_of_clips(model, [files / "clip.npz"], [])
    motion = Motion.load(files / "clip.npz")
    Motion.of_template(model.template, 30.0, coefficients=motion.coefficients).save(files / "fast.npz")
    with pytest.raises(InputError, match=f"fast.npz runs at 30 fps, expected {FPS}"):
        style_of_clips(model, [files / "fast.npz"], [files / "clip.wav"])
    other = FaceTemplate(name="other", verts=model.template.verts, faces=model.template.faces[:-1])
    Motion.of_template(other, FPS, offsets=np.zeros((20, 64, 3))).save(files / "other.npz")
    with pytest.raises(InputError, match="made for 'other'"):
        style_of_clips(model, [files / "other.npz"], [files / "clip.wav"])
    with pytest.raises(InputError, match=r"give either style \(.ann.\) or style_clips"):
        animate(
            files / "clip.wav",
            files / "out.npz",
            files / "checkpoint",
            style="ann",
            style_clips=[files / "clip.npz"],
            style_sounds=[files / "clip.wav"],
        )
