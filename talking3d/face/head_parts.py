"""The procedural head around the mouth: skin mesh, eyes and lids, ears, hair and shirt, in millimetres."""

from functools import lru_cache

import numpy as np
from scipy.spatial import Delaunay

from talking3d.face.head_surface import (
    AVERAGE,
    CROWN,
    NECK_END,
    RADIUS,
    bump,
    domain_of,
    front_depth,
    hairline,
    loft,
    skin,
    smoothstep,
)
from talking3d.face.mouth_parts import N_AROUND, lips, ring_faces

EYE_X, EYE_Y, EYE_Z = 31.5, 62.0, -27.0
EYE_RADII = np.array([17.0, 13.2, 13.2])
N_LID = 28
LID_RINGS = 6
_NOSTRIL = np.array([6.6, 20.7])


def lid_opening(t):
    """Heights (upper, lower) of the eye's opening at t in [-1, 1] from the inner to the outer corner."""
    tilt = 0.9 * t
    upper = tilt + 4.8 * (1 - np.abs(t) ** 2.3) ** 0.95 - 0.5 * t * (1 - t * t)
    lower = tilt - 3.9 * (1 - np.abs(t) ** 2.1) ** 1.0
    return upper, lower


def eyeball_depth(x, y, scale=1.0):
    """Depth z of the eye's ellipsoid at offsets x, y from its centre."""
    inside = 1 - (x / (EYE_RADII[0] * scale)) ** 2 - (y / (EYE_RADII[1] * scale)) ** 2
    return EYE_Z + EYE_RADII[2] * scale * np.sqrt(np.clip(inside, 0.04, 1))


def lid_rings():
    """Offsets (6, 28, 2) from the eye's centre of the lids' rings for the eye at +x: margin first, orbit last."""
    theta = 2 * np.pi * np.arange(N_LID) / N_LID
    t, sin = np.cos(theta), np.sin(theta)
    upper, lower = lid_opening(t)
    margin = np.stack([14.0 * t, np.where(sin >= -1e-9, upper, lower)], axis=-1)
    orbit = np.stack([0.5 + 21.0 * t, np.where(sin >= 0, 11.5, 11.0) * sin + 0.5], axis=-1)
    out = orbit - margin
    grow = np.array([0.0, 0.06, 0.27, 0.52, 0.68, 1.0])[:, None, None]
    return margin[None] + grow * out[None]


def lids(side, shape):
    """Points (6 * 28, 3) of one eye's lids; side is +1 or -1."""
    offsets = lid_rings()
    x, y = offsets[..., 0], offsets[..., 1]
    px, py = side * (EYE_X + x), EYE_Y + y
    surface = front_depth(px.ravel(), py.ravel(), shape).reshape(px.shape)
    on_eye = eyeball_depth(x, y, 1.12)
    z = surface.copy()
    z[0], z[1] = eyeball_depth(x[0], y[0], 1.02), eyeball_depth(x[1], y[1], 1.1) + 0.5
    upper = smoothstep(np.sin(2 * np.pi * np.arange(N_LID) / N_LID), -0.2, 0.5)
    z[2] = np.maximum(on_eye[2], surface[2] - 2.0)
    z[3] = 0.45 * on_eye[3] + 0.55 * surface[3] - 1.7 * upper - 0.4
    z[4] = 0.1 * on_eye[4] + 0.9 * surface[4] + 0.5 * upper
    corner = np.exp(-(((np.abs(np.cos(2 * np.pi * np.arange(N_LID) / N_LID)) - 1) / 0.12) ** 2))
    z[0:3] += 0.4 * corner
    return np.stack([px.ravel(), py.ravel(), z.ravel()], axis=-1)


EYE_RINGS = np.array([1.3, 2.3, 2.55, 4.2, 5.55, 5.95, 6.5, 9.0, 12.5, 15.8])
N_EYE = 20


