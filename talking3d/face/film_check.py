"""What makes a film unfit for a face to be fitted to it, found by its landmarks before anything is computed.

Letters: T video frames.
"""

import numpy as np

from avsr.errors import InputError
from avsr.media.landmarks import Landmarks
from avsr.media.timing import FPS
from talking3d.face.face_frame import aside

LEAST_EYES_PX = 20.0  # between the eyes' middles: a pixel is then 3 mm, as much as lips open for many a sound
# Of `aside`: some 35 degrees. Somebody who is turned by more most of the time is taken for somebody of another shape
# who looks at the camera.
MOST_ASIDE = 0.3
# Between two frames with a face, a moment apart: beyond these the picture shows another shot or somebody else.
LEAST_OVERLAP, MOST_GROWTH = 0.2, 1.5
MOMENT_FRAMES = 5


def check_film(landmarks: Landmarks) -> None:
    """Raise InputError where the face is too small or turned away, and where the film cuts to another shot."""
    at = np.flatnonzero(landmarks.found)
    points = landmarks.points[at].astype(np.float64)
    if not len(at):
        raise InputError("no frame's face was found: there are no landmarks to fit")
    apart = np.linalg.norm(points[:, 42:48].mean(axis=1) - points[:, 36:42].mean(axis=1), axis=1)
    if np.median(apart) < LEAST_EYES_PX:
        raise InputError(
            f"the face is too small: its eyes are {np.median(apart):.0f} pixels apart, expected {LEAST_EYES_PX:.0f} or "
            "more; cut the picture to the face before it is made smaller, or film it closer"
        )
    turned = aside(points) > MOST_ASIDE
    if turned.mean() > 0.5:
        raise InputError(
            f"the face is turned away, by some 35 degrees or more, in {int(turned.sum())} of {len(at)} frames; film it "
            "from the front"
        )
    cuts = at[1:][_jumps(points) & (np.diff(at) <= MOMENT_FRAMES)]
    if len(cuts):
        times = ", ".join(f"{t / FPS:.2f}" for t in cuts[:3]) + (" ..." if len(cuts) > 3 else "")
        raise InputError(
            f"the face is suddenly elsewhere or of another size at {times} s, as where a film cuts: give each shot of "
            "the talker as a clip of its own"
        )


def _jumps(points: np.ndarray) -> np.ndarray:
    """Mask (T - 1,) of steps between frames' points (T, 68, 2) that no head makes."""
    low, high = points.min(axis=1), points.max(axis=1)
    area = np.prod(high - low, axis=1)
    shared = np.prod(np.clip(np.minimum(high[1:], high[:-1]) - np.maximum(low[1:], low[:-1]), 0, None), axis=1)
    overlap = shared / (area[1:] + area[:-1] - shared)
    grown = np.sqrt(np.maximum(area[1:] / area[:-1], area[:-1] / area[1:]))
    return (overlap < LEAST_OVERLAP) | (grown > MOST_GROWTH)
