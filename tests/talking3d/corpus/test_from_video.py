import json

import numpy as np
import pytest
from filmed import film, talk

from avsr.data import prepare
from avsr.data.alignment import write_alignment
from avsr.data.manifest import read_manifest, write_manifest
from avsr.errors import InputError
from avsr.media.audio import read_audio, write_wav
from avsr.media.landmarks import Landmarks, detect_landmarks
from avsr.media.timing import FPS, samples_of
from avsr.media.video import read_frames, write_video
from talking3d.cli import main
from talking3d.corpus.from_video import fit_manifest
from talking3d.corpus.motion_dataset import MotionDataConfig, collate, student_data
from talking3d.face.landmark_fit import Tracked, fit_clip, fit_talker
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face, random_identity
from talking3d.face.regions import lip_aperture_mm, lip_width_mm
from talking3d.face.template import FaceTemplate

N_FRAMES = 75


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A manifest as `avsr prepare` leaves it: two speakers, two clips each, a pause of the lips as a bilabial."""
    folder = tmp_path_factory.mktemp("prepared")
    rows = []
    for name, seed in (("ann", 1), ("bob", 2)):
        rng = np.random.default_rng(seed)
        face = random_identity(rng)
        for i in range(2):
            utt_id = f"{name}{i}"
            film(face, talk(face, rng, N_FRAMES), rng).save(folder / "landmarks" / f"{utt_id}.npz")
            waveform = 0.1 * rng.standard_normal(samples_of(N_FRAMES))
            write_wav(folder / "audio" / f"{utt_id}.wav", waveform.astype(np.float32))
            write_alignment(folder / "alignment" / f"{utt_id}.json", [(0.1, 0.4, "am")], [(0.2, 0.4, "m")])
            write_video(folder / "video" / f"{utt_id}.mp4", np.full((N_FRAMES, 288, 360, 3), 90 + seed, np.uint8))
            files = {"audio": "wav", "landmarks": "npz", "alignment": "json", "video": "mp4"}
            paths = {field: str(folder / field / f"{utt_id}.{suffix}") for field, suffix in files.items()}
            rows.append(
                {"utt_id": utt_id, "speaker": name, "text": "am", "duration_s": 3.0, "source": "filmed", **paths}
            )
    write_manifest(folder / "manifest.jsonl", rows)
    return folder / "manifest.jsonl"


@pytest.fixture
def rows(prepared):
    return read_manifest(prepared)


@pytest.fixture(scope="module")
def fitted(prepared, tmp_path_factory):
    out = tmp_path_factory.mktemp("fitted")
    assert main(["fit", str(prepared), "--out", str(out)]) == 0
    return out


def test_the_corpus_has_what_a_manifest_of_motion_has(fitted, rows):
    made = read_manifest(fitted / "manifest.jsonl", need=("audio", "motion", "template", "landmarks", "alignment"))
    assert [row["utt_id"] for row in made] == ["ann0", "ann1", "bob0", "bob1"]
    assert all(row["generator"] == "fit" and row["source"] == "filmed" for row in made)
    assert [row["text"] for row in made] == [row["text"] for row in rows]
    motion = Motion.load(made[0]["motion"])
    assert motion.n_frames == N_FRAMES and motion.head_pose.shape == (N_FRAMES, 6) and motion.fps == FPS
    ann, bob = (FaceTemplate.load(made[i]["template"]) for i in (0, 2))
    assert (ann.name, bob.name) == ("ann", "bob") and np.abs(ann.verts - bob.verts).max() > 1e-3
    motion.offsets_for(ann)
    with np.load(fitted / "fits" / "ann0.npz") as tracks:
        assert set(tracks.files) == {"confidence", "points", "lip_error", "camera"}
        assert tracks["points"].shape == (N_FRAMES, 68, 2)
        off = np.linalg.norm(tracks["points"] - Landmarks.load(rows[0]["landmarks"]).points, axis=-1)
    assert np.median(off) < 1.0
    assert (fitted / "dropped.jsonl").read_text() == ""


def test_quality_and_pictures_are_there(fitted):
    quality = json.loads((fitted / "quality.json").read_text())
    assert quality["summary"]["clips"] == 4 and len(quality["clips"]) == 4
    assert 0 < quality["summary"]["lip_error_median"] < 0.02 and quality["summary"]["opening_r_median"] > 0.95
    assert quality["summary"]["bilabials"] == 4 and quality["summary"]["bilabials_closed"] == 1.0
    assert "100.0 % of 4 bilabials" in (fitted / "quality.md").read_text()
    assert read_frames(fitted / "pictures" / "side_by_side.mp4").shape == (N_FRAMES, 256, 512, 3)
    assert (fitted / "pictures" / "sheet.png").is_file() and (fitted / "pictures" / "sheet_worst.png").is_file()


def test_a_student_can_be_trained_on_it(fitted):
    manifest = str(fitted / "manifest.jsonl")
    data = student_data(MotionDataConfig(train=[manifest], valid=[manifest]), basis_size=8, seed=0)
    assert data.speakers == ["ann", "bob"]
    batch = collate([data.valid[i] for i in range(4)])
    assert batch["motion"].shape[:2] == (4, N_FRAMES) and batch["head_pose"].shape == (4, N_FRAMES, 6)
    assert batch["motion"].std() > 0.1


def test_a_second_call_keeps_what_is_there(fitted, prepared, rows):
    files = sorted(fitted.glob("*/*.npz"))
    times = [path.stat().st_mtime_ns for path in files]
    manifest, quality = ((fitted / name).read_bytes() for name in ("manifest.jsonl", "quality.json"))
    (fitted / "motion" / "bob1.npz").unlink()
    assert main(["fit", str(prepared), "--out", str(fitted)]) == 0
    again = [path.stat().st_mtime_ns for path in files]
    changed = {path.name for path, old, new in zip(files, times, again, strict=True) if old != new}
    assert changed == {"bob1.npz"}
    assert (fitted / "manifest.jsonl").read_bytes() == manifest and (fitted / "quality.json").read_bytes() == quality


def test_speakers_of_another_split_and_landmarks_of_another_tracker(fitted, rows, tmp_path):
    for row in rows[:1]:
        found = Landmarks.load(row["landmarks"])
        Landmarks(2 * found.points + 7, found.found, "mine").save(tmp_path / "mine" / f"{row['utt_id']}.npz")
    made = fit_manifest(
        [{**rows[0], "landmarks": None}], tmp_path / "out", landmarks=tmp_path / "mine", speakers=fitted
    )
    row = read_manifest(made, need=("motion", "landmarks"))[0]
    assert row["landmarks"] == str(tmp_path / "mine" / "ann0.npz")
    own = Motion.load(fitted / "motion" / "ann0.npz").coefficients
    np.testing.assert_allclose(Motion.load(row["motion"]).coefficients, own, atol=5e-3)
    with pytest.raises(InputError, match="no folder that `talking3d fit` has written"):
        fit_manifest(rows, tmp_path / "other", speakers=tmp_path / "mine")


def test_clips_that_cannot_be_fitted_are_dropped_with_the_reason(rows, tmp_path):
    found = Landmarks.load(rows[0]["landmarks"])
    Landmarks(found.points, found.found, "haar").save(tmp_path / "haar.npz")
    bad = [{**rows[0], "landmarks": str(tmp_path / "haar.npz")}, rows[1]]
    made = fit_manifest([{**row, "video": None} for row in bad], tmp_path / "out")
    assert [row["utt_id"] for row in read_manifest(made)] == ["ann1"]
    (dropped,) = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert dropped["utt_id"] == "ann0" and "'haar'" in dropped["reason"]
    assert not (tmp_path / "out" / "pictures").exists()
    with pytest.raises(InputError, match="^ann0: landmarks of the detector 'haar'"):
        fit_manifest(bad[:1], tmp_path / "one")
    with pytest.raises(InputError, match="none of 2 clips can be fitted; the first: ann0"):
        fit_manifest([bad[0], {**bad[0], "utt_id": "ann9"}], tmp_path / "none")


def test_a_speaker_of_whom_there_is_too_little_is_dropped_with_the_reason(rows, tmp_path):
    found = Landmarks.load(rows[0]["landmarks"])
    Landmarks(found.points[:20], found.found[:20], "dlib").save(tmp_path / "short.npz")
    short = {**rows[0], "utt_id": "cat0", "speaker": "cat", "landmarks": str(tmp_path / "short.npz"), "video": None}
    fit_manifest([short, {**rows[1], "video": None}], tmp_path / "out")
    (dropped,) = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert dropped["utt_id"] == "cat0"
    assert dropped["reason"].startswith("too short: a face in 0.80 s of film") and "give 1 s" in dropped["reason"]


def test_a_video_is_prepared_and_fitted_in_one(rows, tmp_path, monkeypatch, capsys):
    asked = []

    def detect(frames, detector, where, model):
        asked.append((detector, model, len(list(frames))))
        return Landmarks.load(rows[0]["landmarks"])

    monkeypatch.setattr(prepare, "detect_landmarks", detect)
    write_video(tmp_path / "me.mp4", read_frames(rows[0]["video"]), read_audio(rows[0]["audio"]))
    command = ["fit", str(tmp_path / "me.mp4"), "--out", str(tmp_path / "out"), "--detector", "dlib"]
    assert main(command) == 0
    assert asked == [("dlib", None, N_FRAMES)]
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'out' / 'manifest.jsonl'}\n" and "quality.md" in said.err
    (row,) = read_manifest(tmp_path / "out" / "manifest.jsonl", need=("audio", "motion", "template", "lips"))
    assert row["utt_id"] == "me" and Motion.load(row["motion"]).n_frames == N_FRAMES
    assert (tmp_path / "out" / "pictures" / "side_by_side.mp4").is_file()
    write_video(tmp_path / "mute.mp4", read_frames(rows[0]["video"]))
    assert main(["fit", str(tmp_path / "mute.mp4"), "--out", str(tmp_path / "mute")]) == 2
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith("no audio stream; give a file with sound, or the sound as a file of its own")
    )


def test_mistakes_are_said(rows, fitted, tmp_path):
    with pytest.raises(InputError, match="the manifest is empty"):
        fit_manifest([], tmp_path)
    with pytest.raises(InputError, match="ann0 has no landmarks"):
        fit_manifest([{**rows[0], "landmarks": None}], tmp_path)
    with pytest.raises(InputError, match="no such file"):
        fit_manifest(rows, tmp_path, "elsewhere.npz")
    random_identity(np.random.default_rng(0)).save(tmp_path / "other.npz")
    with pytest.raises(InputError, match="choose another folder"):
        fit_manifest(rows, fitted, str(tmp_path / "other.npz"))


def test_a_filmed_talker(shared):
    pytest.importorskip("dlib")
    clip = Tracked(detect_landmarks(read_frames(shared / "grid" / "s1" / "lwie4n.mpg", gray=True), "dlib"))
    talker = fit_talker(procedural_face(), [clip])
    fit = fit_clip(talker, clip)
    offsets, points = talker.template.offsets(fit.coefficients), clip.landmarks.points
    opening, width = lip_aperture_mm(talker.template, offsets), lip_width_mm(talker.template, offsets)
    assert np.nanmedian(fit.lip_error) < 0.02
    assert np.corrcoef(width, points[:, 54, 0] - points[:, 48, 0])[0, 1] > 0.9
    assert np.corrcoef(opening, points[:, 66, 1] - points[:, 62, 1])[0, 1] > 0.9
