"""The geometry of lip crops: loops as naive twins, invariances of similarity, area-correct sampling, each error."""

import numpy as np
import pytest

from avsr.errors import InputError
from avsr.media.lips import MOUTH_WIDTH, SIZE, SMOOTHING_FRAMES, crop_lips, crop_transforms

MIDDLE = (SIZE - 1) / 2


def _face() -> np.ndarray:
    """An upright frontal face (68, 2), symmetric about x = 100, its mouth 40 pixels wide around (100, 140)."""
    face = np.zeros((68, 2))
    face[:27] = np.stack([np.linspace(50, 150, 27), np.full(27, 120.0)], axis=1)
    face[27:31] = np.stack([np.full(4, 100.0), np.linspace(90, 115, 4)], axis=1)
    face[31:36] = np.stack([np.linspace(90, 110, 5), np.full(5, 120.0)], axis=1)
    angles = np.arange(6) * np.pi / 3
    for start, x in ((36, 78), (42, 122)):
        face[start : start + 6] = np.stack([x - 7 * np.cos(angles), 90 - 3 * np.sin(angles)], axis=1)
    for start, n_points, width, height in ((48, 12, 20, 8), (60, 8, 16, 3)):
        angles = np.pi + np.arange(n_points) * 2 * np.pi / n_points
        face[start : start + n_points] = np.stack([100 + width * np.cos(angles), 140 + height * np.sin(angles)], axis=1)
    return face


def _talking(n_frames: int, seed: int = 0) -> np.ndarray:
    """The face nodding, turning in the picture's plane and moving its lower lip: (T, 68, 2) float32."""
    rng = np.random.default_rng(seed)
    points = np.repeat(_face()[None], n_frames, axis=0)
    points[:, 55:60, 1] += 6 * (1 + np.sin(np.arange(n_frames)))[:, None]
    angles = 0.2 * np.sin(np.arange(n_frames) / 9)
    turns = np.stack([np.cos(angles), -np.sin(angles), np.sin(angles), np.cos(angles)], axis=1).reshape(-1, 2, 2)
    points = (points - 100) @ turns.transpose(0, 2, 1) + 100
    points += np.cumsum(rng.normal(0, 1, (n_frames, 1, 2)), axis=0)
    return (points + rng.normal(0, 0.3, points.shape)).astype(np.float32)


