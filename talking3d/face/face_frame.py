"""The face's own frame: landmarks of a film with the head's place, size and turn in the picture taken out; and what a
mouth does in it, filmed or modelled.

Letters: T video frames, P landmarks (numbered as iBUG-68's).
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from avsr.media.landmarks import Landmarks
from talking3d.face.regions import landmark_places, lip_aperture_mm, lip_width_mm
from talking3d.face.template import FaceTemplate

STEADY = np.arange(27, 48)  # nose and eyes: they move with the head only
CORNERS = np.array([*range(27, 36), 36, 39, 42, 45])  # of them without the lids, which blink
SMOOTHING_FRAMES = 4.0  # standard deviation


class MouthTraces(NamedTuple):
    """A mouth through a clip, (T,) each, in one unit: millimetres of a template, pixels of a film's usual face.

    opening: height between the inner lips' middles. lower: height of the lower one's, upwards, from anywhere. width:
    between the outer corners.
    """

    opening: np.ndarray
    lower: np.ndarray
    width: np.ndarray


def modelled_mouth(template: FaceTemplate, offsets: np.ndarray) -> MouthTraces:
    """The mouth of a template moved by offsets (T, V, 3) metres. InputError where it lacks the mouth's landmarks."""
    (lower,) = landmark_places(template, offsets, (66,))
    return MouthTraces(lip_aperture_mm(template, offsets), 1e3 * lower[:, 1], lip_width_mm(template, offsets))


def filmed_mouth(landmarks: Landmarks) -> MouthTraces:
    """The mouth of a film: each frame's landmarks laid over the clip's mean face by the nose and the eyes' corners;
    where no face was found it is as good as the landmarks there, and a head that turns away narrows it.

    Turn and size are smoothed over time: a mouth's width varies by a few per cent, as much as a frame's size errs.
    """
    points, seen = plane(landmarks.points), np.flatnonzero(landmarks.found)
    here, there = points[:, CORNERS], points[seen].mean(axis=0)[None, CORNERS]
    factor = np.interp(np.arange(len(points)), seen, similar(here[seen], there)[:, 0])
    factor = gaussian_filter1d(factor, SMOOTHING_FRAMES, mode="nearest")
    shift = (there @ (1, 1j)).mean(axis=1) - factor * (here @ (1, 1j)).mean(axis=1)
    points = lay(np.stack([factor, shift], axis=1), points)
    width = np.linalg.norm(points[:, 54] - points[:, 48], axis=1)
    return MouthTraces(points[:, 62, 1] - points[:, 66, 1], points[:, 66, 1], width)


def aside(points: np.ndarray) -> np.ndarray:
    """How far (T,) the nose's tip of points (T, 68, 2) is from the middle of the eyes' outer corners, along their line
    and as a share of it: 0 from the front.

    The tip stands 0.38 (procedural face) to 0.5 (ICT's) of that distance before them: 0.3 is a turn by 31 to 38
    degrees.
    """
    across = points[:, 45] - points[:, 36]
    tip = points[:, 30] - (points[:, 45] + points[:, 36]) / 2
    return np.abs((tip * across).sum(axis=1)) / np.square(across).sum(axis=1)


def plane(points: np.ndarray) -> np.ndarray:
    """Pixels (..., 2), y down, as float64 points with y up, or back."""
    return points.astype(np.float64) * (1.0, -1.0)


def similar(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Complex (T, 2): factor and shift that lay points (T, P, 2) nearest to target (1, P, 2)."""
    here, there = (p[..., 0] + 1j * p[..., 1] for p in (points, target))
    centred = here - here.mean(axis=1, keepdims=True)
    factor = (centred.conj() * there).sum(axis=1) / np.square(np.abs(centred)).sum(axis=1)
    return np.stack([factor, there.mean(axis=1) - factor * here.mean(axis=1)], axis=1)


def lay(laid: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (T, P, 2) moved by factors and shifts (T, 2) of `similar`."""
    moved = laid[:, :1] * (points[..., 0] + 1j * points[..., 1]) + laid[:, 1:]
    return np.stack([moved.real, moved.imag], axis=-1)


def lay_back(laid: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The points that `lay` moves to these."""
    return lay(np.stack([1 / laid[:, 0], -laid[:, 1] / laid[:, 0]], axis=1), points)