def eyeball(side):
    """Points (1 + 11 * 24, 3) of one eyeball's front, pupil outwards, and each one's distance from the pupil."""
    theta = 2 * np.pi * np.arange(N_EYE)[None] / N_EYE
    rho = EYE_RINGS[:, None]
    x = rho * np.cos(theta)
    y = rho * np.sin(theta) * np.where(rho > 6.6, 0.8, 1.0)
    z = eyeball_depth(x, y) + 0.9 * np.clip(1 - (rho / 7.0) ** 2, 0, None)
    points = np.stack([side * EYE_X + x, EYE_Y + 0.6 + y, z + 0 * x], axis=-1).reshape(-1, 3)
    top = [side * EYE_X, EYE_Y + 0.6, EYE_Z + EYE_RADII[2] + 0.9]
    return np.concatenate([[top], points]), np.concatenate([[0.0], np.broadcast_to(rho, x.shape).ravel()])


def fan_then_rings(n_rings: int, n_around: int) -> np.ndarray:
    """Triangles of a disc: a centre vertex (0), then rings outwards."""
    first = np.arange(n_around)
    fan = np.stack([np.zeros(n_around, int), 1 + first, 1 + (first + 1) % n_around], axis=-1)
    return np.concatenate([fan, 1 + ring_faces(n_rings, n_around, closed=True)[:, [0, 2, 1]]])


def _spacing(x, v):
    """Distance between neighbouring columns (and rows, at x = 0) of the skin mesh at domain points."""
    ax = np.abs(x)
    out = 6.0 + 0.115 * np.clip(ax - 30, 0, None) + 0.05 * np.clip(ax - 110, 0, None)
    out -= 3.6 * bump(ax, v, 0, 23, 20, 12)
    out -= 2.6 * bump(ax, v, 10, 45, 14, 16)
    out -= 1.6 * bump(ax, v, 30, 66, 22, 16)
    out -= 2.4 * bump(ax, v, 29, 79.5, 22, 6)
    out -= 1.2 * bump(ax, v, 0, -10, 40, 22)
    out += 5 * smoothstep(v, 90, 130) + 5 * smoothstep(-v, 58, 80)
    return np.maximum(out, 2.3)


def inside_polygon(points, polygon):
    """Whether each 2D point lies in a closed polygon (even-odd rule)."""
    (x, y), (ax, ay) = points.T[:, :, None], polygon.T[:, None]
    bx, by = np.roll(ax, -1, axis=1), np.roll(ay, -1, axis=1)
    crosses = ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / np.where(by == ay, 1e-9, by - ay) + ax)
    return crosses.sum(axis=1) % 2 == 1


@lru_cache(maxsize=1)
def skin_mesh():
    """Domain points of the free skin and the triangles that join them to the rings of mouth and eyes.

    Returns (s, v) of the free points (N,), and triangles over the list: mouth's outermost ring (60), the outermost lid
    ring of the eye at +x and of that at -x (28 each), free points (N). Seeds lie in staggered rows whose spacing
    follows the features; Delaunay's triangulation joins them. A fixed jitter breaks ties the same way everywhere.
    """
    mouth = lips(AVERAGE)[-N_AROUND:, :2]
    eye = lid_rings()[-1] + [EYE_X, EYE_Y]
    rings = [np.stack(domain_of(*ring.T), axis=-1) for ring in (mouth, eye, eye * [-1, 1])]
    rows, v, odd = [], NECK_END + 3.0, False
    while v < CROWN - 6:
        x = [0.0]
        while x[-1] < np.pi * RADIUS:
            x.append(x[-1] + _spacing(x[-1], v))
        x = np.array(x) * np.pi * RADIUS / x[-1]
        if odd:
            x = np.append(0.5 * (x[1:] + x[:-1]), np.pi * RADIUS)
        sides = np.concatenate([-x[::-1], x]) if odd else np.concatenate([-x[:0:-1], x])
        rows.append(np.stack([sides, np.full(len(sides), v)], axis=-1))
        near = min(_spacing(0, v), _spacing(12, v), _spacing(30, v))
        v, odd = v + 0.92 * near, not odd
    free = np.concatenate(rows)
    theta = 2 * np.pi * np.arange(9) / 9 + 0.2
    ring = np.stack([np.cos(theta), np.sin(theta)], axis=-1)
    nostril = np.concatenate([_NOSTRIL + ring * [4.3, 2.9], _NOSTRIL + ring * [2.7, 1.6], _NOSTRIL[None]])
    away = (((np.abs(free[:, 0]) - _NOSTRIL[0]) / 5.6) ** 2 + ((free[:, 1] - _NOSTRIL[1]) / 4.0) ** 2) > 1
    free = np.concatenate([free[away], nostril, nostril * [-1, 1]])
    for polygon, margin in zip(rings, (2.6, 1.9, 1.9), strict=True):
        centre = polygon.mean(axis=0)
        reach = np.linalg.norm(polygon - centre, axis=1, keepdims=True)
        free = free[~inside_polygon(free, centre + (polygon - centre) * (1 + margin / reach))]
    free = free[free[:, 1] < hairline(np.abs(free[:, 0]) / RADIUS) + 14]
    points = np.concatenate([*rings, free])
    number = np.arange(len(points))
    jitter = 0.02 * np.stack([np.sin(number * 12.9898), np.sin(number * 78.233)], axis=-1)
    triangles = Delaunay(points + jitter).simplices
    centre = points[triangles].mean(axis=1)
    for polygon in rings:
        keep = ~inside_polygon(centre, polygon)
        triangles, centre = triangles[keep], centre[keep]
    a, b, c = (points[triangles[:, k]] for k in range(3))
    turn = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    triangles[turn < 0] = triangles[turn < 0][:, ::-1]
    longest = np.max(
        [np.linalg.norm(points[triangles[:, k]] - points[triangles[:, k - 1]], axis=1) for k in range(3)], axis=0
    )
    triangles = triangles[(np.abs(turn) > 0.3) & (longest < 45)]
    order = np.lexsort(triangles.T[::-1])
    return free[:, 0], free[:, 1], triangles[order]


