"""Colours of the procedural face: skin, lips, eyes and hair as linear albedo per vertex."""

from dataclasses import dataclass

import numpy as np

from talking3d.face.head_parts import EYE_X, EYE_Y, HAIR_COLUMNS, HAIR_ROWS, N_EAR, lid_rings, nostril_depth, skin_mesh
from talking3d.face.head_surface import RADIUS, bump, hairline, smoothstep
from talking3d.face.mouth_parts import N_AROUND, RINGS


@dataclass(frozen=True)
class Complexion:
    """Linear RGB colours of one person; seed varies the mottling of the skin."""

    skin: tuple[float, float, float] = (0.60, 0.36, 0.25)
    lip: tuple[float, float, float] = (0.46, 0.16, 0.15)
    iris: tuple[float, float, float] = (0.10, 0.16, 0.20)
    hair: tuple[float, float, float] = (0.045, 0.026, 0.016)
    shirt: tuple[float, float, float] = (0.10, 0.13, 0.18)
    freckles: float = 0.4
    seed: int = 0


_SKIN_TONES = np.array(
    [
        [0.70, 0.47, 0.36], [0.64, 0.40, 0.29], [0.58, 0.35, 0.24], [0.50, 0.29, 0.18], [0.40, 0.215, 0.125],
        [0.285, 0.145, 0.085], [0.175, 0.088, 0.052], [0.105, 0.054, 0.034],
    ]
)  # fmt: skip
_IRISES = np.array(
    [[0.07, 0.032, 0.014], [0.12, 0.06, 0.025], [0.10, 0.16, 0.24], [0.10, 0.15, 0.08], [0.16, 0.2, 0.23]]
)
_HAIRS = np.array(
    [[0.012, 0.009, 0.008], [0.03, 0.017, 0.011], [0.07, 0.036, 0.018], [0.17, 0.085, 0.035], [0.32, 0.2, 0.095],
     [0.19, 0.055, 0.02], [0.3, 0.29, 0.28]]
)  # fmt: skip


def random_complexion(rng: np.random.Generator) -> Complexion:
    """A plausible complexion: darker skin comes with darker eyes and hair and less red lips."""
    tone = (len(_SKIN_TONES) - 1) * rng.uniform() ** 1.4
    skin = np.array([np.interp(tone, np.arange(len(_SKIN_TONES)), c) for c in _SKIN_TONES.T])
    skin = skin * np.exp(rng.normal(0, [0.03, 0.03, 0.05]))
    red = rng.uniform(0.45, 1.0)
    lip = skin * np.array([0.80, 0.47, 0.55]) * red + skin * np.array([0.85, 0.68, 0.66]) * (1 - red)
    lip = lip + np.array([0.045, 0.004, 0.012]) * rng.uniform(0, 1.2)
    light = max(0.0, 1 - tone / 4.0)
    iris = _IRISES[rng.integers(0, 5) if rng.random() < light else rng.integers(0, 2)]
    hair = _HAIRS[
        rng.choice(7, p=[0.1, 0.2, 0.25, 0.15, 0.15, 0.07, 0.08]) if rng.random() < light else rng.integers(0, 2)
    ]
    return Complexion(
        skin=tuple(np.clip(skin, 0.02, 0.8)),
        lip=tuple(np.clip(lip * np.exp(rng.normal(0, 0.06, 3)), 0.02, 0.7)),
        iris=tuple(iris * np.exp(rng.normal(0, 0.15, 3))),
        hair=tuple(hair * np.exp(rng.normal(0, 0.15))),
        shirt=tuple(np.clip(rng.uniform(0.02, 0.3) * np.exp(rng.normal(0, 0.3, 3)), 0, 0.5)),
        freckles=float(rng.uniform(0, 1)),
        seed=int(rng.integers(0, 2**31)),
    )


def mix(base, other, share):
    """base (N, 3) with a share (N,) or () of another colour (3,) or (N, 3)."""
    share = np.asarray(share)[..., None]
    return base * (1 - share) + np.asarray(other) * share


