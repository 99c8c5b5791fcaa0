"""The motion basis against plain SVD, items and batches, and what a corpus can get wrong."""

import dataclasses

import numpy as np
import pytest

from avsr.data.alignment import write_alignment
from avsr.data.manifest import write_manifest
from avsr.errors import InputError
from avsr.media.audio import read_audio, write_wav
from avsr.media.timing import FPS, frames_of
from avsr.media.video import write_lips
from talking3d.corpus.motion_dataset import (
    UNKNOWN,
    MotionDataConfig,
    MotionDataset,
    collate,
    fit_motion_basis,
    student_data,
    teacher_lips,
)
from talking3d.corpus.perturb import PerturbConfig, perturb, retime, retime_pictures
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate


def _expanded(rows):
    return np.concatenate([Motion.load(r["motion"]).offsets_for(FaceTemplate.load(r["template"])) for r in rows])


def _as_offsets(rows, folder):
    """The same rows with their motion stored as plain offsets."""
    moved = []
    for row in rows:
        template = FaceTemplate.load(row["template"])
        path = folder / f"{row['utt_id']}.npz"
        Motion.of_template(template, FPS, offsets=Motion.load(row["motion"]).offsets_for(template)).save(path)
        moved.append({**row, "motion": str(path)})
    return moved


def test_basis_spans_the_motion_with_unit_coefficients(spoken_rows):
    basis = fit_motion_basis(spoken_rows, size=10)
    motion = _expanded(spoken_rows).reshape(-1, 64 * 3)
    assert len(basis) == 2  # nobody blinks in this corpus
    flat = basis.reshape(2, -1).astype(np.float64)
    assert flat[0] @ flat[1] == pytest.approx(0, abs=1e-9)
    coefficients = motion @ np.linalg.pinv(flat)
    np.testing.assert_allclose(coefficients @ flat, motion, atol=1e-7)
    np.testing.assert_allclose(np.sqrt(np.square(coefficients).mean(0)), 1, rtol=1e-4)


def test_basis_from_coefficients_is_the_one_from_expanded_vertices(spoken_rows, tmp_path):
    lazy = fit_motion_basis(spoken_rows, size=2).reshape(2, -1)
    plain = fit_motion_basis(_as_offsets(spoken_rows, tmp_path), size=2).reshape(2, -1)
    motion = _expanded(spoken_rows).reshape(-1, 64 * 3).astype(np.float64)
    _, singular, directions = np.linalg.svd(motion, full_matrices=False)
    naive = singular[:2, None] / np.sqrt(len(motion)) * directions[:2]
    for basis in (lazy, plain):
        signs = np.sign((basis * naive).sum(1, keepdims=True))
        np.testing.assert_allclose(signs * basis, naive, atol=1e-8)


def test_items_reproduce_the_motion(spoken_rows, tmp_path):
    basis = fit_motion_basis(spoken_rows, size=10)
    for rows in (spoken_rows, _as_offsets(spoken_rows, tmp_path)):
        dataset = MotionDataset(rows, basis, speakers=["ann"])
        for i in (0, 3):
            item = dataset[i]
            expected = _expanded(rows[i : i + 1])
            np.testing.assert_allclose(np.einsum("tk,kvx->tvx", item["motion"], basis), expected, atol=1e-6)
            np.testing.assert_array_equal(item["waveform"], read_audio(rows[i]["audio"]))
        assert [dataset[i]["speaker"] for i in (0, 1)] == [UNKNOWN, 0]


def test_collate_pads_with_zeros(spoken_rows):
    dataset = MotionDataset(spoken_rows, fit_motion_basis(spoken_rows, 4), speakers=["ann", "bob"])
    batch = collate([dataset[0], dataset[9]])
    assert batch["motion"].shape == (2, 43, 2)
    assert batch["waveform"].shape == (2, 43 * 640)
    assert batch["lengths"].tolist() == [25, 43]
    assert batch["utt_ids"] == ["utt0", "utt9"] and batch["texts"] == ["buzz", "buzz"]
    assert batch["speakers"].tolist() == [1, 0]
    assert not batch["motion"][0, 25:].any()
    assert not batch["waveform"][0, 25 * 640 :].any()


