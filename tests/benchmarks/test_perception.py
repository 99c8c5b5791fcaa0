"""Who is read how, what is kept, and the figures against counts by hand."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from avsr.data.manifest import read_manifest, write_manifest
from avsr.data.noise import make_noise_manifest, write_noise_manifest
from avsr.data.text import train_tokenizer
from avsr.errors import InputError
from avsr.files import write_jsonl
from avsr.media.video import write_lips
from avsr.models.recognizer import Recognizer, RecognizerConfig
from benchmarks import decodings, perception, readback
from benchmarks.content import markdown_section
from benchmarks.digests import Digests
from benchmarks.perception import evaluate, make_trial, share_of_gain
from benchmarks.perception_section import perception_section
from benchmarks.readback import Readback


@pytest.fixture
def noise(manifests, tmp_path):
    for snr_db in (-7.5, -10):
        lines = make_noise_manifest(read_manifest(manifests["reference"]), kind="white", snr_db=snr_db, seed=0)
        write_noise_manifest(tmp_path / "noise" / f"white_{snr_db:g}dB.jsonl", lines)
    return str(tmp_path / "noise")


@pytest.fixture
def asked(monkeypatch):
    """Recognisers named by their streams. They understand moving lips of the reference, half of "near", else "pin"."""
    calls = []

    def decode(model, rows, config, *, out, noise_lines, corruption_lines):
        lips = rows[0]["lips"].split("/")[-2]
        snr_db = None if noise_lines is None else noise_lines[0]["snr_db"]
        frozen = None if corruption_lines is None else (corruption_lines[0]["kind"], corruption_lines[0]["severity"])
        calls.append((config.modality, lips, snr_db, frozen))
        moves = "v" in config.modality and frozen is None
        texts = {"reference": lambda text: text, "near": lambda text: text.split()[0]}
        understood = texts.get(lips, lambda text: "pin") if moves else lambda text: "pin"
        write_jsonl(out, [{"utt_id": row["utt_id"], "text": understood(row["text"])} for row in rows])

    def load(path):
        return SimpleNamespace(config=SimpleNamespace(modalities=str(path)))

    monkeypatch.setattr(decodings, "decode_manifest", decode)
    monkeypatch.setattr(readback.Recognizer, "from_pretrained", load)
    return calls


def measured(manifests, tmp_path, noise_dir, readers, names=("near", "far")):
    motions = {name: str(manifests[name]) for name in names}
    trial = make_trial(str(manifests["reference"]), motions, readers, noise_dir, tmp_path / "out")
    return evaluate(trial, Readback(trial.rows, [], Digests()))


def test_each_face_alone_and_in_noise_between_floor_and_ceiling(manifests, tmp_path, noise, asked):
    scores = json.loads(json.dumps(measured(manifests, tmp_path, noise, {"V": "v", "AV": "av"})))
    frozen = ("frozen", 1.0)
    lips_alone = [("v", name, None, None) for name in ("reference", "near", "far")] + [("v", "reference", None, frozen)]
    in_noise = [
        call
        for snr_db in (-7.5, -10)
        for call in (
            *(("av", name, snr_db, None) for name in ("reference", "near", "far")),
            ("av", "reference", snr_db, frozen),
            ("a", "reference", snr_db, None),
        )
    ]
    assert asked == [*lips_alone, *lips_alone, *in_noise]  # who only sees is not asked in noise

    found = {(row["reader"], row["condition"], row["face"]): row for row in scores["results"]}
    assert len(found) == 4 + 4 + 2 * 5
    # of 6 words "near" misses 3; "pin", said of everything, is right once
    expected = {"reference": 0, "near": 100 * 3 / 6, "far": 100 * 5 / 6, "static": 100 * 5 / 6, "sound": 100 * 5 / 6}
    for (_, _, face), row in found.items():
        assert row["wer"]["value"] == pytest.approx(expected[face])
        assert row["wer"]["low"] <= row["wer"]["value"] <= row["wer"]["high"]
        assert (row["share"] is None) == (face not in ("near", "far"))
    assert found["AV", "white_-7.5dB", "near"]["share"]["value"] == pytest.approx(100 * (5 - 3) / 5)
    assert found["V", "lips alone", "far"]["share"]["value"] == pytest.approx(0)
    paired = {(row["reader"], row["condition"], row["a"], row["b"]): row for row in scores["paired"]}
    assert paired["AV", "white_-10dB", "sound", "near"]["difference"] == pytest.approx(-100 * 2 / 6)
    assert paired["V", "lips alone", "near", "far"]["difference"] == pytest.approx(100 * 2 / 6)
    assert ("V", "lips alone", "sound", "near") not in paired and ("AV", "white_-10dB", "static", "far") in paired

    table = markdown_section(perception_section("test", scores))
    assert "### Reader AV, lips and sound in white, -7.5 dB" in table and "### Reader V, lips alone" in table
    assert "| lips alone | far − near | +33.3 " in table
    assert scores["protocol"]["noise"]["white_-10dB"][:16] in table


def test_what_was_read_is_read_again_only_where_something_changed(manifests, tmp_path, noise, asked):
    first = measured(manifests, tmp_path, noise, {"AV": "av"}, ["near"])
    assert len(asked) == 3 + 2 * 4
    asked.clear()
    assert measured(manifests, tmp_path, noise, {"AV": "av"}, ["near"]) == first and asked == []
    (tmp_path / "near" / "u1.mp4").write_bytes(b"other lips")
    measured(manifests, tmp_path, noise, {"AV": "av"}, ["near"])
    assert {lips for _, lips, _, _ in asked} == {"near"} and len(asked) == 3
    asked.clear()
    rows = read_manifest(manifests["reference"])
    lines = make_noise_manifest(rows, kind="white", snr_db=-10, seed=5)
    write_noise_manifest(tmp_path / "noise" / "white_-10dB.jsonl", lines)
    measured(manifests, tmp_path, noise, {"AV": "av"}, ["near"])
    assert {snr_db for _, _, snr_db, _ in asked} == {-10.0} and len(asked) == 4


def test_share_of_gain_is_drawn_together():
    rng = np.random.default_rng(0)
    words = np.full(40, 6.0)
    errors = [100 * rng.integers(low, high, 40) for low, high in ((3, 6), (1, 4), (0, 2))]
    floor, face, ceiling = (np.stack([error, words], axis=-1) for error in errors)
    share = share_of_gain(floor, face, ceiling, draws=200)
    sums = [error.sum() for error in errors]
    assert share["value"] == pytest.approx(100 * (sums[0] - sums[1]) / (sums[0] - sums[2]))
    rng, shares = np.random.default_rng(0), []
    for drawn in rng.integers(40, size=(200, 40)):  # draw by draw
        of = [error[drawn].sum() for error in errors]
        shares.append(100 * (of[0] - of[1]) / (of[0] - of[2]))
    assert [share["low"], share["high"]] == pytest.approx(list(np.quantile(shares, [0.025, 0.975])))
    assert share_of_gain(floor, floor, floor) is None  # there was nothing to gain


def test_what_users_get_wrong(manifests, tmp_path, noise, asked, monkeypatch, capsys):
    with pytest.raises(InputError, match="--reader A: a does not see; give a recogniser of lips"):
        measured(manifests, tmp_path, None, {"A": "a"})
    with pytest.raises(InputError, match="give a reader with --reader"):
        measured(manifests, tmp_path, None, {})
    write_manifest(tmp_path / "short.jsonl", read_manifest(manifests["near"])[1:])
    with pytest.raises(InputError, match=r"motion 'near' lacks 1 utterances of .*: \['u2'\]"):
        measured(manifests | {"near": tmp_path / "short.jsonl"}, tmp_path, None, {"V": "v"}, ["near"])
    arguments = [str(manifests["reference"]), "--motion", f"static={manifests['near']}", "--reader", "V=v"]
    monkeypatch.setattr(sys, "argv", ["perception", *arguments, "--out", str(tmp_path / "out")])
    with pytest.raises(InputError, match="--motion static: give each a name of its own, other than 'reference' or"):
        perception.main()


def test_a_recogniser_reads_from_the_command_line(manifests, tmp_path, noise, monkeypatch, capsys):
    tokenizer = train_tokenizer(["pin five at bin"], "word")
    torch.manual_seed(0)
    small = {"vocab_size": len(tokenizer), "dim": 32, "layers": 1, "heads": 2, "ff_dim": 48, "kernel": 7}
    Recognizer(RecognizerConfig(**small)).save_pretrained(tmp_path / "reader", tokenizer, {})
    rng = np.random.default_rng(0)
    for name in ("reference", "near"):
        for row in read_manifest(manifests[name]):
            shape = (round(25 * row["duration_s"]), 96, 96)
            write_lips(row["lips"], rng.integers(0, 255, shape).astype(np.uint8))
    arguments = [str(manifests["reference"]), "--motion", f"near={manifests['near']}", "--noise", noise]
    arguments += ["--reader", f"AV={tmp_path / 'reader'}", "--beam_size", "2", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["perception", *arguments])
    perception.main()
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert len(scores["results"]) == 3 + 2 * 4
    assert (tmp_path / "out" / "table.md").read_text() in capsys.readouterr().out
    read = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("hyp.jsonl")}
    assert len(read) == 11
    perception.main()
    assert read == {path: path.stat().st_mtime_ns for path in read}
