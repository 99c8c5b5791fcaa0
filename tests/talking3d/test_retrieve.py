"""Filmed lips for motion: whose frames they are, what is written, and what is refused."""

import json

import numpy as np
import pytest

from avsr.data.manifest import read_manifest, write_manifest
from avsr.errors import InputError
from avsr.files import read_jsonl
from avsr.media.timing import FPS
from avsr.media.video import read_lips
from talking3d.cli import main
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate
from talking3d.retrieve import FilmedSpeaker, retrieve_manifest, statistics


@pytest.fixture
def filmed(spoken_rows, lip_rows) -> list[dict]:
    """Ten utterances of ann and bob, with mouths that open as their jaws do."""
    return [row | {"lips": seen["lips"]} for row, seen in zip(spoken_rows, lip_rows, strict=True)]


def record_of(out_dir, row: dict) -> dict:
    return json.loads((out_dir / "frames" / f"{row['utt_id']}.json").read_text())


def test_its_own_frames_come_back_if_they_may(filmed, tmp_path):
    manifest = retrieve_manifest(filmed[:4], filmed, tmp_path, own=True)
    for row, made in zip(filmed, read_manifest(manifest, need=("lips", "motion")), strict=False):
        lips, film = read_lips(made["lips"]), read_lips(row["lips"])
        assert np.abs(lips.astype(int) - film).mean() < 1  # what coding loses
        assert record_of(tmp_path, row)["runs"] == [[row["utt_id"], 0, len(film)]]
    figures = json.loads((tmp_path / "statistics.json").read_text())
    assert figures["distance_mm"] < 1e-3 and figures["step_at_cuts"] is None
    assert figures["run_frames"] == (25 + 27 + 29 + 31) / 4


