import numpy as np
import pytest
from filmed import film, talk

from avsr.media.landmarks import Landmarks
from talking3d.face.face_frame import filmed_mouth, lay, lay_back, modelled_mouth, plane, similar
from talking3d.face.procedural import procedural_face
from talking3d.face.regions import lip_aperture_mm, lip_width_mm
from talking3d.metrics import correlation


@pytest.fixture(scope="module")
def spoken():
    face = procedural_face()
    coefficients = talk(face, np.random.default_rng(3))
    return modelled_mouth(face, face.offsets(coefficients)), film(face, coefficients)


def test_a_modelled_mouth_is_measured_in_millimetres():
    face = procedural_face()
    offsets = face.offsets(talk(face, np.random.default_rng(0)))
    mouth = modelled_mouth(face, offsets)
    np.testing.assert_array_equal(mouth.opening, lip_aperture_mm(face, offsets))
    np.testing.assert_array_equal(mouth.width, lip_width_mm(face, offsets))
    np.testing.assert_allclose(np.diff(mouth.lower), 1e3 * np.diff(offsets[:, face.landmarks[66], 1]), atol=1e-3)


def test_a_film_shows_the_mouth_that_moves_whatever_the_head_does(spoken):
    mouth, landmarks = spoken
    for true, seen in zip(mouth, filmed_mouth(landmarks), strict=True):
        assert correlation(true, seen) > 0.97
    time = np.arange(len(landmarks.points)) / 25
    turn = np.exp(0.2j * np.sin(2 * time)) * (1 + 0.2 * np.sin(time))
    moved = turn[:, None] * (landmarks.points[..., 0] + 1j * landmarks.points[..., 1]) + (30 * time + 9j)[:, None]
    points = np.stack([moved.real, moved.imag], axis=-1).astype(np.float32)
    for still, moving in zip(
        filmed_mouth(landmarks), filmed_mouth(Landmarks(points, landmarks.found, "dlib")), strict=True
    ):
        assert correlation(still, moving) > 0.99


def test_blinks_are_no_motion_of_the_mouth(spoken):
    _, landmarks = spoken
    points = landmarks.points.copy()
    points[40:44, [37, 38, 43, 44], 1] += 6
    blinking = filmed_mouth(Landmarks(points, landmarks.found, "dlib"))
    quiet = filmed_mouth(landmarks)
    np.testing.assert_allclose(blinking.lower - blinking.lower[0], quiet.lower - quiet.lower[0], atol=1e-9)


def test_what_is_laid_is_laid_back():
    rng = np.random.default_rng(0)
    points, target = rng.normal(size=(3, 9, 2)), rng.normal(size=(1, 9, 2))
    laid = similar(points, target)
    np.testing.assert_allclose(lay_back(laid, lay(laid, points)), points)
    angle, scale, shift = 0.3, 1.7, np.array([4.0, -2.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(lay(similar(target, target @ turn.T + shift), target), target @ turn.T + shift)
    np.testing.assert_array_equal(plane(plane(points)), points)
