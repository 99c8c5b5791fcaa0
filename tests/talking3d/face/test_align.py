from dataclasses import replace

import numpy as np
import pytest

from avsr.errors import InputError
from talking3d.face.align import MIRRORED, common_landmarks, shift_landmarks, similarity, warp_by_landmarks
from talking3d.face.procedural import procedural_face
from talking3d.render.camera import rotation_matrices


def test_a_similarity_is_recovered_exactly():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(7, 3))
    rotation = rotation_matrices(np.array([[0.3, -1.0, 2.0]]))[0].astype(float)
    found = similarity(points, 1.7 * points @ rotation.T + [1, 2, 3])
    assert found.scale == pytest.approx(1.7, rel=1e-6)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-6)
    np.testing.assert_allclose(found.shift, [1, 2, 3], atol=1e-5)
    np.testing.assert_allclose(found.vectors(points[:1]), 1.7 * points[:1] @ rotation.T, atol=1e-5)


def test_mirror_images_are_not_reached_by_reflection():
    points = np.random.default_rng(0).normal(size=(9, 3))
    assert np.linalg.det(similarity(points, points * [-1, 1, 1]).rotation) == pytest.approx(1)


def test_the_warp_takes_landmarks_to_landmarks_and_follows_similarities():
    face = procedural_face()
    wide = face.identity(np.eye(10)[0] * 2)
    marks = face.verts[face.landmarks]
    np.testing.assert_allclose(warp_by_landmarks(face, wide, marks), wide.verts[face.landmarks], atol=2e-4)
    larger = replace(face, verts=1.3 * face.verts + [0.1, 0, 0])
    np.testing.assert_allclose(warp_by_landmarks(face, larger, face.verts), larger.verts, atol=1e-5)


def test_a_face_without_mouth_landmarks_cannot_be_laid_over():
    face = procedural_face()
    landmarks = face.landmarks.copy()
    landmarks[[50, 66]] = -1
    with pytest.raises(InputError, match=r"lacks the mouth's iBUG landmarks \[50, 66\]"):
        common_landmarks(face, replace(face, landmarks=landmarks))
    landmarks = face.landmarks.copy()
    landmarks[:10] = -1
    assert common_landmarks(face, replace(face, landmarks=landmarks)).tolist() == list(range(10, 68))


def test_shifted_landmarks_take_the_face_with_them():
    face = procedural_face()
    marks = face.verts[face.landmarks].astype(np.float64)
    np.testing.assert_array_equal(MIRRORED[MIRRORED], np.arange(68))
    inner = np.arange(17, 68)
    assert np.abs(marks[MIRRORED] * (-1, 1, 1) - marks)[inner].max() < 3e-3  # vertices nearest to their places
    numbers = np.arange(27, 60)
    up = np.zeros((len(numbers), 3))
    up[numbers < 48, 1] = 0.008  # eyes and nose go up, the mouth stays
    shifted = shift_landmarks(face, numbers, up, 0.0)
    moved = shifted.verts[face.landmarks[numbers]] - face.verts[face.landmarks[numbers]]
    np.testing.assert_allclose(moved, up, atol=1e-4)
    between = shifted.verts - face.verts
    assert between[:, 1].min() > -0.002 and between[:, 1].max() < 0.01
    smooth = shift_landmarks(face, numbers, up, 0.01).verts - face.verts
    assert 1e-4 < np.abs(smooth[face.landmarks[numbers]] - up).max() < 0.008
    aslant = np.zeros((len(numbers), 3))
    aslant[:, 0] = 0.01  # all to one side: no face does that
    np.testing.assert_allclose(shift_landmarks(face, numbers, aslant, 0.0).verts, face.verts, atol=1e-6)
