import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from avsr.data.alignment import read_alignment
from avsr.data.manifest import read_manifest
from avsr.errors import InputError
from avsr.media.audio import read_audio
from avsr.media.timing import SAMPLE_RATE, frames_of
from avsr.media.video import read_lips
from talking3d.corpus import mini
from talking3d.corpus.mini import MOTION_ONLY, PRESETS, SPLITS, Preset, draw_lines, draw_speakers, make_mini
from talking3d.corpus.sentences import open_vocabulary
from talking3d.face.motion import Motion
from talking3d.face.regions import lip_aperture_mm
from talking3d.face.template import FaceTemplate

TINY = Preset(2, 1, train=2, valid=1, test_seen=1, test_unseen=1, open_train=1, open_valid=1, open_test=3)
NEED = ("audio", "lips", "motion", "template", "alignment", "text")


def digests(folder) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def corpus(synthesizer, tmp_path_factory):
    return make_mini(tmp_path_factory.mktemp("mini") / "corpus", TINY, seed=3, n_jobs=1)


def test_files_fit_each_other(corpus):
    utt_ids = set()
    for split in SPLITS:
        need = [field for field in NEED if field != "lips" or split not in MOTION_ONLY]
        rows = read_manifest(corpus / split / "manifest.jsonl", need=need)
        assert len(rows) == getattr(TINY, split)
        utt_ids |= {row["utt_id"] for row in rows}
        for row in rows:
            assert (row["source"], row["generator"], row["language"]) == ("rendered", "rules", "en")
            waveform = read_audio(row["audio"])
            assert row["duration_s"] == len(waveform) / SAMPLE_RATE
            alignment = read_alignment(row["alignment"], row["duration_s"])
            assert " ".join(word for _, _, word in alignment["words"]) == row["text"]
            assert 0.1 <= alignment["words"][0][0] <= 0.46 and row["duration_s"] - alignment["words"][-1][1] >= 0.09
            face, motion = FaceTemplate.load(row["template"]), Motion.load(row["motion"])
            assert motion.n_frames == frames_of(len(waveform))
            assert (row["lips"] is None) == (split in MOTION_ONLY)
            assert row["lips"] is None or len(read_lips(row["lips"])) == motion.n_frames
            assert motion.head_pose.shape == (motion.n_frames, 6)
            gap_mm = lip_aperture_mm(face, motion.offsets_for(face))
            assert gap_mm[0] < 0.3 and gap_mm[-1] < 0.7 < 3 < gap_mm.max()
    assert len(utt_ids) == sum(getattr(TINY, split) for split in SPLITS)


def test_drawn_lips_move_with_the_motion(corpus):
    """The dark of the open mouth, or its teeth, change the picture where the motion opens it."""
    for row in read_manifest(corpus / "train" / "manifest.jsonl", need=NEED):
        face, lips = FaceTemplate.load(row["template"]), read_lips(row["lips"]).astype(np.float64)
        gap_mm = lip_aperture_mm(face, Motion.load(row["motion"]).offsets_for(face))
        change = np.abs(lips - lips[0])[:, 36:70, 20:76].mean(axis=(1, 2))
        assert np.corrcoef(change, gap_mm)[0, 1] > 0.6


def test_idle_time_is_quiet_but_never_digital_silence(corpus):
    for row in read_manifest(corpus / "train" / "manifest.jsonl"):
        waveform = read_audio(row["audio"])
        words = read_alignment(row["alignment"])["words"]
        idle = waveform[: round(0.9 * words[0][0] * SAMPLE_RATE)]
        assert 0.002 < idle.std() / waveform.std() < 0.03  # 35 to 50 dB below speech
        assert np.count_nonzero(idle) > 0.3 * len(idle)
        assert np.abs(waveform).max() <= 0.951


def test_same_bytes_for_any_number_of_jobs(corpus, tmp_path):
    again = make_mini(tmp_path / "again", TINY, seed=3, n_jobs=2)
    assert digests(again) == digests(corpus)


