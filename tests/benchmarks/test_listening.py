"""A pack is balanced, blinded and the same again; what listeners wrote is scored as counted by hand."""

import csv
import json
from collections import Counter

import numpy as np
import pytest

from avsr.data.manifest import read_manifest
from avsr.data.noise import make_noise_manifest, write_noise_manifest
from avsr.errors import InputError
from avsr.media.audio import read_audio
from avsr.media.video import read_frames, write_lips
from benchmarks.listening.__main__ import main
from benchmarks.listening.answers import read_answers, read_key, score_answers
from benchmarks.listening.pack import Pack, assign

SYSTEMS = ["reference", "near", "far", "sound"]


@pytest.fixture
def noise(manifests, tmp_path):
    lines = make_noise_manifest(read_manifest(manifests["reference"]), kind="white", snr_db=-7.5, seed=0)
    write_noise_manifest(tmp_path / "white.jsonl", lines)
    return tmp_path / "white.jsonl"


def make(manifests, noise, out, *options):
    arguments = [str(manifests["reference"]), "--motion", f"near={manifests['near']}"]
    return main(["make", *arguments, "--noise", str(noise), "--out", str(out), "--size", "32", *options])


def test_a_latin_square_over_listeners():
    utt_ids = [f"u{i}" for i in range(12)]
    heard = assign(utt_ids, SYSTEMS, Pack(listeners=4, seed=3))
    for pairs in heard:
        assert sorted(utt_id for utt_id, _ in pairs) == sorted(utt_ids)
        assert set(Counter(system for _, system in pairs).values()) == {3}
    together = Counter(pair for pairs in heard for pair in pairs)
    assert len(together) == 12 * 4 and set(together.values()) == {1}
    assert assign(utt_ids[::-1], SYSTEMS[::-1], Pack(listeners=4, seed=3)) == heard
    assert assign(utt_ids, SYSTEMS, Pack(listeners=4, seed=4)) != heard
    assert [len(pairs) for pairs in assign(utt_ids, SYSTEMS, Pack(utterances=5))] == [5]


