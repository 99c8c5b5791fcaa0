"""CodeTalker: its own past against the true one, codes only, the frozen prior, padding, checkpoints, errors."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from talking3d.corpus.motion_dataset import collate, fit_motion_basis
from talking3d.generators import load_generator
from talking3d.models.codetalker import CodeTalker, CodeTalkerConfig
from talking3d.models.motion_prior import MotionCodecConfig, MotionPrior, MotionPriorConfig
from talking3d.models.speech_encoder import SpeechEncoderConfig

CODEC = MotionCodecConfig(components=3, code_dim=4, codes=16, dim=16, layers=1, heads=2, ff_dim=32, kernel=3, reach=4)
TINY = CodeTalkerConfig(
    encoder=SpeechEncoderConfig(
        dim=16, layers=1, heads=2, ff_dim=32, kernel=5, dropout=0.0, freq_mask_bins=0, time_masks=0
    ),
    heads=2,
    ff_dim=32,
    dropout=0.0,
    period=8,
)


@pytest.fixture
def prior(dataset, tiny_face, tmp_path):
    """A prior's checkpoint, trained for a moment."""
    torch.manual_seed(0)
    basis, batch = fit_motion_basis(dataset.rows, 8), collate([dataset[i] for i in range(10)])
    model = MotionPrior(MotionPriorConfig(codec=CODEC), basis, dataset.mean_motion(), tiny_face, ["ann", "bob"]).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        model(batch)["loss"].backward()
        optimizer.step()
    model.save_pretrained(tmp_path / "prior")
    return str(tmp_path / "prior")


def _model(dataset, face, prior):
    torch.manual_seed(1)
    config = dataclasses.replace(TINY, prior=prior)
    return CodeTalker.on_prior(
        config, fit_motion_basis(dataset.rows, 8), dataset.mean_motion(), face, ["ann", "bob"]
    ).eval()


def test_teacher_forced_on_its_own_answer_it_answers_the_same(dataset, tiny_face, prior):
    """The parallel pass of the training is the frame-by-frame loop: what was fed back is what is answered."""
    model, batch = _model(dataset, tiny_face, prior), collate([dataset[3], dataset[8]])
    with torch.no_grad():
        alone = model.coefficients(batch["waveform"], batch["lengths"], batch["speakers"])
        sound = model.encoder(batch["waveform"], batch["lengths"])
        features = model.head(model.decoder.follow(sound, batch["speakers"], alone - model.mean))
        forced = model.mean + model.codec.decode(model.codec.quantise(features))
    assert alone[0].std() > 0.01
    for forced_one, alone_one, length in zip(forced, alone, batch["lengths"], strict=True):
        torch.testing.assert_close(forced_one[:length], alone_one[:length], atol=1e-5, rtol=1e-4)


def test_what_it_says_is_made_of_the_priors_codes(dataset, tiny_face, prior):
    model, batch = _model(dataset, tiny_face, prior), collate([dataset[3]])
    chosen = []
    quantise = model.codec.quantise

    def watched(features):
        chosen.append(quantise(features))
        return chosen[-1]

    model.codec.quantise = watched
    with torch.no_grad():
        output = model.coefficients(batch["waveform"], batch["lengths"], batch["speakers"])
    codes = torch.cat(chosen, dim=1)  # one frame at a time
    assert len(chosen) == output.shape[1] and (codes.shape[1], codes.shape[2]) == (output.shape[1], 12)
    book = MotionPrior.from_pretrained(prior).codec.codebook.weight
    distances = (codes.unflatten(-1, (3, 4))[..., None, :] - book).norm(dim=-1).amin(-1)
    assert distances.max() < 1e-5
    torch.testing.assert_close(output, model.mean + model.codec.decode(codes), atol=1e-5, rtol=1e-4)


def test_an_utterance_alone_is_what_it_is_in_a_padded_batch(dataset, tiny_face, prior):
    model, batch, one = _model(dataset, tiny_face, prior), collate([dataset[0], dataset[9]]), collate([dataset[0]])
    with torch.no_grad():
        together, alone = (model.coefficients(b["waveform"], b["lengths"], b["speakers"]) for b in (batch, one))
    torch.testing.assert_close(together[:1, : alone.shape[1]], alone, atol=1e-4, rtol=1e-4)
    assert not together[0, alone.shape[1] :].any()


