"""FaceFormer: its own past against the true one, padding, checkpoints, and that it learns."""

import dataclasses

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from talking3d.corpus.motion_dataset import collate, fit_motion_basis
from talking3d.generators import load_generator
from talking3d.models.faceformer import FaceFormer, FaceFormerConfig
from talking3d.models.speech_encoder import SpeechEncoderConfig

TINY = FaceFormerConfig(
    encoder=SpeechEncoderConfig(
        dim=16, layers=1, heads=2, ff_dim=32, kernel=5, dropout=0.0, freq_mask_bins=0, time_masks=0
    ),
    heads=2,
    ff_dim=32,
    dropout=0.0,
    period=8,
)


def _model(dataset, face, config=TINY):
    torch.manual_seed(0)
    model = FaceFormer(config, fit_motion_basis(dataset.rows, 8), dataset.mean_motion(), face, ["ann", "bob"])
    with torch.no_grad():  # the head starts at zero: give it something to say
        model.head.weight.normal_(std=0.3)
    return model.eval()


def test_teacher_forced_on_its_own_answer_it_answers_the_same(dataset, tiny_face):
    """The parallel pass with its masks is the frame-by-frame loop."""
    model, batch = _model(dataset, tiny_face), collate([dataset[3], dataset[8]])
    inputs = batch["waveform"], batch["lengths"], batch["speakers"]
    with torch.no_grad():
        alone = model.coefficients(*inputs)
        forced = model._speak(*inputs, alone)
    assert alone[0].std() > 0.01
    torch.testing.assert_close(forced, alone, atol=1e-5, rtol=1e-4)


def test_a_frame_knows_the_past_and_not_the_future(dataset, tiny_face):
    model, batch = _model(dataset, tiny_face), collate([dataset[9]])
    inputs = batch["waveform"], batch["lengths"], batch["speakers"]
    with torch.no_grad():
        before = model._speak(*inputs, batch["motion"])
        batch["motion"][:, 20] += 1.0
        after = model._speak(*inputs, batch["motion"])
    changed = (before - after).abs().amax(-1)[0] > 1e-6
    assert not changed[:21].any() and changed[21:].all()


def test_an_utterance_alone_is_what_it_is_in_a_padded_batch(dataset, tiny_face):
    model, batch, one = _model(dataset, tiny_face), collate([dataset[0], dataset[9]]), collate([dataset[0]])
    with torch.no_grad():
        together, alone = (model.coefficients(b["waveform"], b["lengths"], b["speakers"]) for b in (batch, one))
    torch.testing.assert_close(together[:1, : alone.shape[1]], alone, atol=1e-4, rtol=1e-4)
    assert not together[0, alone.shape[1] :].any()


@pytest.mark.parametrize("teacher_forcing", [False, True])
def test_it_learns(dataset, tiny_face, teacher_forcing):
    model = _model(dataset, tiny_face, dataclasses.replace(TINY, teacher_forcing=teacher_forcing)).train()
    batch = collate([dataset[i] for i in range(6)])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = model(batch)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
    assert all(leaf.grad is not None for name, leaf in model.named_parameters())


def test_saved_and_loaded_it_says_the_same(dataset, tiny_face, tmp_path):
    model, waveform = _model(dataset, tiny_face), dataset[4]["waveform"]
    model.save_pretrained(tmp_path / "faceformer")
    again = load_generator(tmp_path / "faceformer")
    assert type(again) is FaceFormer
    assert np.allclose(again.predict(waveform, "ann"), model.predict(waveform, "ann"), atol=1e-6)


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(InputError, match=r"heads \(3\) must divide encoder.dim \(128\)"):
        FaceFormerConfig(heads=3)


def test_a_checkpoint_that_makes_no_motion(dataset, tiny_face, tmp_path):
    from talking3d.models.syncnet3d import SyncNet3D, SyncNet3DConfig

    basis = fit_motion_basis(dataset.rows, 8)[:, tiny_face.region("lips")]
    SyncNet3D(SyncNet3DConfig(width=8, dim=8), tiny_face, basis).save_pretrained(tmp_path / "sync")
    with pytest.raises(InputError, match="holds a 'syncnet3d', which makes no motion; expected audio2mesh, faceformer"):
        load_generator(tmp_path / "sync")