def test_items_depend_on_seed_epoch_and_index_only(spoken_rows):
    basis = fit_motion_basis(spoken_rows, 4)
    always = PerturbConfig(share=1.0)
    one, other = (
        MotionDataset(spoken_rows, basis, speakers=[], perturb=always, seed=5, cache_mb=mb) for mb in (512, 0)
    )
    for dataset in (one, other):
        dataset.set_epoch(3)
    one[1], one[7]  # what was asked before doesn't matter
    for key in ("waveform", "motion"):
        np.testing.assert_array_equal(one[4][key], other[4][key])
    other.set_epoch(4)
    assert not np.array_equal(one[4]["waveform"], other[4]["waveform"])
    reseeded = MotionDataset(spoken_rows, basis, speakers=[], perturb=always, seed=6)
    reseeded.set_epoch(3)
    assert not np.array_equal(one[4]["waveform"], reseeded[4]["waveform"])


def test_murmurs_change_where_the_alignment_knows_nasals(spoken_rows, tmp_path):
    basis = fit_motion_basis(spoken_rows, 4)
    plain = {"gain_db": 0.0, "envelope_db": 0.0, "speed": 0.0, "reverb": 0.0, "noise": 0.0}
    config = PerturbConfig(share=1.0, wander_db=0.0, cutoff=0.0, murmur=1.0, **plain)

    def heard(phones):
        alignment = None
        if phones is not None:
            alignment = tmp_path / f"{len(phones)}.json"
            write_alignment(alignment, [(0.1, 0.9, "him")], phones)
            alignment = str(alignment)
        row = {**spoken_rows[0], "alignment": alignment}
        return MotionDataset([row], basis, speakers=[], perturb=config)[0]["waveform"]

    unknown, hid, him = heard(None), heard([(0.2, 0.5, "ɪ")]), heard([(0.2, 0.5, "ɪ"), (0.5, 0.8, "m")])
    np.testing.assert_allclose(hid, unknown, atol=1e-5)
    assert np.abs(him - unknown)[8_200:12_600].max() > 0.01


def test_perturbed_speech_keeps_its_motion_in_step():
    """A click in the sound and a bump in the motion stay on the same frame, whatever the speed."""
    waveform = np.zeros(64_000, np.float32)
    waveform[32_000:32_640] = np.sin(np.arange(640) * 0.7)
    motion = np.zeros((100, 1), np.float32)
    motion[50] = 1.0
    config = PerturbConfig(share=1.0, speed=0.3, noise=0.0, reverb=0.0, envelope_db=3.0)
    lengths = set()
    for seed in range(12):
        varied, speed = perturb(waveform, config, np.random.default_rng(seed))
        moved = retime(motion, speed, frames_of(len(varied)))
        shown = retime_pictures(motion[:, :, None], speed, frames_of(len(varied)))
        assert abs(int(shown.argmax()) - int(moved.argmax())) <= 1
        power = np.square(np.pad(varied, (0, -len(varied) % 640)).reshape(-1, 640)).sum(1)
        assert abs(int(power.argmax()) - int(moved.argmax())) <= 1
        assert np.abs(varied).max() <= 1
        lengths.add(len(varied))
    assert len(lengths) > 6


def test_perturbation_leaves_its_input_alone():
    rng = np.random.default_rng(0)
    waveform = rng.uniform(-0.3, 0.3, 6400).astype(np.float32)
    before = waveform.copy()
    for seed in range(8):
        perturb(waveform, PerturbConfig(share=1.0, reverb=1.0, noise=1.0), np.random.default_rng(seed))
    np.testing.assert_array_equal(waveform, before)


def test_noise_has_the_snr_it_should_have():
    rng = np.random.default_rng(0)
    waveform = (0.1 * np.sin(np.arange(32_000) * 0.1)).astype(np.float32)
    still = PerturbConfig(
        **{"share": 1.0, "gain_db": 0.0, "envelope_db": 0.0, "speed": 0.0, "reverb": 0.0, "noise": 1.0},
        **{"snr_db": [10.0, 10.0], "wander_db": 0.0, "cutoff": 0.0},
    )
    varied, _ = perturb(waveform, still, rng)
    noise = varied - waveform
    assert 10 * np.log10(np.square(waveform).mean() / np.square(noise).mean()) == pytest.approx(10, abs=0.1)


