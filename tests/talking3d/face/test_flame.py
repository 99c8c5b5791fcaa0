"""FLAME's file format, filled with the procedural head: no FLAME data is needed."""

import json
import logging
import pickle

import numpy as np
import pytest

from avsr.errors import InputError
from talking3d.face.blendshape_fit import bounds
from talking3d.face.flame import load_flame
from talking3d.face.procedural import procedural_face
from talking3d.face.regions import lip_aperture_mm


def write(path, model):
    with open(path, "wb") as file:
        pickle.dump(model, file, protocol=2)
    return path


@pytest.fixture(scope="module")
def face(flame_model, tmp_path_factory):
    return load_flame(write(tmp_path_factory.mktemp("flame") / "generic_model.pkl", flame_model))


def test_the_template_has_shapes_expressions_and_a_jaw(face, bare_head):
    verts, _, kept = bare_head
    own = procedural_face()
    assert face.name == "flame" and len(face.shape_names) == 100
    assert face.articulation_names[:2] == ("expression_000", "expression_001")
    assert face.articulation_names[-3:] == ("jaw_open", "jaw_side", "jaw_roll") and len(face.articulation_names) == 53
    np.testing.assert_allclose(face.articulation_basis[1], own.articulation_basis[3][kept], atol=1e-7)
    np.testing.assert_allclose(face.verts - face.verts[0], verts - verts[0], atol=1e-6)
    assert (face.landmarks[36:68] >= 0).all()
    assert {"lips", "eyes", "skin", "upper_face"} <= face.regions.keys()


def test_the_jaw_opens_the_mouth_by_blend_skinning(face):
    opened = np.zeros((2, 53), np.float32)
    opened[1, 50] = 1
    offsets = face.offsets(opened)
    gap = lip_aperture_mm(face, offsets)
    assert 8 < gap[1] - gap[0] < 25
    assert offsets[1, face.landmarks[8], 1] < -0.008 and np.abs(offsets[1, face.landmarks[30]]).max() < 2e-4


def test_the_jaw_goes_to_either_side(face):
    moved = np.zeros((2, 53), np.float32)
    moved[0, 51], moved[1, 52] = 1, -1
    chin = face.offsets(moved)[:, face.landmarks[8]]
    assert 0.01 < chin[0, 0] < 0.03 and abs(chin[0, 1]) < 1e-3  # about +y: to the viewer's right
    assert -0.02 < chin[1, 0] < -0.005  # about -z, clockwise for the viewer: what hangs goes left
    low, high = bounds(face)
    assert (low[51:] == -1).all() and (high[51:] == 1).all()


def test_pose_correctives_are_part_of_the_jaw(flame_model, tmp_path):
    corrective = np.zeros_like(flame_model["posedirs"])
    corrective[7, 0, 9 + 4] = 1.0  # of the jaw's rotation matrix less the identity: row 1, column 1
    plain, corrected = (
        load_flame(write(tmp_path / "m.pkl", flame_model | {"posedirs": posedirs}), n_shapes=2, n_expressions=1)
        for posedirs in (flame_model["posedirs"], corrective)
    )
    change = corrected.articulation_basis[1] - plain.articulation_basis[1]
    assert change[7, 0] == pytest.approx(np.cos(np.radians(11)) - 1, rel=1e-3)
    change[7, 0] = 0
    assert np.abs(change).max() < 1e-8


def test_npz_and_fewer_components(flame_model, face, tmp_path, caplog):
    arrays = {key: flame_model[key] for key in ("v_template", "f", "shapedirs")}
    np.savez(tmp_path / "flame.npz", **arrays)
    with caplog.at_level(logging.WARNING):
        again = load_flame(tmp_path / "flame.npz", n_shapes=3, n_expressions=2)
    assert again.shape_names == ("shape_000", "shape_001", "shape_002") and len(again.articulation_names) == 2
    assert "gets no jaw_open" in caplog.text
    assert again.topology_hash == face.topology_hash


def test_masks_and_embeddings_are_used(flame_model, face, bare_head, tmp_path):
    masks = {"lips": np.array([3, 1, 2]), "left_eyeball": np.array([9]), "right_eyeball": np.array([8]), "nose": [4]}
    write(tmp_path / "masks.pkl", masks)
    number = np.full(len(procedural_face().verts), -1)
    number[bare_head[2]] = np.arange(len(bare_head[2]))
    marks = number[procedural_face().landmarks[17:]]
    triangles = np.array([int(np.flatnonzero((face.faces == v).any(axis=1))[0]) for v in marks])
    corner = (face.faces[triangles] == marks[:, None]).astype(float)
    write(tmp_path / "static.pkl", {"lmk_face_idx": triangles, "lmk_b_coords": 0.6 * corner + 0.4 / 3})
    again = load_flame(
        write(tmp_path / "m.pkl", flame_model),
        masks=tmp_path / "masks.pkl",
        landmarks=tmp_path / "static.pkl",
        n_shapes=1,
    )
    assert again.region("lips").tolist() == [1, 2, 3] and again.region("eyes").tolist() == [9, 8]
    np.testing.assert_array_equal(again.landmarks[17:], marks)
    assert (again.landmarks[:17] == -1).all()
    (tmp_path / "marks.json").write_text(json.dumps(face.landmarks.tolist()))
    other = load_flame(tmp_path / "m.pkl", landmarks=tmp_path / "marks.json", n_shapes=1)
    np.testing.assert_array_equal(other.landmarks, face.landmarks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapedirs": None}, "lacks shapedirs: it is not a FLAME model file"),
        ({"f": np.zeros((3, 4))}, "don't fit"),
        ({"f": np.full((3, 3), 99_999)}, "vertex outside"),
        ({"v_template": "nan"}, "hold NaN"),
        ({"v_template": "mm"}, "expected 0.045 to 0.08 metres"),
        ({"weights": np.zeros((4, 5))}, "J_regressor .* and weights .* don't fit"),
    ],
)
def test_files_that_are_not_flames_are_refused(flame_model, tmp_path, change, message):
    spoilt = dict(flame_model) | change
    if "v_template" in change:
        spoilt["v_template"] = flame_model["v_template"] * (1000 if change["v_template"] == "mm" else np.nan)
    spoilt = {key: value for key, value in spoilt.items() if value is not None}
    with pytest.raises(InputError, match=f"m.pkl.*{message}"):
        load_flame(write(tmp_path / "m.pkl", spoilt))


@pytest.mark.parametrize(
    ("masks", "embedding", "message"),
    [
        ({"nose": [1]}, None, "but no lips"),
        ({"lips": [1, 99_999]}, None, "mask 'lips' refers to vertices outside"),
        (None, {"lmk": 1}, "expected a landmark embedding"),
        (None, {"lmk_face_idx": np.arange(9), "lmk_b_coords": np.ones((9, 3))}, "9 landmarks, expected 51 or 68"),
    ],
)
def test_masks_and_embeddings_that_do_not_fit_are_refused(flame_model, tmp_path, masks, embedding, message):
    files = {
        name: write(tmp_path / f"{name}.pkl", stored)
        for name, stored in (("masks", masks), ("landmarks", embedding))
        if stored is not None
    }
    with pytest.raises(InputError, match=message):
        load_flame(write(tmp_path / "m.pkl", flame_model), **files)
