"""Motion files to lip clips: bytes that depend on nothing but motion, template, seed and id; resuming; errors."""

import errno
import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avsr.data.manifest import read_manifest, write_manifest
from avsr.errors import InputError
from avsr.files import read_jsonl
from avsr.media.video import read_lips
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face, random_identity
from talking3d.render import lip_clips
from talking3d.render.lip_clips import clip_look, draw_lip_clips
from talking3d.render.look import Look
from talking3d.render.renderer import render_lips
from talking3d.render.speaker_look import SpeakerLook

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
    """Bytes of the files below lips/, whatever their folders."""
    return {path.name: path.read_bytes() for path in sorted((folder / "lips").rglob("*")) if path.is_file()}


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


def test_backends_draw_the_same_lips_into_folders_of_their_own(corpus, tmp_path):
    rows, _ = corpus
    compiled, twin = (
        draw_lip_clips(rows[:1], tmp_path / name, generator="rules", look="plain", backend=name)
        for name in ("cpu", "torch")
    )
    pictures = [read_lips(read_manifest(path, need=("lips",))[0]["lips"]).astype(int) for path in (compiled, twin)]
    assert np.abs(pictures[0] - pictures[1]).mean() < 1
    with pytest.raises(InputError, match="holds clips drawn with .*'backend': 'cpu'"):
        draw_lip_clips(rows[:1], tmp_path / "cpu", generator="rules", look="plain", backend="torch")
    with pytest.raises(InputError, match="unknown rasteriser 'gl'"):
        draw_lip_clips(rows[:1], tmp_path / "gl", generator="rules", backend="gl")
    assert not (tmp_path / "gl").exists()


def test_bytes_do_not_depend_on_processes_order_or_company(corpus, tmp_path):
    rows, _ = corpus
    draw_lip_clips(rows, tmp_path / "one", generator="rules")
    with pytest.raises(InputError, match="1 of 5 .*'bad'"):  # errors come out of worker processes too
        bad = rows[0] | {"utt_id": "bad", "motion": rows[0]["template"]}
        draw_lip_clips([*rows[::-1], bad], tmp_path / "two", generator="rules", n_jobs=2)
    draw_lip_clips(rows[1:2], tmp_path / "alone", generator="rules")
    straight = contents(tmp_path / "one")
    assert len(straight) == 4
    assert straight == contents(tmp_path / "two")
    assert contents(tmp_path / "alone")["speaker-1.mp4"] == straight["speaker-1.mp4"]
    draw_lip_clips(rows, tmp_path / "other_seed", generator="rules", seed=1)
    assert all(data != straight[name] for name, data in contents(tmp_path / "other_seed").items())


def test_a_plain_look_is_the_default_one(corpus, tmp_path):
    rows, face = corpus
    manifest = draw_lip_clips(rows[:2], tmp_path, generator="rules", look="plain")
    motion = Motion.load(rows[1]["motion"])
    expected = render_lips(face, motion.offsets_for(face), motion.head_pose)
    got = read_lips(read_manifest(manifest, need=("lips",))[1]["lips"])
    assert np.abs(got.astype(int) - expected).mean() < 2
    assert clip_look("speaker-1", 0) == clip_look("speaker-1", 0) != clip_look("speaker-1", 1) != clip_look("a", 1)


def test_a_bad_row_is_reported_when_the_others_are_drawn(corpus, tmp_path):
    rows, _ = corpus
    draw_lip_clips(rows, tmp_path / "straight", generator="rules")
    broken = [rows[0] | {"motion": rows[0]["template"]}, *rows[1:]]
    out = tmp_path / "out"
    message = r"1 of 4 utterances could not be drawn, the others are: utterance 'speaker-0': .*; mend or remove"
    with pytest.raises(InputError, match=message):
        draw_lip_clips(broken, out, generator="rules", n_jobs=1)
    assert not (out / "manifest.jsonl").exists()
    (failure,) = read_jsonl(out / "failed.jsonl")
    assert failure["utt_id"] == "speaker-0" and rows[0]["template"] in failure["reason"]
    kept = {path: path.stat().st_mtime_ns for path in (out / "lips").rglob("*.mp4")}
    assert sorted(path.name for path in kept) == ["speaker-1.mp4", "speaker-2.mp4", "speaker-3.mp4"]
    draw_lip_clips(rows, out, generator="rules")
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())  # not drawn again
    assert contents(out) == contents(tmp_path / "straight")
    assert not (out / "failed.jsonl").exists()


