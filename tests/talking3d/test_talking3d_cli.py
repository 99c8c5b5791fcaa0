"""The command line from end to end on the tiny corpus, and one line on stderr for each mistake."""

import json

import numpy as np
import pytest

from avsr.data.manifest import read_manifest
from avsr.media.video import read_lips
from talking3d.cli import main
from talking3d.face.mesh_io import write_obj
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face
from talking3d.face.template import FaceTemplate
from talking3d.models.audio2mesh import Audio2Mesh
from talking3d.runtime import Runtime

CONFIG = """
model: audio2mesh
out: {out}
data: {{train: [{manifest}], valid: [{manifest}], max_utts: 5, perturb: {{share: 0.0}}}}
audio2mesh:
  style_drop: 0.5
  encoder: {{dim: 16, layers: 1, heads: 2, ff_dim: 32, kernel: 5, dropout: 0.0, freq_mask_bins: 0, time_masks: 0}}
trainer: {{max_epochs: 2, lr: 1.0e-2, average_last: 1, num_threads: 1, log_every_steps: 1000}}
"""


@pytest.fixture(scope="module")
def config(spoken, tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    (folder / "tiny.yaml").write_text(CONFIG.format(out=folder / "exp", manifest=spoken))
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def checkpoint(config):
    """Trained by the command line."""
    assert main(["train", str(config), "trainer.max_epochs=25"]) == 0
    return config.parent / "exp" / "checkpoint"


def test_training_leaves_a_student_that_learned(checkpoint):
    done = json.loads((checkpoint.parent / "done.json").read_text())
    assert done["epochs"] == 25
    model = Audio2Mesh.from_pretrained(checkpoint)
    assert model.speakers == ["ann", "bob"]
    assert "trained on" in (checkpoint / "README.md").read_text()


def test_animate_prints_the_student_it_uses(checkpoint, spoken_rows, tmp_path, capsys, monkeypatch):
    out = tmp_path / "motion.npz"
    monkeypatch.setenv("LIPLOOP_AUDIO2MESH", str(checkpoint))
    assert main(["animate", spoken_rows[0]["audio"], "--out", str(out), "--style", "bob"]) == 0
    captured = capsys.readouterr()
    assert f"student: {checkpoint}" in captured.err
    assert captured.out.strip() == str(out)
    assert Motion.load(out).n_frames == 25


def test_animate_in_the_style_of_clips(checkpoint, spoken_rows, tmp_path):
    speech, clips = spoken_rows[0]["audio"], spoken_rows[1:3]
    assert main(["animate", speech, "--out", str(tmp_path / "plain.npz"), "--checkpoint", str(checkpoint)]) == 0
    options = ["--style_clip", *(row["motion"] for row in clips), "--style_audio", *(row["audio"] for row in clips)]
    assert main(["animate", speech, "--out", str(tmp_path / "own.npz"), "--checkpoint", str(checkpoint), *options]) == 0
    plain, own = (Motion.load(tmp_path / f"{name}.npz") for name in ("plain", "own"))
    assert own.n_frames == plain.n_frames and not np.allclose(own.coefficients, plain.coefficients)


def test_predict_moves_other_faces_where_they_are_given(checkpoint, spoken, spoken_rows, tmp_path, capsys):
    face = FaceTemplate.load(spoken_rows[0]["template"])
    for speaker in {row["speaker"] for row in spoken_rows}:
        face.save(tmp_path / "faces" / f"{speaker}.npz")
    arguments = ["predict", str(spoken), "--checkpoint", str(checkpoint), "--motion", "static"]
    for given in (tmp_path / "faces", tmp_path / "faces" / "ann.npz"):
        assert main([*arguments, "--template", str(given), "--out", str(tmp_path / given.stem)]) == 0
        rows = read_manifest(tmp_path / given.stem / "manifest.jsonl", need=("template",))
        expected = {str(given / f"{row['speaker']}.npz") if given.is_dir() else str(given) for row in rows}
        assert {row["template"] for row in rows} == expected
    (tmp_path / "faces" / "ann.npz").unlink()
    assert main([*arguments, "--template", str(tmp_path / "faces"), "--out", str(tmp_path / "none")]) == 2
    assert "no face" in capsys.readouterr().err


@pytest.mark.parametrize("motion", ["student", "mean", "shuffled", "static"])
def test_predict_writes_motion_for_a_whole_manifest(checkpoint, spoken, spoken_rows, tmp_path, motion):
    arguments = ["--checkpoint", str(checkpoint), "--out", str(tmp_path), "--motion", motion, "--seed", "3"]
    assert main(["predict", str(spoken), *arguments]) == 0
    rows = read_manifest(tmp_path / "manifest.jsonl", need=("motion", "template"))
    assert [row["utt_id"] for row in rows] == [row["utt_id"] for row in spoken_rows]
    assert {row["generator"] for row in rows} == {"audio2mesh" if motion == "student" else f"audio2mesh-{motion}"}
    for row, source in zip(rows, spoken_rows, strict=True):
        assert Motion.load(row["motion"]).n_frames == Motion.load(source["motion"]).n_frames
    runtime = Runtime.load(tmp_path / "motion")
    assert (runtime is not None) == (motion == "student")
    if runtime is not None:
        assert runtime.seconds.keys() == {row["utt_id"] for row in rows} and "thread" in runtime.hardware
        assert all(0 < seconds < 60 for seconds in runtime.seconds.values())


def test_controls_differ_as_they_should(checkpoint, spoken, spoken_rows, tmp_path, tiny_face):
    errors, sways = {}, {}
    for motion in ("student", "mean", "shuffled", "static"):
        arguments = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / motion), "--motion", motion]
        assert main(["predict", str(spoken), *arguments]) == 0
        rows = read_manifest(tmp_path / motion / "manifest.jsonl", need=("motion",))
        loaded = [Motion.load(row["motion"]) for row in rows]
        offsets = [m.offsets_for(tiny_face) for m in loaded]
        truths = [Motion.load(row["motion"]).offsets_for(tiny_face) for row in spoken_rows]
        errors[motion] = np.mean([np.abs(o - t).mean() for o, t in zip(offsets, truths, strict=True)])
        if motion == "static":
            assert not any(o.any() for o in offsets)
        if motion == "mean":
            assert all(np.allclose(o, offsets[0][:1], atol=1e-7) for o in offsets)
        sways[motion] = np.concatenate([m.head_pose for m in loaded])
        np.testing.assert_array_equal(sways[motion], sways["student"])
    assert errors["student"] < 0.6 * errors["mean"]
    assert errors["shuffled"] > 1.5 * errors["student"]


