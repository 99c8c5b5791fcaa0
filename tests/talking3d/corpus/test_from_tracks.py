import json
import pickle

import numpy as np
import pytest
from filmed import film, talk

from avsr.data.manifest import read_manifest, write_manifest
from avsr.errors import InputError
from avsr.media.audio import write_wav
from avsr.media.timing import FPS, samples_of
from avsr.media.video import read_frames, write_video
from talking3d.cli import main
from talking3d.corpus.from_tracks import track_manifest
from talking3d.face.flame import JAW_ANGLE, load_flame
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face
from talking3d.face.template import FaceTemplate

N_FRAMES = 60


@pytest.fixture(scope="module")
def flame(flame_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flame")
    (folder / "model.pkl").write_bytes(pickle.dumps(flame_model, protocol=2))
    load_flame(folder / "model.pkl").save(folder / "flame.npz")
    return folder / "flame.npz"


def track_of(opening: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """A fit as SMIRK returns it, of a jaw that opens (T,) radians."""
    rng, n_frames = np.random.default_rng(seed), len(opening)
    jaw = np.stack([opening, np.zeros(n_frames), np.zeros(n_frames)], axis=1)
    return {
        "shape_params": np.tile(0.3 * rng.standard_normal(300), (n_frames, 1)),
        "expression_params": 0.05 * rng.standard_normal((n_frames, 50)),
        "pose_params": np.tile([0.0, 0.1, 0.0], (n_frames, 1)),
        "jaw_params": jaw,
        "eyelid_params": np.zeros((n_frames, 2)),
    }


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """A manifest of two speakers with landmarks, and a tracker's fits of the same jaws at 30 fps."""
    folder = tmp_path_factory.mktemp("filmed")
    rows, own = [], procedural_face()
    (folder / "fits").mkdir()
    for seed, utt_id in enumerate(("ann0", "ann1", "bob0")):
        coefficients = talk(own, np.random.default_rng(seed), N_FRAMES)
        jaw = coefficients[:, own.articulation_names.index("jaw_open")]
        film(own, coefficients).save(folder / f"{utt_id}.marks.npz")
        write_wav(folder / f"{utt_id}.wav", 0.1 * np.random.default_rng(seed).standard_normal(samples_of(N_FRAMES)))
        write_video(folder / f"{utt_id}.mp4", np.full((N_FRAMES, 288, 360, 3), 90, np.uint8))
        at_30 = np.interp((np.arange(72) + 0.5) / 30, (np.arange(N_FRAMES) + 0.5) / FPS, jaw)
        np.savez(folder / "fits" / f"{utt_id}.npz", **track_of(JAW_ANGLE * at_30, seed))
        files = {"audio": "wav", "video": "mp4", "landmarks": "marks.npz"}
        paths = {field: str(folder / f"{utt_id}.{suffix}") for field, suffix in files.items()}
        row = {"utt_id": utt_id, "speaker": utt_id[:3], "text": "a", "duration_s": 2.4, "source": "filmed"}
        rows.append(row | paths)
    write_manifest(folder / "manifest.jsonl", rows)
    return folder


@pytest.fixture
def rows(filmed):
    return read_manifest(filmed / "manifest.jsonl")


def test_a_corpus_of_what_a_tracker_found(filmed, flame, tmp_path):
    command = ["fit", str(filmed / "manifest.jsonl"), "--out", str(tmp_path / "out"), "--template", str(flame)]
    assert main([*command, "--fits", str(filmed / "fits"), "--fps", "30"]) == 0
    made = read_manifest(tmp_path / "out" / "manifest.jsonl", need=("audio", "motion", "template", "landmarks"))
    assert [(row["utt_id"], row["generator"]) for row in made] == [(name, "track") for name in ("ann0", "ann1", "bob0")]
    ann, ann_too, bob = (FaceTemplate.load(row["template"]) for row in made)
    assert ann.name == "ann" and np.array_equal(ann.verts, ann_too.verts) and np.abs(ann.verts - bob.verts).max() > 1e-5
    for row, template in zip(made, (ann, ann, bob), strict=True):
        motion = Motion.load(row["motion"])
        assert motion.n_frames == N_FRAMES and motion.fps == FPS
        motion.offsets_for(template)
        np.testing.assert_allclose(motion.head_pose, np.tile([0, 0.1, 0, 0, 0, 0], (N_FRAMES, 1)), atol=1e-6)
        own = procedural_face()
        jaw = talk(own, np.random.default_rng(made.index(row)), N_FRAMES)[:, own.articulation_names.index("jaw_open")]
        found = motion.coefficients[:, ann.articulation_names.index("jaw_open")]
        assert np.abs(found - jaw).max() < 0.08  # twice interpolated
    quality = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert quality["summary"]["clips"] == 3 and quality["summary"]["opening_r_median"] > 0.9
    assert quality["clips"][0]["lip_error"] is None and "lip_error_median" not in quality["summary"]
    assert "landmarks off" not in (tmp_path / "out" / "quality.md").read_text()
    assert read_frames(tmp_path / "out" / "pictures" / "side_by_side.mp4").shape == (N_FRAMES, 256, 512, 3)


def test_clips_whose_fit_cannot_be_used_are_dropped_with_the_reason(filmed, flame, rows, tmp_path):
    fits = tmp_path / "fits"
    fits.mkdir()
    whole = dict(np.load(filmed / "fits" / "ann0.npz"))
    np.savez(fits / "ann0.npz", **whole)
    np.savez(fits / "bob0.npz", **{key: value for key, value in whole.items() if key != "jaw_params"})
    bare = [{**row, "landmarks": None} for row in rows]
    made = track_manifest(bare, fits, tmp_path / "out", flame, fps=30)
    assert [row["utt_id"] for row in read_manifest(made)] == ["ann0"]
    dropped = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert [row["utt_id"] for row in dropped] == ["ann1", "bob0"]
    assert "has no file of it; expected one of ann1.npz, .npy, .pkl, .pt" in dropped[0]["reason"]
    assert "but no jaw_params" in dropped[1]["reason"]
    assert not (tmp_path / "out" / "pictures").exists()
    np.save(fits / "ann0.npy", whole, allow_pickle=True)
    with pytest.raises(InputError, match="none of 2 clips can be fitted; the first: ann0: .* has 2 files of it"):
        track_manifest([bare[0], bare[2]], fits, tmp_path / "twice", flame, fps=30)


def test_mistakes_are_said(filmed, flame, rows, tmp_path, capsys):
    fits = filmed / "fits"
    with pytest.raises(InputError, match=r"72 frames at 25 fps last 2\.88 s, its sound 2\.40 s: give .* with --fps"):
        track_manifest(rows[:1], fits, tmp_path / "a", flame)
    with pytest.raises(InputError, match="--fps 0: expected frames a second, 1 to 1000"):
        track_manifest(rows, fits, tmp_path / "b", flame, fps=0)
    with pytest.raises(InputError, match="'procedural' lacks expression_000"):
        track_manifest(rows, fits, tmp_path / "c", "procedural")
    track_manifest(rows[:1], fits, tmp_path / "d", flame, fps=30)
    with pytest.raises(InputError, match="choose another folder"):
        track_manifest(rows[:1], fits, tmp_path / "d", flame, fps=29.97)
    command = ["fit", str(filmed / "manifest.jsonl"), "--out", str(tmp_path / "e")]
    assert main([*command, "--fps", "30"]) == 2
    assert "--fps is the rate of --fits" in capsys.readouterr().err
    assert main([*command, "--fits", str(fits), "--speakers", str(fits)]) == 2
    assert "--landmarks and --speakers are of fits to landmarks" in capsys.readouterr().err
