"""Following a face: the schedule against detection in every frame, lost and jumping faces, real clips, each error."""

import importlib.util

import numpy as np
import pytest

from avsr.errors import InputError
from avsr.media import landmarks as module
from avsr.media.landmarks import Landmarks, detect_landmarks
from avsr.media.video import read_frames


class _SquareFinder:
    """A detector of white squares, in place of dlib; its points are the box's corners, over and over."""

    def __init__(self):
        self.n_calls = 0

    def find_boxes(self, gray):
        self.n_calls += 1
        rows, columns = np.flatnonzero(gray.max(1) > 200), np.flatnonzero(gray.max(0) > 200)
        if not len(rows):
            return []
        return [np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)]

    def fit_points(self, gray, box):
        return np.tile(box.reshape(2, 2), (34, 1))


@pytest.fixture
def squares(monkeypatch) -> _SquareFinder:
    finder = _SquareFinder()
    monkeypatch.setattr(module, "_detector", lambda name: ("squares", finder.find_boxes, finder.fit_points))
    return finder


def _picture(left, top=20, side=40) -> np.ndarray:
    picture = np.zeros((100, 300), np.uint8)
    if left is not None:
        picture[top : top + side, left : left + side] = 255
    return picture


def _naive(pictures) -> tuple[np.ndarray, np.ndarray]:
    """Detect in every picture."""
    finder = _SquareFinder()
    boxes = [finder.find_boxes(picture) for picture in pictures]
    found = np.array([bool(box) for box in boxes])
    points = np.array([finder.fit_points(None, box[0]) if box else np.full((68, 2), np.nan) for box in boxes])
    return points, found


def test_a_steady_face_is_looked_for_in_every_fifth_frame(squares):
    pictures = [_picture(10 + 2 * t) for t in range(51)]
    result = detect_landmarks(pictures)
    assert squares.n_calls == 11
    assert result.detector == "squares" and result.found.all() and result.points.dtype == np.float32
    np.testing.assert_allclose(result.points, _naive(pictures)[0], atol=1e-4)


@pytest.mark.parametrize("n_frames", [1, 2, 5, 6, 7, 11, 13])
def test_every_length_is_covered(squares, n_frames):
    pictures = [_picture(10 + t) for t in range(n_frames)]
    result = detect_landmarks(pictures)
    np.testing.assert_allclose(result.points, _naive(pictures)[0], atol=1e-4)


def test_a_jump_is_followed_exactly(squares):
    pictures = [_picture(10 if t < 8 else 200) for t in range(20)]
    result = detect_landmarks(pictures)
    np.testing.assert_allclose(result.points, _naive(pictures)[0], atol=1e-4)


def test_a_face_that_leaves_and_returns(squares):
    pictures = [_picture(None if 7 <= t < 18 else 10 + t) for t in range(30)]
    result = detect_landmarks(pictures)
    points, found = _naive(pictures)
    np.testing.assert_array_equal(result.found, found)
    np.testing.assert_allclose(result.points[found], points[found], atol=1e-4)
    assert np.isfinite(result.points).all()
    np.testing.assert_allclose(result.points[12, 0, 0], 10 + 12, atol=1e-4)  # on the way from frame 6 to frame 18


def test_a_face_that_comes_late_is_held_before(squares):
    result = detect_landmarks([_picture(None if t < 9 else 50) for t in range(12)])
    np.testing.assert_array_equal(result.found, np.arange(12) >= 9)
    np.testing.assert_allclose(result.points[:, 0, 0], 50)


def test_the_followed_face_is_kept_when_a_larger_one_comes():
    near, large = np.array([0.0, 0, 10, 10]), np.array([50.0, 50, 90, 90])
    assert module._nearest([large, near], np.array([1.0, 1, 11, 11])) is near
    assert module._nearest([near, large], None) is large
    assert module._nearest([], near) is None


def test_overlap():
    assert module._overlap(np.array([0.0, 0, 2, 2]), np.array([1.0, 0, 3, 2])) == pytest.approx(1 / 3)
    assert module._overlap(np.array([0.0, 0, 2, 2]), np.array([2.0, 2, 3, 3])) == 0


def test_no_face_in_any_frame(squares):
    with pytest.raises(InputError, match=r"a\.mp4: no face found in any of 12 frames"):
        detect_landmarks([_picture(None)] * 12, where="a.mp4")


def test_an_unknown_detector():
    with pytest.raises(InputError, match="'yolo' is unknown; choose auto, dlib, haar, mediapipe"):
        detect_landmarks([_picture(10)], detector="yolo")


