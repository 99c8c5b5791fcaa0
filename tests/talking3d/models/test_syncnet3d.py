"""The sync network: pairs and losses against loops, padding, locality, checkpoints, and that it learns timing."""

import dataclasses

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from avsr.media.timing import samples_of
from talking3d.corpus.motion_dataset import collate, fit_motion_basis
from talking3d.models.syncnet import offset_accuracy, windows
from talking3d.models.syncnet3d import SyncNet3D, SyncNet3DConfig

TINY = SyncNet3DConfig(width=24, dim=16, dropout=0.0, max_offset=4, cross_clip=20)


def _network(dataset, face, config=TINY):
    torch.manual_seed(0)
    basis = fit_motion_basis(dataset.rows, 8)
    return SyncNet3D(config, face, basis[:, face.region("lips")]).eval()


def _embed(model, batch):
    with torch.no_grad():
        audio = model.embed_audio(batch["waveform"], batch["lengths"])
        return audio, model.embed_coefficients(batch["motion"], batch["lengths"])


def _lips(model, coefficients):
    return torch.einsum("btk,kux->btux", coefficients, model.lip_basis)


def test_coefficients_are_embedded_as_the_vertices_they_move(dataset, tiny_face):
    model, batch = _network(dataset, tiny_face), collate([dataset[0], dataset[7]])
    assert batch["lengths"][0] != batch["lengths"][1]
    gradients = []
    for embed in (model.embed_coefficients, lambda c, lengths: model.embed_motion(_lips(model, c), lengths)):
        leaf = batch["motion"].clone().requires_grad_()
        embedded = embed(leaf, batch["lengths"])
        weights = torch.randn(embedded.shape, generator=torch.Generator().manual_seed(0))
        gradients.append((embedded.detach(), torch.autograd.grad((weights * embedded).sum(), leaf)[0]))
    (fast, fast_gradient), (slow, slow_gradient) = gradients
    assert torch.allclose(fast, slow, atol=1e-5)
    assert torch.allclose(fast_gradient, slow_gradient, atol=1e-4) and slow_gradient.abs().max() > 1e-2


def test_similarities_are_those_of_shifted_pairs(dataset, tiny_face):
    model, batch = _network(dataset, tiny_face), collate([dataset[0], dataset[7]])
    audio, motion = _embed(model, batch)
    scores, exists = model.similarities(audio, motion, batch["lengths"])
    assert scores.shape == exists.shape == (2, audio.shape[1], 9)
    for b, length in enumerate(batch["lengths"].tolist()):
        for t in range(audio.shape[1]):
            for offset in range(-4, 5):
                there = t < length and 0 <= t + offset < length
                assert exists[b, t, offset + 4] == there
                if there:
                    assert scores[b, t, offset + 4] == pytest.approx(
                        (audio[b, t] @ motion[b, t + offset]).item(), abs=1e-5
                    )


def test_the_frame_loss_is_a_loop_over_candidates(dataset, tiny_face):
    model, batch = _network(dataset, tiny_face), collate([dataset[1], dataset[4], dataset[8]])
    audio, motion = _embed(model, batch)
    lengths = batch["lengths"].tolist()
    torch.manual_seed(3)
    loss = model(batch)["frame"].item()
    torch.manual_seed(3)
    frames = [(b, t) for b, length in enumerate(lengths) for t in range(length)]
    chosen = [frames[i] for i in torch.randperm(len(frames))[:20].tolist()]
    scale, losses = model.log_scale.exp().item(), []
    for b, t in frames:
        near = [(b, t + k) for k in range(-4, 5) if 0 <= t + k < lengths[b]]
        far = [(c, s) for c, s in chosen if c != b]
        logits = np.array([scale * (audio[b, t] @ motion[c, s]).item() for c, s in near + far])
        losses.append(np.logaddexp.reduce(logits) - scale * (audio[b, t] @ motion[b, t]).item())
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)


