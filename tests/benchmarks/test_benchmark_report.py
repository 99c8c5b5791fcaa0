import json
import subprocess
import sys

from benchmarks.plots import plot_recognizer, plot_training
from benchmarks.recognizer_section import recognizer_section, with_interval
from benchmarks.report import commit_of, stage_table


def test_a_cell_carries_its_interval():
    assert with_interval({"wer": 12.345, "low": 10.0, "high": 15.0}) == "12.3 [10.0, 15.0]"


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
    text = recognizer_section("test", scores)
    assert "Synthetic speech and faces" in text and "Greedy CTC decoding." in text and "THE TABLE" in text
    assert "| babble | clean | 0 dB |" in text
    assert "| V | 20.0 [15.0, 25.0] |  |" in text and "corruption" not in text
    assert "AV − A = -3.0 | [-5.0, -1.0]" in text and "`" + "ab" * 8 + "`" in text
    scores["protocol"]["source"] = "filmed"
    assert "Synthetic" not in recognizer_section("test", scores)


def results_of(system, *conditions):
    """Results of `system`: (condition, kind, snr_db, corruption, severity, wer)."""
    keys = ("condition", "kind", "snr_db", "corruption", "severity", "wer")
    return [
        {"system": system, **dict(zip(keys, values, strict=True)), "low": values[-1], "high": values[-1]}
        for values in conditions
    ]


def test_each_noise_kind_has_its_table_and_corruptions_have_one(tmp_path):
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
    lines = recognizer_section("test", scores).splitlines()
    babble = lines.index("| babble | clean | 5 dB | -5 dB | mean of noisy |")
    assert lines[babble + 2] == "| A | 1.0 [1.0, 1.0] | 4.0 [4.0, 4.0] | 8.0 [8.0, 8.0] | 6.0 |"
    assert lines[babble + 3] == "| V | 1.0 [1.0, 1.0] |  |  |  |"
    assert "| pink | clean | 0 dB |" in lines and "| reverb | clean | no noise |" in lines
    table = lines.index("| corruption | severity | noise | A | V | AV |")
    assert lines[table + 2] == "| none |  |  | 1.0 [1.0, 1.0] | 1.0 [1.0, 1.0] | 1.0 [1.0, 1.0] |"
    assert lines[table + 3] == "| frozen | 1 share of frames |  |  | 50.0 [50.0, 50.0] | 50.0 [50.0, 50.0] |"
    assert lines[table + 4] == "| frozen | 1 share of frames | pink 0 dB |  |  | 60.0 [60.0, 60.0] |"
    assert f"Corruption manifests (sha256): frozen_1 `{'cd' * 8}`." in lines
    plot_recognizer("test", scores, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_without_noise_there_is_one_column():
    scores = {
        "protocol": {"utterances": 5, "words": 30, "speakers": 2, "source": "filmed", "decoding": "", "noise": {}},
        "systems": {"V": {"parameters": 1, "training": ""}}, "paired": [], "table": "",
        "results": results_of("V", ("clean", None, None, None, None, 1.0)),
    }  # fmt: skip
    assert "| system | clean |\n|---|---|\n| V | 1.0 [1.0, 1.0] |\n" in recognizer_section("test", scores)


def test_a_stage_run_again_keeps_its_longest_time(tmp_path):
    (tmp_path / "stages.jsonl").write_text(
        '{"stage": "data", "seconds": 90}\n{"stage": "train", "seconds": 10}\n{"stage": "data", "seconds": 1}\n'
    )
    assert "| data | 90 |" in stage_table(tmp_path) and "| together | 100 |" in stage_table(tmp_path)
    assert stage_table(tmp_path / "nothing") == ""


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


def test_training_curves_are_drawn_of_what_is_recorded(tmp_path):
    scores = {"systems": {"A": {"checkpoints": [str(tmp_path / f"{i}/checkpoint") for i in range(3)]}}}
    plot_training(scores, tmp_path / "training.png")
    assert not (tmp_path / "training.png").exists()
    for i in range(2):
        history = [{"valid": {"ter": 0.5 / epoch}} for epoch in (1, 2, 3)]
        (tmp_path / f"{i}").mkdir()
        (tmp_path / f"{i}/done.json").write_text(json.dumps({"seconds": 120.0, "history": history}))
    plot_training(scores, tmp_path / "training.png")
    assert (tmp_path / "training.png").stat().st_size > 5_000