def test_rows_without_a_face_get_the_students(checkpoint, spoken_rows, tmp_path):
    lines = [{"utt_id": "a", "audio": spoken_rows[0]["audio"], "duration_s": 1.0, "source": "filmed", "speaker": "eve"}]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "out"
    assert main(["predict", str(tmp_path / "manifest.jsonl"), "--checkpoint", str(checkpoint), "--out", str(out)]) == 0
    (row,) = read_manifest(out / "manifest.jsonl", need=("motion", "template"))
    assert row["template"] == str(out / "template.npz")


def _drawable(folder, generators):
    """A manifest of motion of the procedural face, three frames each."""
    face = procedural_face()
    face.save(folder / "face.npz")
    lines = []
    for i, generator in enumerate(generators):
        Motion.of_template(face, 25, coefficients=np.full((3, 16), 0.1 * i)).save(folder / f"{i}.npz")
        line = {"utt_id": str(i), "audio": "a.wav", "motion": f"{i}.npz", "template": "face.npz", "duration_s": 0.12}
        lines.append(line | ({} if generator is None else {"generator": generator}))
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "manifest.jsonl"


def test_draw_makes_lip_crops(tmp_path):
    manifest = _drawable(tmp_path, ["audio2mesh", "audio2mesh"])
    assert main(["draw", str(manifest), "--out", str(tmp_path / "drawn"), "--look", "plain"]) == 0
    assert json.loads((tmp_path / "drawn" / "settings.json").read_text())["look"] == "plain"
    rows = read_manifest(tmp_path / "drawn" / "manifest.jsonl", need=("lips",))
    assert {(row["generator"], row["source"]) for row in rows} == {("audio2mesh", "rendered")}
    assert read_lips(rows[0]["lips"]).shape == (3, 96, 96)


def test_draw_refuses_a_mixture(tmp_path, capsys):
    manifest = _drawable(tmp_path, ["audio2mesh", "audio2mesh-mean"])
    assert main(["draw", str(manifest), "--out", str(tmp_path / "drawn")]) == 2
    assert "mixes motion of audio2mesh, audio2mesh-mean" in capsys.readouterr().err


def _open_head(tmp_path):
    """The procedural skin, open at mouth and eyes, as an .obj in centimetres."""
    face = procedural_face()
    hidden = np.zeros(len(face.verts), bool)
    for name in ("mouth_interior", "hair", "shirt", "ears", "eyes"):
        hidden[face.region(name)] = True
    write_obj(tmp_path / "head.obj", 100 * face.verts, face.faces[~hidden[face.faces].any(axis=1)])
    return tmp_path / "head.obj"


