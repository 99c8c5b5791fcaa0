from dataclasses import replace

import numpy as np
import pytest

from avsr.errors import InputError
from talking3d.face.align import common_landmarks, similarity, warp_by_landmarks
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
