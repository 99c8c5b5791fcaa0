"""The articulation basis of the procedural face: sixteen linear displacements, in millimetres per unit.

One unit of jaw_open turns the jaw by 11 degrees about its hinge; at the middle of the inner lips one unit opens
jaw_open 16.4, lip_funnel 7.6, lower_depress 6.0, upper_raise 5.2 and lip_round 3.1 mm. Along the contact line every
gap falls off as the sine of the ring's angle, so lips that close in the middle close along their whole length.
The lips' displacements are given ring by ring; the skin around follows the vermilion's border.
"""

import numpy as np

from talking3d.face.head_parts import N_LID, eyeball_depth, lid_rings
from talking3d.face.head_surface import bump, philtrum_relief, smoothstep
from talking3d.face.mouth_parts import N_AROUND, OUTER, RINGS, contact_height, ring_angles

NAMES = (
    "jaw_open", "jaw_forward", "lip_round", "lip_spread", "upper_raise", "lower_depress", "lower_tuck", "lip_press",
    "lip_funnel", "corner_up", "tongue_tip", "tongue_out", "tongue_dorsum", "brow_raise", "blink", "cheek_puff",
)  # fmt: skip
N_LIP_RINGS = int((RINGS <= 1).sum())
BORDER = N_LIP_RINGS - 1
_HINGE_Y, _HINGE_Z, _JAW_ANGLE = 12.0, -93.9, np.radians(11.0)


def _vector(x=0.0, y=0.0, z=0.0):
    return np.stack(np.broadcast_arrays(x, y, z), axis=-1).astype(float)


def _turned_jaw(points):
    """What the jaw's rotation adds to points (..., 3)."""
    y, z = points[..., 1] - _HINGE_Y, points[..., 2] - _HINGE_Z
    cos, sin = np.cos(_JAW_ANGLE), np.sin(_JAW_ANGLE)
    return _vector(0 * y, (cos - 1) * y - sin * z, sin * y + (cos - 1) * z)


def _ring_target(rest, half_inner, half_outer, heights, gap, middle_z, arc):
    """From lips at rest (9, 60, 3) to an oval mouth: displacements (9, 60, 3).

    half_inner, half_outer: half widths of contact line and border; heights: of the vermilion, upper and lower;
    gap: between the lips; middle_z (9,): depth of each ring in the middle; arc: how far back the corners lie.
    """
    theta, red = ring_angles()[None], np.clip(RINGS[:N_LIP_RINGS, None], 0, 1)
    cos, rise, upper = np.cos(theta), np.abs(np.sin(theta)), np.sin(theta) >= -1e-9
    side = np.where(upper, 1.0, -1.0)
    x = (half_inner + (half_outer - half_inner) * red**0.85) * cos
    height = np.where(upper, *heights) * red
    bow = np.where(
        upper, (0.5 * np.exp(-(((np.abs(cos) - 0.34) / 0.2) ** 2)) - 1.0 * np.exp(-((cos / 0.22) ** 2))) * red**3, 0.0
    )
    line = 0.4 * contact_height(cos)
    y = line + side * (height * rise**0.95 + bow + 0.5 * gap * rise)
    keep = rest[..., 1] - contact_height(cos)
    y = np.where(red > 0, y, line + keep + side * 0.5 * gap * rise)
    z = np.asarray(middle_z)[:, None] - (arc + 4.5 * red) * cos**2 + 0 * x
    return np.stack(np.broadcast_arrays(x, y, z), axis=-1) - rest


