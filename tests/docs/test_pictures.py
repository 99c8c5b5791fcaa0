"""The docs' pictures: every phone has its place in the sheet of visemes, and sheets show what they say."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from talking3d.corpus.visemes import CLASS_OF, VOWELS
from talking3d.face.procedural import procedural_face
from talking3d.face.regions import lip_aperture_mm, lip_width_mm


@pytest.fixture(scope="module")
def pictures():
    path = Path(__file__).resolve().parents[2] / "docs" / "pictures.py"
    spec = importlib.util.spec_from_file_location("pictures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_phone_has_its_class(pictures):
    classes = pictures.viseme_classes()
    phones = [phone for label in classes if label != "silence" for phone in label.split()]
    assert sorted(phones) == sorted({*CLASS_OF, *VOWELS}) and classes["silence"] == ""
    assert all(symbol in label.split() for label, symbol in classes.items() if symbol)
    assert "a ä" in classes  # equal targets


def test_held_phones_reach_their_shapes(pictures):
    face = procedural_face()
    poses = np.stack([pictures.held(face, symbol) for symbol in ("", "m", "ɑ", "i", "u")])
    silence, m, ah, ee, oo = lip_aperture_mm(face, face.offsets(poses))
    assert max(silence, m) < 0.5 and ah > 10 > ee > 1
    widths = lip_width_mm(face, face.offsets(poses))
    assert widths[3] > widths[0] > widths[4]


@pytest.mark.parametrize("view", ["close", "lips"])
def test_a_sheet_of_two_poses(pictures, tmp_path, monkeypatch, view):
    monkeypatch.setattr(pictures, "CLOSE_UP", 128)
    monkeypatch.setattr(pictures, "SHOWN", 128)
    face = procedural_face()
    poses = {"shut": np.zeros(16), "open": np.eye(16)[face.articulation_names.index("jaw_open")]}
    pictures.viseme_sheet(face, poses, tmp_path / "sheet.png", view)
    sheet = imread(tmp_path / "sheet.png")[..., :3]
    strip = pictures.CAPTION
    assert sheet.shape[0] == strip + 128 and sheet[:strip].min() < 0.4
    shut, opened = sheet[strip:, :128], sheet[strip:, 132:260]
    dark = [(tile[32:112, 32:96].max(axis=-1) < 0.12).mean() for tile in (shut, opened)]
    assert dark[1] > dark[0] + 0.05  # the mouth is in the middle of both views
