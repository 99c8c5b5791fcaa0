"""Lips, teeth, tongue and mouth cavity of the procedural face, in millimetres."""

import numpy as np

from talking3d.face.head_surface import front_depth

N_AROUND = 60
INNER, OUTER = 23.5, 25.7  # half widths of the contact line and of the vermilion's border
# Rings of the mouth: below 0 the lips' inner wall, 0 the contact line, 1 the vermilion's border, above 1 skin.
RINGS = np.array([-2, -1, 0, 0.14, 0.32, 0.52, 0.72, 0.9, 1.0, 1.13, 1.4, 1.75, 2.2])


def ring_angles():
    """Angles (60,) round the mouth: 0 is the corner at +x, the upper lip comes first."""
    return 2 * np.pi * np.arange(N_AROUND) / N_AROUND


def contact_height(t):
    """Height of the closed lips' line at t = x / half width in [-1, 1]."""
    return -0.4 * np.exp(-((t / 0.2) ** 2)) + 0.45 * np.exp(-(((np.abs(t) - 0.45) / 0.24) ** 2)) + 0.5 * np.abs(t) ** 3


def vermilion_heights(t, shape):
    """Heights (upper, lower) of the red of the lips at t: a cupid's bow above, a fuller curve below."""
    t = np.abs(t)
    bow = 1.15 * np.exp(-(((t - 0.23) / 0.13) ** 2)) - 0.75 * np.exp(-((t / 0.12) ** 2))
    upper = (6.7 * (1 - t**1.55) ** 1.05 + bow) * (1 + 0.17 * shape["upper_full"])
    lower = 9.2 * (1 - t**2.5) ** 0.92 * (1 + 0.15 * shape["lower_full"])
    return upper, lower


def lips(shape):
    """Points (13 * 60, 3) of the mouth's rings at rest, ring by ring from the inner wall out to the skin."""
    theta = ring_angles()[None]
    ring = RINGS[:, None]
    t, rise = np.cos(theta), np.abs(np.sin(theta))
    side = np.where(np.sin(theta) >= -1e-9, 1.0, -1.0)
    wide = 1 + 0.075 * shape["mouth_width"]
    red, out, wall = np.clip(ring, 0, 1), np.clip(ring - 1, 0, None), np.clip(-ring, 0, None)
    upper, lower = vermilion_heights(t, shape)
    half = (INNER + (OUTER - INNER) * red + 8.0 * out - 0.6 * wall) * wide
    height = np.where(side > 0, upper * red + 8.2 * out * rise, lower * red + 10.5 * out * rise)
    height = height + rise * np.select([ring == -1, ring == -2], [0.9, 4.2], 0.0)
    x = half * t
    y = contact_height(t) * np.clip(1 - 0.8 * out, 0, 1) + side * (height - 0.12 * rise * (ring == 0))
    full = np.sqrt(rise)
    knots = [0, 0.14, 0.32, 0.52, 0.72, 0.9, 1.0, 1.13, 1.4, 1.75, 2.2]
    up = np.interp(ring, knots, [-3.0, -0.4, 1.5, 2.3, 2.2, 1.5, 1.0, 0.55, 0.1, 0, 0])
    down = np.interp(ring, knots, [-3.0, 0.3, 2.5, 3.5, 2.9, 1.4, 0.4, -0.3, -0.4, -0.1, 0])
    tubercle = np.exp(-((t / 0.17) ** 2)) * np.exp(-(((ring - 0.3) / 0.25) ** 2))
    swell = np.where(side > 0, up * (1 + 0.12 * shape["upper_full"]) + 0.5 * tubercle, down)
    swell = swell * np.where(side > 0, 1.0, 1 + 0.12 * shape["lower_full"])
    swell = swell * full - (1 - full) * 0.7 * np.exp(-(((ring - 0.4) / 0.7) ** 2))
    swell = np.where(ring < 0, -3.0 * full - np.select([ring == -1, ring == -2], [2.2, 6.0], 0.0), swell)
    x, y, swell = np.broadcast_arrays(x, y, swell)
    z = front_depth(x.ravel(), y.ravel(), shape) + swell.ravel()
    return np.stack([x.ravel(), y.ravel(), z], axis=-1)


def ring_faces(rows: int, columns: int, closed: bool) -> np.ndarray:
    """Triangles of a grid of rows x columns vertices, row by row; closed joins the last column to the first."""
    row, column = np.mgrid[0 : rows - 1, 0 : columns if closed else columns - 1]
    here, right = row * columns + column, row * columns + (column + 1) % columns
    first = np.stack([here, right, here + columns], axis=-1).reshape(-1, 3)
    second = np.stack([right, right + columns, here + columns], axis=-1).reshape(-1, 3)
    return np.concatenate([first, second])


def cavity():
    """Rings of the mouth's dark wall behind the lips, after the inner wall's own ring: points (3 * 60 + 1, 3)."""
    theta = ring_angles()
    cos, sin = np.cos(theta), np.sin(theta)
    rings = [(27, 14, 15, -15), (28, 16, 22, -32), (23, 14, 24, -50)]
    points = [
        np.stack([half * cos, np.where(sin > 0, up, down) * sin, np.full(N_AROUND, z)], axis=-1)
        for half, up, down, z in rings
    ]
    return np.concatenate([*points, [[0, -4, -62]]])


