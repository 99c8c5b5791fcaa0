"""avsr.data.dataset: batches from real files, the same alone, in a batch, resumed, and in worker processes."""

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from avsr.data.alignment import frame_labels, write_alignment
from avsr.data.augment import AugmentConfig, centre_crop
from avsr.data.corrupt import corrupt_lips, corrupt_sound, make_corruption_manifest
from avsr.data.dataset import DataConfig, UtteranceDataset, collate, recognition_data
from avsr.data.manifest import FIELDS, read_manifest, write_manifest
from avsr.data.noise import load_noise, make_noise_manifest, mix_at_snr, write_noise_manifest
from avsr.data.text import train_tokenizer
from avsr.errors import InputError
from avsr.media.audio import read_audio, write_wav
from avsr.media.timing import frames_of
from avsr.media.video import read_lips, write_lips, write_video

TEXTS = ["bin blue", "set red at f", "lay", "place green again", "bin red", "lay blue now"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Six utterances; number 2 has no lips, number 3 no sound, number 4 no alignment."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    rows = []
    for i, text in enumerate(TEXTS):
        n_samples = 9_000 + 1_300 * i
        row = {"utt_id": f"u{i}", "speaker": "s", "text": text, "duration_s": n_samples / 16_000}
        if i != 3:
            row["audio"] = folder / "audio" / f"u{i}.wav"
            write_wav(row["audio"], 0.1 * rng.standard_normal(n_samples).clip(-4, 4))
        if i != 2:
            row["lips"] = folder / "lips" / f"u{i}.mp4"
            n_frames = frames_of(n_samples) + (-2, 0, 0, 0, 3, 0)[i]
            picture = np.kron(rng.integers(60, 200, (6, 6)), np.ones((16, 16)))
            level = 40 * np.sin(np.arange(n_frames) + i)[:, None, None]
            write_lips(row["lips"], (picture + level).astype(np.uint8))
        if i != 4:
            row["alignment"] = folder / "alignment" / f"u{i}.json"
            words = text.split()
            edges = np.linspace(0.05, 0.5, len(words) + 1)
            write_alignment(row["alignment"], zip(edges, edges[1:], words, strict=False))
        rows.append(row)
    write_manifest(folder / "manifest.jsonl", rows)
    train_tokenizer(TEXTS, "word").save(folder / "tokenizer.model")
    return folder


@pytest.fixture
def rows(corpus):
    return read_manifest(corpus / "manifest.jsonl", need=("text",), use=("audio", "lips", "alignment"))


def config_of(corpus, **fields):
    manifest = str(corpus / "manifest.jsonl")
    named = {"train": [manifest], "valid": [manifest], "tokenizer": str(corpus / "tokenizer.model")}
    return DataConfig(**(named | {"frame_label": "words", "max_frames_per_batch": 80} | fields))


def same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_batch_has_the_promised_keys_shapes_and_paddings(corpus):
    data = recognition_data(config_of(corpus), seed=0)
    items = [data.valid_dataset[i] for i in range(6)]
    batch = collate(items)
    lengths = [frames_of(9_000 + 1_300 * i) for i in range(6)]
    n_samples = [9_000 + 1_300 * i for i in range(6)]
    n_samples[3] = lengths[3] * 640  # without sound, what its lips last
    assert batch["waveform"].shape == (6, max(n_samples)) and batch["waveform"].dtype == torch.float32
    assert batch["waveform_lengths"].tolist() == n_samples
    assert batch["lips"].shape == (6, max(lengths), 88, 88) and batch["lips"].dtype == torch.uint8
    assert batch["lengths"].tolist() == lengths
    assert batch["has_audio"].tolist() == [True, True, True, False, True, True]
    assert batch["has_video"].tolist() == [True, True, False, True, True, True]
    assert batch["tokens"].shape == (6, 4) and batch["tokens"].dtype == torch.int64
    assert batch["frame_labels"].shape == (6, max(lengths)) and batch["frame_labels"].dtype == torch.int64
    assert batch["utt_ids"] == [f"u{i}" for i in range(6)]
    for b in range(6):
        assert not batch["waveform"][b, n_samples[b] :].any()
        assert not batch["lips"][b, lengths[b] :].any()
        u = batch["token_lengths"][b]
        assert data.tokenizer.decode(batch["tokens"][b, :u]) == TEXTS[b]
        assert (batch["tokens"][b, u:] == -1).all()
        assert (batch["frame_labels"][b, lengths[b] :] == -100).all()
    assert not batch["lips"][2].any() and not batch["waveform"][3].any()
    assert (batch["frame_labels"][4] == -100).all()


def test_items_are_what_the_files_hold(rows):
    dataset = UtteranceDataset(rows, None)
    item = dataset[1]
    np.testing.assert_array_equal(item["waveform"], read_audio(rows[1]["audio"]))
    np.testing.assert_array_equal(item["lips"], centre_crop(read_lips(rows[1]["lips"])))
    assert item["tokens"].shape == (0,)


def test_lips_are_fitted_to_the_sound(rows):
    dataset = UtteranceDataset(rows, None)
    short, long = dataset[0], dataset[4]
    np.testing.assert_array_equal(short["lips"][-1], short["lips"][-3])  # two frames were missing
    assert not np.array_equal(short["lips"][-3], short["lips"][-4])
    np.testing.assert_array_equal(long["lips"], centre_crop(read_lips(rows[4]["lips"]))[:-3])


def test_frame_labels_follow_the_alignment(corpus):
    data = recognition_data(config_of(corpus), seed=0)
    assert list(data.labels) == sorted({word for i, text in enumerate(TEXTS) if i != 4 for word in text.split()})
    labels = data.train_dataset[0]["frame_labels"]
    expected = frame_labels([(0.05, 0.275, "bin"), (0.275, 0.5, "blue")], len(labels), data.labels)
    np.testing.assert_array_equal(labels, expected)
    without = recognition_data(config_of(corpus, frame_label=None), seed=0)
    assert without.labels is None and (without.train_dataset[0]["frame_labels"] == -100).all()


def test_tokens_may_be_said_where_the_alignment_has_their_words(corpus):
    assert "token_frames" not in recognition_data(config_of(corpus), seed=0).train_dataset[0]
    data = recognition_data(config_of(corpus, word_slack=1), seed=0)
    items = [data.train_dataset[i] for i in (0, 4)]
    # bin from 0.05 to 0.275 s, blue to 0.5 s, in frames of 0.04 s; the last has no alignment
    assert items[0]["token_frames"].tolist() == [[0, 8], [5, 14]]
    assert items[1]["token_frames"].tolist() == [[0, len(items[1]["lips"])]] * len(items[1]["tokens"])
    batch = collate(items)
    assert batch["token_frames"].shape == (*batch["tokens"].shape, 2) and batch["token_frames"].dtype == torch.int64


def test_items_depend_on_seed_epoch_and_index_only(corpus):
    def items(seed, epoch, order):
        dataset = recognition_data(config_of(corpus), seed=seed).train_dataset
        dataset.set_epoch(epoch)
        return {i: dataset[i] for i in order}

    straight, resumed = items(0, 3, range(6)), items(0, 3, (5, 1))
    for i in (5, 1):
        same(resumed[i], straight[i])
    for other in (items(0, 4, range(6)), items(1, 3, range(6))):
        assert any(not np.array_equal(other[i]["waveform"], straight[i]["waveform"]) for i in range(6))
        assert all(not np.array_equal(other[i]["lips"], straight[i]["lips"]) for i in (0, 1, 3, 4, 5))


@pytest.mark.parametrize("cache_mb", [0, 1, 100])
def test_the_cache_changes_nothing_and_keeps_its_bound(corpus, cache_mb):
    plain = recognition_data(config_of(corpus, cache_mb=0), seed=0).train_dataset
    cached = recognition_data(config_of(corpus, cache_mb=cache_mb), seed=0).train_dataset
    for epoch in range(2):
        for dataset in (plain, cached):
            dataset.set_epoch(epoch)
        for i in range(6):
            same(cached[i], plain[i])
    held = sum(array.nbytes for array in cached._cache.kept.values())
    assert held <= cache_mb * 2**20
    assert (held > 0) == (cache_mb > 0)


def test_worker_processes_give_the_same_batches(corpus):
    data = recognition_data(config_of(corpus), seed=0)
    data.train_dataset.set_epoch(2)
    data.train_sampler.set_epoch(2)
    here = [collate([data.train_dataset[i] for i in batch]) for batch in data.train_sampler]
    loader = DataLoader(data.train_dataset, batch_sampler=data.train_sampler, collate_fn=data.collate, num_workers=2)
    for a, b in zip(here, loader, strict=True):
        same(a, b)
    assert sum(len(batch["utt_ids"]) for batch in here) == 6


def test_evaluation_noise_is_the_manifests(corpus, rows):
    with_sound = [row for row in rows if row["audio"] is not None]
    lines = make_noise_manifest(with_sound, kind="babble", snr_db=0, seed=1)
    dataset = UtteranceDataset(rows, None, noise_lines=lines)
    speech = read_audio(rows[1]["audio"])
    expected = mix_at_snr(speech, load_noise(lines[1], len(speech)), 0.0)
    np.testing.assert_array_equal(dataset[1]["waveform"], expected)
    assert not dataset[3]["waveform"].any()  # no sound, no noise
    dataset.set_epoch(5)
    np.testing.assert_array_equal(dataset[1]["waveform"], expected)

    write_noise_manifest(corpus / "noise.jsonl", lines)
    data = recognition_data(config_of(corpus, valid_noise=str(corpus / "noise.jsonl")), seed=0)
    np.testing.assert_array_equal(data.valid_dataset[1]["waveform"], expected)
    with pytest.raises(InputError, match="u1: the noise manifest has no line for it"):
        UtteranceDataset(rows, None, noise_lines=lines[:1])


@pytest.mark.parametrize(("kind", "severity"), [("frozen", 1), ("blank", 1), ("occluder", 0.5), ("offset", 3)])
def test_corrupted_lips_are_the_manifests_and_the_sound_stays(rows, kind, severity):
    lines = make_corruption_manifest(rows, kind=kind, severity=severity, seed=1)
    clean, corrupted = (
        UtteranceDataset(rows, None, cache_mb=9),
        UtteranceDataset(rows, None, corruption_lines=lines, cache_mb=9),
    )
    for i in (1, 3):
        before, after = clean[i], corrupted[i]
        assert not np.array_equal(after["lips"], before["lips"]) and after["has_video"]
        np.testing.assert_array_equal(after["lips"], corrupt_lips(before["lips"], lines[i]))
        same(after | {"lips": before["lips"]}, before)
        same(corrupted[i], after)  # what is cached stays whole
    assert not corrupted[2]["has_video"] and not corrupted[2]["lips"].any()
    with pytest.raises(InputError, match="u1: the corruption manifest has no line for it"):
        UtteranceDataset(rows, None, corruption_lines=lines[:1])


def test_gaps_cut_the_noise_too(rows):
    with_sound = [row for row in rows if row["audio"] is not None]
    noise = make_noise_manifest(with_sound, kind="white", snr_db=0, seed=1)
    gaps = make_corruption_manifest(with_sound, kind="gaps", severity=0.25, seed=1)
    noisy = UtteranceDataset(with_sound, None, noise_lines=noise)[1]
    cut = UtteranceDataset(with_sound, None, noise_lines=noise, corruption_lines=gaps)[1]
    assert (cut["waveform"] == 0).sum() == round(0.25 * len(cut["waveform"]))
    same(cut, noisy | {"waveform": corrupt_sound(noisy["waveform"], gaps[1])})


def test_training_corrupts_after_all_else_is_drawn(corpus):
    """A share of clips is corrupted, the same ones in a resumed run; the rest are as if nothing were ever corrupted."""

    def items(share, order):
        augment = AugmentConfig(corrupt_share=share, corruptions=["blank", "frozen", "occluder", "gaps"])
        dataset = recognition_data(config_of(corpus, augment=augment), seed=0).train_dataset
        dataset.set_epoch(2)
        return {i: dataset[i] for i in order}

    plain, some, every = items(0.0, range(6)), items(0.5, range(6)), items(1.0, range(6))
    for i, item in items(0.5, (5, 1)).items():
        same(item, some[i])
    touched = {i for i in range(6) if any(not np.array_equal(some[i][key], plain[i][key]) for key in plain[i])}
    assert 0 < len(touched) < 6
    assert any(not np.array_equal(every[i]["lips"], plain[i]["lips"]) for i in range(6))
    for i in range(6):
        assert every[i]["lips"].shape == plain[i]["lips"].shape
        assert every[i]["waveform"].shape == plain[i]["waveform"].shape
    assert not every[2]["lips"].any() and not every[3]["waveform"].any()


def test_one_stream_can_be_left_out(rows):
    audio_only = UtteranceDataset([rows[1]], None, modalities="a")[0]
    assert audio_only["has_audio"] and not audio_only["has_video"] and not audio_only["lips"].any()
    video_only = UtteranceDataset([rows[1]], None, modalities="v", augment=AugmentConfig())[0]
    assert video_only["has_video"] and not video_only["has_audio"] and not video_only["waveform"].any()
    with pytest.raises(InputError, match="u2: its manifest line has no lips"):
        UtteranceDataset(rows, None, modalities="v")
    with pytest.raises(InputError, match="u3: its manifest line has no audio"):
        UtteranceDataset(rows, None, modalities="a")
    with pytest.raises(InputError, match="modalities 'va'"):
        UtteranceDataset(rows, None, modalities="va")


def test_a_manifest_listed_twice_counts_twice(corpus):
    manifest = str(corpus / "manifest.jsonl")
    data = recognition_data(config_of(corpus, train=[manifest, manifest]), seed=0)
    assert len(data.train_dataset) == 12 and len(data.valid_dataset) == 6
    assert sorted(i for batch in data.train_sampler for i in batch) == list(range(12))
    assert not np.array_equal(data.train_dataset[0]["lips"], data.train_dataset[6]["lips"])


def test_manifests_count_as_often_as_they_are_said_to(corpus):
    manifest = str(corpus / "manifest.jsonl")
    thrice = recognition_data(config_of(corpus, train=[manifest], train_times=[3]), seed=0)
    listed = recognition_data(config_of(corpus, train=3 * [manifest]), seed=0)
    assert thrice.train_dataset.rows == listed.train_dataset.rows
    for times in ([1, 2], [0]):
        with pytest.raises(InputError, match=r"data.train_times .* must say how often, .* 1 manifests"):
            config_of(corpus, train=[manifest], train_times=times)


def test_the_config_is_an_omegaconf_schema_that_names_what_is_missing():
    config = OmegaConf.structured(DataConfig)
    assert OmegaConf.missing_keys(config) == {"train", "valid", "tokenizer"}
    given = {"train": ["a"], "valid": ["b"], "tokenizer": "t", "augment": {"snr_min_db": 0}}
    assert OmegaConf.to_object(OmegaConf.merge(config, given)).augment.snr_min_db == 0


def broken_rows(folder):
    folder.mkdir(exist_ok=True)
    good = (0.1 * np.sin(np.arange(16_000) / 5)).astype(np.float32)
    write_wav(folder / "good.wav", good)
    write_wav(folder / "silent.wav", np.zeros(16_000))
    write_wav(folder / "empty.wav", np.zeros(0))
    (folder / "corrupt.wav").write_bytes(b"not a wave file")
    soundfile.write(folder / "nan.wav", np.where(np.arange(16_000) == 7, np.nan, good), 16_000, subtype="FLOAT")
    write_lips(folder / "short.mp4", np.zeros((19, 96, 96), np.uint8))
    write_video(folder / "small.mp4", np.zeros((25, 64, 64), np.uint8))
    write_alignment(folder / "late.json", [(0.5, 2.0, "bin")])
    return folder


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"audio": "silent.wav"}, "^spk_x: .*silent.wav: the sound is silent"),
        ({"audio": "empty.wav"}, "^spk_x: .*empty.wav: .* no samples"),
        ({"audio": "nan.wav"}, "^spk_x: .*nan.wav: .* NaN"),
        ({"audio": "corrupt.wav"}, "^spk_x: .*corrupt.wav"),
        ({"audio": "gone.wav"}, "^spk_x: .*gone.wav: no such"),
        ({"lips": "gone.mp4"}, "^spk_x: .*gone.mp4"),
        ({"lips": "corrupt.wav"}, "^spk_x: .*corrupt.wav"),
        ({"lips": "small.mp4"}, "^spk_x: .*small.mp4: 64x64 .*96x96"),
        ({"lips": "short.mp4"}, r"^spk_x: the sound lasts 25 frames and the lips 19; they may differ by at most 5"),
        ({"alignment": "late.json"}, r"^spk_x: .*late.json: words 1 \('bin'\) ends at 2.0 s, past the end"),
    ],
)
def test_items_that_cannot_be_read_name_the_utterance(tmp_path, fields, message):
    folder = broken_rows(tmp_path / "broken")
    row = dict.fromkeys(FIELDS) | {
        "utt_id": "spk_x",
        "text": "bin",
        "duration_s": 1.0,
        "audio": str(folder / "good.wav"),
    }
    row |= {key: str(folder / name) for key, name in fields.items()}
    dataset = UtteranceDataset([row], None, labels={"bin": 1}, tier="words")
    with pytest.raises(InputError, match=message):
        dataset[0]


def test_texts_are_checked_before_training_starts(corpus, rows):
    tokenizer = train_tokenizer(TEXTS, "char")
    with pytest.raises(InputError, match="u1: characters outside the tokenizer: 'Z'"):
        UtteranceDataset([rows[0], rows[1] | {"text": "Z"}], tokenizer)
    with pytest.raises(InputError, match="u0: the transcript is empty"):
        UtteranceDataset([rows[0] | {"text": None}], tokenizer)
    with pytest.raises(InputError, match="u0: its manifest line has no audio or lips"):
        UtteranceDataset([rows[0] | {"audio": None, "lips": None}], None)
    with pytest.raises(InputError, match="raise max_frames"):
        recognition_data(config_of(corpus, max_frames_per_batch=20), seed=0)
