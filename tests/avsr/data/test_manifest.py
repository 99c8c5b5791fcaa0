"""avsr.data.manifest: what is read is what was written, and every mistake is named."""

import json
import logging

import numpy as np
import pytest
import soundfile

from avsr.data.manifest import (
    FIELDS,
    as_dataset,
    from_kaldi,
    read_manifest,
    stream_manifest,
    to_kaldi,
    write_manifest,
)
from avsr.errors import InputError


@pytest.fixture
def rows(tmp_path):
    made = []
    for i, text in enumerate(["bin blue", "don't set\u2028white"]):
        audio = tmp_path / "audio" / f"u{i}.wav"
        audio.parent.mkdir(exist_ok=True)
        audio.write_bytes(b"RIFF")
        row = dict.fromkeys(FIELDS) | {"utt_id": f"s{i}_u", "speaker": f"s{i}", "text": text, "audio": str(audio)}
        made.append(row | {"duration_s": 3.0 + i / 7, "source": "rendered"})
    return made


def write_lines(path, *lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_round_trip_keeps_every_row_and_moves_with_its_folder(tmp_path, rows):
    path = tmp_path / "deep" / "manifest.jsonl"
    write_manifest(path, rows)
    assert read_manifest(path, need=("audio", "text", "duration_s")) == rows
    first = json.loads(path.read_text().split("\n")[0])
    assert first["audio"] == "../audio/u0.wav"
    assert "lips" not in first

    moved = tmp_path / "elsewhere"
    (tmp_path / "deep").rename(moved)
    assert read_manifest(moved / "manifest.jsonl") == rows


def test_relative_paths_of_rows_are_the_callers(tmp_path, rows, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_manifest("out/manifest.jsonl", [{"utt_id": "a", "audio": "audio/u0.wav"}])
    assert read_manifest("out/manifest.jsonl")[0]["audio"] == str(tmp_path / "audio" / "u0.wav")


def test_arrow_and_streaming_give_the_same_rows(tmp_path, rows):
    path = tmp_path / "manifest.jsonl"
    write_manifest(path, rows)
    dataset = as_dataset(rows)
    assert dataset.column_names == list(FIELDS)
    assert list(dataset) == rows
    assert list(stream_manifest(path)) == rows


def test_streaming_validates_no_further_than_it_reads(tmp_path):
    path = write_lines(tmp_path / "m.jsonl", {"utt_id": "a"}, {"utt_id": "b", "audoi": "x"})
    stream = iter(stream_manifest(path, need=()))
    assert next(stream)["utt_id"] == "a"
    with pytest.raises(InputError, match=r"m\.jsonl:2"):
        next(stream)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", r"m\.jsonl:2: not a line of JSON"),
        ([1], r"m\.jsonl:2: expected a JSON object, found list"),
        ({"utt_id": "b", "audoi": "x"}, r"m\.jsonl:2: unknown key 'audoi'; did you mean 'audio'\?"),
        ({"utt_id": "b", "qqqq": "x"}, r"unknown key 'qqqq'; known keys: utt_id, speaker"),
        ({"utt_id": "a"}, r"m\.jsonl:2: utt_id 'a' is already on line 1"),
        ({"utt_id": "b c"}, r"utt_id must be a string without spaces, found 'b c'"),
        ({"text": "x"}, r"utt_id must be a string without spaces, found None"),
        ({"utt_id": "b", "text": 3}, r"m\.jsonl:2: b: text must be a string, found 3"),
        ({"utt_id": "b", "duration_s": 0}, r"duration_s must be a number of seconds > 0, found 0"),
        ({"utt_id": "b", "duration_s": float("nan")}, r"duration_s must be a number of seconds > 0, found nan"),
        ({"utt_id": "b", "duration_s": True}, r"duration_s must be a number of seconds > 0, found True"),
        ({"utt_id": "b", "source": "dreamt"}, r"source must be one of filmed, rendered, found 'dreamt'"),
        ({"utt_id": "b"}, r"m\.jsonl:2: b: needs 'text', which this line lacks"),
        ({"utt_id": "b", "text": " "}, r"m\.jsonl:2: b: the transcript is empty"),
        ({"utt_id": "b", "text": "x", "lips": "gone.mp4"}, r"m\.jsonl:2: b: lips .*gone\.mp4 doesn't exist"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, message):
    path = write_lines(tmp_path / "m.jsonl", {"utt_id": "a", "text": "x"}, line)
    with pytest.raises(InputError, match=message):
        read_manifest(path, need=("text",), use=("lips",))


def test_files_that_nobody_reads_may_be_gone(tmp_path):
    path = write_lines(tmp_path / "m.jsonl", {"utt_id": "a", "text": "x", "lips": "gone.mp4"})
    assert read_manifest(path, need=("text",))[0]["lips"] == str(tmp_path / "gone.mp4")
    assert read_manifest(path, need=("lips",), check_files=False)


def test_missing_and_empty_manifests(tmp_path):
    with pytest.raises(InputError, match="no such manifest"):
        read_manifest(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="has no utterances"):
        read_manifest(write_lines(tmp_path / "m.jsonl", "", ""))


def test_write_refuses_what_read_would_refuse_and_leaves_nothing(tmp_path):
    path = tmp_path / "m.jsonl"
    with pytest.raises(InputError, match="row 2 for .*m.jsonl: utt_id 'a' is already"):
        write_manifest(path, [{"utt_id": "a"}, {"utt_id": "a"}])
    assert list(tmp_path.iterdir()) == []


def kaldi_rows(tmp_path):
    made = []
    for utt_id in ("s1_b", "s1_a", "s2_a"):
        row = dict.fromkeys(FIELDS) | {"utt_id": utt_id, "speaker": utt_id[:2], "text": f"say {utt_id[-1]}  now"}
        row |= {name: str(tmp_path / f"{utt_id}.{name}") for name in ("audio", "video", "lips")}
        made.append(row | {"duration_s": 2.48})
    return made


def test_kaldi_round_trip_in_kaldis_own_form(tmp_path):
    rows = kaldi_rows(tmp_path)
    data_dir = tmp_path / "data" / "train"
    to_kaldi(rows, data_dir)
    assert from_kaldi(data_dir) == sorted(rows, key=lambda row: row["utt_id"])
    assert (data_dir / "utt2spk").read_text() == "s1_a s1\ns1_b s1\ns2_a s2\n"
    assert (data_dir / "spk2utt").read_text() == "s1 s1_a s1_b\ns2 s2_a\n"
    assert (data_dir / "wav.scp").read_text().split("\n")[0] == f"s1_a {tmp_path}/s1_a.audio"
    assert (data_dir / "video.scp").read_text().split("\n")[2] == f"s2_a {tmp_path}/s2_a.video"


def test_kaldi_folder_of_shared_speech(shared, tmp_path, monkeypatch):
    """A folder as ESPnet's recipes write them: paths relative to where the recipe runs."""
    monkeypatch.chdir(shared)
    waves = sorted((shared / "speech" / "utterances").glob("*.wav"))
    lines = [f"{wave.stem} speech/utterances/{wave.name}" for wave in waves]
    (tmp_path / "wav.scp").write_text("\n".join(lines) + "\n")
    (tmp_path / "utt2spk").write_text("".join(f"{wave.stem} {wave.stem[:4]}\n" for wave in waves))
    rows = from_kaldi(tmp_path)
    write_manifest(tmp_path / "manifest.jsonl", rows)
    again = read_manifest(tmp_path / "manifest.jsonl", need=("audio", "speaker"))
    assert [row["audio"] for row in again] == [str(wave.resolve()) for wave in waves]


def test_espnets_own_readers_read_the_folder(shared, tmp_path):
    read_text = pytest.importorskip("espnet2.fileio.read_text")
    sound_scp = pytest.importorskip("espnet2.fileio.sound_scp")
    waves = sorted((shared / "speech" / "utterances").glob("*.wav"))[:3]
    to_kaldi([{"utt_id": w.stem, "speaker": w.stem[:4], "text": f"say {w.stem}", "audio": w} for w in waves], tmp_path)
    sample_rate, waveform = sound_scp.SoundScpReader(tmp_path / "wav.scp")[waves[1].stem]
    np.testing.assert_allclose(waveform, soundfile.read(waves[1])[0], atol=1e-4)
    assert sample_rate == 16_000
    assert read_text.read_2columns_text(tmp_path / "text") == {w.stem: f"say {w.stem}" for w in waves}
    assert read_text.read_2columns_text(tmp_path / "spk2utt")["spk1"] == " ".join(w.stem for w in waves)


def test_kaldi_sorts_as_the_c_locale_does(tmp_path):
    rows = [{"utt_id": utt_id, "audio": "x.wav"} for utt_id in ("b", "B", "é", "a_1", "a-1")]
    to_kaldi(rows, tmp_path)
    assert [line.split()[0] for line in (tmp_path / "utt2spk").read_text().splitlines()] == [
        "B",
        "a-1",
        "a_1",
        "b",
        "é",
    ]


def test_kaldi_warns_where_the_speaker_does_not_lead(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        to_kaldi([{"utt_id": u, "audio": "x.wav", "speaker": s} for u, s in (("a", "2"), ("b", "1"))], tmp_path)
    assert "speaker at the beginning" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text", "a one\nb\n", r"text:2: an empty transcript in 'b'"),
        ("utt2spk", "a s\nb\n", r"utt2spk:2: no value after the id"),
        ("text", "a one\n\nb two\n", r"text:2: an empty line"),
        ("text", "a one\na two\nb x\n", r"text:2: id 'a' appears twice"),
        ("text", "a one\n", r"1 ids of wav.scp aren't in text \(first: b\)"),
        ("utt2spk", "a s\nb s\nc s\n", r"1 ids of utt2spk aren't in wav.scp \(first: c\)"),
        ("wav.scp", "a sph2pipe -f wav a.sph |\nb b.wav\n", r"wav.scp:1: pipes aren't run"),
        ("wav.scp", "a a.wav\nb data.ark:1234\n", r"wav.scp:2: archives aren't read"),
        ("utt2dur", "a 2.0\nb long\n", r"utt2dur: the duration of b must be .* found 'long'"),
        ("segments", "a rec 0 1\n", r"segments: cut recordings aren't read"),
    ],
)
def test_bad_kaldi_folders_are_named(tmp_path, name, content, message):
    (tmp_path / "wav.scp").write_text("a a.wav\nb b.wav\n")
    (tmp_path / "utt2spk").write_text("a s\nb s\n")
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        from_kaldi(tmp_path)


def test_kaldi_folder_without_media(tmp_path):
    (tmp_path / "text").write_text("a one\n")
    with pytest.raises(InputError, match="neither wav.scp nor video.scp"):
        from_kaldi(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        from_kaldi(tmp_path / "none")


def test_to_kaldi_wants_the_same_fields_everywhere(tmp_path):
    rows = kaldi_rows(tmp_path)
    rows[1]["text"] = None
    with pytest.raises(InputError, match=r"text for .*: 1 of 3 utterances have no text \(first: s1_a\)"):
        to_kaldi(rows, tmp_path / "data")
    rows[1]["text"] = "two\nlines"
    with pytest.raises(InputError, match="the text of s1_a has a line break"):
        to_kaldi(rows, tmp_path / "data")