def test_many_failures_are_counted_and_listed_in_a_file(corpus, tmp_path):
    rows, _ = corpus
    absent = [row | {"motion": str(tmp_path / "absent.npz")} for row in rows]
    with pytest.raises(
        InputError, match=r"4 of 4 .*'speaker-0': motion .*absent.npz: no such file.*; and 1 more\. All"
    ):
        draw_lip_clips(absent, tmp_path / "out", generator="rules")
    assert [failure["utt_id"] for failure in read_jsonl(tmp_path / "out" / "failed.jsonl")] == [
        f"speaker-{number}" for number in range(4)
    ]


def test_clips_are_shared_out_to_folders_by_their_rows(corpus, tmp_path, monkeypatch):
    rows, _ = corpus
    monkeypatch.setattr(lip_clips, "CLIPS_A_FOLDER", 2)
    rows = [*rows[:3], rows[3] | {"utt_id": "film/speaker-3"}]
    manifest = draw_lip_clips(rows, tmp_path, generator="rules")
    lips = {row["utt_id"]: row["lips"] for row in read_manifest(manifest, need=("lips",))}
    below = {utt_id: str(Path(path).relative_to(tmp_path / "lips")) for utt_id, path in lips.items()}
    assert below == {
        "speaker-0": "000/speaker-0.mp4",
        "speaker-1": "000/speaker-1.mp4",
        "speaker-2": "001/speaker-2.mp4",
        "film/speaker-3": "001/film/speaker-3.mp4",
    }
    written = {path: Path(path).stat().st_mtime_ns for path in lips.values()}
    draw_lip_clips(rows[::-1], tmp_path, generator="rules")  # found again, though other rows come first now
    assert {row["utt_id"]: row["lips"] for row in read_manifest(manifest, need=("lips",))} == lips
    assert {path: Path(path).stat().st_mtime_ns for path in lips.values()} == written


def test_what_was_half_written_does_not_count(corpus, tmp_path):
    rows, _ = corpus
    draw_lip_clips(rows[:2], tmp_path, generator="rules")
    straight = contents(tmp_path)
    folder = tmp_path / "lips" / "000"
    (folder / ".speaker-0.abcd").mkdir()  # as a killed writer leaves it
    (folder / "speaker-0.mp4").rename(folder / ".speaker-0.abcd" / "speaker-0.mp4")
    (folder / "speaker-1.mp4").write_bytes(b"")
    draw_lip_clips(rows[:2], tmp_path, generator="rules")
    assert contents(tmp_path) == straight
    assert not list(folder.glob(".*"))


