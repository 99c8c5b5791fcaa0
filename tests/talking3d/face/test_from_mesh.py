import json
import logging

import numpy as np
import pytest

from avsr.errors import InputError
from talking3d.face.from_mesh import read_indices, read_landmarks, template_from_mesh, template_of
from talking3d.face.mesh_io import write_obj
from talking3d.face.procedural import procedural_face
from talking3d.render.camera import rotation_matrices
from talking3d.render.renderer import render_lips

TURN = rotation_matrices(np.array([[0.5, -2.2, 1.0]]))[0].astype(float)


def true_landmarks(kept):
    number = np.full(len(procedural_face().verts), -1)
    number[kept] = np.arange(len(kept))
    return number[procedural_face().landmarks]


def test_a_bare_mesh_becomes_a_face_that_lip_crops_can_be_cut_from(bare_face):
    assert {"lips", "vermilion", "lips_inner", "upper_face", "lower_face", "skin", "eyes"} <= bare_face.regions.keys()
    assert np.abs(bare_face.verts[bare_face.landmarks[60:68]].mean(axis=0)).max() < 1e-6
    redness = bare_face.colors[:, 0] / bare_face.colors[:, 1]
    skin = np.setdiff1d(bare_face.region("skin"), bare_face.region("lips"))
    assert np.median(redness[bare_face.region("lips")]) > 1.4 * np.median(redness[skin])
    crops = render_lips(bare_face, np.zeros((1, *bare_face.verts.shape), np.float32))
    assert crops.shape == (1, 96, 96) and crops.std() > 10


@pytest.mark.parametrize(("per_metre", "named"), [(1.0, "m"), (100.0, "cm"), (1000.0, "mm")])
def test_unit_and_axes_are_found_and_said(bare_head, bare_face, per_metre, named, caplog):
    verts, faces, _ = bare_head
    face = template_of(per_metre * verts @ TURN.T + 4, faces, name="head")
    np.testing.assert_allclose(face.verts, bare_face.verts, atol=1e-5)
    np.testing.assert_array_equal(face.landmarks, bare_face.landmarks)
    assert f"taken to be in {named}" in caplog.text


def test_a_mesh_in_no_unit_is_scaled_and_that_is_said(bare_head, bare_face, caplog):
    verts, faces, _ = bare_head
    face = template_of(7 * verts, faces, name="head")
    assert "scaled by" in caplog.text and "63 mm apart" in caplog.text
    ratio = np.linalg.norm(face.verts[100] - face.verts[0]) / np.linalg.norm(bare_face.verts[100] - bare_face.verts[0])
    assert 0.9 < ratio < 1.1


def test_a_mesh_that_looks_inwards_is_turned_round(bare_head, bare_face, caplog):
    verts, faces, _ = bare_head
    face = template_of(verts, faces[:, ::-1], name="head", unit="m")
    assert "look inwards" in caplog.text
    assert {tuple(sorted(t)) for t in face.faces.tolist()} == {tuple(sorted(t)) for t in bare_face.faces.tolist()}
    np.testing.assert_allclose(face.verts, bare_face.verts, atol=1e-6)


def test_degenerate_triangles_are_left_out_and_counted(bare_head, caplog):
    verts, faces, _ = bare_head
    flat = np.concatenate([faces, [[5, 5, 6], [7, 8, 7]]])
    assert len(template_of(verts, flat, name="head", unit="m").faces) == len(faces)
    assert "mesh head: 2 degenerate triangles" in caplog.text
    with pytest.raises(InputError, match="mesh head: .* triangles are degenerate: repair"):
        template_of(verts, np.concatenate([faces, np.repeat(flat[-1:], len(faces), 0)]), name="head", unit="m")


def test_files_give_lips_upper_face_and_landmarks(bare_head, tmp_path):
    verts, faces, kept = bare_head
    write_obj(tmp_path / "head.obj", 1000 * verts @ TURN.T, faces)
    (tmp_path / "lips.txt").write_text("9, 8, 7, 7,\n12")
    (tmp_path / "upper.txt").write_text("1 2 3")
    landmarks = true_landmarks(kept)
    (tmp_path / "marks.json").write_text(json.dumps({str(n): int(v) for n, v in enumerate(landmarks)}))
    face = template_from_mesh(
        tmp_path / "head.obj",
        unit="mm",
        lips=tmp_path / "lips.txt",
        upper_face=tmp_path / "upper.txt",
        landmarks=tmp_path / "marks.json",
    )
    assert face.name == "head"
    assert face.region("lips").tolist() == [7, 8, 9, 12] and face.region("upper_face").tolist() == [1, 2, 3]
    np.testing.assert_array_equal(face.landmarks, landmarks)
    own = procedural_face()
    np.testing.assert_allclose(face.verts, own.verts[kept] - own.verts[own.landmarks[60:68]].mean(axis=0), atol=1e-4)
    (tmp_path / "marks.json").write_text(json.dumps(landmarks.tolist()))
    np.testing.assert_array_equal(read_landmarks(tmp_path / "marks.json", len(verts)), landmarks)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1, two", "not a list of vertex indices"),
        ("", "0 indices, expected some"),
        ("3, 50", "belongs to another mesh"),
    ],
)
def test_index_files_that_do_not_fit_are_named(text, message, tmp_path):
    (tmp_path / "lips.txt").write_text(text)
    with pytest.raises(InputError, match=f"lips.txt: .*{message}"):
        read_indices(tmp_path / "lips.txt", 50)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ([1] * 60, r"lacks the landmarks \[60, 61"),
        ({"48": 3}, r"lacks the landmarks \[36, 37"),
        ({"99": 3}, "not landmarks"),
        ("text", "not landmarks"),
        ([99] * 68, "is no vertex of the mesh"),
    ],
)
def test_landmark_files_that_do_not_fit_are_named(stored, message, tmp_path):
    (tmp_path / "marks.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match=message):
        read_landmarks(tmp_path / "marks.json", 50)


def test_a_wrong_unit_is_an_error_that_says_the_distance_of_the_eyes(bare_head, tmp_path):
    verts, faces, _ = bare_head
    with pytest.raises(InputError, match="in mm its eyes are 0.06.* mm apart, expected 45 to 80: give its real unit"):
        template_of(verts, faces, name="head", unit="mm")
    write_obj(tmp_path / "head.obj", verts, faces)
    with pytest.raises(InputError, match="unit 'inch': expected one of m, cm, mm"):
        template_from_mesh(tmp_path / "head.obj", unit="inch")


def test_flat_landmarks_are_an_error(bare_head):
    verts, faces, kept = bare_head
    with pytest.raises(InputError, match="coincide or lie in one plane"):
        template_of(verts, faces, name="head", landmarks=np.full(68, 3))


def test_biwi_is_read_with_the_literatures_masks(biwi_face, shared, caplog):
    assert len(biwi_face.verts) == 23370 and len(biwi_face.region("lips")) == 4996
    assert len(biwi_face.region("upper_face")) == 7784
    assert 300 < len(biwi_face.region("vermilion")) < 2000
    eyes = biwi_face.verts[biwi_face.landmarks[36:48]].reshape(2, 6, 3).mean(axis=1)
    assert np.linalg.norm(eyes[0] - eyes[1]) == pytest.approx(0.063, abs=0.003)
    with caplog.at_level(logging.WARNING):
        crops = render_lips(biwi_face, np.zeros((1, *biwi_face.verts.shape), np.float32))
    assert crops.std() > 10
