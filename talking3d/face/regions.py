"""Measures of the mouth on a moving template, and the vertex sets that losses and metrics use.

Landmark numbers are iBUG-68's: 48 and 54 are the outer corners, 60 and 64 the inner ones, 62 and 66 the middle of the
upper and the lower inner lip.
"""

import numpy as np

from avsr.errors import InputError
from talking3d.face.template import FaceTemplate

_MM = 1000.0


def lip_aperture_mm(template: FaceTemplate, offsets: np.ndarray) -> np.ndarray:
    """Signed height (T,) in mm of the gap between the inner lips at the middle; below 0 the lips press together.

    offsets (T, V, 3) metres. Linear in the offsets, so articulation coefficients can be solved for a closure.
    """
    upper, lower = landmark_places(template, offsets, (62, 66))
    return _MM * (upper - lower)[:, 1]


def lip_width_mm(template: FaceTemplate, offsets: np.ndarray) -> np.ndarray:
    """Distance (T,) in mm between the outer corners of the mouth."""
    left, right = landmark_places(template, offsets, (48, 54))
    return _MM * np.linalg.norm(right - left, axis=-1)


def lip_protrusion_mm(template: FaceTemplate, offsets: np.ndarray) -> np.ndarray:
    """How far (T,) in mm the middle of the lips has come forward since rest (iBUG points 51 and 57, mean)."""
    moving = np.stack(landmark_places(template, offsets, (51, 57)))
    rest = np.stack(landmark_places(template, np.zeros((1, *template.verts.shape), np.float32), (51, 57)))
    return _MM * (moving - rest).mean(axis=0)[:, 2]


def lip_region(template: FaceTemplate, margin_mm: float = 0.0) -> np.ndarray:
    """Vertex indices of the lips, and of the skin that lies within `margin_mm` of them at rest."""
    lips = template.region("lips")
    if margin_mm <= 0:
        return lips
    candidates = np.setdiff1d(template.region("skin"), lips)
    gaps = np.linalg.norm(template.verts[candidates, None] - template.verts[None, lips], axis=-1).min(axis=1)
    return np.union1d(lips, candidates[gaps * _MM <= margin_mm]).astype(np.int32)


def landmark_places(template: FaceTemplate, offsets: np.ndarray, numbers: tuple[int, ...]) -> list[np.ndarray]:
    """Places (T, 3) metres of iBUG landmarks on the template moved by offsets (T, V, 3) metres.

    Raises InputError on offsets of another shape and on landmarks that the template lacks.
    """
    if offsets.ndim != 3 or offsets.shape[1:] != template.verts.shape:
        raise InputError(
            f"offsets for {template.name!r} must be (T, {len(template.verts)}, 3), got {tuple(offsets.shape)}"
        )
    absent = [n for n in numbers if template.landmarks[n] < 0]
    if absent:
        raise InputError(
            f"face template {template.name!r} lacks the iBUG landmarks {absent}; set them to vertex indices"
        )
    vertices = template.landmarks[list(numbers)]
    return [template.verts[v] + offsets[:, v] for v in vertices]