def nostril_depth(s, v):
    """0..1: how deep in a nostril a domain point lies."""
    away = np.sqrt(((np.abs(s) - _NOSTRIL[0]) / 3.6) ** 2 + ((v - _NOSTRIL[1]) / 2.3) ** 2)
    return smoothstep(-away, -1.05, -0.3)


def free_skin(shape):
    """Points (N, 3) of the skin outside the rings of mouth and eyes."""
    s, v, _ = skin_mesh()
    points = skin(s, v, shape)
    hole = nostril_depth(s, v)
    points[:, 1] += 2.2 * hole
    points[:, 2] -= 5.0 * hole
    return points


N_EAR, EAR_RINGS = 22, 6


def ear(side, shape):
    """Points (1 + 6 * 22, 3) of one ear: concha in the middle, rolled helix outside."""
    theta = 2 * np.pi * np.arange(N_EAR) / N_EAR
    level = np.array([0.24, 0.44, 0.60, 0.76, 0.93, 1.0])[:, None]
    back, up = np.cos(theta), np.sin(theta)
    outline_x = 16.5 * back * (1 + 0.16 * up) * np.where(back < 0, 0.72, 1.0)
    outline_y = 31 * up * np.where(up < 0, 0.98, 1.0)
    lobe = smoothstep(-up, 0.55, 0.95)
    rim = np.clip(back + 0.35 + 0.9 * np.clip(up, 0, 1), 0, 1)
    height = np.stack(
        [
            np.full(N_EAR, -5.0),
            -3.5 + 2.0 * lobe,
            1.2 + 0.2 * lobe,
            -0.4 + 1.6 * lobe,
            0.8 + 2.6 * rim * (1 - lobe),
            -1.6 + 0.8 * rim,
        ]
    )
    u = level * outline_x
    w = level * outline_y
    u, w, height = (np.concatenate([[first], a.ravel()]) for first, a in ((0, u), (-1, w), (-5.0, height)))
    tilt, flare = np.radians(-14), np.radians(20)
    u, w = u * np.cos(tilt) - w * np.sin(tilt), u * np.sin(tilt) + w * np.cos(tilt)
    lift = height + 1.5 + np.clip(u + 11, 0, None) * np.tan(flare)
    anchor = loft(np.array([1.76 * RADIUS]), np.array([49.0]), shape["face_width"])[0]
    return np.stack([side * (anchor[0] + lift), 50.0 + w, anchor[2] + 6 - u], axis=-1)


HAIR_COLUMNS, HAIR_ROWS = 72, 11