def _arch(n_columns_per_tooth, widths, half, depth, z_front):
    """Column positions along a dental arch: x, z, outward normal (x, z), and phase 0..1 across each tooth."""
    angle = np.linspace(0, np.pi / 2, 2000)
    curve = np.stack([half * np.sin(angle), z_front - depth * (1 - np.cos(angle))], axis=-1)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    edges = np.concatenate([[0], np.cumsum(widths)])
    phase = np.arange(n_columns_per_tooth) / n_columns_per_tooth
    along = np.append((edges[:-1, None] + np.outer(widths, phase)).ravel(), edges[-1])
    phase = np.concatenate([np.tile(phase, len(widths)), [0.0]])
    tooth = np.concatenate([np.repeat(np.arange(len(widths)), n_columns_per_tooth), [len(widths) - 1]])
    along, phase, tooth = (np.concatenate([a[:0:-1] * sign, a]) for a, sign in ((along, -1), (phase, 1), (tooth, 1)))
    x = np.sign(along) * np.interp(np.abs(along), length, curve[:, 0])
    z = np.interp(np.abs(along), length, curve[:, 1])
    normal = np.stack([x / half**2, (z - z_front + depth) / depth**2], axis=-1)
    return x, z, normal / np.linalg.norm(normal, axis=1, keepdims=True), phase, tooth


def teeth(upper: bool):
    """One arch of twelve teeth with its gum: points (rows * columns, 3), rows, columns and per-vertex marks.

    marks (N, 3): gum (1) or enamel (0), darkness of the gap between two teeth (0..1), arc position |x| in mm.
    """
    widths = [8.4, 6.5, 7.6, 7.0, 6.8, 10] if upper else [5.3, 5.9, 6.8, 7.0, 7.1, 11]
    heights = [10.2, 9.0, 10.0, 8.4, 7.6, 7.0] if upper else [8.6, 8.8, 10.0, 8.6, 7.8, 7.0]
    edge_y = [-2.2, -1.6, -2.0, -1.2, -0.6, 0.0] if upper else [-3.4, -3.3, -3.2, -3.4, -3.6, -3.4]
    x, z, normal, phase, tooth = _arch(3, widths, *((26, 38, -7.0) if upper else (24.5, 37, -9.2)))
    sign = -1.0 if upper else 1.0
    height, edge = np.array(heights)[tooth], np.array(edge_y)[tooth]
    gap = (phase == 0).astype(float)
    belly = np.sin(np.pi * phase) ** 0.6 * 1.0
    tip = edge - sign * 0.45 * gap
    tip = np.where(gap > 0, 0.5 * (np.roll(tip, 1) + np.roll(tip, -1)) - sign * 0.35, tip)
    neck = edge - sign * (height - 1.6 * gap)
    rows = []
    for level, out, is_gum in [
        (1.6, 1.0, 1),
        (1.02, 0.7, 1),
        (0.98, 0.2, 0),
        (0.6, 0.5, 0),
        (0.22, 0.35, 0),
        (0.0, -0.1, 0),
        (-0.0, -1.9, 0),
    ]:
        y = tip + (neck - tip) * level
        push = out + (0 if is_gum else 1) * (0.75 * belly - 0.75) * (1 if level > 0 else 0.6)
        points = np.stack([x + normal[:, 0] * push, y, z + normal[:, 1] * push], axis=-1)
        marks = np.stack([np.full(len(x), is_gum), gap * (1 - is_gum), np.abs(x)], axis=-1)
        rows.append((points, marks))
    return np.concatenate([p for p, _ in rows]), len(rows), len(x), np.concatenate([m for _, m in rows])


N_TEETH_ROWS = 7
N_TONGUE_ALONG, N_TONGUE_AROUND = 11, 12


def tongue():
    """Points (11 * 12 + 1, 3) of the tongue, root to tip, and its position along itself (N,) in [0, 1]."""
    a = np.linspace(0, 0.985, N_TONGUE_ALONG)[:, None] ** 0.85
    phi = 2 * np.pi * np.arange(N_TONGUE_AROUND)[None] / N_TONGUE_AROUND
    half = 19.5 * np.sqrt(np.clip(1 - ((a - 0.25) / 0.76) ** 2, 0, 1)) * (1 - 0.12 * a)
    thick = 5.5 * (1 - 0.55 * a**2) * np.sqrt(np.clip(1 - np.clip((a - 0.8) / 0.2, 0, 1) ** 2 * 0.93, 0, 1))
    cos, sin = np.cos(phi), np.sin(phi)
    x = half * np.sign(cos) * np.abs(cos) ** 0.85
    groove = 1.1 * np.exp(-((x / 3.0) ** 2)) * np.clip(sin, 0, 1) * (1 - a**4)
    y = -8.0 + 4.5 * np.sin(np.pi * np.clip(1.15 * (1 - a), 0, 1)) + thick * sin - groove - 0.002 * x**2
    z = -56 + (56 - 12.0) * a + 0 * phi
    tip = [[0, -8.3, -11.4]]
    points = np.concatenate([np.stack([x, y, z], axis=-1).reshape(-1, 3), tip])
    return points, np.concatenate([np.broadcast_to(a, x.shape).ravel(), [1.0]])