def _apply(transforms: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.einsum("tij,tpj->tpi", transforms[:, :, :2], points) + transforms[:, None, :, 2]


def _naive_transforms(points: np.ndarray) -> np.ndarray:
    """One frame at a time, with 2x2 matrices and the singular value decomposition."""
    points = points.astype(np.float64)
    n_frames = len(points)
    upright = np.zeros((21, 2))
    for face in points:
        x, y = face[42:48].mean(0) - face[36:42].mean(0)
        level = np.array([[x, y], [-y, x]]) / np.hypot(x, y)
        upright += (face[27:48] - face[27:48].mean(0)) @ level.T / n_frames
    scale = SIZE * MOUTH_WIDTH / np.mean([np.linalg.norm(face[54] - face[48]) for face in points])
    transforms = []
    for t in range(n_frames):
        window = points[max(0, t - SMOOTHING_FRAMES // 2) : t + SMOOTHING_FRAMES // 2 + 1]
        covariance = sum(upright.T @ (face[27:48] - face[27:48].mean(0)) for face in window)
        u, _, v = np.linalg.svd(covariance)
        matrix = scale * u @ np.diag([1, np.linalg.det(u @ v)]) @ v
        transforms.append(np.column_stack([matrix, MIDDLE - matrix @ window[:, 48:68].mean((0, 1))]))
    return np.array(transforms)


def test_a_crop_shows_as_much_beside_the_mouth_as_is_asked():
    points = np.repeat(_face()[None], 5, axis=0)
    mouth = _apply(crop_transforms(points, mouth_width=0.469), points)[:, 48:68]
    assert np.ptp(mouth[0, :, 0]) == pytest.approx(0.469 * SIZE, rel=1e-4)
    assert mouth[0].mean(axis=0) == pytest.approx([MIDDLE, MIDDLE], abs=1e-3)


@pytest.mark.parametrize("n_frames", [1, 2, 5, 40])
def test_transforms_equal_the_loop(n_frames):
    points = _talking(n_frames)
    transforms = crop_transforms(points)
    assert transforms.shape == (n_frames, 2, 3) and transforms.dtype == np.float32
    np.testing.assert_allclose(transforms, _naive_transforms(points), rtol=1e-4, atol=1e-3)


def test_a_still_mouth_is_centred_level_and_of_the_stated_width():
    points = np.repeat(_face()[None], 7, axis=0)
    cropped = _apply(crop_transforms(points), points)
    np.testing.assert_allclose(cropped[:, 48:68].mean(1), MIDDLE, atol=1e-3)
    np.testing.assert_allclose(cropped[:, 54] - cropped[:, 48], [[MOUTH_WIDTH * SIZE, 0]] * 7, atol=1e-3)
    assert (cropped[:, 30, 1] < cropped[:, 51, 1]).all()  # the nose stays above the mouth


@pytest.mark.parametrize("scale, angle", [(1.0, 0.5), (0.25, 0.0), (7.0, -2.5)])
def test_crops_do_not_depend_on_where_and_how_large_the_face_is(scale, angle):
    points = _talking(30)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = points @ turn.T + [300, -50]
    expected = _apply(crop_transforms(points), points)
    np.testing.assert_allclose(_apply(crop_transforms(moved), moved), expected, atol=2e-2)


def test_scale_is_constant_so_that_movement_stays():
    transforms = crop_transforms(_talking(50))
    scales = np.linalg.norm(transforms[:, :, 0], axis=1)
    np.testing.assert_allclose(scales, scales[0], rtol=1e-5)


def test_tracking_jitter_is_smoothed():
    rng = np.random.default_rng(0)
    points = np.repeat(_face()[None], 60, axis=0)
    jittered = points + rng.normal(0, 1, (60, 1, 2))
    drift = _apply(crop_transforms(jittered), points)[6:-6].std(axis=0).mean()
    raw = _apply(crop_transforms(jittered), jittered)[6:-6].std(axis=0).mean()
    assert drift < 0.35 * raw


def test_absent_points_are_left_out():
    points = _talking(20)
    whole = crop_transforms(points)
    points[:, :27] = np.nan  # a mesh without jaw and brow landmarks
    np.testing.assert_array_equal(crop_transforms(points), whole)
    points[:, 31:36] = np.nan
    np.testing.assert_allclose(crop_transforms(points), whole, atol=1.0)


@pytest.mark.parametrize("absent", [slice(36, 42), slice(42, 48), 48, 54])
def test_missing_eyes_and_mouth_corners(absent):
    points = _talking(5)
    points[:, absent] = np.nan
    with pytest.raises(InputError, match="missing; eyes and mouth corners must be there"):
        crop_transforms(points)


def test_a_face_without_extent():
    with pytest.raises(InputError, match="without extent"):
        crop_transforms(np.ones((4, 68, 2), np.float32))


@pytest.mark.parametrize("shape", [(0, 68, 2), (68, 2), (4, 5, 2), (4, 68, 3)])
def test_other_shapes(shape):
    with pytest.raises(InputError, match=r"must be \(T, 68, 2\)"):
        crop_transforms(np.zeros(shape))


def _naive_crop(frame: np.ndarray, transform: np.ndarray, n_sub: int = 8) -> np.ndarray:
    """Each crop pixel as the mean of n_sub x n_sub points in its area, the picture linear between its pixels."""
    matrix, shift = transform[:, :2].astype(np.float64), transform[:, 2]
    offsets = (np.arange(n_sub) + 0.5) / n_sub - 0.5
    sub = (np.arange(SIZE)[:, None] + offsets).ravel()
    x, y = np.meshgrid(sub, sub)
    source = np.linalg.inv(matrix) @ (np.stack([x.ravel(), y.ravel()]) - shift[:, None])
    x = np.clip(source[0], 0, frame.shape[1] - 1.001)
    y = np.clip(source[1], 0, frame.shape[0] - 1.001)
    left, top = x.astype(int), y.astype(int)
    dx, dy = x - left, y - top
    values = frame.astype(np.float64)
    upper = values[top, left] * (1 - dx) + values[top, left + 1] * dx
    lower = values[top + 1, left] * (1 - dx) + values[top + 1, left + 1] * dx
    fine = upper * (1 - dy) + lower * dy
    return fine.reshape(SIZE, n_sub, SIZE, n_sub).mean((1, 3))


@pytest.mark.parametrize("magnification", [0.5, 1.44, 3.0, 6.0])
def test_crops_equal_the_mean_over_each_pixel_s_area(magnification):
    """From faces smaller than the crop to a close-up whose picture is averaged down."""
    points = (_talking(3) * magnification).astype(np.float32)
    height, width = round(240 * magnification), round(200 * magnification)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (height // 2 + 1, width // 2 + 1), np.uint8)
    frame = np.kron(coarse, np.ones((2, 2), np.uint8))[:height, :width]
    crops = crop_lips(np.repeat(frame[None], 3, axis=0), points)
    assert crops.shape == (3, SIZE, SIZE) and crops.dtype == np.uint8
    for crop, transform in zip(crops, crop_transforms(points), strict=True):
        assert np.abs(crop - _naive_crop(frame, transform)).mean() < 2.5


def test_fine_stripes_average_out():
    """One-pixel stripes, six of them to a crop pixel, must not alias."""
    frame = np.zeros((1440, 1440), np.uint8)
    frame[:, ::2] = 255
    crops = crop_lips([frame], 8 * _face()[None])
    assert np.abs(crops.astype(float) - 127.5).max() < 30
    assert abs(crops.mean() - 127.5) < 1


def test_gray_and_colour_pictures_give_equal_crops():
    gray = np.random.default_rng(0).integers(0, 255, (4, 240, 200), np.uint8)
    colour = np.repeat(gray[..., None], 3, axis=3)
    points = _talking(4)
    assert np.abs(crop_lips(gray, points).astype(int) - crop_lips(colour, points)).max() <= 1


def test_pictures_may_come_one_by_one():
    gray = np.random.default_rng(0).integers(0, 255, (4, 240, 200), np.uint8)
    points = _talking(4)
    np.testing.assert_array_equal(crop_lips(iter(gray), points), crop_lips(gray, points))


def test_a_face_at_the_edge_continues_the_edge():
    points = _face()[None] - [100, 140] + [0, 120]  # the mouth's middle on the left edge
    frame = np.tile(np.linspace(50, 200, 240, dtype=np.uint8)[:, None], (1, 200))
    crop = crop_lips([frame], points)[0].astype(int)
    assert np.abs(crop - crop[:, -1:]).max() <= 1


@pytest.mark.parametrize("n_frames", [3, 5])
def test_as_many_pictures_as_points(n_frames):
    with pytest.raises(InputError, match=f"{n_frames} pictures but landmarks for 4"):
        crop_lips(np.zeros((n_frames, 240, 200), np.uint8), _talking(4))
