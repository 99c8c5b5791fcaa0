import contextlib

import numpy as np
import pytest

from avsr.data.alignment import write_alignment
from avsr.data.corrupt import corruption_hash, make_corruption_manifest, write_corruption_manifest
from avsr.data.manifest import write_manifest
from avsr.data.noise import make_noise_manifest, noise_hash, write_noise_manifest
from avsr.decode import DecodeConfig
from avsr.errors import InputError
from avsr.files import write_jsonl
from avsr.media.audio import write_wav
from benchmarks import decodings, recognizer
from benchmarks.conditions import Condition, conditions_in
from benchmarks.content import markdown_section
from benchmarks.recognizer import System, evaluate
from benchmarks.recognizer_section import recognizer_section

ROWS = [
    {"utt_id": f"u{i}", "speaker": f"s{i % 2}", "text": text, "source": "filmed", "duration_s": 1.0}
    for i, text in enumerate(("set red", "bin blue", "now", "lay at b"))
]


@pytest.fixture
def folders(tmp_path):
    """Two noises, a room, and three corruptions, as manifests in folders."""
    write_wav(tmp_path / "rir.wav", 0.5 ** np.arange(30))
    for snr_db in (-5.0, 10.0, 0.0):
        lines = make_noise_manifest(ROWS_WITH_SOUND, kind="white", snr_db=snr_db, seed=0)
        write_noise_manifest(tmp_path / "noise" / f"white_{snr_db:g}dB.jsonl", lines)
    lines = make_noise_manifest(ROWS_WITH_SOUND, kind="none", snr_db=None, seed=0, rir_paths=[tmp_path / "rir.wav"])
    write_noise_manifest(tmp_path / "noise" / "room.jsonl", lines)
    for kind, severity in (("gaps", 0.2), ("frozen", 1), ("frozen", 0.5), ("blank", 1)):
        lines = make_corruption_manifest(ROWS, kind=kind, severity=severity, seed=0)
        write_corruption_manifest(tmp_path / "corruptions" / f"{kind}_{severity:g}.jsonl", lines)
    return str(tmp_path / "noise"), str(tmp_path / "corruptions")


ROWS_WITH_SOUND = [row | {"audio": f"{row['utt_id']}.wav"} for row in ROWS]


def test_system_is_parsed_and_bad_ones_named():
    assert System.parse("AV=exp/av:checkpoint:av") == System("AV", ("exp/av:checkpoint",), "av")
    assert System.parse("A=exp/a,exp/b:a") == System("A", ("exp/a", "exp/b"), "a")
    for text in ("exp/av", "A=exp/a", "A=exp/a:x", "=exp/a:a", "A=exp/a,:a"):
        with pytest.raises(InputError, match="expected NAME=CHECKPOINT.*:MODALITY"):
            System.parse(text)


def names(conditions):
    return [condition.name for condition in conditions]


def test_conditions_are_clean_then_falling_snr_then_corruptions(folders, tmp_path):
    noises = ["room", "white_10dB", "white_0dB", "white_-5dB"]
    corruptions = ["blank_1", "frozen_0.5", "frozen_1", "gaps_0.2"]
    assert names(conditions_in(folders[0])) == ["clean", *noises]
    assert names(conditions_in(*folders)) == ["clean", *noises, *corruptions]
    crossed = names(conditions_in(*folders, cross=True))
    assert crossed[:9] == ["clean", *noises, *corruptions] and len(crossed) == 5 * 5
    assert crossed[9:14] == [*(f"room_{name}" for name in corruptions), "white_10dB_blank_1"]
    assert conditions_in(None) == [Condition()]
    with pytest.raises(InputError, match="no noise manifest .* `avsr noise`"):
        conditions_in(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="no corruption manifest .* `avsr corrupt`"):
        conditions_in(None, str(tmp_path / "nothing"))
    (tmp_path / "noise" / "white_0dB.jsonl").rename(tmp_path / "noise" / "blank_1.jsonl")
    with pytest.raises(InputError, match="two conditions have the name 'blank_1'"):
        conditions_in(*folders)


