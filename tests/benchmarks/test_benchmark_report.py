import subprocess
import sys

import numpy as np
import pytest

from avsr.data.manifest import write_manifest
from avsr.files import write_json
from avsr.media.video import write_video
from benchmarks.content import markdown_section
from benchmarks.recognizer_section import recognizer_section
from benchmarks.report import commit_of, manifest_section, results_page, stage_section, write_report


def written(scores):
    return markdown_section(recognizer_section("test", scores))


def test_a_section_says_its_protocol_and_leaves_unmeasured_cells_empty():
    cell = {"wer": 20.0, "low": 15.0, "high": 25.0}
    scores = {
        "protocol": {
            "utterances": 5, "words": 30, "speakers": 2, "source": "rendered", "decoding": "Greedy CTC decoding. ",
            "noise": {"babble_0dB": "ab" * 32},
        },
        "systems": {"A": {"parameters": 2_000_000, "training": "10 steps"}, "V": {"parameters": 1, "training": ""}},
        "results": [
            {"system": "A", "condition": "clean", "kind": None, "snr_db": None, **cell},
            {"system": "A", "condition": "babble_0dB", "kind": "babble", "snr_db": 0.0, **cell},
            {"system": "V", "condition": "clean", "kind": None, "snr_db": None, **cell},
        ],
        "paired": [{"condition": "clean", "a": "A", "b": "AV", "difference": -3.0, "low": -5.0, "high": -1.0}],
        "table": "THE TABLE",
    }  # fmt: skip
    text = written(scores)
    assert "Drawn faces, and in the embedded" in text and "Greedy CTC decoding." in text and "THE TABLE" in text
    assert "| babble | clean | 0 dB |" in text
    assert "| V | 20.0 [15.0, 25.0] |  |" in text and "corruption" not in text
    assert "| condition | AV − A |\n|---|---|\n| clean | -3.0 [-5.0, -1.0] |" in text and "`" + "ab" * 8 + "`" in text
    scores["protocol"]["source"] = "filmed"
    assert "Synthetic" not in written(scores)


def results_of(system, *conditions):
    """Results of `system`: (condition, kind, snr_db, corruption, severity, wer)."""
    keys = ("condition", "kind", "snr_db", "corruption", "severity", "wer")
    return [
        {"system": system, **dict(zip(keys, values, strict=True)), "low": values[-1], "high": values[-1]}
        for values in conditions
    ]


def test_each_noise_kind_has_its_table_and_corruptions_have_two():
    clean = ("clean", None, None, None, None, 1.0)
    noises = [
        ("babble_5dB", "babble", 5.0, None, None, 4.0),
        ("babble_-5dB", "babble", -5.0, None, None, 8.0),
        ("pink_0dB", "pink", 0.0, None, None, 3.0),
        ("reverb", "reverb", None, None, None, 2.0),
    ]
    frozen = ("frozen_1", None, None, "frozen", 1.0, 50.0)
    both = ("pink_0dB_frozen_1", "pink", 0.0, "frozen", 1.0, 60.0)
    scores = {
        "protocol": {
            "utterances": 5, "words": 30, "speakers": 2, "source": "filmed", "decoding": "Greedy CTC decoding.",
            "noise": {}, "corruptions": {"frozen_1": "cd" * 32},
        },
        "systems": {name: {"parameters": 1, "training": ""} for name in ("A", "V", "AV")},
        "results": [
            *results_of("A", clean, *noises), *results_of("V", clean, frozen),
            *results_of("AV", clean, *noises, frozen, both),
        ],
        "paired": [], "table": "",
    }  # fmt: skip
    lines = written(scores).splitlines()
    babble = lines.index("| babble | clean | 5 dB | -5 dB | mean of noisy |")
    assert lines[babble + 2] == "| A | 1.0 [1.0, 1.0] | 4.0 [4.0, 4.0] | 8.0 [8.0, 8.0] | 6.0 |"
    assert lines[babble + 3] == "| V | 1.0 [1.0, 1.0] |  |  |  |"
    assert "| pink | clean | 0 dB |" in lines and "| reverb | clean | no noise |" in lines
    table = lines.index("| corruption | severity | A | V | AV |")
    assert lines[table + 2] == "| none |  | 1.0 [1.0, 1.0] | 1.0 [1.0, 1.0] | 1.0 [1.0, 1.0] |"
    assert lines[table + 3] == "| frozen | 1 share of frames |  | 50.0 [50.0, 50.0] | 50.0 [50.0, 50.0] |"
    table = lines.index("| corruption | severity | noise | A | V | AV |")
    assert lines[table + 2] == "| frozen | 1 share of frames | pink 0 dB |  |  | 60.0 [60.0, 60.0] |"
    assert f"Corruption manifests (sha256): frozen_1 `{'cd' * 8}`." in lines
    assert [picture.name for picture in recognizer_section("test", scores).blocks if picture.kind == "picture"] == [
        "wer_snr_test"
    ]


