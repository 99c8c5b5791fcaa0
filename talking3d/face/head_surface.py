"""The skin of a procedural head as a smooth function of a flat domain, in millimetres.

The head is lofted: for each height v of the front profile a closed curve runs from the profile round the side to the
nape; tables below give the three control curves. Features (nose, sockets, cheeks, chin) are added as relief. The
measures follow adult anthropometric means (Farkas, Anthropometry of the Head and Face, 1994), rounded.
Domain coordinates: s = 80 mm times the angle from the front, v = height where the curve crosses the front profile.
"""

import numpy as np

SHAPE_NAMES = (
    "mouth_width", "upper_full", "lower_full", "face_width", "jaw_len", "nose_size", "chin_out", "cheek_full",
    "lip_proj", "philtrum",
)  # fmt: skip
AVERAGE = dict.fromkeys(SHAPE_NAMES, 0.0)
RADIUS = 80.0
CROWN, NECK_END = 158.0, -128.0

# v, z at the front, half width, y and z where widest, z at the back, roundness of the front curve
_LOFT = np.array(
    [
        [158, -86, 2.0, 158, -88, -90, 2.2],
        [156, -58, 22, 156, -88, -118, 2.2],
        [150, -37, 41, 150, -88, -140, 2.2],
        [140, -21, 56, 140, -87, -158, 2.3],
        [125, -9, 67, 125, -86, -173, 2.4],
        [105, -2.5, 73.5, 105, -85, -182, 2.4],
        [85, 0, 75, 85, -84, -185, 2.4],
        [72, -1.5, 74, 72, -84, -183, 2.35],
        [60, -5, 73, 60, -84, -177, 2.3],
        [45, -6.5, 72, 45, -84, -168, 2.25],
        [32, -6, 69.5, 32, -83, -158, 2.2],
        [20, -5, 66.5, 20, -82, -148, 2.15],
        [8, -3.5, 63.5, 10, -80, -141, 2.1],
        [-6, -4.5, 60.5, -1, -78, -136, 2.05],
        [-17, -8, 58.5, -9, -77, -133, 2.0],
        [-28, -7, 56.5, -15, -76, -131, 1.95],
        [-37, -6.5, 54.5, -20, -76, -130, 1.95],
        [-43, -11, 53, -25, -76, -129, 1.95],
        [-47, -20, 51, -30, -76, -128, 2.0],
        [-51, -34, 48.5, -36, -77, -127, 2.0],
        [-56, -46, 46.5, -44, -78, -126, 2.0],
        [-63, -54, 45.5, -55, -79, -126, 2.0],
        [-76, -57, 46.5, -72, -80, -127, 2.0],
        [-100, -55, 51, -97, -82, -130, 2.0],
        [-128, -47, 62, -122, -84, -136, 2.0],
    ]
)
_GRID = np.arange(NECK_END, CROWN + 0.25, 0.5)