def skin_colors(points, person, rng):
    """Linear albedo (N, 3) of skin at points (N, 3) mm of the average head: blood, shadow, mottling."""
    x, y, z = points.T
    ax = np.abs(x)
    skin = np.array(person.skin)
    out = np.broadcast_to(skin, points.shape).copy()
    flush = 0.55 * bump(ax, y, 42, 34, 14, 11) + 0.5 * bump(x, y, 0, 27, 13, 8) + 0.35 * bump(x, y, 0, -34, 13, 8)
    flush = flush + 0.25 * bump(ax, y, 30, 50, 14, 6)
    out *= 1 - flush[:, None] * np.array([0.03, 0.20, 0.20])
    dark = 0.26 * bump(ax, y, 20, 64, 8, 8) + 0.16 * bump(ax, y, 31, 50, 13, 4.5) + 0.12 * bump(ax, y, 33, 70, 13, 4)
    dark = (
        dark
        + 0.20 * bump(x, y, 0, -17, 13, 3.5)
        + 0.18 * bump(ax, y, 18.5, 21, 2.5, 5)
        + 0.16 * bump(x, y, 0, 17.5, 9, 2)
    )
    dark = dark + 0.18 * bump(ax, y, 27.5, -2, 2.6, 3.2) + 0.10 * bump(x, y, 0, 13, 2.2, 5)
    beard_zone = 0.05 * smoothstep(-y, -14, 5) * smoothstep(z, -70, -40)
    neck = 0.34 * smoothstep(-y, 44, 62) * smoothstep(-z, 12, 42) + 0.10 * smoothstep(-z, 55, 90)
    out *= (1 - np.clip(dark + beard_zone, 0, 0.6))[:, None] * (1 - neck[:, None] * np.array([0.9, 1.0, 1.0]))
    light = 0.06 * bump(x, y, 0, 100, 35, 16) + 0.05 * bump(x, y, 0, 45, 5, 12)
    out *= 1 + light[:, None]
    coarse = (
        sum(np.sin(points @ rng.normal(0, 1 / scale, 3) + rng.uniform(0, 6.3)) for scale in (5, 5, 7, 9, 12, 16)) / 6
    )
    fine = rng.normal(0, 1, len(points))
    spots = np.clip(fine - 1.2, 0, 1.5) * person.freckles * bump(ax, y, 26, 36, 26, 16)
    out *= np.exp(coarse[:, None] * np.array([0.045, 0.075, 0.075]) + 0.02 * fine[:, None])
    return out * (1 - spots[:, None] * np.array([0.10, 0.16, 0.18]))


def brow_cover(points):
    """0..1: how much hair of the eyebrows covers a point."""
    ax, y = np.abs(points[:, 0]), points[:, 1]
    along = (ax - 11.5) / 37
    middle = 76.2 + 5.6 * np.sin(np.clip(along, 0, 1.1) * 2.0) - 4.0 * np.clip(along - 0.62, 0, 1)
    thick = np.interp(along, [-0.05, 0.1, 0.6, 1.0], [2.9, 3.3, 2.7, 1.2])
    ends = smoothstep(along, -0.08, 0.08) * smoothstep(-along, -1.04, -0.86)
    return ends * np.exp(-((np.abs(y - middle) / thick) ** 2.2)) * (points[:, 2] > -60)


