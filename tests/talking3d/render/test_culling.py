"""Leaving out what never comes into view changes no picture."""

import numpy as np
import pytest

from talking3d.face.procedural import procedural_face
from talking3d.render import renderer
from talking3d.render.culling import EVERYWHERE, part_in_view


def test_faces_beyond_one_side_are_left_out_and_neighbours_kept_for_normals():
    faces = np.array([[0, 1, 2], [1, 2, 3], [2, 3, 4], [4, 5, 6]])
    outside = np.array([0, 1, 1, 1, 0b0011, 0b0010, 0b0010], np.uint8)  # 3 lies to the left, 4 corner-wise
    part = part_in_view(faces, np.array([False, False, False, True]), outside)
    assert part.faces.tolist() == [[0, 1, 2]]  # the others lie beyond one side with all their corners
    assert part.kept.tolist() == [0, 1, 2, 3, 4]
    assert part.around.tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    crossing = outside.copy()
    crossing[5] = 0b1000  # its face lies beyond two sides: it may cross a corner of the picture
    part = part_in_view(faces, np.array([False, False, False, True]), crossing)
    assert len(part.faces) == 2 and part.outer.tolist() == [0] and part.inner.tolist() == [1]


@pytest.mark.parametrize("view", ["lips", "face"])
def test_pictures_are_the_whole_meshs(view, monkeypatch):
    face = procedural_face()
    coefficients = np.zeros((3, len(face.articulation_names)), np.float32)
    coefficients[:, 0] = 0, 0.5, 1
    pose = np.zeros((3, 6), np.float32)
    pose[:, 1], pose[:, 3] = (0, 0.2, -0.3), (0, 0.05, 0.2)
    draw = {"lips": renderer.render_lips, "face": lambda *args: renderer.render_face(*args, size=64)}[view]
    part = draw(face, face.offsets(coefficients), pose)
    n_faces = []

    def everything(faces, interior_faces, outside):
        n_faces.append(len(part_in_view(faces, interior_faces, outside).faces))
        return part_in_view(faces, interior_faces, np.zeros(len(outside), np.uint8))

    monkeypatch.setattr(renderer, "part_in_view", everything)
    assert np.array_equal(part, draw(face, face.offsets(coefficients), pose))
    assert n_faces[0] < 0.6 * len(face.faces) or view == "face"


def test_a_vertex_that_no_frame_looked_at_is_nowhere():
    faces, outside = np.array([[0, 1, 2]]), np.full(3, EVERYWHERE, np.uint8)
    assert len(part_in_view(faces, np.array([False]), outside).faces) == 0
