"""Another system's vertices give the figures that the same motion gives as a manifest; and what users get wrong."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from avsr.data.manifest import read_manifest, write_manifest
from avsr.errors import InputError
from avsr.media.video import read_lips
from avsr.significance import pooled
from benchmarks.entrants import add_entrant_arguments, gather
from benchmarks.measures import Bench
from benchmarks.sequences import Layout, read_vertices
from talking3d.face.mesh_io import write_obj
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate
from talking3d.runtime import Runtime

TURN = np.array([[0.0, 0.0, 1.0], [0.8, 0.6, 0.0], [-0.6, 0.8, 0.0]])


def vertices_of(row):
    face = FaceTemplate.load(row["template"])
    return face.verts.astype(np.float64) + Motion.load(row["motion"]).offsets_for(face)


def write_npy(folder, utt_id, vertices):
    np.save(folder / f"{utt_id}.npy", vertices)


def write_flat_npz(folder, utt_id, vertices):
    np.savez(folder / f"{utt_id}.npz", vertices=vertices.reshape(len(vertices), -1), seed=1)


@pytest.fixture
def sequences(manifests, tmp_path):
    """Writes the motion "near" as a folder: write(folder, utt_id, vertices), of `change`d vertices."""

    def make(write=write_npy, change=lambda vertices: vertices, name="near"):
        folder = tmp_path / "outside"
        folder.mkdir()
        for row in read_manifest(manifests[name]):
            write(folder, row["utt_id"], change(vertices_of(row)))
        return folder

    return make


def gathered(manifests, tmp_path, *options, lips=False):
    parser = argparse.ArgumentParser()
    add_entrant_arguments(parser)
    parser.add_argument("--out", type=Path)
    return gather(parser.parse_args([str(manifests["reference"]), "--out", str(tmp_path / "out"), *options]), lips=lips)


def figures(reference, manifest, tmp_path):
    tallies = Bench(reference, tmp_path / "measured", {}).measure("near", manifest)
    return {key: float(pooled(tally)) for key, tally in tallies.items()}


def one_as_meshes(folder, utt_id, vertices):
    if utt_id != "u1":
        return write_npy(folder, utt_id, vertices)
    (folder / utt_id).mkdir()
    for t, verts in enumerate(vertices):
        write_obj(folder / utt_id / f"frame{t}.obj", verts, np.array([[0, 1, 2]]))  # 10 comes after 9, not after 1


@pytest.mark.parametrize(
    ("write", "options", "change", "accuracy"),
    [
        (write_npy, (), lambda vertices: vertices, 1e-4),
        (write_flat_npz, ("--unit", "mm"), lambda vertices: 1000 * vertices, 1e-4),
        (one_as_meshes, ("--unit", "cm"), lambda vertices: 100 * vertices, 1e-3),
        (write_npy, (), lambda vertices: np.concatenate([vertices, vertices[:3]]), 1e-4),  # is cut
    ],
)
def test_the_same_motion_gives_the_same_figures(manifests, sequences, tmp_path, write, options, change, accuracy):
    folder = sequences(write, change)
    reference, motions = gathered(manifests, tmp_path, "--motion", f"near={folder}", *options)
    assert reference == str(manifests["reference"])
    found, expected = (figures(reference, path, tmp_path) for path in (motions["near"], manifests["near"]))
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=accuracy)


def test_another_rate_is_resampled(manifests, sequences, tmp_path):
    folder = sequences(change=lambda vertices: resample_slowly(vertices, 25, 30))
    _, motions = gathered(manifests, tmp_path, "--motion", f"near={folder}", "--fps", "30")
    for row, own in zip(read_manifest(motions["near"]), read_manifest(manifests["near"]), strict=True):
        assert Motion.load(row["motion"]).n_frames == Motion.load(own["motion"]).n_frames
    with pytest.raises(InputError, match=r"u\d.npy: \d+ frames at 25 fps, and the reference has \d+; .* --fps"):
        gathered(manifests, tmp_path, "--motion", f"near={folder}", "--fps", "60")


def resample_slowly(vertices, fps, new_fps):
    """A value at a time, by np.interp."""
    times = (np.arange(len(vertices)) + 0.5) / fps
    new_times = (np.arange(round(len(vertices) * new_fps / fps)) + 0.5) / new_fps
    flat = vertices.reshape(len(vertices), -1)
    columns = [np.interp(new_times, times, column) for column in flat.T]
    return np.stack(columns, axis=1).reshape(-1, *vertices.shape[1:])


def test_a_mesh_as_template_lays_sequences_that_stand_otherwise(manifests, sequences, tmp_path):
    (row, *_) = read_manifest(manifests["reference"])
    face = FaceTemplate.load(row["template"])
    away = lambda vertices: 100 * (vertices @ TURN.T) + [3, -8, 1]  # noqa: E731
    write_obj(tmp_path / "mesh.obj", away(face.verts.astype(np.float64)), face.faces)
    (tmp_path / "lve.txt").write_text(", ".join(map(str, face.region("lips"))))
    (tmp_path / "fdd.txt").write_text(" ".join(map(str, face.region("upper_face"))))
    (tmp_path / "marks.json").write_text(json.dumps(face.landmarks.tolist()))
    for name in ("reference", "near"):
        folder = sequences(change=away, name=name)
        folder.rename(tmp_path / f"{name}_away")
    rows = [row | {"motion": None, "template": None} for row in read_manifest(manifests["reference"])]
    write_manifest(tmp_path / "bare.jsonl", rows)
    options = ["--template", "mesh.obj", "--lips", "lve.txt", "--upper_face", "fdd.txt", "--landmarks", "marks.json"]
    options = [option if option.startswith("--") else str(tmp_path / option) for option in options]
    truth = ["--unit", "cm", "--truth", str(tmp_path / "reference_away")]
    bare = {"reference": tmp_path / "bare.jsonl"}
    reference, motions = gathered(bare, tmp_path, "--motion", f"near={tmp_path / 'near_away'}", *options, *truth)
    found = figures(reference, motions["near"], tmp_path)
    expected = figures(manifests["reference"], manifests["near"], tmp_path)
    assert found == pytest.approx(expected, rel=2e-3)
    assert read_manifest(reference)[0]["lips"] == rows[0]["lips"]  # the truth keeps the lips that were filmed
    told = json.loads((Path(motions["near"]).parent / "sequences.json").read_text())
    assert told["metres_per_unit"] == pytest.approx(0.01, rel=1e-3)


def test_a_lip_mask_of_the_users(manifests, tmp_path):
    (row, *_) = read_manifest(manifests["reference"])
    lips = FaceTemplate.load(row["template"]).region("lips")[:7]
    (tmp_path / "lve.txt").write_text("\n".join(map(str, lips)))
    options = ["--motion", f"near={manifests['near']}", "--template", row["template"], "--lips"]
    reference, motions = gathered(manifests, tmp_path, *options, str(tmp_path / "lve.txt"))
    bench = Bench(reference, tmp_path / "measured", {})
    assert "over the 7 lip vertices" in bench.protocol(["lve_mm"])["geometry"]
    whole = figures(manifests["reference"], manifests["near"], tmp_path)["lve_mm"]
    assert 0 < pooled(bench.measure("near", motions["near"])["lve_mm"]) < whole


def test_lips_are_drawn_and_nothing_is_done_twice(manifests, sequences, tmp_path):
    folder = sequences()
    Runtime("an abacus", {"u0": 1.0, "u1": 2.0, "u2": 3.0}).save(folder)
    _, motions = gathered(manifests, tmp_path, "--motion", f"near={folder}", lips=True)
    rows = read_manifest(motions["near"], need=("lips", "motion"))
    assert read_lips(rows[0]["lips"]).shape == (Motion.load(rows[0]["motion"]).n_frames, 96, 96)
    assert Runtime.load(Path(rows[0]["motion"]).parent).hardware == "an abacus"
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.mp4")}
    assert len(written) == 3
    assert gathered(manifests, tmp_path, "--motion", f"near={folder}", lips=True)[1] == motions
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.mp4")}
    np.save(folder / "u1.npy", np.load(folder / "u1.npy")[::-1])
    assert gathered(manifests, tmp_path, "--motion", f"near={folder}")[1] != motions  # another place for other motion


def test_utterances_that_are_missing_or_too_many(manifests, sequences, tmp_path):
    folder = sequences()
    (folder / "u1.npy").rename(folder / "v1.npy")
    with pytest.raises(InputError, match=r"'near': .* lacks 1 of the reference's 3 .*\['u1'\] and has 1 .*\['v1'\]"):
        gathered(manifests, tmp_path, "--motion", f"near={folder}")
    np.savez(folder / "v1.npz", np.zeros(3))
    with pytest.raises(InputError, match="has more than one sequence of 'v1': leave one"):
        gathered(manifests, tmp_path, "--motion", f"near={folder}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v[:, 1:], r"u\d.npy holds \(\d+, \d+, 3\) float64; expected numbers \(T, \d+, 3\)"),
        (lambda v: v[:0], r"expected numbers \(T,"),
        (lambda v: np.where(np.arange(len(v))[:, None, None] > 4, np.nan, v), r"NaN .* in \d+ frames, first in 5"),
        (lambda v: 1000 * v, r"its median vertex is .* mm away from .* another unit \(--unit\)"),
        (lambda v: v - v[:1], r"mm away .* offsets in place of vertices"),
        (lambda v: v[:9], r"9 frames at 25 fps, and the reference has \d+"),
    ],
)
def test_what_is_no_sequence_of_this_face(manifests, sequences, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        gathered(manifests, tmp_path, "--motion", f"near={sequences(change=change)}")


def test_files_that_are_no_arrays_or_hold_too_many(tmp_path):
    (tmp_path / "u0.npy").write_text("no array")
    with pytest.raises(InputError, match="u0.npy: not a readable array"):
        read_vertices(tmp_path / "u0.npy", 4)
    np.savez(tmp_path / "u0.npz", a=np.zeros((2, 4, 3)), b=np.zeros(5))
    with pytest.raises(InputError, match=r"holds a \(2, 4, 3\) float64, b \(5,\) float64; .* named 'vertices'"):
        read_vertices(tmp_path / "u0.npz", 4)
    (tmp_path / "u1").mkdir()
    for name, n_verts in (("0", 4), ("1", 5)):
        write_obj(tmp_path / "u1" / f"{name}.obj", np.zeros((n_verts, 3)), np.array([[0, 1, 2]]))
    with pytest.raises(InputError, match=r"u1: meshes of \[4, 5\] vertices; expected 4 each"):
        read_vertices(tmp_path / "u1", 4)


def test_options_that_do_not_go_together(manifests, sequences, tmp_path):
    with pytest.raises(InputError, match="--fps 0: expected frames a second"):
        Layout(fps=0)
    with pytest.raises(InputError, match="--lips names vertices of a mesh: give it with --template"):
        Layout(lips="lve.txt")
    folder = sequences()
    with pytest.raises(InputError, match="has motion of 'u.' already: leave it out"):
        gathered(manifests, tmp_path, "--motion", f"near={folder}", "--truth", str(folder))
    rows = [row | {"motion": None, "template": None} for row in read_manifest(manifests["reference"])]
    write_manifest(tmp_path / "bare.jsonl", rows)
    with pytest.raises(InputError, match="the reference names no template for it; give one for all with --template"):
        gathered({"reference": tmp_path / "bare.jsonl"}, tmp_path, "--motion", f"near={folder}")