def test_a_mesh_becomes_a_template_that_motion_is_carried_to(tmp_path, capsys):
    _drawable(tmp_path, [None])
    arguments = ["template", "mesh", str(_open_head(tmp_path)), "--unit", "cm", "--out", str(tmp_path / "head.npz")]
    assert main([*arguments, "--interior"]) == 0
    head = FaceTemplate.load(tmp_path / "head.npz")
    assert head.name == "head" and "teeth_upper" in head.regions
    out = tmp_path / "carried.npz"
    files = [str(tmp_path / "0.npz"), "--from", str(tmp_path / "face.npz"), "--to", str(tmp_path / "head.npz")]
    assert main(["transfer", *files, "--out", str(out)]) == 0
    assert Motion.load(out).offsets_for(head).shape == (3, len(head.verts), 3)
    printed = capsys.readouterr()
    assert printed.out.split()[-1] == str(out)
    assert "clone: lip gap off by 0.00 mm" in printed.err and "there and back" in printed.err


def test_render_draws_a_motion_file(tmp_path):
    _drawable(tmp_path, [None])
    out = tmp_path / "lips.mp4"
    assert main(["render", str(tmp_path / "0.npz"), "--out", str(out), "--view", "lips"]) == 0
    assert out.stat().st_size > 0


def test_sheet_and_compare_draw_motion_files(tmp_path):
    _drawable(tmp_path, [None, None])
    zero, one = str(tmp_path / "0.npz"), str(tmp_path / "1.npz")
    assert main(["sheet", zero, "--out", str(tmp_path / "s.png"), "--times", "0", "0.08", "--view", "lips"]) == 0
    arguments = ["--labels", "none", "some", "--size", "64", "--out", str(tmp_path / "c.mp4")]
    assert main(["compare", zero, one, *arguments]) == 0
    assert (tmp_path / "s.png").stat().st_size > 0 and (tmp_path / "c.mp4").stat().st_size > 0


def test_biwis_published_lists_become_the_regions_that_metrics_look_at(shared, tmp_path):
    lists = [
        f"--{region}={shared / 'biwi' / name}" for region, name in (("lips", "lve.txt"), ("upper_face", "fdd.txt"))
    ]
    assert main(["template", "mesh", str(shared / "biwi" / "BIWI.ply"), *lists, "--out", str(tmp_path / "b.npz")]) == 0
    face = FaceTemplate.load(tmp_path / "b.npz")
    assert (len(face.verts), len(face.region("lips")), len(face.region("upper_face"))) == (23370, 4996, 7784)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["animate", "absent.wav", "--out", "x.npz"], "absent.wav: no such audio file"),
        (["animate", "absent.wav", "--out", "x.gif"], "cannot write '.gif'; use .mp4 or .npz"),
        (["render", "absent.npz", "--out", "x.mp4"], "absent.npz"),
        (["sheet", "absent.npz", "--out", "x.png"], "absent.npz"),
        (["compare", "absent.npz", "--out", "x.mp4"], "absent.npz"),
        (["train", "absent.yaml"], "absent.yaml: no such config file"),
        (["predict", "absent.jsonl", "--out", "x"], "absent.jsonl"),
        (["draw", "absent.jsonl", "--out", "x"], "absent.jsonl"),
        (["template", "ict", "absent", "--out", "x"], "absent holds no generic_neutral_mesh.obj"),
        (["template", "flame", "absent.pkl", "--out", "x"], "absent.pkl: no such file"),
        (["template", "mesh", "absent.ply", "--out", "x"], "mesh absent.ply: no such file"),
        (["transfer", "absent.npz", "--to", "b.npz", "--out", "x"], "absent.npz: no such file"),
    ],
)
def test_mistakes_are_one_line_and_status_2(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIPLOOP_AUDIO2MESH", str(tmp_path / "nothing"))
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ") and message in lines[-1]
    assert not any("Traceback" in line for line in lines)
    assert not list(tmp_path.iterdir())


def test_an_unknown_model_is_an_error(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("model: audio2mash\n")
    assert main(["train", str(tmp_path / "c.yaml")]) == 2
    assert "model is 'audio2mash'; expected audio2mesh" in capsys.readouterr().err


def test_a_misspelt_key_is_an_error(config, capsys):
    assert main(["train", str(config), "audio2mesh.lip_wieght=3"]) == 2
    assert "lip_weight" in capsys.readouterr().err
