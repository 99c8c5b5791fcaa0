"""Looks of a corpus's speakers, by the command line and back into drawn clips."""

import json

import cv2
import numpy as np
import pytest

from avsr.data.manifest import read_manifest, write_manifest
from avsr.errors import InputError
from avsr.media.timing import FPS
from avsr.media.video import read_lips, write_lips
from talking3d.cli import main
from talking3d.corpus.speaker_looks import find_looks
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face
from talking3d.render import look_fit
from talking3d.render.look import Look
from talking3d.render.renderer import render_lips
from talking3d.render.speaker_look import SpeakerLook

N_FRAMES = 12


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """A manifest of ann, four dark clips, and bob, one bright clip."""
    folder = tmp_path_factory.mktemp("filmed")
    face = procedural_face()
    face.save(folder / "face.npz")
    rows = []
    for i, (name, exposure) in enumerate([("ann", 0.3)] * 4 + [("bob", 1.3)]):
        coefficients = np.zeros((N_FRAMES, len(face.articulation_names)), np.float32)
        coefficients[:, face.articulation_names.index("jaw_open")] = 0.5 * np.abs(np.sin(0.5 * np.arange(N_FRAMES) + i))
        motion = Motion.of_template(face, FPS, coefficients=coefficients)
        motion.save(folder / f"{i}.npz")
        lips = render_lips(face, motion.offsets_for(face), None, Look(exposure=exposure))
        write_lips(folder / f"{i}.mp4", lips)
        files = {"motion": f"{i}.npz", "lips": f"{i}.mp4", "template": "face.npz"}
        paths = {field: str(folder / file) for field, file in files.items()}
        rows.append({"utt_id": f"{name}{i}", "speaker": name, "source": "filmed", "generator": "fit", **paths})
    write_manifest(folder / "manifest.jsonl", [row | {"text": "am", "duration_s": N_FRAMES / FPS} for row in rows])
    return folder / "manifest.jsonl"


def test_looks_are_found_and_drawn_in(filmed, tmp_path, monkeypatch):
    monkeypatch.setattr(look_fit, "MOST_STEPS", 3)
    looks = tmp_path / "looks"
    assert main(["look", str(filmed), "--out", str(looks)]) == 0
    figures = json.loads((looks / "agreement.json").read_text())
    assert set(figures) == {"ann", "bob"}
    for name, both in figures.items():
        assert both["fitted"]["difference"] < 0.5 * both["default"]["difference"]
        assert cv2.imread(str(looks / f"{name}.png")).shape[0] == 3 * 96
        SpeakerLook.load(looks / f"{name}.npz").dress(procedural_face())
    written = (looks / "ann.npz").stat().st_mtime_ns
    find_looks(read_manifest(filmed, need=("lips", "motion", "template")), looks)
    assert (looks / "ann.npz").stat().st_mtime_ns == written  # kept

    drawn = tmp_path / "drawn"
    assert main(["draw", str(filmed), "--out", str(drawn), "--look", str(looks), "--motion_noise", "0.2"]) == 0
    films, clips = (read_manifest(path, need=("lips",)) for path in (filmed, drawn / "manifest.jsonl"))
    for film, clip in zip(films, clips, strict=True):
        assert clip["source"] == "rendered" and clip["lips"] != film["lips"]
        assert abs(read_lips(clip["lips"]).mean() - read_lips(film["lips"]).mean()) < 20
    assert json.loads((drawn / "settings.json").read_text())["motion_noise"] == 0.2


def test_what_no_look_can_be_found_from_is_said(filmed, tmp_path):
    rows = read_manifest(filmed, need=("lips", "motion", "template"))
    with pytest.raises(InputError, match="no utterances to find looks from"):
        find_looks([], tmp_path)
    with pytest.raises(InputError, match="lips of ann0 are drawn"):
        find_looks([rows[0] | {"source": "rendered"}], tmp_path)
    with pytest.raises(InputError, match="utterance 'ann1': .*not a readable"):
        find_looks([rows[1] | {"motion": rows[1]["lips"]}], tmp_path)
