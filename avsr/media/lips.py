"""Lip crops: one geometry for filmed and for drawn faces.

A crop is 96 x 96 gray: the head upright, the mouth's middle in the crop's middle, the clip's mean mouth width 60 % of
the crop's. The same function turns landmarks of a film and projected landmarks of a mesh into this geometry. Smoothing
over 12 frames follows Auto-AVSR (Ma et al., ICASSP 2023); scale stays constant through a clip so that the mouth's own
movement is kept.

Pixel coordinates are (x, y), x right and y down, whole numbers at pixel centres; the crop's middle is (47.5, 47.5).
Letters: T video frames, H W picture height and width. Points are numbered as in avsr.media.landmarks.
"""

import math
from collections.abc import Iterable

import numpy as np

from avsr.errors import InputError

SIZE = 96
MOUTH_WIDTH = 0.6  # of the crop; tight crops read better than ones that show cheeks, nose and neck
SMOOTHING_FRAMES = 12

_UPPER_FACE = range(27, 48)  # nose and eyes: they turn with the head and hardly move with speech
_RIGHT_EYE, _LEFT_EYE = range(36, 42), range(42, 48)  # the talker's right, on the picture's left
_MOUTH = range(48, 68)
_MOUTH_CORNERS = range(48, 55, 6)


def crop_transforms(points: np.ndarray, mouth_width: float = MOUTH_WIDTH) -> np.ndarray:
    """Similarity transforms from picture pixels to crop pixels for each frame of a clip.

    points: (T, 68, 2) pixels; only nose, eyes and mouth (27-67) are used, and points that a face lacks are NaN in every
    frame. mouth_width: the mean mouth's share of the crop's width. Returns (T, 2, 3) float32 M with crop =
    M[:, :2] @ (x, y) + M[:, 2].

    Raises InputError on another shape, no frames, and a mouth or eyes without extent.
    """
    if points.ndim != 3 or points.shape[1:] != (68, 2) or not len(points):
        raise InputError(f"landmarks must be (T, 68, 2) with T > 0, got {points.shape}")
    face = points[..., 0] + 1j * points[..., 1].astype(np.float64)  # (T, 68): turning is multiplying
    for part, n_needed in ((_RIGHT_EYE, 1), (_LEFT_EYE, 1), (_MOUTH_CORNERS, 2)):
        if _points_of(face, part).shape[1] < n_needed:
            raise InputError(f"landmarks {part[0]}-{part[-1]} are missing; eyes and mouth corners must be there")
    mouth = _points_of(face, _MOUTH).mean(axis=1)
    width = np.abs(face[:, _MOUTH_CORNERS[1]] - face[:, _MOUTH_CORNERS[0]]).mean()
    turn = _upright_turn(face)
    if not (width > 0 and np.isfinite(turn).all()):
        raise InputError("landmarks have a mouth or eyes without extent; detect them again")
    similarity = SIZE * mouth_width / width * turn
    middle = (SIZE - 1) / 2
    shift = middle * (1 + 1j) - similarity * _smooth(mouth)
    transforms = np.empty((len(points), 2, 3), np.float32)
    transforms[:, 0] = np.stack([similarity.real, -similarity.imag, shift.real], axis=1)
    transforms[:, 1] = np.stack([similarity.imag, similarity.real, shift.imag], axis=1)
    return transforms


def crop_lips(frames: Iterable[np.ndarray], points: np.ndarray, mouth_width: float = MOUTH_WIDTH) -> np.ndarray:
    """Cut lip crops (T, 96, 96) uint8 gray out of T pictures, (H, W, 3) RGB or (H, W) gray uint8.

    points: (T, 68, 2) and mouth_width: see `crop_transforms`. Each crop pixel is the mean of the picture over its area;
    beyond the picture's edge its edge pixels go on. Raises InputError when there are fewer or more pictures than
    points.
    """
    import cv2

    transforms = crop_transforms(points, mouth_width)
    scale = float(np.hypot(transforms[0, 0, 0], transforms[0, 1, 0]))
    over = max(1, math.ceil(1 / scale))  # samples per crop pixel and axis, at most one picture pixel apart
    lips = np.empty((len(transforms), SIZE, SIZE), np.uint8)
    n_frames = 0
    for frame in frames:
        if n_frames < len(lips):
            fine = over * transforms[n_frames]
            fine[:, 2] += (over - 1) / 2
            crop = cv2.warpAffine(
                frame, fine, (over * SIZE, over * SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            crop = cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
            lips[n_frames] = crop if crop.ndim == 2 else cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
        n_frames += 1
    if n_frames != len(lips):
        raise InputError(f"{n_frames} pictures but landmarks for {len(lips)}; detect the landmarks of this video again")
    return lips


def _points_of(face: np.ndarray, part: range) -> np.ndarray:
    """The points of a part of the face that are there in every frame."""
    points = face[:, part.start : part.stop : part.step]
    return points[:, np.isfinite(points).all(axis=0)]


def _upright_turn(face: np.ndarray) -> np.ndarray:
    """Unit complex numbers (T,) that turn each frame's head upright, fitted to all nose and eye points, smoothed."""
    eye_line = _points_of(face, _LEFT_EYE).mean(axis=1) - _points_of(face, _RIGHT_EYE).mean(axis=1)
    shape = _points_of(face, _UPPER_FACE)
    shape = shape - shape.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # eyes without extent give NaN, which the caller reports
        upright = (shape * (np.abs(eye_line) / eye_line)[:, None]).mean(axis=0)  # the clip's mean, its eyes level
        turn = _smooth((upright * shape.conj()).sum(axis=1))  # least-squares rotation onto it (Procrustes)
        return turn / np.abs(turn)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Mean over the window centred on each frame, cut off at the clip's ends."""
    window = np.ones(SMOOTHING_FRAMES + 1)
    margin = SMOOTHING_FRAMES // 2
    sums = np.convolve(values, window)[margin : margin + len(values)]
    return sums / np.convolve(np.ones(len(values)), window)[margin : margin + len(values)]