def test_retime_at_its_own_pace_changes_nothing():
    motion = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    np.testing.assert_allclose(retime(motion, 1.0, 9), motion, atol=1e-6)
    np.testing.assert_allclose(retime(motion, 2.0, 4), (motion[0:8:2] + motion[1:8:2]) / 2, atol=1e-6)
    pictures = np.arange(9, dtype=np.uint8)[:, None, None]
    assert retime_pictures(pictures, 1.0, 9).ravel().tolist() == list(range(9))
    assert retime_pictures(pictures, 3.0, 3).ravel().tolist() == [1, 4, 7]  # the middle one of three
    assert retime_pictures(pictures, 0.5, 18).ravel().tolist() == [i // 2 for i in range(18)]


def test_mean_motion_is_the_mean_over_frames(spoken_rows):
    basis = fit_motion_basis(spoken_rows, 4)
    mean = MotionDataset(spoken_rows, basis, speakers=[]).mean_motion()
    np.testing.assert_allclose(np.einsum("k,kvx->vx", mean, basis), _expanded(spoken_rows).mean(0), atol=1e-7)


def test_student_data_reads_both_manifests(spoken):
    data = student_data(MotionDataConfig(train=[str(spoken)], valid=[str(spoken)], max_utts=4), 8, seed=0)
    assert data.speakers == ["ann", "bob"]
    assert sorted(i for batch in data.train_sampler for i in batch) == list(range(10))
    assert max(len(batch) for batch in data.train_sampler) <= 4
    assert data.train.perturb is not None and data.valid.perturb is None


def test_a_teachers_lips_stay_in_step(spoken, lips_manifest):
    """Items hold the teacher's lips for their frames: the mouth is as open as the jaw, perturbed or not."""
    config = MotionDataConfig(
        train=[str(spoken)],
        valid=[str(spoken)],
        teacher=[str(lips_manifest)],
        perturb=PerturbConfig(share=1.0, speed=0.3),
    )
    data = student_data(config, 8, seed=0)
    lengths = set()
    for dataset in (data.train, data.valid):
        item = dataset[9]
        assert item["lips"].shape == (len(item["motion"]), 96, 96) and item["lips"].dtype == np.uint8
        opening = -np.einsum("tk,k->t", item["motion"], data.basis[:, 0, 1])
        assert np.corrcoef(opening, -item["lips"].mean((1, 2)))[0, 1] > 0.97
        lengths.add(len(item["lips"]))
    assert 43 in lengths and len(lengths) == 2
    batch = collate([data.valid[0], data.valid[9]])
    assert batch["lips"].shape == (2, 43, 96, 96) and not batch["lips"][0, 25:].any()


def test_without_a_teacher_there_are_no_lips(spoken_rows):
    dataset = MotionDataset(spoken_rows, fit_motion_basis(spoken_rows, 4), speakers=[])
    assert "lips" not in dataset[0] and "lips" not in collate([dataset[0]])


def test_the_first_teacher_that_has_an_utterance_gives_its_lips(lip_rows, tmp_path):
    clips = [str(tmp_path / f"{i}.mp4") for i in range(3)]
    for clip in clips:
        write_lips(clip, np.zeros((2, 96, 96), np.uint8))
    rows = [{**row, "lips": clip} for row, clip in zip(lip_rows, clips, strict=False)]
    write_manifest(tmp_path / "one.jsonl", rows[:2])
    write_manifest(tmp_path / "two.jsonl", [{**rows[1], "lips": clips[0]}, rows[2]])
    found = teacher_lips([str(tmp_path / "one.jsonl"), str(tmp_path / "two.jsonl")], lip_rows[:3])
    assert [found[f"utt{i}"] for i in range(3)] == clips


def test_a_teacher_that_lacks_utterances_is_an_error(spoken, lip_rows, tmp_path):
    write_manifest(tmp_path / "few.jsonl", lip_rows[:8])
    config = MotionDataConfig(train=[str(spoken)], valid=[str(spoken)], teacher=[str(tmp_path / "few.jsonl")])
    with pytest.raises(InputError, match=r"few.jsonl lack the lips of 4 of 20 utterances \(utt8, utt9, utt8, …\)"):
        student_data(config, 8, seed=0)


def test_a_teachers_lips_of_another_length_are_an_error(spoken_rows, lip_rows):
    basis = fit_motion_basis(spoken_rows, 4)
    teacher = {row["utt_id"]: lip_rows[9]["lips"] for row in spoken_rows}
    dataset = MotionDataset(spoken_rows, basis, speakers=[], teacher=teacher)
    with pytest.raises(InputError, match="utt0: its teacher's lips: the sound lasts 25 frames and the lips 43"):
        dataset[0]


def test_no_manifest_is_an_error(spoken):
    with pytest.raises(InputError, match="data.valid names no manifest"):
        student_data(MotionDataConfig(train=[str(spoken)]), 8, seed=0)


def test_sound_and_motion_of_other_lengths_are_an_error(spoken_rows, tmp_path):
    write_wav(tmp_path / "long.wav", np.full(64_000, 0.1, np.float32))
    rows = [{**spoken_rows[0], "audio": str(tmp_path / "long.wav")}]
    dataset = MotionDataset(rows, fit_motion_basis(rows, 4), speakers=[])
    with pytest.raises(InputError, match="utt0: .* has 25 frames, its sound 100"):
        dataset[0]


def test_another_rate_is_an_error(spoken_rows, tmp_path):
    motion = dataclasses.replace(Motion.load(spoken_rows[0]["motion"]), fps=30)
    motion.save(tmp_path / "fast.npz")
    with pytest.raises(InputError, match="utt0: .* runs at 30 fps, expected 25"):
        fit_motion_basis([{**spoken_rows[0], "motion": str(tmp_path / "fast.npz")}], 4)


def _other_face(tiny_face, folder):
    face = dataclasses.replace(tiny_face, faces=tiny_face.faces[:-1], name="other")
    face.save(folder / "other.npz")
    return face, str(folder / "other.npz")


def test_motion_of_another_face_than_its_template_is_an_error(spoken_rows, tiny_face, tmp_path):
    _, path = _other_face(tiny_face, tmp_path)
    with pytest.raises(InputError, match="utt0: .* was made on another face than its template"):
        fit_motion_basis([{**spoken_rows[0], "template": path}], 4)


def test_two_topologies_are_an_error(spoken_rows, tiny_face, tmp_path):
    face, path = _other_face(tiny_face, tmp_path)
    Motion.of_template(face, FPS, coefficients=np.ones((25, 3))).save(tmp_path / "m.npz")
    other = {**spoken_rows[1], "template": path, "motion": str(tmp_path / "m.npz")}
    with pytest.raises(InputError, match="utt1: .* another topology"):
        fit_motion_basis([spoken_rows[0], other], 4)


def test_a_basis_of_another_topology_is_an_error(spoken_rows):
    with pytest.raises(InputError, match="utt0: .* moves 64 vertices, the motion basis 10"):
        MotionDataset(spoken_rows, np.ones((1, 10, 3)), speakers=[])


def test_motion_that_stands_still_is_an_error(spoken_rows, tiny_face, tmp_path):
    Motion.of_template(tiny_face, FPS, coefficients=np.zeros((25, 3))).save(tmp_path / "m.npz")
    with pytest.raises(InputError, match="stands still"):
        fit_motion_basis([{**spoken_rows[0], "motion": str(tmp_path / "m.npz")}], 4)


def test_head_poses_are_retimed_with_the_motion(nodding_rows, spoken_rows):
    basis = fit_motion_basis(nodding_rows, 4)
    plain = MotionDataset(nodding_rows, basis, speakers=[])
    np.testing.assert_array_equal(plain[2]["head_pose"], Motion.load(nodding_rows[2]["motion"]).head_pose)
    varied = MotionDataset(nodding_rows, basis, speakers=[], perturb=PerturbConfig(share=1.0), seed=3)[2]
    without = MotionDataset(spoken_rows, basis, speakers=[], perturb=PerturbConfig(share=1.0), seed=3)[2]
    np.testing.assert_array_equal(varied["motion"], without["motion"])
    assert len(varied["head_pose"]) != len(plain[2]["head_pose"])
    jaw = varied["motion"] @ basis[:, 0, 1] / -0.012  # vertex 0 follows the jaw only
    np.testing.assert_allclose(varied["head_pose"][:, 0], 0.05 * jaw, atol=1e-5)
    batch = collate([plain[0], plain[4]])
    assert batch["head_pose"].shape == (2, 33, 6) and not batch["head_pose"][0, 25:].any()
    assert "head_pose" not in collate([plain[0], without])


def test_motion_without_head_pose_is_named(nodding_rows, spoken_rows):
    basis = fit_motion_basis(spoken_rows, 4)
    assert len(MotionDataset(nodding_rows, basis, speakers=[]).head_poses()) == 10
    mixed = MotionDataset([nodding_rows[0], spoken_rows[1]], basis, speakers=[])
    with pytest.raises(InputError, match="utt1: .*utt1.npz has no head_pose: give motion of heads that move"):
        mixed.head_poses()