def test_windows_and_offset_accuracy():
    scores = torch.zeros(1, 40, 29)
    exists = torch.ones(1, 40, 29, dtype=torch.bool)
    scores[0, :20, 14] = 1.0  # the true offset in the first half, one late in the second
    scores[0, 20:, 15] = 1.0
    accuracy = offset_accuracy(scores, exists)
    # a window of 11 frames that starts at 0..14 holds more of the first half, at 15 or later more of the second
    assert accuracy["exact"].item() == pytest.approx(15 / 30) and accuracy["near"].item() == 1.0
    scores[0, 20:, 14 + 5] = 2.0
    assert offset_accuracy(scores, exists)["near"].item() < 0.7
    exists[0, 30:] = False
    pooled, whole = windows(scores, exists, 11)
    assert whole[0, :20].all() and not whole[0, 20:].any()
    assert torch.allclose(pooled[0, 3], scores[0, 3:14].mean(0))


def test_a_clip_alone_is_what_it_is_in_a_padded_batch(dataset, tiny_face):
    model = _network(dataset, tiny_face)
    together = _embed(model, collate([dataset[0], dataset[9]]))
    alone = _embed(model, collate([dataset[0]]))
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[:1, : b.shape[1]], b, atol=1e-5, rtol=1e-4)


def test_a_frame_sees_its_surroundings_only(dataset, tiny_face):
    """What is heard or seen more than `kernel // 2` + 1 frames away changes nothing (sound is normalised first)."""
    model, batch = _network(dataset, tiny_face), collate([dataset[9]])
    _, before = _embed(model, batch)
    batch["motion"][:, 20:] += 1.0
    _, after = _embed(model, batch)
    changed = (before - after).abs().amax(-1)[0] > 1e-6
    assert changed[18:].all() and not changed[:18].any()


def test_distances_are_a_loop_over_offsets(dataset, tiny_face):
    model, item = _network(dataset, tiny_face), dataset[9]
    offsets = np.zeros((len(item["motion"]), 64, 3), np.float32)
    offsets[:, tiny_face.region("lips")] = _lips(model, torch.from_numpy(item["motion"])[None])[0]
    audio, motion = _embed(model, collate([item]))
    n = audio.shape[1]
    expected = [
        np.mean([(audio[0, t] - motion[0, t + k]).norm().item() for t in range(n) if 0 <= t + k < n])
        for k in range(-4, 5)
    ]
    assert np.allclose(model.distances(item["waveform"], offsets), expected, atol=1e-4)


def test_gradients_reach_the_motion(dataset, tiny_face):
    model, batch = _network(dataset, tiny_face), collate([dataset[0], dataset[3]])
    batch["motion"].requires_grad_()
    model(batch)["loss"].backward()
    assert (batch["motion"].grad.abs().amax(-1)[0, :25] > 0).all() and batch["motion"].grad.isfinite().all()


def test_it_learns_the_offset(dataset, tiny_face):
    """On the buzz that opens a mouth: after 60 steps most windows are placed exactly, where 11 % is chance."""
    config = dataclasses.replace(TINY, max_offset=4)
    model = _network(dataset, tiny_face, config).train()
    batch = collate([dataset[i] for i in range(10)])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(batch)["loss"].backward()
        optimizer.step()
    model.eval()
    scores, exists = model.similarities(*_embed(model, batch), batch["lengths"])
    assert offset_accuracy(scores, exists, n_offsets=9)["exact"] > 0.8


def test_saved_and_loaded_it_judges_alike(dataset, tiny_face, tmp_path):
    model, item = _network(dataset, tiny_face), dataset[9]
    model.save_pretrained(tmp_path / "sync")
    offsets = np.random.default_rng(0).normal(0, 0.005, (len(item["motion"]), 64, 3))
    again = SyncNet3D.from_pretrained(tmp_path / "sync")
    assert np.allclose(again.distances(item["waveform"], offsets), model.distances(item["waveform"], offsets))


def test_a_clip_too_short_to_shift(dataset, tiny_face):
    with pytest.raises(InputError, match="a clip of 4 frames is too short to be shifted by 4"):
        _network(dataset, tiny_face).distances(np.ones(samples_of(4), np.float32), np.zeros((4, 64, 3)))


def test_an_even_kernel():
    with pytest.raises(InputError, match="kernel is 4; it must be odd"):
        SyncNet3DConfig(kernel=4)


def test_a_checkpoint_without_its_template(dataset, tiny_face, tmp_path):
    _network(dataset, tiny_face).save_pretrained(tmp_path / "sync")
    (tmp_path / "sync" / "template.npz").unlink()
    with pytest.raises(InputError, match="not a whole syncnet3d checkpoint"):
        SyncNet3D.from_pretrained(tmp_path / "sync")