def test_it_learns_and_its_prior_does_not(dataset, tiny_face, prior):
    model, batch = _model(dataset, tiny_face, prior).train(), collate([dataset[i] for i in range(6)])
    assert not model.codec.training
    before = {name: value.clone() for name, value in model.codec.state_dict().items()}
    with torch.no_grad():
        first = model.eval()(batch)["vertex"].item()
    optimizer = torch.optim.Adam([leaf for leaf in model.parameters() if leaf.requires_grad], lr=1e-2)
    model.train()
    for _ in range(40):
        optimizer.zero_grad()
        terms = model(batch)
        terms["loss"].backward()
        optimizer.step()
    assert terms["loss"].item() == pytest.approx(
        sum(weight * terms[name].item() for name, weight in _weights(model.config).items()), rel=1e-5
    )
    learning = [name for name, leaf in model.named_parameters() if leaf.requires_grad]
    assert all(dict(model.named_parameters())[name].grad is not None for name in learning)
    assert not any(name.startswith("codec") for name in learning)
    assert all(torch.equal(before[name], value) for name, value in model.codec.state_dict().items())
    with torch.no_grad():  # on its own past
        assert model.eval()(batch)["vertex"].item() < 0.5 * first


def test_a_training_past_is_partly_anothers(dataset, tiny_face, prior):
    model, batch = _model(dataset, tiny_face, prior).train(), collate([dataset[0], dataset[9]])
    seen, follow = [], model.decoder.follow

    def watched(sound, speakers, past):
        seen.append(past)
        return follow(sound, speakers, past)

    model.decoder.follow = watched
    own = batch["motion"] - model.mean
    for share in (0.0, 0.5):
        model.config.wrong_past = share
        model(batch)
    assert torch.equal(seen[0], own)
    for b in range(2):
        shares = ((seen[1][b] - own[b]) / (own[1 - b] - own[b]))[(own[1 - b] - own[b]).abs() > 0.1]
        assert 0 < shares.mean() <= 0.5 and shares.std() < 1e-3  # one an utterance


def _weights(config):
    return {
        "vertex": 1.0,
        "velocity": config.velocity_weight,
        "closure": config.closure_weight,
        "coefficient": config.coefficient_weight,
        "feature": config.feature_weight,
    }


def test_saved_it_needs_no_prior(dataset, tiny_face, prior, tmp_path):
    model, waveform = _model(dataset, tiny_face, prior), dataset[4]["waveform"]
    model.save_pretrained(tmp_path / "codetalker")
    shutil.rmtree(prior)
    again = load_generator(tmp_path / "codetalker")
    assert type(again) is CodeTalker and again.config.codec == CODEC
    assert np.allclose(again.predict(waveform, "ann"), model.predict(waveform, "ann"), atol=1e-6)


def test_no_prior(dataset, tiny_face):
    with pytest.raises(InputError, match="codetalker.prior names no motion prior"):
        _model(dataset, tiny_face, None)


def test_a_prior_of_another_basis(dataset, tiny_face, prior):
    basis, mean = fit_motion_basis(dataset.rows, 8), dataset.mean_motion()
    for other in (basis[:1], -basis):
        with pytest.raises(InputError, match="codes motion in another basis of 2 components than this training's"):
            CodeTalker.on_prior(dataclasses.replace(TINY, prior=prior), other, mean[: len(other)], tiny_face, [])


def test_a_checkpoint_that_is_no_prior(dataset, tiny_face, prior, tmp_path):
    _model(dataset, tiny_face, prior).save_pretrained(tmp_path / "codetalker")
    with pytest.raises(InputError, match="motion_prior"):
        _model(dataset, tiny_face, str(tmp_path / "codetalker"))


def test_a_share_of_wrong_past_beyond_one():
    with pytest.raises(InputError, match="wrong_past is a share between 0 and 1, got 1.5"):
        CodeTalkerConfig(wrong_past=1.5)


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(InputError, match=r"codetalker.heads \(3\) must divide encoder.dim \(128\)"):
        CodeTalkerConfig(heads=3)
