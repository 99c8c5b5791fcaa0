"""MediaPipe's points as iBUG's, on its published canonical face; and its door, by a module of its API's shape.

No FaceLandmarker model is here: what stands for mediapipe has the names, arguments and errors of mediapipe 1.2.3.
"""

import enum
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from avsr.errors import InputError
from avsr.media.landmarks import detect_landmarks
from avsr.media.mediapipe_landmarks import IBUG, MOST_FACES, N_POINTS, faces_in, to_ibug

# Where mediapipe/modules/face_geometry/data/face_model_with_iris.obj (Apache-2.0) has the points in use: x to the
# viewer's right and y up, centimetres. Of points in pairs only the left one is here; the right one is its mirror image.
LEFT = {
    0: (0.0, -3.41), 2: (0.0, -2.09), 4: (0.0, -0.46), 5: (0.0, 0.37), 6: (0.0, 2.47), 13: (0.0, -3.99),
    14: (0.0, -4.54), 17: (0.0, -5.37), 152: (0.0, -9.4), 168: (0.0, 3.27), 195: (0.0, 1.06), 197: (0.0, 1.73),
    33: (-4.45, 2.66), 37: (-0.71, -3.33), 39: (-1.43, -3.5), 58: (-6.72, -4.79), 61: (-2.46, -4.34),
    63: (-4.99, 4.8), 66: (-2.76, 5.1), 70: (-5.72, 4.25), 75: (-1.04, -1.46), 78: (-2.15, -4.28),
    82: (-0.53, -3.99), 84: (-0.7, -5.29), 87: (-0.58, -4.52), 91: (-1.84, -4.83), 93: (-7.54, -1.05),
    97: (-0.6, -2.01), 105: (-3.99, 5.11), 107: (-1.4, 5.01), 127: (-7.74, 2.36), 132: (-7.27, -2.89),
    133: (-1.86, 2.59), 136: (-5.09, -7.18), 144: (-3.78, 2.36), 150: (-4.07, -7.99), 153: (-2.72, 2.32),
    158: (-2.72, 2.96), 160: (-3.67, 2.93), 172: (-5.94, -6.22), 176: (-2.31, -8.97), 234: (-7.66, 0.67),
}  # fmt: skip
MIRRORED = {
    33: 263, 37: 267, 39: 269, 58: 288, 61: 291, 63: 293, 66: 296, 70: 300, 75: 305, 78: 308, 82: 312, 84: 314, 87: 317,
    91: 321, 93: 323, 97: 326, 105: 334, 107: 336, 127: 356, 132: 361, 133: 362, 136: 365, 144: 373, 150: 379, 153: 380,
    158: 385, 160: 387, 172: 397, 176: 400, 234: 454,
}  # fmt: skip


@pytest.fixture(scope="module")
def canonical() -> np.ndarray:
    points = np.full((N_POINTS, 2), np.nan)
    for number, place in LEFT.items():
        points[number] = place
    for left, right in MIRRORED.items():
        points[right] = points[left] * (-1, 1)
    return points


def test_the_points_lie_on_the_face_as_ibugs_do(canonical):
    points = to_ibug(canonical)
    assert points.shape == (68, 2) and np.isfinite(points).all()
    x, y = points.T
    assert (np.diff(x[:17][1:-1]) > 0).all() and y[8] == y.min()  # the jaw, from the picture's left, the chin lowest
    assert (np.diff(x[17:27]) > 0).all() and y[17:27].min() > y[36:48].max()
    assert (np.diff(y[27:31]) < 0).all() and (np.diff(x[31:36]) > 0).all() and y[33] < y[30]
    for corners, upper, lower in (((36, 39), (37, 38), (41, 40)), ((42, 45), (43, 44), (47, 46))):
        assert x[corners[0]] < x[[*upper]].min() and x[[*upper]].max() < x[corners[1]]
        assert (
            (y[[*upper]] > y[[*lower]]).all() and (np.diff(x[[*upper]]) > 0).all() and (np.diff(x[[*lower]]) > 0).all()
        )
    assert (
        (np.diff(x[48:55]) > 0).all()
        and (np.diff(x[54:60]) < 0).all()
        and y[[50, 51, 52]].min() > y[[56, 57, 58]].max()
    )
    assert (np.diff(x[60:65]) > 0).all() and (np.diff(x[64:68]) < 0).all()
    assert (y[[61, 62, 63]] > y[[67, 66, 65]]).all() and (y[[50, 51, 52]] > y[[61, 62, 63]]).all()


def test_the_picture_of_a_face_in_a_mirror_has_mirrored_points(canonical):
    other_side = [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46]
    other_side += [39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65]
    points = to_ibug(canonical)
    np.testing.assert_allclose(points[other_side] * (-1, 1), points, atol=1e-12)
    assert IBUG.max() < 468  # the last ten are the irises