def lip_actions(rest):
    """Displacements (9, 60, 3) of the lips' rings by action name; rest (9, 60, 3), from the deep wall to the border."""
    theta = ring_angles()[None]
    sin, cos = np.sin(theta), np.cos(theta)
    up, low = np.clip(sin, 0, None), np.clip(-sin, 0, None)
    red, wall = np.clip(RINGS[:N_LIP_RINGS, None], 0, 1), np.clip(-RINGS[:N_LIP_RINGS, None], 0, None)
    x, y = rest[..., 0], rest[..., 1]
    above = y - contact_height(cos)
    plump = np.sin(np.pi * red**0.8)
    jaw_share = 0.5 - 0.5 * sin
    straighter = -contact_height(cos) * low * (1 - 0.6 * red)
    middle = rest[:, 15, 2] * 0.5 + rest[:, 45, 2] * 0.5
    round_z = middle + np.interp(RINGS[:N_LIP_RINGS], [-2, -1, 0, 0.3, 1], [5.0, 5.5, 7.0, 7.0, 3.2])
    funnel_z = middle + np.interp(RINGS[:N_LIP_RINGS], [-2, -1, 0, 0.3, 1], [4.0, 5.0, 7.2, 6.4, 2.6])
    return {
        "jaw_open": _turned_jaw(rest) * jaw_share[..., None]
        + _vector(-0.1 * x * cos**2, 1.3 * straighter, -0.5 * cos**2),
        "jaw_forward": _vector(0 * x, 0, 5.0 * jaw_share),
        "lip_round": _ring_target(rest, 8.2, 12.0, (7.0, 8.0), 3.1, round_z, 2.5),
        "lip_spread": _vector(
            0.26 * x * cos**2, -0.16 * above * (red > 0) + 1.2 * cos**4, -1.0 * sin**2 - 4.0 * cos**4
        ),
        "upper_raise": _vector(0 * x, (5.2 - 0.9 * red) * up, (0.6 * red + 0.5 * plump) * up),
        "lower_depress": _vector(0 * x, straighter - (6.4 - 1.3 * red) * low, -(0.3 - 1.0 * plump) * low),
        "lower_tuck": _vector(
            0 * x, (1.3 - 0.4 * red) * up + (0.6 + 1.6 * plump) * low, (-5.6 + 4.6 * red - 1.6 * plump) * low + 0.3 * up
        ),
        "lip_press": _vector(0.03 * x * cos**2, -0.42 * above * (red > 0), -(1.8 * plump + 0.6) * np.abs(sin)),
        "lip_funnel": _ring_target(rest, 14.8, 18.0, (6.6, 7.8), 7.6, funnel_z, 3.5),
        "corner_up": _vector(3.0 * cos**3, 4.5 * np.abs(cos) ** 3 - 0.05 * above, -2.5 * np.abs(cos) ** 3),
        "cheek_puff": _vector(-0.03 * x, -0.1 * above * (red > 0), (1.4 - 0.2 * wall) * np.abs(sin)),
    }


def _skin_frame(points):
    """Ring angle (N,) of skin points and their distance (N,) from the lips' border."""
    x, y = points[:, 0], points[:, 1]
    away = np.hypot(x / OUTER, y / np.where(y > 0, 8.5, 10.5))
    distance = np.hypot(x, y) * np.clip(1 - 1 / np.maximum(away, 1e-6), 0, None)
    return np.arctan2(y / 18, x / 35), distance


def _follow(border, angle, distance):
    """Displacements (N, 3) of the border (60, 3), read round the ring at angle (N,); smoother with distance (N,)."""

    def read(ring):
        return np.stack([np.interp(angle, ring_angles(), ring[:, k], period=2 * np.pi) for k in range(3)], axis=-1)

    smooth = np.mean([np.roll(border, shift, axis=0) for shift in range(-5, 6)], axis=0)
    near = np.exp(-((distance / 3.0) ** 2))[:, None]
    return near * read(border) + (1 - near) * read(smooth)


def _skin_actions(points, lips):
    """Displacements (N, 3) of skin points by action; lips: the lips' own displacements."""
    angle, distance = _skin_frame(points)
    x, y, z = points.T
    front = smoothstep(z, -70, -40)
    under_nose = 1 - 0.8 * smoothstep(y, 13, 24) * np.exp(-((x / 20) ** 4))
    share = smoothstep(0.5 - 0.62 * np.sin(angle) * (0.8 + 0.2 * smoothstep(distance, 0, 20)))
    share = share * smoothstep(y, -92, -50) * smoothstep(z, -105, -70)
    cheek = 1 / (1 + np.exp(-x / 2)), bump(np.abs(x), y, 40, 0, 17, 18)
    above = np.clip(np.sin(angle), 0, 1) ** 2
    out = {}
    for name, rings in lips.items():
        length = {"lip_spread": 21.0, "corner_up": 22.0, "lip_round": 19.0, "lip_funnel": 18.0}.get(name, 14.0)
        fall = np.exp(-((distance / length) ** 2)) * front * under_nose
        across = np.exp(-((distance / (length * (1 - 0.55 * above))) ** 2)) * front
        out[name] = _follow(rings[BORDER], angle, distance) * np.stack([across, fall, fall], axis=-1)
    near = np.exp(-((distance / 12.0) ** 2))[:, None]
    out["jaw_open"] = (
        near * _follow(lips["jaw_open"][BORDER], angle, distance) + (1 - near) * _turned_jaw(points) * share[:, None]
    )
    out["jaw_open"][:, 0] -= np.sign(x) * 2.0 * bump(np.abs(x), y, 42, -4, 14, 16) * front
    out["jaw_forward"] = near * out["jaw_forward"] + (1 - near) * _vector(0 * x, 0, 5.0 * share)
    out["lip_spread"] += _vector(np.sign(x), 0.6, 1.2) * (2.4 * bump(np.abs(x), y, 40, 12, 9, 12) * front)[:, None]
    out["corner_up"] += _vector(np.sign(x), 2.2, 1.8) * (1.6 * bump(np.abs(x), y, 40, 28, 12, 12) * front)[:, None]
    out["upper_raise"] += _vector(0 * x, 1.6, 0.6) * bump(np.abs(x), y, 16, 22, 7, 8)[:, None] * front[:, None]
    philtrum = philtrum_relief(x, y) * np.exp(-((distance / 16.0) ** 2))
    out["lip_round"][:, 2] -= 1.0 * philtrum
    out["lip_funnel"][:, 2] -= 1.0 * philtrum
    out["cheek_puff"] += _vector(5.0 * (2 * cheek[0] - 1), 0, 3.5) * (cheek[1] * front)[:, None]
    out["lower_tuck"] += _vector(0 * x, 0.8, 1.2) * bump(x, y, 0, -34, 14, 8)[:, None]
    out["lip_press"] += _vector(0 * x, 0.5, 0.8) * bump(x, y, 0, -33, 14, 8)[:, None]
    brow = bump(np.abs(x), y, 26, 80, 24, 12) * smoothstep(y, 60, 70) * front
    out["brow_raise"] = _vector(0 * x, 6.0 * brow, 0.8 * brow)
    return out


