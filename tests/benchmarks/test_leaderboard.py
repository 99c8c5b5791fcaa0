"""A row a system, joined with others' rows where, and only where, they were measured alike."""

import copy
import json
import sys

import numpy as np
import pytest

from avsr.data.manifest import read_manifest
from avsr.errors import InputError
from benchmarks import generator, leaderboard
from benchmarks.generator import evaluate
from benchmarks.leaderboard import entries, joined, leaderboard_section, read_leaderboard, write_leaderboard
from benchmarks.measures import Bench
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate


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


def test_from_the_command_line_with_sequences_of_another_system(manifests, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "outside"
    folder.mkdir()
    for row in read_manifest(manifests["far"]):
        face = FaceTemplate.load(row["template"])
        np.save(folder / f"{row['utt_id']}.npy", 1e3 * (face.verts + Motion.load(row["motion"]).offsets_for(face)))
    motions = ["--motion", f"far={manifests['far']}", "--motion", f"outside={folder}", "--unit", "mm"]
    out = ["--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["generator", str(manifests["reference"]), *motions, *out])
    generator.main()
    found = {entry["system"]: entry for entry in read_leaderboard(tmp_path / "out" / "leaderboard.json")}
    far, outside = (found[name]["measures"] for name in ("far", "outside"))
    assert outside.keys() == far.keys()
    assert outside["lve_mm"] == pytest.approx(far["lve_mm"], rel=1e-4)
    assert found["far"]["sequences"] is None and found["outside"]["sequences"]["unit"] == "mm"
    table = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "from sequences at 25 fps, 1 unit 0.001 m" in table
    board = str(tmp_path / "out" / "leaderboard.json")
    monkeypatch.setattr(sys, "argv", ["leaderboard", board, board, "--out", str(tmp_path / "joined")])
    leaderboard.main()
    assert (tmp_path / "joined" / "leaderboard.md").read_text() == table
