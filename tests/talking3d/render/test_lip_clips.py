"""Motion files to lip clips: bytes that depend on nothing but motion, template, seed and id; resuming; errors."""

import json
from dataclasses import replace

import numpy as np
import pytest

from avsr.data.manifest import read_manifest
from avsr.errors import InputError
from avsr.media.video import read_lips
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face
from talking3d.render.lip_clips import clip_look, draw_lip_clips
from talking3d.render.renderer import render_lips

N_FRAMES = 8


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Four utterances of two motions on one face; rows as read_manifest gives them."""
    folder = tmp_path_factory.mktemp("corpus")
    face = procedural_face()
    face.save(folder / "face.npz")
    rows = []
    for number in range(4):
        coefficients = np.zeros((N_FRAMES, len(face.articulation_names)), np.float32)
        coefficients[:, face.articulation_names.index("jaw_open")] = np.abs(np.sin(np.arange(N_FRAMES) * 0.7 + number))
        motion = Motion.of_template(face, 25, coefficients=coefficients, head_pose=np.zeros((N_FRAMES, 6), np.float32))
        motion.save(folder / f"{number}.npz")
        rows.append(
            {
                "utt_id": f"speaker-{number}",
                "text": "bin blue",
                "duration_s": N_FRAMES / 25,
                "motion": str(folder / f"{number}.npz"),
                "template": str(folder / "face.npz"),
            }
        )
    return rows, face


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "lips").glob("*"))}


def test_clips_and_manifest(corpus, tmp_path):
    rows, face = corpus
    manifest = draw_lip_clips(rows, tmp_path, generator="rules", seed=7)
    drawn = read_manifest(manifest, need=("lips", "motion", "template"))
    assert [row["utt_id"] for row in drawn] == [row["utt_id"] for row in rows]
    assert all(
        row["source"] == "rendered" and row["generator"] == "rules" and row["text"] == "bin blue" for row in drawn
    )
    motion = Motion.load(rows[2]["motion"])
    expected = render_lips(face, motion.offsets_for(face), motion.head_pose, clip_look("speaker-2", 7))
    got = read_lips(drawn[2]["lips"])
    assert got.shape == (N_FRAMES, 96, 96)
    assert np.abs(got.astype(int) - expected).mean() < 4  # the codec loses a little


def test_bytes_do_not_depend_on_processes_order_or_company(corpus, tmp_path):
    rows, _ = corpus
    draw_lip_clips(rows, tmp_path / "one", generator="rules")
    draw_lip_clips(rows[::-1], tmp_path / "two", generator="rules", n_jobs=2)
    draw_lip_clips(rows[1:2], tmp_path / "alone", generator="rules")
    straight = contents(tmp_path / "one")
    assert len(straight) == 4
    assert straight == contents(tmp_path / "two")
    assert contents(tmp_path / "alone")["speaker-1.mp4"] == straight["speaker-1.mp4"]
    draw_lip_clips(rows, tmp_path / "other_seed", generator="rules", seed=1)
    assert all(data != straight[name] for name, data in contents(tmp_path / "other_seed").items())


def test_an_interrupted_run_is_resumed(corpus, tmp_path):
    rows, _ = corpus
    draw_lip_clips(rows, tmp_path / "straight", generator="rules")
    broken = [*rows[:2], rows[2] | {"motion": rows[2]["template"]}]  # the third fails
    with pytest.raises(InputError, match="speaker-2"):
        draw_lip_clips(broken, tmp_path / "resumed", generator="rules")
    assert not (tmp_path / "resumed" / "manifest.jsonl").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "resumed" / "lips").glob("*")}
    assert sorted(kept) == ["speaker-0.mp4", "speaker-1.mp4"]
    draw_lip_clips(rows, tmp_path / "resumed", generator="rules")
    for name, written in kept.items():
        assert (tmp_path / "resumed" / "lips" / name).stat().st_mtime_ns == written  # not drawn again
    assert contents(tmp_path / "resumed") == contents(tmp_path / "straight")


def test_a_folder_drawn_with_another_seed(corpus, tmp_path):
    rows, _ = corpus
    draw_lip_clips(rows[:1], tmp_path, generator="rules", seed=1)
    with pytest.raises(InputError, match="draw into another folder"):
        draw_lip_clips(rows[:1], tmp_path, generator="rules", seed=2)
    assert json.loads((tmp_path / "settings.json").read_text())["seed"] == 1


def save_motion(path, face, **changes):
    fields = {"fps": 25, "offsets": np.zeros((3, len(face.verts), 3), np.float32)}
    motion = Motion.of_template(face, **(fields | {k: v for k, v in changes.items() if k != "topology_hash"}))
    if "topology_hash" in changes:
        motion = replace(motion, topology_hash=changes["topology_hash"])
    motion.save(path)
    return {"motion": str(path)}


def test_user_errors_name_the_utterance(corpus, tmp_path):
    rows, face = corpus
    row = rows[0]
    other = save_motion(tmp_path / "other.npz", face, topology_hash="0" * 64)
    slow = save_motion(tmp_path / "slow.npz", face, fps=30)
    cases = {
        "no utterances": [],
        r"'speaker-0' has no motion": [row | {"motion": None}],
        r"'speaker-0' has no template": [{k: v for k, v in row.items() if k != "template"}],
        r"'speaker-0': motion .* doesn't exist": [row | {"motion": str(tmp_path / "absent.npz")}],
        r"'speaker-0' appears twice": [row, row],
        r"'speaker-0': .* cannot move": [row | other],
        r"'speaker-0': .*30.* fps, expected 25": [row | slow],
        r"'speaker-0': .*not a readable|'speaker-0': .*lacks": [row | {"motion": row["template"]}],
    }
    for message, bad in cases.items():
        with pytest.raises(InputError, match=message):
            draw_lip_clips(bad, tmp_path / "out", generator="rules")


def test_errors_come_out_of_worker_processes(corpus, tmp_path):
    rows, _ = corpus
    bad = [*rows[:3], rows[3] | {"motion": rows[3]["template"]}]
    with pytest.raises(InputError, match="speaker-3"):
        draw_lip_clips(bad, tmp_path, generator="rules", n_jobs=2)