@pytest.mark.parametrize("name, package", [("dlib", "liploop"), ("haar", "opencv"), ("auto", "liploop")])
def test_a_detector_that_is_not_installed(monkeypatch, name, package):
    module._dlib.cache_clear()
    module._haar.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda package: None)
        with pytest.raises(InputError, match=f"{name!r} is not installed: pip install '{package}"):
            detect_landmarks([_picture(10)], detector=name)
    module._dlib.cache_clear()
    module._haar.cache_clear()


def test_save_and_load(tmp_path):
    points = np.random.default_rng(0).normal(size=(4, 68, 2)).astype(np.float32)
    Landmarks(points, np.array([True, False, True, True]), "dlib").save(tmp_path / "a.npz")
    loaded = Landmarks.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(loaded.points, points)
    assert loaded.found.tolist() == [True, False, True, True] and loaded.detector == "dlib"


def test_load_errors(tmp_path):
    with pytest.raises(InputError, match="no such landmarks file"):
        Landmarks.load(tmp_path / "nowhere.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK no archive")
    with pytest.raises(InputError, match=r"broken\.npz: not a landmarks file"):
        Landmarks.load(tmp_path / "broken.npz")
    np.savez(tmp_path / "other.npz", verts=np.zeros(3))
    with pytest.raises(InputError, match=r"other\.npz: not a landmarks file"):
        Landmarks.load(tmp_path / "other.npz")
    Landmarks(np.zeros((3, 5, 2), np.float32), np.ones(3, bool), "dlib").save(tmp_path / "few.npz")
    with pytest.raises(InputError, match=r"points are \(3, 5, 2\), expected \(T, 68, 2\)"):
        Landmarks.load(tmp_path / "few.npz")


@pytest.fixture(scope="module")
def grid_frames(shared) -> np.ndarray:
    return read_frames(shared / "grid" / "s1" / "bbaf3s.mpg", gray=True)[:31]


@pytest.fixture(scope="module")
def grid_landmarks(grid_frames) -> Landmarks:
    pytest.importorskip("dlib")
    pytest.importorskip("face_recognition_models")
    return detect_landmarks(grid_frames, "dlib")


def test_dlib_on_a_real_clip(grid_landmarks):
    points = grid_landmarks.points
    assert grid_landmarks.found.all() and grid_landmarks.detector == "dlib"
    eyes = np.linalg.norm(points[:, 42:48].mean(1) - points[:, 36:42].mean(1), axis=1)
    assert 40 < eyes.mean() < 52
    mouth = np.linalg.norm(points[:, 54] - points[:, 48], axis=1)
    assert 34 < mouth.mean() < 48
    assert (points[:, 30, 1] < points[:, 51, 1]).all() and (points[:, 57, 1] < points[:, 8, 1]).all()
    jitter = np.abs(np.diff(points[:, 27:36].mean(1), n=2, axis=0)).mean()
    assert jitter < 1.0  # pixels


def test_sparse_detection_agrees_with_every_frame(grid_frames, grid_landmarks, monkeypatch):
    monkeypatch.setattr(module, "DETECT_EVERY_FRAMES", 1)
    dense = detect_landmarks(grid_frames, "dlib")
    distance = np.linalg.norm(dense.points[:, 48:68].mean(1) - grid_landmarks.points[:, 48:68].mean(1), axis=1)
    assert distance.mean() < 1.0  # pixels


def test_a_large_picture_gives_the_same_points(grid_frames, grid_landmarks):
    import cv2

    large = [cv2.resize(frame, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC) for frame in grid_frames[:3]]
    points = detect_landmarks(large, "dlib").points / 3
    assert np.linalg.norm(points - grid_landmarks.points[:3], axis=2).mean() < 2.5


def test_haar_puts_a_mean_face_near_dlib_s(grid_frames, grid_landmarks):
    haar = detect_landmarks(grid_frames, "haar")
    assert haar.detector == "haar" and haar.found.mean() > 0.9
    difference = haar.points[:, 48:68].mean(1) - grid_landmarks.points[:, 48:68].mean(1)
    assert np.linalg.norm(difference, axis=1).mean() < 12  # pixels; the mouth is 40 wide


def test_a_real_face_that_leaves(grid_frames, grid_landmarks):
    frames = grid_frames.copy()
    frames[12:] = 90
    result = detect_landmarks(frames, "dlib")
    np.testing.assert_array_equal(result.found, np.arange(len(frames)) < 12)