def test_else_they_are_other_utterances_of_the_same_speaker(filmed, tmp_path):
    rows = [row | {"lips": None, "generator": "student"} for row in filmed]
    write_manifest(tmp_path / "motion.jsonl", rows)
    write_manifest(tmp_path / "film.jsonl", filmed)
    arguments = ["retrieve", str(tmp_path / "motion.jsonl"), "--frames", str(tmp_path / "film.jsonl"), "--nj", "2"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    made = read_manifest(tmp_path / "out" / "manifest.jsonl", need=("lips", "motion", "template"))
    assert {(row["source"], row["generator"]) for row in made} == {("rendered", "student-retrieved")}
    speaker_of = {row["utt_id"]: row["speaker"] for row in filmed}
    for row in made:
        runs = record_of(tmp_path / "out", row)["runs"]
        assert {speaker_of[utt_id] for utt_id, _, _ in runs} == {row["speaker"]}
        assert row["utt_id"] not in {utt_id for utt_id, _, _ in runs}
        jaw = Motion.load(row["motion"]).coefficients[:, 0]
        lips = read_lips(row["lips"])
        assert len(lips) == len(jaw)
        openness = (lips < 70).mean(axis=(1, 2))
        assert np.corrcoef(openness, jaw)[0, 1] > 0.8
    figures = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert figures["clips"] == 10 and figures["filmed_frames"] == figures["frames"] == sum(
        25 + 2 * i for i in range(10)
    )
    assert 0 < figures["used"] < 1 and figures["distance_mm"] > 0


def test_company_and_interruption_change_nothing(filmed, tmp_path):
    whole = retrieve_manifest(filmed[:4], filmed, tmp_path / "whole")
    part = tmp_path / "part"
    retrieve_manifest(filmed[:2], filmed, part)
    first = part / "lips" / "000" / "utt0.mp4"
    made_at = first.stat().st_mtime_ns
    (part / "lips" / "000" / "utt1.mp4").unlink()
    again = retrieve_manifest(filmed[:4], filmed, part, n_jobs=2)
    assert first.stat().st_mtime_ns == made_at
    for a, b in zip(*(read_manifest(path, need=("lips",)) for path in (whole, again)), strict=True):
        np.testing.assert_array_equal(read_lips(a["lips"]), read_lips(b["lips"]))
    assert (part / "statistics.json").read_text() == (tmp_path / "whole" / "statistics.json").read_text()


def test_statistics_pool_frames_and_count_a_frame_once():
    records = [
        {
            "speaker": "ann",
            "filmed_frames": 20,
            "runs": [["a", 0, 3], ["b", 5, 1]],
            "distance_mm": [1.0, 1.0, 1.0, 1.0],
            "step_at_cuts": [6.0],
            "step_in_runs": [2.0, 4.0],
        },
        {
            "speaker": "ann",
            "filmed_frames": 20,
            "runs": [["a", 2, 2]],
            "distance_mm": [4.0, 4.0],
            "step_at_cuts": [],
            "step_in_runs": [3.0],
        },
    ]
    figures = statistics(records)
    assert figures["used"] == 5 / 20 and figures["run_frames"] == 2 and figures["distance_mm"] == 2
    assert figures["step_at_cuts"] == 6 and figures["step_in_runs"] == 3


def test_rows_that_cannot_be_done_are_named_and_stop_no_other(filmed, tiny_face, tmp_path):
    half = FaceTemplate("half", tiny_face.verts, tiny_face.faces[:50], tiny_face.regions)
    half.save(tmp_path / "half.npz")
    Motion.of_template(half, FPS, offsets=np.zeros((9, 64, 3), np.float32)).save(tmp_path / "half_motion.npz")
    other = filmed[1] | {"motion": str(tmp_path / "half_motion.npz"), "template": str(tmp_path / "half.npz")}
    stranger = filmed[2] | {"speaker": "eve"}
    rows = [filmed[0], other, stranger]
    out_dir = tmp_path / "out"
    reasons = "2 of 3 utterances got no lips.*'utt1': face template 'half'.*'utt2': no filmed frames of speaker 'eve'"
    with pytest.raises(InputError, match=reasons):
        retrieve_manifest(rows, filmed, out_dir)
    assert [failure["utt_id"] for failure in read_jsonl(out_dir / "failed.jsonl")] == ["utt1", "utt2"]
    assert (out_dir / "lips" / "000" / "utt0.mp4").is_file() and not (out_dir / "manifest.jsonl").exists()
    retrieve_manifest([filmed[0], filmed[1]], filmed, out_dir)
    assert not (out_dir / "failed.jsonl").exists()


def test_a_speaker_of_one_utterance_has_no_other(filmed, tmp_path):
    with pytest.raises(InputError, match="'utt0': all filmed frames of its speaker are its own: give other utterances"):
        retrieve_manifest(filmed[:1], filmed[:2], tmp_path)


def test_what_is_filmed_must_fit(filmed, tmp_path):
    with pytest.raises(InputError, match="'utt1' has no lips: those of filmed frames need lips, motion, template"):
        retrieve_manifest(filmed[:1], [filmed[0], filmed[1] | {"lips": None}], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="filmed utt2: 27 frames of lips, 29 of motion: fit it again"):
        FilmedSpeaker([filmed[0], filmed[2] | {"lips": filmed[1]["lips"]}])
    with pytest.raises(InputError, match="filmed utt2: motion .*gone.npz: no such file"):
        FilmedSpeaker([filmed[0], filmed[2] | {"motion": str(tmp_path / "gone.npz")}])
    with pytest.raises(InputError, match="filmed utt0: cannot read its motion"):
        retrieve_manifest(filmed[:1], [filmed[0] | {"motion": str(tmp_path / "gone.npz")}], tmp_path / "out")


def test_rows_are_checked_before_anything_is_written(filmed, tmp_path):
    for rows, problem in (
        ([], "no utterances to find lips for: the manifest is empty"),
        ([filmed[0]] * 2, "'utt0' appears twice among those to find lips for"),
        ([filmed[0] | {"template": None}], "'utt0' has no template"),
    ):
        with pytest.raises(InputError, match=problem):
            retrieve_manifest(rows, filmed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_has_one_source(filmed, tmp_path):
    retrieve_manifest(filmed[:1], filmed, tmp_path)
    with pytest.raises(InputError, match="holds lips retrieved with .*choose another folder"):
        retrieve_manifest(filmed[:1], filmed[:8], tmp_path)
    with pytest.raises(InputError, match="choose another folder"):
        retrieve_manifest(filmed[:1], filmed, tmp_path, own=True)
