import numpy as np
import pytest

from talking3d.face.complexion import Complexion
from talking3d.face.mesh_graph import unique_edges
from talking3d.face.paint import face_regions, hair_cover, paint_eyeball, paint_skin, smooth_over_mesh
from talking3d.face.procedural import procedural_face


def test_a_face_painted_by_landmarks_resembles_the_one_painted_by_formula():
    face = procedural_face()
    painted = paint_skin(face, Complexion())
    assert painted.shape == face.colors.shape and painted.min() > 0 and painted.max() <= 1
    skin = np.setdiff1d(face.region("skin"), face.region("lips"))
    front = skin[face.verts[skin, 2] > -0.05]
    assert np.abs(painted[front] - face.colors[front]).mean() < 0.03
    tip = face.landmarks[51]
    assert painted[tip, 0] / painted[tip, 1] > 1.3 * painted[front, 0].mean() / painted[front, 1].mean()


def test_the_person_decides_the_colours():
    face = procedural_face()
    pale, dark = (paint_skin(face, Complexion(skin=skin)) for skin in ((0.7, 0.47, 0.36), (0.1, 0.05, 0.03)))
    nose = face.landmarks[30]
    assert pale[nose].min() > 3 * dark[nose].max()


def test_an_eyeball_has_a_pupil_in_an_iris_in_its_white():
    angle = np.linspace(0, np.pi, 60)
    points = 12.0 * np.stack([np.sin(angle), 0 * angle, np.cos(angle)], axis=1)
    colors = paint_eyeball(points, np.array([0.0, 0.0, 1.0]), Complexion())
    away = points[:, 0]
    front = points[:, 2] > 0
    assert colors[front & (away < 1.5)].max() < 0.02
    assert (colors[front & (away > 8)].min(axis=1) > 0.3).all() and (colors[~front].min(axis=1) > 0.2).all()
    iris = colors[front & (away > 3) & (away < 5)]
    assert iris.max() < 0.4 and iris.min() > 0.02


def test_regions_and_hair_lie_where_the_procedural_faces_do():
    face = procedural_face()
    skin = face.region("skin")
    named = face_regions(face, skin)
    assert set(face.landmarks[36:48]) <= set(named["upper_face"]) and face.landmarks[57] in named["lower_face"]
    cover = dict(zip(skin.tolist(), hair_cover(face, skin).tolist(), strict=True))
    assert cover[int(face.landmarks[30])] == 0
    assert cover[int(skin[np.argmax(face.verts[skin, 1])])] == 1


def test_smoothing_averages_neighbours():
    faces = np.array([[0, 1, 2], [1, 3, 2]])
    edges, _ = unique_edges(faces)
    values = np.array([1.0, 0.0, 0.0, 0.0])
    expected = values.copy()
    for v in range(4):
        around = [b if a == v else a for a, b in edges if v in (a, b)]
        expected[v] = 0.5 * values[v] + 0.5 * values[around].mean()
    np.testing.assert_allclose(smooth_over_mesh(values, faces, 1), expected)
    assert smooth_over_mesh(values, faces, 200) == pytest.approx(np.full(4, smooth_over_mesh(values, faces, 200)[0]))