def hair(shape, length=0.0, volume=1.0, fringe=0.0):
    """Points (11 * 72 + 1, 3) of the hair, hairline first, crown last, and each one's (angle, row 0..1) (N, 2).

    length: 0 is short hair that leaves the ears free, 1 falls to the shoulders. volume: scales its thickness.
    fringe: how far it falls over the forehead, mm.
    """
    column = np.arange(HAIR_COLUMNS)
    angle = 2 * np.pi * column / HAIR_COLUMNS - np.pi
    row = np.array([0, 0.03, 0.08, 0.16, 0.26, 0.38, 0.5, 0.63, 0.76, 0.88, 1.0])[:, None]
    ragged = 1.4 * np.sin(column * 2.4) * np.sin(column * 0.9 + 1)
    short = hairline(np.abs(angle))
    fall_degrees, fall_heights = [54, 60, 66, 72, 78, 84], [119, 75, 30, -25, -70, -84]
    falls = np.interp(np.degrees(np.abs(angle)), fall_degrees, fall_heights)
    short = short - fringe * np.exp(-(((angle - 0.15) / 0.55) ** 2))
    begin = ((1 - length) * short + length * np.minimum(short, falls) + ragged)[None]
    v = begin + (CROWN - 1.2 - begin) * (1 - (1 - row) ** 1.25)
    angles = np.broadcast_to(angle, v.shape)
    points = loft(RADIUS * angles.ravel(), v.ravel(), shape["face_width"])
    outward = points - [0, 60.0, -85.0]
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    lock = 0.8 * np.sin(13 * angles + 7 * row) + 0.6 * np.sin(column * 2.1 + 3 * row) * np.sin(9 * row + angles)
    top = smoothstep(v, 95, 148)
    thick = np.interp(row, [0, 0.03, 0.1, 0.3], [0.0, 0.18, 0.45, 1.0]) * (4.0 + 7.0 * top)
    quiff = 4.5 * np.exp(-(((angles - 0.1) / 0.7) ** 2)) * np.exp(-(((row - 0.2) / 0.12) ** 2))
    points += outward * (volume * (thick + quiff) + lock * smoothstep(row, 0.02, 0.2)).reshape(-1, 1)
    edge = np.interp(v, fall_heights[::-1], fall_degrees[::-1])
    hang = length * smoothstep(np.degrees(np.abs(angles)), edge + 3, edge + 18) * smoothstep(-v, -100, -50)
    tuck = 0.25 + 0.75 * smoothstep(v, -88, -40)
    aside = hang * tuck * (13 + 0.16 * np.clip(50 - v, 0, None) + 1.5 * np.sin(5 * angles + v / 18))
    points += np.stack([np.sin(angles) * aside, 0 * aside, np.cos(angles) * aside], axis=-1).reshape(-1, 3)
    marks = np.stack([angles.ravel(), np.broadcast_to(row, v.shape).ravel()], axis=-1)
    crown = [[0, CROWN + 0.5 + 10 * volume, -88.0]]
    return np.concatenate([points, crown]), np.concatenate([marks, [[0, 1]]])


SHIRT_COLUMNS, SHIRT_ROWS = 44, 8


def shirt():
    """Points (8 * 44, 3) of a shirt's collar and shoulders, collar first."""
    angle = 2 * np.pi * np.arange(SHIRT_COLUMNS) / SHIRT_COLUMNS
    sin, cos = np.sin(angle), np.cos(angle)
    neck = loft(RADIUS * (angle - 2 * np.pi * (angle > np.pi)), np.full(SHIRT_COLUMNS, -98.0)) * [1.06, 1, 1]
    outward = np.stack([sin, 0 * sin, cos], axis=-1)
    rows = [neck + outward * 1.0 + [0, -2, 0], neck + outward * 3.5 + [0, 1.5, 0], neck + outward * 6.5 + [0, -3, 0]]
    for half, deep, front, side_y in [
        (78, 55, -118, -101),
        (102, 61, -130, -109),
        (128, 65, -143, -120),
        (146, 66, -156, -138),
        (150, 66, -176, -172),
    ]:
        level = np.clip(cos, 0, 1) ** 1.5
        height = side_y + (front - side_y) * level + 8 * np.clip(-cos, 0, 1)
        rows.append(np.stack([half * np.sign(sin) * np.abs(sin) ** 0.85, height, -92 + deep * cos], axis=-1))
    return np.concatenate(rows)