def test_killed_outright_it_goes_on_to_the_same_bytes(corpus, tmp_path):
    rows, _ = corpus
    rows = [rows[i % 4] | {"utt_id": f"u{i:02d}"} for i in range(24)]
    write_manifest(tmp_path / "rows.jsonl", rows)
    script = tmp_path / "draw.py"
    script.write_text(
        "import sys\nfrom avsr.data.manifest import read_manifest\n"
        "from talking3d.render.lip_clips import draw_lip_clips\n"
        "if __name__ == '__main__':\n    rows = read_manifest(sys.argv[1], need=('motion', 'template'))\n"
        "    draw_lip_clips(rows, sys.argv[2], generator='g')\n"
    )
    out = tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": str(Path(lip_clips.__file__).parents[2])}
    parent = subprocess.Popen([sys.executable, script, tmp_path / "rows.jsonl", out], env=environment)
    try:
        deadline_s = time.monotonic() + 120
        while len(list(out.glob("lips/*/*.mp4"))) < 2:
            assert time.monotonic() < deadline_s and parent.poll() is None
            time.sleep(0.005)
    finally:
        parent.kill()
        parent.wait()
    assert not (out / "manifest.jsonl").exists()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("lips/*/*.mp4")}
    assert 2 <= len(kept) < 24
    draw_lip_clips(rows, out, generator="g")
    draw_lip_clips(rows, tmp_path / "straight", generator="g")
    assert contents(out) == contents(tmp_path / "straight")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_folder_drawn_with_another_seed_or_look(corpus, tmp_path):
    rows, _ = corpus
    draw_lip_clips(rows[:1], tmp_path, generator="rules", seed=1)
    for other in ({"seed": 2}, {"seed": 1, "look": "plain"}):
        with pytest.raises(InputError, match="choose another folder"):
            draw_lip_clips(rows[:1], tmp_path, generator="rules", **other)
    assert json.loads((tmp_path / "settings.json").read_text())["seed"] == 1


def test_a_full_disk_stops_the_run(corpus, tmp_path, monkeypatch):
    def full(path, lips):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lip_clips, "write_lips", full)
    with pytest.raises(InputError, match=r"cannot write .*lips/000/speaker-0.mp4: .*No space left.*draw again"):
        draw_lip_clips(corpus[0], tmp_path, generator="rules")
    assert not (tmp_path / "failed.jsonl").exists()