def test_word_times_are_in_ms_of_who_has_them():
    (row,) = results_of("V", ("clean", None, None, None, None, 1.0))
    scores = {
        "protocol": {"utterances": 5, "words": 30, "speakers": 2, "source": "filmed", "decoding": "", "noise": {}},
        "systems": {"V": {"parameters": 1, "training": ""}}, "paired": [], "table": "",
        "results": [row | {"word_times": {"words": 8, "median_s": 0.0301, "p90_s": 0.12}}],
    }  # fmt: skip
    assert "| system | median ms | 90 % within ms | words |\n|---|---|---|---|\n| V | 30 | 120 | 8 |" in written(scores)


def test_without_noise_there_is_one_column():
    scores = {
        "protocol": {"utterances": 5, "words": 30, "speakers": 2, "source": "filmed", "decoding": "", "noise": {}},
        "systems": {"V": {"parameters": 1, "training": ""}}, "paired": [], "table": "",
        "results": results_of("V", ("clean", None, None, None, None, 1.0)),
    }  # fmt: skip
    assert "| system | clean |\n|---|---|\n| V | 1.0 [1.0, 1.0] |\n" in written(scores)


def test_a_stage_run_again_keeps_its_longest_time(tmp_path):
    (tmp_path / "stages.jsonl").write_text(
        '{"stage": "data", "seconds": 90}\n{"stage": "train", "seconds": 10}\n{"stage": "data", "seconds": 1}\n'
    )
    table = markdown_section(stage_section(tmp_path))
    assert "| data | 90 |" in table and "| together | 100 |" in table
    assert stage_section(tmp_path / "nothing") is None


def test_commit_says_where_files_differ_from_it(tmp_path):
    assert commit_of(tmp_path) == "not a git checkout"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@e"]
    (tmp_path / "file").write_text("one")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    commit = commit_of(tmp_path)
    (tmp_path / "file").write_text("two")
    assert commit_of(tmp_path) == f"{commit} with local changes"


def test_an_empty_folder_is_named(tmp_path):
    command = [sys.executable, "-m", "benchmarks.report", str(tmp_path), "--title", "t", "--command", "c"]
    done = subprocess.run([*command, "--recipe", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2 and "nothing measured yet" in done.stderr


def test_manifests_are_named_by_their_hash(tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test/manifest.jsonl").write_text("")
    section = manifest_section([str(tmp_path / "test/manifest.jsonl"), str(tmp_path / "gone.jsonl")] * 2)
    assert markdown_section(section).splitlines()[2:] == [
        "| manifest | sha256 |", "|---|---|", "| test/manifest.jsonl | e3b0c44298fc1c14 |",
    ]  # fmt: skip
    assert manifest_section([]) is None


@pytest.fixture
def exp(tmp_path):
    """A recognition test with noise, training curves and texts, and a clip."""
    (tmp_path / "u.wav").touch()
    row = {"utt_id": "u", "speaker": "s", "text": "pin", "audio": str(tmp_path / "u.wav"), "duration_s": 1.0}
    write_manifest(tmp_path / "test/manifest.jsonl", [row | {"source": "filmed"}])
    history = [{"valid": {"ter": 0.5 / epoch}} for epoch in (1, 2, 3)]
    write_json(tmp_path / "recognizer_a/done.json", {"seconds": 120.0, "history": history})
    checkpoint = str(tmp_path / "recognizer_a/checkpoint")
    scores = {
        "protocol": {
            "manifest": str(tmp_path / "test/manifest.jsonl"), "utterances": 1, "words": 1, "speakers": 1,
            "source": "filmed", "decoding": "", "noise": {},
        },
        "systems": {"A": {"parameters": 1, "training": "", "checkpoints": [checkpoint]}},
        "results": results_of(
            "A", ("clean", None, None, None, None, 1.0), ("babble_0dB", "babble", 0.0, None, None, 3.0)
        ),
        "paired": [], "table": "|dataset|Err|\n|---|---|\n|a|1.0|\n",
    }  # fmt: skip
    exp = tmp_path / "exp"
    write_json(exp / "recognizer/test/scores.json", scores)
    write_video(exp / "report/demo_clip.mp4", np.zeros((3, 16, 16), np.uint8))
    return exp


def test_one_content_becomes_the_table_and_the_page(exp):
    write_report(results_page(exp, "a & b", {"command": "`run.sh --x <y>`"}), exp)
    said, page = (exp / "RESULTS.md").read_text(), (exp / "report/index.html").read_text()
    assert said.startswith("# RESULTS: a & b\n\n- command: `run.sh --x <y>`\n\n## Recognition: test\n")
    assert "3.0 [3.0, 3.0]" in said and "[3.0, 3.0]</small>" in page and "<td>1.0</td>" in page
    assert "<h1>RESULTS: a &amp; b</h1>" in page and "<code>run.sh --x &lt;y&gt;</code>" in page
    assert page.count('src="data:image/png;base64,') == 2 and page.count('src="data:video/mp4;base64,') == 1
    assert {path.name for path in (exp / "report").iterdir()} == {
        "index.html", "wer_snr_test.png", "training_test.png", "demo_clip.mp4",
    }  # fmt: skip
    assert "demo clip" in page and "demo" not in said