def _blink(lids):
    """Displacements (6, 28, 3) that close one eye's lids (6, 28, 3): the upper lid comes down to the lower."""
    offsets = lid_rings()
    sin = np.sin(2 * np.pi * np.arange(N_LID) / N_LID)
    partner = (-np.arange(N_LID)) % N_LID
    out = np.zeros_like(lids)
    for ring, follow in enumerate([1.0, 1.0, 0.72, 0.42, 0.16, 0.0]):
        gap = offsets[0, partner, 1] - offsets[0, :, 1]
        out[ring, :, 1] = np.where(sin > 0, 0.90, 0.10) * gap * follow
    x, y = offsets[..., 0], offsets[..., 1] + out[..., 1]
    for ring, (scale, extra) in enumerate([(1.05, 0.0), (1.11, 0.4), (1.12, 0.3)]):
        shut = np.clip(eyeball_depth(x[ring], y[ring], scale) + extra - lids[ring, :, 2], 0, None)
        out[ring, :, 2] = np.where(sin > 0, shut, 0.3 * shut)
    return out


def tongue_actions(along):
    """Displacements (N, 3) mm of the tongue by action; along (N,): from its root (0) to its tip (1)."""
    a = along
    return {
        "tongue_tip": _vector(0, 8.0 * a**2.6 + 2.4 * a, 4.5 * a),
        "tongue_out": _vector(0, 5.4 * a**1.5, 13.5 * a**0.8),
        "tongue_dorsum": _vector(0, 9.0 * np.exp(-(((a - 0.42) / 0.26) ** 2)), -2.0 * a),
    }


def articulation_basis(points, parts, tongue_along):
    """(16, V, 3) millimetres per unit, in the order of NAMES.

    points (V, 3) mm at rest; parts: vertex slice of each part of the mesh, by name; tongue_along: place of each
    vertex of the tongue from root (0) to tip (1).
    """
    basis = {name: np.zeros_like(points) for name in NAMES}
    rings = points[parts["lips"]].reshape(-1, N_AROUND, 3)
    lips = lip_actions(rings[:N_LIP_RINGS])
    red = slice(parts["lips"].start, parts["lips"].start + N_LIP_RINGS * N_AROUND)
    for name, action in lips.items():
        basis[name][red] = action.reshape(-1, 3)
    for part in (slice(red.stop, parts["lips"].stop), parts["skin"], parts["lid_right"], parts["lid_left"]):
        for name, action in _skin_actions(points[part], lips).items():
            basis[name][part] = action
    for side in ("right", "left"):
        lids = parts[f"lid_{side}"]
        basis["blink"][lids] = _blink(points[lids].reshape(-1, N_LID, 3)).reshape(-1, 3)
        basis["blink"][parts[f"eye_{side}"], 2] = -1.2  # makes room for the lid's straight path

    entrance = slice(parts["cavity"].start, parts["cavity"].start + N_AROUND)  # lies on the lips' innermost ring
    throat = slice(entrance.stop, parts["cavity"].stop)
    for name, action in lips.items():
        basis[name][entrance] = action[0]
    share = 0.5 - 0.5 * np.sin(np.arctan2(points[throat, 1], points[throat, 0]))
    on_jaw = ((throat, share), (parts["teeth_lower"], 1.0), (parts["tongue"], 0.55 + 0.45 * tongue_along))
    for part, share in on_jaw:
        basis["jaw_open"][part] = _turned_jaw(points[part]) * np.reshape(share, (-1, 1))
        basis["jaw_forward"][part, 2] = 5.0 * share
    for name, action in tongue_actions(tongue_along).items():
        basis[name][parts["tongue"]] = action
    return np.stack([basis[name] for name in NAMES])
