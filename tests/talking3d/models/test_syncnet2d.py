"""The sync network of pictures: what is its own; pairs and losses, which it shares, are tested with SyncNet3D."""

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from avsr.media.timing import samples_of
from talking3d.corpus.lip_dataset import LipDataset, collate
from talking3d.models.syncnet import offset_accuracy
from talking3d.models.syncnet2d import SyncNet2D, SyncNet2DConfig

TINY = SyncNet2DConfig(width=24, dim=16, dropout=0.0, max_offset=4, cross_clip=20, visual_channels=[4, 8, 8])


@pytest.fixture
def dataset(lip_rows):
    return LipDataset(lip_rows)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SyncNet2D(TINY).eval()


def _embed(model, batch):
    with torch.no_grad():
        lips = model.embed_lips(batch["lips"], batch["lengths"])
        return model.embed_audio(batch["waveform"], batch["lengths"]), lips


def test_a_clip_alone_is_what_it_is_in_a_padded_batch(dataset, model):
    together, alone = _embed(model, collate([dataset[0], dataset[9]])), _embed(model, collate([dataset[0]]))
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[:1, : b.shape[1]], b, atol=1e-5, rtol=1e-4)


def test_a_frame_sees_its_surroundings_only(dataset, model):
    """Two frames by the pictures' stem and two by the tower, to each side."""
    batch = collate([dataset[9]])
    _, before = _embed(model, batch)
    batch["lips"][:, 20:] = 255 - batch["lips"][:, 20:]
    _, after = _embed(model, batch)
    changed = (before - after).abs().amax(-1)[0] > 1e-6
    assert changed[16:24].all() and not changed[:16].any()


def test_distances_are_a_loop_over_offsets(dataset, model):
    item = dataset[9]
    audio, lips = _embed(model, collate([item]))
    n = audio.shape[1]
    expected = [
        np.mean([(audio[0, t] - lips[0, t + k]).norm().item() for t in range(n) if 0 <= t + k < n])
        for k in range(-4, 5)
    ]
    assert np.allclose(model.distances(item["waveform"], item["lips"]), expected, atol=1e-4)


def test_the_sync_loss_is_a_loop_over_the_clips_sound(dataset, model):
    batch = collate([dataset[2], dataset[6]])
    audio, lips = _embed(model, batch)
    lengths = batch["lengths"].tolist()
    judged = torch.zeros(2, max(lengths), dtype=torch.bool)
    judged[0, 5:9] = judged[1, :3] = True
    losses = []
    for b, t in judged.nonzero().tolist():
        logits = {
            s: model.log_scale.exp().item() * (lips[b, t] @ audio[b, s]).item()
            for s in range(max(0, t - 4), min(lengths[b], t + 5))
        }
        losses.append(np.logaddexp.reduce(list(logits.values())) - logits[t])
    shown = batch["lips"].float().requires_grad_()
    first = torch.zeros(2, dtype=torch.long)
    loss = model.sync_loss(audio, shown, first, judged, batch["lengths"])
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-4)
    loss.backward()
    touched = shown.grad.abs().amax((2, 3)) > 0
    assert touched[0, 1:13].all() and not touched[0, 13:].any()  # four frames around those that are judged
    first = torch.tensor([1, 0])  # what is cut as far as it reaches is judged alike
    cut = torch.stack([batch["lips"][0, 1:13], batch["lips"][1, :12]])
    judged = torch.stack([judged[0, 1:13], judged[1, :12]])
    assert model.reach == 4
    assert model.sync_loss(audio, cut, first, judged, batch["lengths"]).item() == pytest.approx(loss.item(), rel=1e-4)


def test_it_learns_the_offset(dataset, model):
    """On the mouth that opens with the buzz: most windows are placed exactly, where 11 % is chance."""
    model.train()
    batch = collate([dataset[i] for i in range(10)])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(batch)["loss"].backward()
        optimizer.step()
    model.eval()
    scores, exists = model.similarities(*_embed(model, batch), batch["lengths"])
    assert offset_accuracy(scores, exists, n_offsets=9)["exact"] > 0.8


def test_saved_and_loaded_it_judges_alike(dataset, model, tmp_path):
    item = dataset[9]
    model.save_pretrained(tmp_path / "sync", facts={"trained on": "nothing"})
    again = SyncNet2D.from_pretrained(tmp_path / "sync")
    expected = model.distances(item["waveform"], item["lips"])
    assert np.allclose(again.distances(item["waveform"], item["lips"]), expected)


def test_a_clip_too_short_to_shift(model):
    with pytest.raises(InputError, match="a clip of 4 frames is too short to be shifted by 4"):
        model.distances(np.ones(samples_of(4), np.float32), np.zeros((4, 96, 96), np.uint8))
