"""A row a system, joined with others' rows where, and only where, they were measured alike."""

import copy
import json

import pytest

from avsr.errors import InputError
from benchmarks.generator import evaluate
from benchmarks.leaderboard import entries, joined, leaderboard_section, read_leaderboard, write_leaderboard
from benchmarks.measures import Bench


def board(manifests, out, *names):
    bench = Bench(manifests["reference"], out, {"V": "exp/reader/checkpoint"})
    return entries(evaluate(bench, {name: manifests[name] for name in names}))


def test_rows_have_their_figures_and_what_lies_behind_them(manifests, reader, tmp_path):
    found = board(manifests, tmp_path / "out", "near", "far")
    assert [entry["system"] for entry in found] == ["reference", "near", "far"]
    near, far = found[1:]
    assert near["measures"]["lve_mm"]["value"] < far["measures"]["lve_mm"]["value"]
    for entry in (near, far):
        assert all(of["low"] <= of["value"] <= of["high"] for of in entry["measures"].values())
        assert {"lve_mm", "wer:V", "ver:V", "slcc"} <= entry["measures"].keys()
    assert len(near["reference"]["sha256"]) == 64 and near["judges"]["readers"].keys() == {"V"}
    write_leaderboard(tmp_path / "out", found)
    assert read_leaderboard(tmp_path / "out" / "leaderboard.json") == json.loads(json.dumps(found))
    table = (tmp_path / "out" / "leaderboard.md").read_text()
    value = "{value:.2f} [{low:.2f}, {high:.2f}]".format(**far["measures"]["lve_mm"])
    assert f"| far | {value} |" in table and "WER read by V (lower)" in table and near["commit"] in table
    assert "LVE: per frame the largest distance over the 540 lip vertices" in table


def test_systems_measured_apart_are_joined(manifests, reader, tmp_path):
    together = board(manifests, tmp_path / "both", "near", "far")
    apart = [(name, board(manifests, tmp_path / name, name)) for name in ("near", "far")]
    assert leaderboard_section(joined(apart)) == leaderboard_section(together)


def test_what_was_measured_otherwise_is_not_joined(manifests, reader, tmp_path):
    near = board(manifests, tmp_path / "out", "near")

    def other(path, value):
        changed = copy.deepcopy(near)
        for entry in changed:
            place = entry
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
        return [("a.json", near), ("b.json", changed)]

    with pytest.raises(InputError, match="b.json: 'reference' was measured on another reference than a.json's"):
        joined(other(("reference", "sha256"), "0" * 64))
    with pytest.raises(InputError, match="b.json: the reader 'V' is another checkpoint"):
        joined(other(("judges", "readers", "V"), "0" * 64))
    with pytest.raises(InputError, match="b.json: a second 'reference' with other figures"):
        joined(other(("measures", "lve_mm", "value"), 1.0))
    judged = other(("judges", "judge"), "1" * 64)[1]
    with pytest.raises(InputError, match="was judged by another SyncNet3D"):
        joined([judged, ("c.json", other(("judges", "judge"), "2" * 64)[1][1])])


def test_a_file_that_is_no_leaderboard(tmp_path):
    with pytest.raises(InputError, match="absent.json: no leaderboard"):
        read_leaderboard(tmp_path / "absent.json")
    (tmp_path / "b.json").write_text('[{"system": "near"}]')
    with pytest.raises(InputError, match="b.json: expected a list of entries with system, reference"):
        read_leaderboard(tmp_path / "b.json")
