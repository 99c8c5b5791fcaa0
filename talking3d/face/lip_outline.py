"""The outline of the lips' red as a smooth curve through landmarks, and what lies within it.

Letters: V vertices, P points.
"""

import numpy as np

from talking3d.face.head_parts import inside_polygon

N_CURVE = 240


def smooth_outline(points: np.ndarray) -> np.ndarray:
    """A closed curve (240, 2) through the outer lip landmarks 48-59, (12, 2 or more): smooth but for its corners."""
    from scipy.interpolate import PchipInterpolator

    points = np.asarray(points, np.float64)[:, :2]
    halves = []
    for numbers in ([0, 1, 2, 3, 4, 5, 6], [6, 7, 8, 9, 10, 11, 0]):
        knots = points[numbers]
        length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
        halves.append(PchipInterpolator(length, knots)(np.linspace(0, length[-1], N_CURVE // 2 + 1)[:-1]))
    return np.concatenate(halves)


def within_lips(verts: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Mask (V,) of the vertices that lie within the lips' outline as seen from the front.

    verts (V, 3); outline (12, 3): the outer lip landmarks 48-59. What lies behind the lips is in the mask too.
    """
    curve = smooth_outline(outline)
    points = verts[:, :2].astype(np.float64)
    inside = ((points >= curve.min(axis=0)) & (points <= curve.max(axis=0))).all(axis=1)
    inside[inside] = inside_polygon(points[inside], curve)
    return inside
