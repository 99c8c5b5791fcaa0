import numpy as np
import pytest

from avsr.errors import InputError
from talking3d.face.find_mouth import find_landmarks, find_openings, split_loop
from talking3d.face.procedural import procedural_face
from talking3d.render.camera import rotation_matrices


def test_landmarks_of_a_bare_head_lie_near_the_true_ones(bare_head, bare_face):
    face = procedural_face()
    true = face.verts[face.landmarks] - face.verts[face.landmarks[60:68]].mean(axis=0)
    away = 1e3 * np.linalg.norm(bare_face.verts[bare_face.landmarks] - true, axis=1)
    there = bare_face.landmarks >= 0
    assert there[36:68].all() and there[[8, 27, 30, 33]].all() and not there[:8].any()
    assert away[60:68].max() < 2.5 and away[48:60].max() < 5 and away[36:48].max() < 5
    assert away[[27, 30, 33]].max() < 11 and away[8] < 13


def test_the_frame_is_found_whatever_the_axes(bare_head):
    verts, faces, _ = bare_head
    openings, frame = find_openings(verts, faces, "head")
    turn = rotation_matrices(np.array([[0.7, 2.0, -1.1]]))[0].astype(float)
    again, turned = find_openings(5 * verts @ turn.T + 3, faces, "head")
    for one, other in zip(openings, again, strict=True):
        assert set(one.tolist()) == set(other.tolist())
    np.testing.assert_allclose(turned.points(5 * verts @ turn.T + 3), 5 * frame.points(verts), atol=1e-6)
    assert turned.eye_distance == pytest.approx(5 * frame.eye_distance)


def test_too_few_holes_say_what_to_give(bare_head):
    verts, faces, kept = bare_head
    eye = np.isin(kept, procedural_face().region("eyes"))
    lids = find_openings(verts, faces, "head")[0].left_eye
    used = faces[~np.isin(faces, lids).any(axis=1) & ~eye[faces].any(axis=1)]
    used = used[(verts[used][:, :, 0] > 0).all(axis=1)]  # half a head has neither mouth nor two eyes
    with pytest.raises(InputError, match=r"found \d holes.*give --landmarks FILE"):
        find_openings(verts, used, "half")


def test_a_hole_without_lips_is_refused(bare_head):
    verts, faces, _ = bare_head
    openings, frame = find_openings(verts, faces, "head")
    upright = 1e3 * frame.points(verts)
    upright[openings.mouth, 1] *= 30  # tears the mouth far open
    with pytest.raises(
        InputError, match="mesh head: its mouth's hole has no lips around it that meet in a line; give --landmarks"
    ):
        find_landmarks(upright, faces, openings, "head")


def test_a_loop_is_split_at_its_ends():
    angle = 2 * np.pi * np.arange(12) / 12 + 0.1
    verts = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    upper, lower = split_loop(verts, np.arange(12))
    assert upper[0] == lower[0] and upper[-1] == lower[-1]
    assert verts[upper[1:-1], 1].min() > 0 > verts[lower[1:-1], 1].max()
    assert (np.diff(verts[upper, 0]) > 0).all() and (np.diff(verts[lower, 0]) > 0).all()
    assert len(upper) + len(lower) == 14


def test_landmarks_found_on_biwi(biwi_face):
    x, y, z = 1e3 * biwi_face.verts[biwi_face.landmarks].T
    assert (np.diff(x[48:55]) > 0).all() and (np.diff(x[60:65]) > 0).all()
    assert 34 < x[54] - x[48] < 52 and abs(x[48] + x[54]) < 3
    assert y[51] > y[62] > y[66] > y[57] and y[62] - y[66] < 1
    assert x[36] < x[39] < 0 < x[42] < x[45] and 55 < y[36:48].mean() < 75
    assert z[30] > z[51] > z[48]