def _smoothed(values: np.ndarray, sigma: float) -> np.ndarray:
    taps = np.exp(-0.5 * (np.arange(-4 * sigma, 4 * sigma + 1) / sigma) ** 2)
    padded = np.pad(values, len(taps) // 2, mode="reflect", reflect_type="odd")
    return np.convolve(padded, taps / taps.sum(), mode="valid")


_CURVES = [_smoothed(np.interp(_GRID, _LOFT[::-1, 0], column), 5.0) for column in _LOFT[::-1, 1:].T]


def smoothstep(x, low=0.0, high=1.0):
    """0 below low, 1 above high, and smooth between."""
    x = np.clip((x - low) / (high - low), 0, 1)
    return x * x * (3 - 2 * x)


def bump(x, y, x0, y0, sx, sy):
    """A Gaussian bump of height 1 at (x0, y0)."""
    return np.exp(-0.5 * (((x - x0) / sx) ** 2 + ((y - y0) / sy) ** 2))


def loft(s, v, face_width=0.0):
    """Points (N, 3) of the head without its features at domain points s, v (N,)."""
    z_front, half, y_side, z_side, z_back, power = (np.interp(v, _GRID, curve) for curve in _CURVES)
    half = half * (1 + 0.035 * face_width)
    angle = s / RADIUS
    sin, cos = np.sin(angle), np.cos(angle)
    depth = np.where(cos >= 0, z_front - z_side, z_side - z_back)
    power = np.where(cos >= 0, power, 2.2)
    reach = (np.abs(sin / half) ** power + np.abs(cos / depth) ** power) ** (-1 / power)
    level = (reach * cos / depth) ** 2 * np.where(cos >= 0, 1.0, 0.6)
    return np.stack([reach * sin, y_side + (v - y_side) * level, z_side + reach * cos], axis=-1)


def domain_of(x, y):
    """Domain points (s, v) where the front of the average head passes through (x, y)."""
    x, v = np.asarray(x, float), np.array(y, float)
    for _ in range(30):
        z_front, half, y_side, z_side, _, power = (np.interp(v, _GRID, curve) for curve in _CURVES)
        height = np.clip(1 - np.abs(x / half) ** power, 0.05, 1) ** (1 / power)
        v = y_side + (y - y_side) / height**2
    return RADIUS * np.arctan2(x, (z_front - z_side) * height), v


_NOSE_RIDGE = np.array(
    [[76, 0], [70, 1.5], [64, 3.6], [56, 8.0], [48, 12.3], [40, 17], [33, 21], [28.5, 22.6], [25.5, 21]]
    + [[23, 17.4], [21, 12.6], [19.4, 7.6], [17.8, 3.4], [16, 1.0], [14, 0]]
)[::-1]
_NOSE_WIDTH = np.array(
    [
        [14, 5],
        [18, 4.4],
        [21, 4.6],
        [23.5, 6.8],
        [26, 8.4],
        [30, 8.6],
        [38, 7.6],
        [48, 6.6],
        [58, 6.2],
        [66, 7],
        [76, 9],
    ]
)


def relief(x, y, shape):
    """Depth (N,) added in z at (x, y) on the front of the head; shape: dict of shape coefficients."""
    ax = np.abs(x)
    nose = 1 + 0.11 * shape["nose_size"]
    width = np.interp(y, *_NOSE_WIDTH.T) * (1 + 0.07 * shape["nose_size"])
    ridge = np.interp(y, *_NOSE_RIDGE.T) * np.exp(-(np.abs(x / width) ** 2.1))
    wing = 10.6 * np.exp(-(np.abs((ax - 12.2) / 4.9) ** 2.4) - np.abs((y - 22.6) / 5.4) ** 2.2)
    out = nose * (np.maximum(ridge, wing) + 0.35 * np.minimum(ridge, wing))
    out += nose * 1.5 * bump(x, y, 0, 27.5, 5.5, 4.0)
    out -= 1.6 * bump(ax, y, 18.5, 24, 2.6, 6)
    out -= 4.5 * bump(ax, y, 17, 66, 7.5, 7.5) + 2.6 * bump(ax, y, 33, 63, 13, 8)
    out += 2.6 * bump(ax, y, 27, 79, 16, 4.6) + 1.0 * bump(x, y, 0, 80, 10, 6)
    out += 4.2 * bump(ax, y, 44, 43, 14, 12) - 2.2 * bump(ax, y, 62, 78, 10, 14)
    out += 3.8 * shape["cheek_full"] * bump(ax, y, 42, 14, 17, 18) - 1.6 * bump(ax, y, 50, 8, 10, 16)
    out += 2.6 * bump(x, y, 0, 2, 20, 15)
    fold_x = 17.5 + 14.5 * smoothstep(22 - y, 0, 26) ** 1.2
    fold = smoothstep(y, -10, 4) * smoothstep(-y, -27, -20)
    out += fold * (1.5 * np.exp(-(((ax - fold_x - 5) / 5.5) ** 2)) - 1.3 * np.exp(-(((ax - fold_x) / 2.6) ** 2)))
    out += philtrum_relief(x, y)
    out -= 1.6 * bump(x, y, 0, -17.5, 13, 4.0) + 0.5 * bump(ax, y, 28.5, -3, 3.5, 4.5)
    chin = bump(x, y, 0, -34, 13, 8)
    out += (2.8 + 3.2 * shape["chin_out"]) * chin - 0.5 * bump(x, y, 0, -33, 1.8, 5)
    out += 1.6 * shape["lip_proj"] * bump(x, y, 0, 0, 20, 11)
    return out


def philtrum_relief(x, y):
    """Depth (N,) of the groove between nose and upper lip and of its two ridges."""
    ridges = 0.8 * np.exp(-(((np.abs(x) - 4.6) / 2.0) ** 2))
    return smoothstep(y, 6, 9) * smoothstep(-y, -19, -16) * (ridges - 1.0 * np.exp(-((x / 2.4) ** 2)))


def skin(s, v, shape):
    """Points (N, 3) of the skin at domain points."""
    points = loft(s, v, shape["face_width"])
    x, y, z = points.T
    front = smoothstep(z, -75, -45)
    z = z + front * relief(x, y, shape)
    sag = bump(x, y, 0, 25.5, 5.0, 4.0)
    y = y - front * (2.4 * sag + 1.2 * bump(np.abs(x), y, 12, 21, 4, 3))
    x = x * (1 + 0.02 * front * bump(x, y, 0, 45, 60, 25))
    return np.stack([x, y, z], axis=-1)


def front_depth(x, y, shape):
    """Depth z (N,) of the skin, relief included, at (x, y) on the front of the face."""
    s, v = domain_of(x, y)
    return loft(s, v, shape["face_width"])[:, 2] + relief(x, y, shape)


def warp(points, shape):
    """Length changes that move whole parts of the head: a longer jaw, a longer philtrum."""
    x, y, z = points.T
    y = y + 1.3 * shape["philtrum"] * smoothstep(y, 5, 20) - 3.0 * shape["jaw_len"] * smoothstep(-y, 8, 40)
    return np.stack([x, y, z], axis=-1)


def hairline(angle):
    """Height v at which the hair begins, by the angle from the front (radians, absolute)."""
    degrees = [0, 12, 25, 36, 45, 54, 61, 68, 76, 84, 92, 104, 114, 125, 150, 180]
    heights = [119, 119, 118, 113, 107, 96, 82, 69, 58, 60, 78, 79, 62, 25, 2, -5]
    return np.interp(np.degrees(angle), degrees, heights)
