"""Shadows of shapes whose shadows are known."""

import numpy as np

from talking3d.face.template import FaceTemplate
from talking3d.render.occlusion import ambient_share, key_share


def sheet(n, half, y, lowest):
    """A square of 2 (n - 1)^2 triangles in the plane of that y, facing up; vertex numbers from `lowest`."""
    x, z = np.meshgrid(np.linspace(-half, half, n), np.linspace(-half, half, n), indexing="ij")
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = np.concatenate(
        [np.stack([corner, corner + 1, corner + n], 1), np.stack([corner + 1, corner + n + 1, corner + n], 1)]
    )
    return np.stack([x, np.full_like(x, y), z], -1).reshape(-1, 3), faces + lowest


def test_a_lid_over_a_floor():
    floor, floor_faces = sheet(41, 0.10, 0.0, 0)
    lid, lid_faces = sheet(15, 0.03, 0.02, len(floor))
    template = FaceTemplate("lid", np.concatenate([floor, lid]), np.concatenate([floor_faces, lid_faces]))
    centre, corner = 20 * 41 + 20, 0
    from_above = key_share(template, np.array([0.0, 1.0, 0.0]))
    assert from_above[centre] < 0.02 and from_above[corner] > 0.98
    assert from_above[len(floor) + 7 * 15 + 7] > 0.98  # the lid itself is lit
    aslant = key_share(template, np.array([0.0, 1.0, 1.5]) / np.hypot(1, 1.5))
    beneath, behind = centre, np.argmin(np.linalg.norm(floor - [0, 0, -0.03], axis=1))
    assert aslant[behind] < 0.1 and aslant[behind] < aslant[beneath] + 0.01  # the shadow moved away from the lamp

    sky = ambient_share(template)
    # Under the middle of a square of half side a at height h, the lid hides a share of the sky that is known.
    a, h = 0.03, 0.02
    hidden = 4 / np.pi * a / np.hypot(a, h) * np.arctan(a / np.hypot(a, h))
    assert abs((1 - sky[centre]) - hidden) < 0.08
    assert sky[corner] > 0.95
    assert ((sky >= 0) & (sky <= 1.0001)).all()