def test_a_condition_says_what_it_is(folders):
    facts = {condition.name: condition.facts() for condition in conditions_in(*folders, cross=True)}
    assert facts["clean"] == {
        "condition": "clean", "kind": None, "snr_db": None, "corruption": None, "severity": None
    }  # fmt: skip
    assert facts["room"]["kind"] == "reverb" and facts["room"]["snr_db"] is None
    assert (facts["white_0dB"]["kind"], facts["white_0dB"]["snr_db"]) == ("white", 0.0)
    assert facts["white_0dB_frozen_0.5"] == {
        "condition": "white_0dB_frozen_0.5", "kind": "white", "snr_db": 0.0, "corruption": "frozen", "severity": 0.5
    }  # fmt: skip


def test_each_system_decodes_what_it_perceives_and_is_compared_in_all(folders, tmp_path, monkeypatch):
    """With a reader that errs where something befalls it: each condition's lines reach it."""
    write_manifest(tmp_path / "m.jsonl", [row | {"audio": str(tmp_path / f"{row['utt_id']}.wav")} for row in ROWS])
    for row in ROWS:
        write_wav(tmp_path / f"{row['utt_id']}.wav", np.ones(100))
    asked = []

    def decode(model, rows, config, *, noise_lines, corruption_lines, out):
        asked.append((config.modality, noise_lines, corruption_lines))
        wrong = (noise_lines is not None) + 2 * (corruption_lines is not None)
        lines = [{"utt_id": row["utt_id"], "text": "x" if i < wrong else row["text"]} for i, row in enumerate(rows)]
        write_jsonl(out, lines)

    class InProcess:
        map = staticmethod(map)

    monkeypatch.setattr(decodings, "decode_manifest", decode)
    monkeypatch.setattr(recognizer, "worker_pool", lambda n_jobs: contextlib.nullcontext(InProcess))
    monkeypatch.setattr(recognizer, "_facts", lambda system: {})
    monkeypatch.setattr(recognizer.Recognizer, "from_pretrained", lambda path: None)
    systems = [System(modality.upper(), ("checkpoint",), modality) for modality in ("a", "v", "av")]
    conditions = conditions_in(*folders, cross=True)
    arguments = (str(tmp_path / "m.jsonl"), systems, conditions, tmp_path / "out", DecodeConfig(method="greedy"), 1)
    scores = evaluate(*arguments)

    lips, sound = ["blank_1", "frozen_0.5", "frozen_1"], ["room", "white_10dB", "white_0dB", "white_-5dB"]
    heard = ["clean", *sound]
    measured = {
        name: [row["condition"] for row in scores["results"] if row["system"] == name] for name in ("A", "V", "AV")
    }
    assert measured["V"] == ["clean", *lips]
    assert sorted(measured["A"]) == sorted([*heard, "gaps_0.2", *(f"{noise}_gaps_0.2" for noise in sound)])
    assert measured["AV"] == names(conditions)
    by_condition = {row["condition"]: row for row in scores["results"] if row["system"] == "AV"}
    assert [by_condition[name]["word"]["s_err"] for name in ("clean", "room", "blank_1", "room_blank_1")] == [
        0,
        25,
        50,
        75,
    ]
    for modality, noise_lines, corruption_lines in asked:
        assert modality != "v" or noise_lines is None
        kinds = {line["kind"] for line in corruption_lines or ()}
        assert kinds <= {"a": {"gaps"}, "v": {"blank", "frozen"}, "av": {"gaps", "blank", "frozen"}}[modality]

    paired = {row["condition"]: row for row in scores["paired"]}
    assert list(paired) == names(conditions) and {(row["a"], row["b"]) for row in paired.values()} == {("A", "AV")}
    assert paired["white_0dB"]["difference"] == 0
    # A sees nothing: with blank lips it has its clean score
    assert paired["blank_1"]["difference"] == pytest.approx(by_condition["blank_1"]["wer"])
    assert scores["protocol"]["noise"].keys() == set(sound) and scores["protocol"]["corruptions"].keys() == {
        *lips,
        "gaps_0.2",
    }
    lines = make_corruption_manifest(ROWS, kind="blank", severity=1, seed=0)
    assert scores["protocol"]["corruptions"]["blank_1"] == corruption_hash(lines)
    noise = make_noise_manifest(ROWS_WITH_SOUND, kind="white", snr_db=0, seed=0)
    assert scores["protocol"]["noise"]["white_0dB"] == noise_hash(noise)

    n_asked = len(asked)
    assert evaluate(*arguments) == scores and len(asked) == n_asked  # what is decoded is kept
    chosen = evaluate(*arguments, pairs=[("V", "AV")])
    assert {(row["a"], row["b"]) for row in chosen["paired"]} == {("V", "AV")} and len(asked) == n_asked
    write_wav(tmp_path / "u0.wav", np.ones(101))
    evaluate(*arguments)
    assert len(asked) == 2 * n_asked - len(measured["V"])  # what was heard is heard anew, lips are the same
    evaluate(*arguments[:4], DecodeConfig(), 1)
    assert len(asked) == 3 * n_asked - len(measured["V"])  # another search