class _Vision(SimpleNamespace):
    """mediapipe.tasks.vision, whose landmarker sees a face wherever a picture has a column of its red value, 1 to 9."""

    class RunningMode(enum.Enum):
        IMAGE, VIDEO = "IMAGE", "VIDEO"

    class FaceLandmarkerOptions:
        def __init__(self, base_options, running_mode, num_faces=1):
            self.base_options, self.running_mode, self.num_faces = base_options, running_mode, num_faces

    class FaceLandmarker:
        closed = 0

        @classmethod
        def create_from_options(cls, options):
            if not Path(options.base_options.model_asset_path).read_bytes().startswith(b"PK"):
                raise RuntimeError("Unable to open zip archive.")
            assert options.running_mode is _Vision.RunningMode.VIDEO and options.num_faces == MOST_FACES
            landmarker = cls()
            landmarker.times_ms = []
            return landmarker

        def __enter__(self):
            return self

        def __exit__(self, *error):
            type(self).closed += 1

        def detect_for_video(self, image, timestamp_ms):
            self.times_ms.append(timestamp_ms)
            assert self.times_ms == [40 * t for t in range(len(self.times_ms))]
            assert image.data.dtype == np.uint8 and image.data.flags.c_contiguous and image.image_format == "SRGB"
            faces = []
            for level in np.unique(image.data[..., 0][image.data[..., 0] > 0]):
                rows, columns = np.nonzero(image.data[..., 0] == level)
                x = np.linspace(columns.min(), columns.max() + 1, N_POINTS) / image.data.shape[1]
                y = np.linspace(rows.min(), rows.max() + 1, N_POINTS)[::-1] / image.data.shape[0]
                faces.append([SimpleNamespace(x=float(a), y=float(b), z=0.0) for a, b in zip(x, y, strict=True)])
            return SimpleNamespace(face_landmarks=faces)


@pytest.fixture
def model(monkeypatch, tmp_path):
    """The model's file, with mediapipe's shape in place."""
    base_options = lambda model_asset_path: SimpleNamespace(model_asset_path=model_asset_path)  # noqa: E731
    image = lambda image_format, data: SimpleNamespace(image_format=image_format, data=data)  # noqa: E731
    tasks = SimpleNamespace(vision=_Vision, BaseOptions=base_options)
    shape = SimpleNamespace(tasks=tasks, Image=image, ImageFormat=SimpleNamespace(SRGB="SRGB"))
    monkeypatch.setitem(sys.modules, "mediapipe", shape)
    (tmp_path / "face_landmarker.task").write_bytes(b"PK a model")
    return tmp_path / "face_landmarker.task"


def pictures(*faces, n_frames=4):
    """RGB, 200 wide and 100 high, of faces (left, top, side), which move right by a pixel a frame."""
    film = np.zeros((n_frames, 100, 200, 3), np.uint8)
    for t in range(n_frames):
        for number, (left, top, side) in enumerate(faces, start=1):
            film[t, top : top + side, left + t : left + t + side] = number
    return film


def test_a_face_is_followed_in_pixels(model):
    film = pictures((20, 30, 40))
    for frames in (film, film[..., 0]):
        found = detect_landmarks(frames, "mediapipe", model=model)
        assert found.detector == "mediapipe" and found.found.all() and found.points.shape == (4, 68, 2)
        shares = IBUG.mean(axis=1) / (N_POINTS - 1)
        np.testing.assert_allclose(found.points[2, :, 0], 22 - 0.5 + 40 * shares, atol=1e-4)
        np.testing.assert_allclose(found.points[2, :, 1], 30 - 0.5 + 40 * (1 - shares), atol=1e-4)
    assert _Vision.FaceLandmarker.closed == 2


def test_the_largest_face_is_followed_and_a_rival_is_said(model, caplog):
    film = pictures((20, 30, 40), (120, 20, 50))
    film[2, :, 100:] = 0  # the larger one is lost for a frame
    found = detect_landmarks(film, "mediapipe", where="a.mp4", model=model)
    assert found.points[0, :, 0].min() > 100 and found.points[1, :, 0].min() > 100
    assert "a.mp4: several faces of like size in 3 of 4 frames looked at" in caplog.text
    caplog.clear()
    detect_landmarks(pictures((20, 30, 20), (120, 20, 50)), "mediapipe", model=model)
    assert caplog.text == ""


def test_frames_without_a_face(model):
    film = pictures((20, 30, 40))
    film[1] = 0
    found = detect_landmarks(film, "mediapipe", model=model)
    assert found.found.tolist() == [True, False, True, True]
    with pytest.raises(InputError, match=r"a\.mp4: no face found in any of 4 frames"):
        detect_landmarks(0 * film, "mediapipe", where="a.mp4", model=model)


def test_what_users_get_wrong(model, monkeypatch, tmp_path):
    (tmp_path / "other.task").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"other\.task: not a model of MediaPipe's FaceLandmarker \(Unable to open"):
        detect_landmarks(pictures((20, 30, 40)), "mediapipe", model=tmp_path / "other.task")
    with pytest.raises(InputError, match=r"none\.task: no such file; give MediaPipe's FaceLandmarker model"):
        list(faces_in([], tmp_path / "none.task"))
    for detector, file in (("mediapipe", None), ("auto", model)):
        with pytest.raises(InputError, match="'mediapipe', and no other, takes a model file: --landmark_model"):
            detect_landmarks([], detector, model=file)
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(InputError, match=r"'mediapipe' is not installed: pip install 'liploop\[mediapipe\]'"):
        list(faces_in([], model))
