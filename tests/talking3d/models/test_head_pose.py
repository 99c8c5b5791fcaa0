"""The head's motion: divergences against torch's, the prior's statistics, padding, sampling, and that it learns."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from avsr.data.manifest import write_manifest
from avsr.errors import InputError
from avsr.media.audio import read_audio
from avsr.media.timing import frames_of, samples_of
from talking3d.corpus.motion_dataset import MotionDataset, collate, fit_motion_basis
from talking3d.face.motion import Motion
from talking3d.models.head_pose import HeadPoseConfig, PoseVAE
from talking3d.train import train

TINY = HeadPoseConfig(width=16, dilations=(1, 2), frame_latents=4, clip_latents=3, sound_dim=8, dropout=0.3)
LEARNING = dataclasses.replace(TINY, width=32, frame_latents=6, warmup=0.5)
REACH = 2 * (1 + 2)  # frames to each side that the decoder's convolutions see


@pytest.fixture(scope="module")
def dataset(nodding_rows):
    return MotionDataset(nodding_rows, fit_motion_basis(nodding_rows, 1), speakers=[])


def _untrained(dataset, config=TINY):
    torch.manual_seed(0)
    return PoseVAE.fitting(config, dataset.head_poses())


@pytest.fixture(scope="module")
def trained(dataset):
    """Trained for seconds on eight utterances; the last two are held out."""
    model = _untrained(dataset, LEARNING).train()
    batch = collate([dataset[i] for i in range(8)])
    steps = 400
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for step in range(steps):
        model(batch | {"progress": step / steps})["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 50.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return model.eval()


def _noise(n_frames):
    return 0.1 * np.random.default_rng(5).standard_normal(samples_of(n_frames)).astype(np.float32)


def test_the_divergence_is_that_of_joint_normal_distributions(dataset):
    model = _untrained(dataset)
    posterior = torch.randn(2, 7, 8, generator=torch.Generator().manual_seed(1))
    divergence = model.frame_divergence(posterior)
    mean, log_variance = posterior.chunk(2, dim=-1)
    apart = (torch.arange(7)[:, None] - torch.arange(7)).abs()
    for length in (1, 4, 7):
        for z, keep in enumerate(model.memory.sigmoid()):
            prior = MultivariateNormal(torch.zeros(length), keep ** apart[:length, :length])
            for b in range(2):
                own = MultivariateNormal(mean[b, :length, z], log_variance[b, :length, z].exp().diag())
                expected = kl_divergence(own, prior).item()
                assert divergence[b, :length, z].sum().item() == pytest.approx(expected, rel=1e-4)


def test_the_prior_is_stationary_and_remembers_as_long_as_it_says(dataset):
    model = _untrained(dataset)
    path = model._prior_path(np.random.default_rng(0).standard_normal((200_000, 4)))
    keep = model.memory.sigmoid().detach().numpy()
    np.testing.assert_allclose(path.std(0), 1, atol=0.05)
    for lag in (1, 3):
        np.testing.assert_allclose((path[lag:] * path[:-lag]).mean(0) / path.var(0), keep**lag, atol=0.02)
    starts = [model._prior_path(np.random.default_rng(k).standard_normal((1, 4))) for k in range(2000)]
    np.testing.assert_allclose(np.std(starts, axis=0), 1, atol=0.06)


def test_an_utterance_is_the_same_alone_and_in_a_padded_batch(dataset):
    model = _untrained(dataset).eval()
    batch, alone = collate([dataset[0], dataset[9]]), collate([dataset[0]])
    with torch.no_grad():
        results = []
        for part in (batch, alone):
            sound = model.sound(part["waveform"], part["lengths"])
            sway = model.sway_of(part["head_pose"], part["lengths"])
            of_frames, of_clips, clips = model.encode(sway, sound, part["lengths"])
            pose = model.decode(of_frames[..., :4], clips, sound, part["lengths"])
            results.append((of_frames[0, :25], of_clips[0], pose[0, :25]))
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
        spoiled = batch["head_pose"].clone()
        spoiled[0, 25:] = 9.0  # padding says nothing
        for name, value in model(batch | {"head_pose": spoiled}).items():
            assert value.item() == pytest.approx(model(batch)[name].item(), rel=1e-5), name


def test_every_weight_gets_a_gradient(dataset):
    model = _untrained(dataset).train()
    model(collate([dataset[0], dataset[3]]) | {"progress": 0.5})["loss"].backward()
    still = [
        n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    assert not still


def test_the_divergence_is_let_in_slowly(dataset):
    model, batch = _untrained(dataset).train(), collate([dataset[1]])
    for progress, weight in ((0.0, 0.0), (0.15, 0.5), (0.9, 1.0)):
        terms = model(batch | {"progress": progress})
        expected = terms["reconstruction"] + weight * (terms["kl_frames"] + terms["kl_clip"])
        assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_it_reconstructs_without_forgetting_its_latents(trained, dataset):
    before = _untrained(dataset, LEARNING).eval()
    seen = collate([dataset[i] for i in range(8)])
    with torch.no_grad():
        terms = trained(seen)
        assert terms["rotation_deg"] < 0.5 < before(seen)["rotation_deg"]
    assert terms["kl_frames"] > 0.5 and terms["kl_clip"] > 0.01 and terms["active"] > 0


def test_heads_follow_the_sound_where_the_corpus_has_it_so(trained, nodding_rows):
    """Nods follow loudness in unheard speech, and turns, which nothing tells, are drawn anew."""
    for row in nodding_rows[8:]:
        true, waveform = Motion.load(row["motion"]).head_pose, read_audio(row["audio"])
        drawn = np.stack([trained.sample(waveform, np.random.default_rng(k), np.zeros(6)) for k in range(8)])
        assert np.corrcoef(drawn[:, :, 0].mean(0), true[:, 0])[0, 1] > 0.6
        assert drawn[:, :, 1].std(0).mean() > max(0.005, 2 * drawn[:, :, 0].std(0).mean())  # true: 0.017


def test_postures_are_drawn_as_the_corpus_has_them(trained, dataset, nodding_rows):
    waveform = read_audio(nodding_rows[0]["audio"])
    turns = [trained.sample(waveform, np.random.default_rng(k))[:, 1].mean() for k in range(60)]
    true = np.std([pose[:, 1].mean() for pose in dataset.head_poses()])
    assert np.std(turns) == pytest.approx(true, rel=0.35)


@pytest.mark.parametrize("n_samples", [1, 640, 641, 16_000])
def test_any_length_and_a_seed_for_each_motion(trained, n_samples):
    waveform = _noise(25)[:n_samples]
    one, same, other = (trained.sample(waveform, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert one.shape == (frames_of(n_samples), 6) and one.dtype == np.float32
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_minute_stays_within_bounds_and_has_no_seams(trained, dataset):
    waveform = _noise(1500)
    pose = trained.sample(waveform, np.random.default_rng(0), np.zeros(6))
    sway = np.concatenate([p - p.mean(0) for p in dataset.head_poses()]).std(0)[:2]
    assert (np.abs(pose[:, :2] - pose[:, :2].mean(0)).max(0) < 8 * sway).all()
    steps = np.linalg.norm(np.diff(pose[:, :2], axis=0), axis=1)
    assert steps.max() < 8 * np.median(steps)
    quarters = [part.std(0)[1] for part in np.split(pose, 4)]
    assert max(quarters) < 2.5 * min(quarters)


def test_a_frame_depends_on_what_the_convolutions_reach(trained):
    lengths, sound = torch.tensor([60]), torch.zeros(1, 60, 8)
    latents = torch.randn(1, 60, 6, generator=torch.Generator().manual_seed(0))
    changed = latents.clone()
    changed[:, 30] += 1
    with torch.no_grad():
        one, other = (trained.decode(z, torch.zeros(1, 3), sound, lengths)[0] for z in (latents, changed))
    moved = (one != other).any(-1)
    assert not moved[: 30 - REACH].any() and not moved[30 + REACH + 1 :].any() and moved[30]


def test_a_checkpoint_moves_a_head_as_its_model_does(trained, tmp_path):
    trained.save_pretrained(tmp_path / "head", facts={"seed": 0})
    loaded = PoseVAE.from_pretrained(tmp_path / "head")
    assert loaded.config == LEARNING
    one, other = (model.sample(_noise(40), np.random.default_rng(1)) for model in (trained, loaded))
    np.testing.assert_array_equal(one, other)


def test_talking3d_train_makes_one(nodding_rows, spoken_rows, tmp_path):
    write_manifest(tmp_path / "train.jsonl", nodding_rows[:8])
    write_manifest(tmp_path / "valid.jsonl", nodding_rows[8:])
    write_manifest(tmp_path / "still.jsonl", spoken_rows[:2])
    (tmp_path / "head.yaml").write_text(
        "model: head_pose\nhead_pose: {width: 8, dilations: [1], sound_dim: 4, frame_latents: 3, clip_latents: 2}\n"
        f"data: {{train: ['{tmp_path}/train.jsonl'], valid: ['{tmp_path}/valid.jsonl']}}\ntrainer: {{max_epochs: 2}}\n"
    )
    folder = train(tmp_path / "head.yaml", [f"out={tmp_path}/exp"])
    done = json.loads((tmp_path / "exp/done.json").read_text())
    assert {"rotation_deg", "active", "kl_frames"} <= done["valid"].keys()
    assert PoseVAE.from_pretrained(folder).sample(_noise(9), np.random.default_rng(0)).shape == (9, 6)
    with pytest.raises(InputError, match="utt0: .* has no head_pose"):
        train(tmp_path / "head.yaml", [f"out={tmp_path}/other", f"data.valid=[{tmp_path}/still.jsonl]"])


def test_heads_that_stand_still_teach_nothing():
    with pytest.raises(InputError, match="the heads of all 2 training utterances stand still"):
        PoseVAE.fitting(TINY, [np.full((9, 6), 0.1, np.float32), np.zeros((9, 6), np.float32)])


@pytest.mark.parametrize(
    ("setting", "message"), [({"kernel": 4}, "kernel is 4; it must be odd"), ({"warmup": 1.0}, "warmup is 1.0")]
)
def test_settings_that_cannot_be(setting, message):
    with pytest.raises(InputError, match=message):
        HeadPoseConfig(**setting)