def timed(text, late_s=0.0):
    """A word every 0.2 s."""
    words = enumerate(text.split())
    return [{"text": word, "start_s": 0.2 * i + late_s, "end_s": 0.2 * (i + 1) + late_s} for i, word in words]


def test_seeds_are_pooled_and_new_speakers_and_words_counted_apart(tmp_path, monkeypatch):
    """Texts are there already, so nothing is decoded."""
    monkeypatch.setattr(decodings.Decoding, "kept", lambda *_: True)
    write_wav(tmp_path / "u.wav", np.ones(100))
    rows = [row | {"audio": str(tmp_path / "u.wav"), "speaker": f"s{i // 2}"} for i, row in enumerate(ROWS)]
    for row in rows:
        late = [(word["start_s"], word["end_s"], word["text"]) for word in timed(row["text"], late_s=0.03)]
        write_alignment(tmp_path / f"{row['utt_id']}.json", late)
    write_manifest(tmp_path / "m.jsonl", [row | {"alignment": str(tmp_path / f"{row['utt_id']}.json")} for row in rows])
    write_manifest(tmp_path / "train.jsonl", [rows[0] | {"text": "set red bin now lay at"}])
    texts = [["set red", "bin blue", "now", "lay at c"], ["set set", "bin red", "now now", "lay at b"]]
    for i, said in enumerate(texts):
        lines = [
            {"utt_id": row["utt_id"], "text": text, "words": timed(text)} for row, text in zip(rows, said, strict=True)
        ]
        write_jsonl(tmp_path / f"out/A_clean/hyp_{i}.jsonl", lines)
    monkeypatch.setattr(recognizer, "_facts", lambda system: {})
    systems = [System("A", ("one", "two"), "a")]
    scores = evaluate(
        str(tmp_path / "m.jsonl"),
        systems,
        [Condition()],
        tmp_path / "out",
        DecodeConfig(),
        1,
        [str(tmp_path / "train.jsonl")],
    )
    (row,) = scores["results"]
    assert row["wer"] == pytest.approx(100 * (1 + 3) / 16) and row["each"] == pytest.approx([100 / 8, 300 / 8])
    assert row["word"]["snt"] == 8 and 0 <= row["low"] < row["wer"] < row["high"]
    assert row["new_speakers"]["utterances"] == 2
    assert row["new_speakers"]["wer"] == pytest.approx(100 * (1 + 1) / 8)  # u2 and u3
    assert row["new_words"] == {"said": 4, "missed": pytest.approx(50)}  # blue and b, twice each
    assert row["known_words"] == {"said": 12, "missed": pytest.approx(100 / 12)}
    assert row["word_times"] == {"words": 5 + 3, "median_s": pytest.approx(0.03), "p90_s": pytest.approx(0.03)}
    page = markdown_section(recognizer_section("m", scores | {"systems": {"A": {"parameters": 1, "training": "none"}}}))
    assert "| A | clean | 12.5, 37.5 |" in page and "| 50.0 | 8.3 |" in page