def face_colors(points, parts, marks, person: Complexion) -> np.ndarray:
    """Linear albedo (V, 3); points (V, 3) mm at rest, parts: vertex slices, marks: per-part arrays by part name."""
    rng = np.random.default_rng(person.seed)
    hair, skin = np.array(person.hair), np.array(person.skin)
    out = np.empty_like(points)
    out[:] = skin_colors(points, person, rng)
    covered = brow_cover(points)
    out = mix(out, hair * 0.8 + skin * 0.05, 0.82 * covered)

    s, v, _ = skin_mesh()
    free = parts["skin"]
    edge = hairline(np.abs(s) / RADIUS) - v
    out[free] = mix(out[free], hair, smoothstep(-edge, -2.5, 2) * 0.9)
    out[free] *= 1 - 0.9 * nostril_depth(s, v)[:, None]

    lips = parts["lips"]
    ring = np.repeat(RINGS, N_AROUND)
    theta = np.tile(2 * np.pi * np.arange(N_AROUND) / N_AROUND, len(RINGS))
    red = np.interp(ring, [-2, -1, 0, 0.14, 0.9, 1.0, 1.13, 1.4], [0.9, 1, 1, 1, 0.96, 0.6, 0.14, 0])
    lip = np.array(person.lip) * np.exp(rng.normal(0, 0.035, len(ring)))[:, None]
    creases = np.sin(theta * 41) * np.sin(theta * 23 + 1.0)
    lip = lip * (1 + 0.06 * creases * np.exp(-(((ring - 0.5) / 0.35) ** 2)))[:, None]
    lip = lip * np.where(np.sin(theta) > 0, 0.9, 1.06)[:, None]
    wet = np.array([0.42, 0.11, 0.11]) * (0.4 + 0.6 * skin.mean() / 0.4)
    lip = mix(
        lip,
        wet * np.interp(ring, [-2, -1, 0], [0.35, 0.6, 0.62])[:, None],
        np.interp(ring, [-1, 0.14, 0.3], [1, 0.75, 0]),
    )
    lip = lip * np.interp(ring, [-1, 0, 0.14, 0.4], [0.8, 0.55, 0.85, 1])[:, None]
    corner = np.exp(-(((1 - np.abs(np.cos(theta))) / 0.02) ** 2))
    lip = lip * (1 - 0.15 * corner * (ring <= 1))[:, None]
    out[lips] = mix(out[lips], lip, red)
    light_edge = np.exp(-(((ring - 1.18) / 0.08) ** 2)) * (np.sin(theta) > 0)
    out[lips] *= (1 + 0.08 * light_edge)[:, None]

    n_ring = np.repeat(np.arange(len(lid_rings())), lid_rings().shape[1])
    sin = np.sin(np.tile(2 * np.pi * np.arange(lid_rings().shape[1]) / lid_rings().shape[1], len(lid_rings())))
    lash = np.where(
        n_ring == 1, np.where(sin > -0.1, 0.92, 0.35), np.where(n_ring == 0, np.where(sin > -0.1, 0.8, 0.1), 0)
    )
    crease = np.where((n_ring == 3) & (sin > 0.1), 0.32, 0.0)
    for part in ("lid_right", "lid_left"):
        inner = (n_ring == 0) & (sin <= -0.1)
        out[parts[part]] = mix(out[parts[part]], np.array([0.45, 0.2, 0.17]) * (0.5 + skin.mean()), 0.5 * inner)
        out[parts[part]] = mix(out[parts[part]], hair * 0.6, lash)
        out[parts[part]] *= (1 - crease)[:, None]

    for part in ("eye_right", "eye_left"):
        rho = marks[part]
        eye = points[parts[part]]
        angle = np.arctan2(eye[:, 1] - EYE_Y, np.abs(eye[:, 0]) - EYE_X)
        white = np.array([0.58, 0.54, 0.50]) * (1 - 0.35 * smoothstep(rho, 8, 15))[:, None]
        iris = np.array(person.iris) * (0.75 + 0.5 * np.sin(angle * 9) ** 2 + 0.5 * (rho < 4.0))[:, None]
        out[parts[part]] = np.where((rho < 6.1)[:, None], iris, white)
        out[parts[part]][(rho > 5.3) & (rho < 6.1)] *= 0.35
        out[parts[part]][rho < 2.4] = 0.006
        out[parts[part]] *= (1 - 0.45 * smoothstep(eye[:, 1] - EYE_Y, 1.0, 6.0))[:, None]

    for part, tone in (("ear_right", 1.0), ("ear_left", 1.0)):
        depth = np.concatenate([[0.55], np.repeat([0.55, 0.68, 1.0, 0.78, 1.04, 0.85], N_EAR)]) * tone
        out[parts[part]] = skin * np.array([1.0, 0.88, 0.86]) * depth[:, None]

    angle, row = marks["hair"].T
    streak = np.append(np.tile(rng.normal(0, 0.2, HAIR_COLUMNS), HAIR_ROWS), 0)
    strand = 1 + streak + 0.2 * np.sin(angle * 11 - 5 * row) + rng.normal(0, 0.2, len(row))
    out[parts["hair"]] = hair * np.clip(strand, 0.35, 2.0)[:, None]
    border = (row <= 0) & (np.abs(angle) < 1.0)
    out[parts["hair"]] = mix(out[parts["hair"]], skin * 0.6, 0.45 * border)

    cloth = np.array(person.shirt) * np.exp(rng.normal(0, 0.04, len(points[parts["shirt"]])))[:, None]
    out[parts["shirt"]] = cloth

    for part in ("teeth_upper", "teeth_lower"):
        gum, gap, away = marks[part].T
        enamel = np.array([0.78, 0.73, 0.62]) * (1 - 0.38 * gap - 0.5 * smoothstep(away, 8, 25))[:, None]
        pink = np.array([0.46, 0.16, 0.15]) * (1 - 0.5 * smoothstep(away, 6, 24))[:, None]
        out[parts[part]] = mix(enamel, pink, gum)
    along = marks["tongue"]
    tip = points[parts["tongue"]]
    under = smoothstep(-(tip[:, 1] + 6.5), -2, 3) * (along > 0.5)
    groove = 1 - 0.22 * np.exp(-((tip[:, 0] / 2.5) ** 2))
    tone = np.interp(along, [0, 0.4, 0.8, 1], [0.5, 1.2, 1.1, 0.95]) * groove * (1 + 1.0 * under)
    out[parts["tongue"]] = np.array([0.54, 0.215, 0.21]) * tone[:, None]
    depth = np.clip(-points[parts["cavity"], 2] / 45, 0, 1)
    out[parts["cavity"]] = np.array([0.20, 0.045, 0.04]) * (1 - 0.93 * smoothstep(depth, 0.1, 0.75))[:, None]
    return np.clip(out, 0.002, 1.0)