def test_progress_is_logged(corpus, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        draw_lip_clips(corpus[0], tmp_path, generator="rules")
    assert "2 of 4 clips done" in caplog.text and "4 of 4 clips done" in caplog.text
    draw_lip_clips(corpus[0], tmp_path, generator="rules")  # nothing to draw is no trouble


def test_an_unknown_look(corpus, tmp_path):
    with pytest.raises(InputError, match="unknown look 'dim': expected one of random, plain"):
        draw_lip_clips(corpus[0], tmp_path, generator="rules", look="dim")


@pytest.fixture(scope="module")
def looks(corpus, tmp_path_factory):
    """Looks of two speakers: the one dark, the other bright."""
    folder = tmp_path_factory.mktemp("looks")
    for name, exposure in (("ann", 0.3), ("bob", 1.2)):
        SpeakerLook(Look(exposure=exposure), corpus[1].colors, corpus[1].topology_hash).save(folder / f"{name}.npz")
    return folder


def test_speakers_are_drawn_in_their_looks(corpus, looks, tmp_path):
    rows = [row | {"speaker": name} for row, name in zip(corpus[0], ("ann", "bob", "ann", "bob"), strict=True)]
    drawn = draw_lip_clips(rows, tmp_path / "one", generator="fit", look=looks)
    means = [read_lips(row["lips"]).mean() for row in read_manifest(drawn, need=("lips",))]
    assert max(means[0], means[2]) < min(means[1], means[3]) - 30
    draw_lip_clips(rows[::-1], tmp_path / "again", generator="fit", look=str(looks))
    straight = contents(tmp_path / "one")
    assert contents(tmp_path / "again") == straight
    draw_lip_clips(rows, tmp_path / "other", generator="fit", look=looks, seed=1)
    assert all(data != straight[name] for name, data in contents(tmp_path / "other").items())
    both = draw_lip_clips(rows, tmp_path / "ann", generator="fit", look=looks / "ann.npz")
    assert max(read_lips(row["lips"]).mean() for row in read_manifest(both, need=("lips",))) < 110


def test_looks_that_are_not_there_or_not_the_same(corpus, looks, tmp_path):
    rows = [row | {"speaker": "ann"} for row in corpus[0][:1]]
    draw_lip_clips(rows, tmp_path / "out", generator="fit", look=looks)
    with pytest.raises(InputError, match="choose another folder"):
        draw_lip_clips(rows, tmp_path / "out", generator="fit", look=looks / "bob.npz")
    with pytest.raises(InputError, match=r"no look of 2 speakers \(first: cid\): find them with `talking3d look`"):
        draw_lip_clips([rows[0] | {"speaker": "cid"}, corpus[0][1]], tmp_path / "x", generator="fit", look=looks)
    SpeakerLook(Look(), corpus[1].colors, "0" * 64).save(tmp_path / "ict.npz")
    with pytest.raises(InputError, match="'speaker-0': the speaker's look was found on another face"):
        draw_lip_clips(rows, tmp_path / "y", generator="fit", look=tmp_path / "ict.npz")


def test_noise_on_the_motion(corpus, tmp_path):
    rows = corpus[0][:2]
    plain, still, shaken, again = (
        draw_lip_clips(rows, tmp_path / name, generator="fit", look="plain", motion_noise=noise, seed=seed)
        for name, noise, seed in (("0", None, 0), ("1", 0.0, 0), ("2", 0.6, 0), ("3", 0.6, 1))
    )
    plain, still, shaken, again = (contents(path.parent) for path in (plain, still, shaken, again))
    assert still == plain
    assert all(len({clips[name] for clips in (plain, shaken, again)}) == 3 for name in plain)
    assert "motion_noise" not in json.loads((tmp_path / "0" / "settings.json").read_text())
    with pytest.raises(InputError, match="'motion_noise': 0.6.*choose another folder"):
        draw_lip_clips(rows, tmp_path / "2", generator="fit", look="plain")
    with pytest.raises(InputError, match="motion_noise must be a share of at least 0, got -1"):
        draw_lip_clips(rows, tmp_path / "4", generator="fit", motion_noise=-1)


def test_faces_of_a_folder(corpus, tmp_path):
    rows = corpus[0]
    faces = tmp_path / "faces"
    for number in range(3):
        random_identity(np.random.default_rng(number)).save(faces / f"{number}.npz")
    drawn = read_manifest(
        draw_lip_clips(rows, tmp_path / "0", generator="fit", look="plain", faces=faces), need=("lips",)
    )
    shown = {row["template"] for row in drawn}
    assert shown <= {str(face) for face in faces.iterdir()} and len(shown) > 1
    for row, given in zip(drawn, rows, strict=True):
        of_its_own = given | {"template": row["template"]}
        alone = draw_lip_clips([of_its_own], tmp_path / row["utt_id"], generator="fit", look="plain")
        assert contents(alone.parent).items() <= contents(tmp_path / "0").items()
    again = draw_lip_clips(rows[::-1], tmp_path / "1", generator="fit", look="plain", faces=faces)
    assert contents(again.parent) == contents(tmp_path / "0")
    others = [
        read_manifest(draw_lip_clips(rows, tmp_path / f"s{n}", generator="fit", faces=faces, seed=n), need=("lips",))
        for n in (1, 2)
    ]
    assert any([row["template"] for row in of] != [row["template"] for row in drawn] for of in others)

    with pytest.raises(InputError, match="'faces': 'sha256.*choose another folder"):
        draw_lip_clips(rows, tmp_path / "0", generator="fit", look="plain")
    with pytest.raises(InputError, match="empty has no faces: expected a folder of templates"):
        draw_lip_clips(rows, tmp_path / "2", generator="fit", faces=tmp_path / "empty")


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
        r"'speaker-0': motion .*: no such file": [row | {"motion": str(tmp_path / "absent.npz")}],
        r"'speaker-0' appears twice": [row, row],
        r"'speaker-0': .* cannot move": [row | other],
        r"'speaker-0': .*30.* fps, expected 25": [row | slow],
        r"'speaker-0': .*not a readable|'speaker-0': .*lacks": [row | {"motion": row["template"]}],
    }
    for message, bad in cases.items():
        with pytest.raises(InputError, match=message):
            draw_lip_clips(bad, tmp_path / "out", generator="rules")