def test_an_interrupted_corpus_is_finished_and_a_finished_one_left_alone(corpus, tmp_path, monkeypatch):
    folder, made = tmp_path / "corpus", []
    make_utterance = mini.make_utterance

    def stops_after_three(line, out_dir):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(line.utt_id)
        return make_utterance(line, out_dir)

    with monkeypatch.context() as patch:
        patch.setattr(mini, "make_utterance", stops_after_three)
        with pytest.raises(KeyboardInterrupt):
            make_mini(folder, TINY, seed=3, n_jobs=1)
    assert not list(folder.glob("*/manifest.jsonl"))
    (folder / "lips" / f"{made[2]}.mp4").unlink()  # killed just before it was drawn
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob(f"{made[0]}*")}
    assert len(kept) == 4
    make_mini(folder, TINY, seed=3, n_jobs=1)
    assert digests(folder) == digests(corpus)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}

    monkeypatch.setattr(mini, "make_utterance", None)
    assert make_mini(folder, TINY, seed=3) == folder


@pytest.mark.slow
def test_killed_outright_it_leaves_no_processes_and_can_be_finished(corpus, tmp_path):
    script, folder = tmp_path / "make.py", tmp_path / "corpus"
    script.write_text(
        "import sys\nfrom talking3d.corpus.mini import Preset, make_mini\n"
        f"if __name__ == '__main__':\n    make_mini(sys.argv[1], {TINY!r}, seed=3, n_jobs=2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(mini.__file__).parents[2])}
    parent = subprocess.Popen([sys.executable, script, folder], env=environment)
    try:
        wait_until(lambda: len(list(folder.glob("lips/*.mp4"))) >= 2)
        children = children_of(parent.pid)
        assert children
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not any(psutil.pid_exists(child) for child in children))
    make_mini(folder, TINY, seed=3, n_jobs=1)
    assert digests(folder) == digests(corpus)


def children_of(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def wait_until(holds, at_most_s: float = 120.0):
    deadline_s = time.monotonic() + at_most_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def test_another_seed_is_another_corpus():
    one, other = ([dataclasses.asdict(s) for s in draw_speakers(TINY, seed)] for seed in (0, 1))
    assert all(a != b for a, b in zip(one, other, strict=True))
    texts = [{line.words for line in draw_lines(TINY, seed, draw_speakers(TINY, seed))} for seed in (0, 1)]
    assert not texts[0] & texts[1]


@pytest.mark.parametrize("preset", PRESETS)
def test_tests_are_held_out(preset):
    """No sentence twice; unseen speakers and their voices not in training; new words in half of open_test only."""
    sizes = PRESETS[preset]
    speakers = draw_speakers(sizes, 0)
    lines = draw_lines(sizes, 0, speakers)
    assert len({line.words for line in lines}) == len({line.utt_id for line in lines}) == len(lines)
    by_split = {split: [line for line in lines if line.split == split] for split in SPLITS}
    assert {split: len(found) for split, found in by_split.items()} == {s: getattr(sizes, s) for s in SPLITS}

    heard = {line.speaker.name for line in by_split["train"]}
    assert heard == {speaker.name for speaker in speakers if not speaker.unseen}
    for split in ("valid", "test_seen", "open_train", "open_valid"):
        assert {line.speaker.name for line in by_split[split]} <= heard
    assert not {line.speaker.name for line in by_split["test_unseen"]} & heard
    voices = {unseen: {s.variant for s in speakers if s.unseen == unseen} for unseen in (False, True)}
    assert not voices[False] & voices[True]

    known, held_out = open_vocabulary()
    assert all(set(line.words) <= known for split in ("open_train", "open_valid") for line in by_split[split])
    kinds = [(line.speaker.unseen, bool(set(line.words) & held_out)) for line in by_split["open_test"]]
    counts = [kinds.count((unseen, new)) for unseen in (False, True) for new in (False, True)]
    assert max(counts) - min(counts) <= 1


def test_wrong_requests_are_explained(corpus, tmp_path):
    with pytest.raises(InputError, match="no preset 'tiny'.*smoke, default, full"):
        make_mini(tmp_path, "tiny")
    with pytest.raises(InputError, match="choose another folder"):
        make_mini(corpus, TINY, seed=4)
    assert json.loads((corpus / "corpus.json").read_text())["seed"] == 3
