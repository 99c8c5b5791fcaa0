import subprocess
import sys

from benchmarks.report import commit_of, recognizer_section, stage_table, with_interval


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
            {"system": "A", "condition": "clean", **cell}, {"system": "A", "condition": "babble_0dB", **cell},
            {"system": "V", "condition": "clean", **cell},
        ],
        "paired": [{"condition": "clean", "a": "A", "b": "AV", "difference": -3.0, "low": -5.0, "high": -1.0}],
        "table": "THE TABLE",
    }  # fmt: skip
    text = recognizer_section("test", scores)
    assert "Synthetic speech and faces" in text and "Greedy CTC decoding." in text and "THE TABLE" in text
    assert "| V | 20.0 [15.0, 25.0] |  |" in text
    assert "AV − A = -3.0 | [-5.0, -1.0]" in text and "`" + "ab" * 8 + "`" in text
    scores["protocol"]["source"] = "filmed"
    assert "Synthetic" not in recognizer_section("test", scores)


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
