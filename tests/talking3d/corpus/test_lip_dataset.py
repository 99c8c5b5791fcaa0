"""Items and batches of speech with lips, and what a corpus can get wrong."""

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from avsr.media.audio import read_audio, write_wav
from avsr.media.timing import frames_of
from avsr.media.video import read_lips
from talking3d.corpus.lip_dataset import LipDataConfig, LipDataset, collate, lip_data
from talking3d.corpus.perturb import PerturbConfig

UNCHANGED = PerturbConfig(share=0.0)


def test_items_are_the_files(lip_rows):
    item = LipDataset(lip_rows)[3]
    np.testing.assert_array_equal(item["waveform"], read_audio(lip_rows[3]["audio"]))
    np.testing.assert_array_equal(item["lips"], read_lips(lip_rows[3]["lips"]))
    np.testing.assert_array_equal(item["still"], item["lips"][0])


def test_training_draws_any_still_and_mirrors_with_it(lip_rows):
    dataset = LipDataset(lip_rows, perturb=UNCHANGED)
    lips = read_lips(lip_rows[0]["lips"])
    seen, flips = set(), []
    for epoch in range(12):
        dataset.set_epoch(epoch)
        item = dataset[0]
        flips.append(not np.array_equal(item["lips"], lips))
        np.testing.assert_array_equal(item["lips"], lips[:, :, ::-1] if flips[-1] else lips)
        (matches,) = np.nonzero((item["lips"] == item["still"]).all((1, 2)))
        seen.add(int(matches[0]))
    assert len(seen) > 5 and 0 < sum(flips) < 12


def test_perturbed_speech_keeps_its_lips(lip_rows):
    """The mouth is as open as the sound's high part is loud, whatever its tempo has become."""
    dataset = LipDataset(lip_rows, perturb=PerturbConfig(share=1.0, speed=0.3, noise=0.0, reverb=0.0, wander_db=0.0))
    lengths = set()
    for epoch in range(6):
        dataset.set_epoch(epoch)
        item = dataset[9]
        assert len(item["lips"]) == frames_of(len(item["waveform"]))
        lengths.add(len(item["lips"]))
        frames = np.pad(item["waveform"], (0, -len(item["waveform"]) % 640)).reshape(-1, 640)
        loudness = np.linalg.norm(np.fft.rfft(frames)[:, 800 // 25 : 2300 // 25], axis=1)
        assert np.corrcoef(loudness, -item["lips"].mean((1, 2)))[0, 1] > 0.9
    assert len(lengths) > 3


def test_items_depend_on_seed_epoch_and_index_only(lip_rows):
    one, other = (LipDataset(lip_rows, perturb=PerturbConfig(), seed=5, cache_mb=mb) for mb in (64, 0))
    for dataset in (one, other):
        dataset.set_epoch(3)
    one[1], one[7]  # what was asked before doesn't matter
    for key in ("waveform", "lips", "still"):
        np.testing.assert_array_equal(one[4][key], other[4][key])


def test_collate_pads_with_zeros(lip_rows):
    dataset = LipDataset(lip_rows)
    batch = collate([dataset[0], dataset[9]])
    assert batch["lips"].shape == (2, 43, 96, 96) and batch["lips"].dtype == torch.uint8
    assert batch["waveform"].shape == (2, 43 * 640) and batch["still"].shape == (2, 96, 96)
    assert batch["lengths"].tolist() == [25, 43] and batch["utt_ids"] == ["utt0", "utt9"]
    assert not batch["lips"][0, 25:].any() and not batch["waveform"][0, 25 * 640 :].any()


def test_lip_data_reads_both_manifests(lips_manifest):
    data = lip_data(LipDataConfig(train=[str(lips_manifest)], valid=[str(lips_manifest)], max_utts=4), seed=0)
    assert sorted(i for batch in data.train_sampler for i in batch) == list(range(10))
    assert max(len(batch) for batch in data.train_sampler) <= 4
    assert data.train.perturb is not None and data.valid.perturb is None


def test_no_manifest_is_an_error(lips_manifest):
    with pytest.raises(InputError, match="data.valid names no manifest"):
        lip_data(LipDataConfig(train=[str(lips_manifest)]), seed=0)


def test_a_manifest_without_lips_is_an_error(spoken):
    with pytest.raises(InputError, match="utt0: needs 'lips', which this line lacks"):
        lip_data(LipDataConfig(train=[str(spoken)], valid=[str(spoken)]), seed=0)


def test_sound_and_lips_of_other_lengths_are_an_error(lip_rows, tmp_path):
    write_wav(tmp_path / "long.wav", np.full(64_000, 0.1, np.float32))
    dataset = LipDataset([{**lip_rows[0], "audio": str(tmp_path / "long.wav")}])
    with pytest.raises(InputError, match="utt0: the sound lasts 100 frames and the lips 25"):
        dataset[0]