def test_a_pack_is_blinded_and_the_same_again(manifests, noise, tmp_path):
    assert make(manifests, noise, tmp_path / "a", "--listeners", "4") == 0
    assert make(manifests, noise, tmp_path / "b", "--listeners", "4") == 0
    files = {path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert len(files) == 4 * (2 + 3)
    for path in files:
        content = (tmp_path / "a" / path).read_bytes()
        assert content == (tmp_path / "b" / path).read_bytes()
        assert not any(name.encode() in content for name in ("near", "reference", "u0", "pin"))
    key = read_key(tmp_path / "a_key.json")
    assert key == read_key(tmp_path / "b_key.json") and len(key["clips"]) == 12
    frames = {row["utt_id"]: round(25 * row["duration_s"]) for row in read_manifest(manifests["reference"])}
    for name, clip in key["clips"].items():
        folder = tmp_path / "a" / f"listener_{clip['listener']:02d}"
        path = folder / "clips" / f"{name}.mp4"
        pictures = read_frames(path, gray=True)
        assert pictures.shape == (frames[clip["utt_id"]], 32, 32)
        assert (np.ptp(pictures) < 4) == (clip["system"] == "sound")
        assert len(read_audio(path)) >= 640 * frames[clip["utt_id"]] - 1024
        assert f'src="clips/{name}.mp4"' in (folder / "index.html").read_text()
        assert f"{name},\n" in (folder / "answers.csv").read_text()


def test_the_lips_of_readers_in_view(manifests, noise, tmp_path):
    for name in ("reference", "near"):
        for row in read_manifest(manifests[name]):
            shade = 90 if name == "near" else 180
            write_lips(row["lips"], np.full((round(25 * row["duration_s"]), 96, 96), shade, np.uint8))
    assert make(manifests, noise, tmp_path / "a", "--view", "lips", "--listeners", "3") == 0
    for name, clip in read_key(tmp_path / "a_key.json")["clips"].items():
        pictures = read_frames(tmp_path / "a" / f"listener_{clip['listener']:02d}" / "clips" / f"{name}.mp4", gray=True)
        expected = {"near": 90, "reference": 180, "sound": 128}[clip["system"]]
        assert abs(pictures.mean() - expected) < 4


@pytest.fixture
def pack():
    """Two listeners, two utterances of 3 and 2 words, by "near" and "sound"."""
    said = {"u0": "pin five at", "u1": "bin at"}
    clips = {
        "L01C001": (1, "u1", "near"), "L01C002": (1, "u0", "sound"),
        "L02C001": (2, "u0", "near"), "L02C002": (2, "u1", "sound"),
    }  # fmt: skip
    clips = {
        name: {"listener": listener, "utt_id": utt_id, "system": system, "text": said[utt_id]}
        for name, (listener, utt_id, system) in clips.items()
    }
    facts = {"reference": "f" * 64, "noise": {"white": "0" * 64}, "view": "face", "seed": 0}
    return facts | {"systems": ["near", "sound"], "clips": clips}


def sheet(path, rows, delimiter=","):
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([("clip", "heard"), *rows])
    return path


def test_what_was_heard_is_scored(pack, tmp_path, capsys):
    one = sheet(tmp_path / "1.csv", [("L01C001", "Bin, at!"), ("L01C002", "")])
    two = sheet(tmp_path / "2.csv", [("L02C002", "bean at"), ("L02C001", "pin at")], ";")
    scores = score_answers([one, two], pack)
    wer = {system: row["wer"] for system, row in scores["systems"].items()}
    assert wer == pytest.approx({"near": 100 * 1 / 5, "sound": 100 * 4 / 5})
    assert scores["listeners"] == pytest.approx({"1": 100 * 3 / 5, "2": 100 * 2 / 5})
    (paired,) = scores["paired"]
    assert (paired["a"], paired["b"]) == ("near", "sound") and paired["difference"] == pytest.approx(60)
    (tmp_path / "key.json").write_text(json.dumps(pack))
    arguments = ["score", str(one), str(two), "--key", str(tmp_path / "key.json"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert json.loads((tmp_path / "out" / "scores.json").read_text()) == scores
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| sound | 5 | 80.0 [" in table and "sound − near = +60.0" in table and table in capsys.readouterr().out
    alone = score_answers([one], pack)  # a listener whose sheet is not there is left out
    assert alone["protocol"]["listeners"] == 1 and alone["systems"]["near"]["wer"] == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("L01C001", "bin at")], r"1 clips are not in the sheets \['L01C002'\]"),
        ([("L01C001", "a"), ("L01C002", "b"), ("L01C001", "c")], "clip 'L01C001' is answered already"),
        ([("C7", "a")], "the key knows no clip 'C7'"),
        ([], "0 clips are not in the sheets"),
    ],
)
def test_sheets_that_are_not_this_packs(pack, tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        read_answers([sheet(tmp_path / "1.csv", rows)], pack)


def test_what_is_no_sheet_or_no_key(pack, tmp_path):
    (tmp_path / "1.csv").write_text("name,text\n")
    with pytest.raises(InputError, match=r"columns \['name', 'text'\]; expected clip and heard"):
        read_answers([tmp_path / "1.csv"], pack)
    with pytest.raises(InputError, match="absent.csv: not a readable answer sheet"):
        read_answers([tmp_path / "absent.csv"], pack)
    with pytest.raises(InputError, match="1.csv: no key of a pack"):
        read_key(tmp_path / "1.csv")
    (tmp_path / "key.json").write_text('{"clips": {"L01C001": {"listener": 1}}}')
    with pytest.raises(InputError, match="its clips need listener, utt_id, system and text"):
        read_key(tmp_path / "key.json")


def test_packs_that_cannot_be_made(manifests, noise, tmp_path, capsys):
    def complains(about, *options, out=tmp_path / "out"):
        assert make(manifests, noise, out, *options) == 2
        assert about in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    complains("--listeners 0, --utterances None: expected 1 or more", "--listeners", "0")
    complains("--size 33: expected an even number", "--size", "33")
    complains("which listeners are given: put it elsewhere", "--key", str(tmp_path / "out" / "key.json"))
    (tmp_path / "taken").mkdir()
    complains("taken is there already, and answers", out=tmp_path / "taken")
    write_noise_manifest(
        noise, make_noise_manifest(read_manifest(manifests["far"])[1:], kind="white", snr_db=0, seed=0)
    )
    complains("'--noise' lacks 1 utterances of the reference: ['u2']")
