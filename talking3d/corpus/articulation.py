"""Phones to facial motion by rule: dominance functions that blend each articulator's targets.

After Cohen and Massaro 1993, "Modeling coarticulation in synthetic visual speech": each phone s pulls each
articulator p towards a target T_sp with a dominance D_sp(t) = alpha_sp exp(-theta_s |tau|), and p(t) is the mean of
the targets weighted by D. Added to it: a plateau within the phone, earlier onset of lip shapes than of other gestures,
and contacts that speech never misses (after JALI, Edwards et al. 2016: bilabials close, labiodentals touch, sibilants
narrow the jaw). Targets are in `visemes.py`.

Letters: T video frames, N phones, K = 16 articulators.
"""

from dataclasses import dataclass

import numpy as np

from avsr.errors import InputError
from avsr.media.timing import FPS, SAMPLE_RATE, frames_of
from talking3d.corpus.tts import Interval
from talking3d.corpus.visemes import ARTICULATORS, COLUMN, Segment, segments_of
from talking3d.face.motion_noise import ornstein_uhlenbeck
from talking3d.face.regions import lip_aperture_mm
from talking3d.face.template import FaceTemplate

PLATEAU = {"vowel": 0.25, "consonant": 0.35, "silence": 0.5}  # share of the phone on each side of its centre
SLOW_SHAPES = ("lip_round", "lip_spread", "lip_funnel")  # lips take these shapes early
EARLY, LATE = 0.65, 1.1  # factors of theta before and after the centre, for them

# What a consonant reaches whatever surrounds it: articulator -> (bound, value) at the middle of the contact.
CONTACTS = {
    "BMP": {"jaw_open": ("most", 0.05), "lip_press": ("least", 0.8)},
    "FV": {
        **{"jaw_open": ("most", 0.12), "lower_tuck": ("least", 0.95), "lower_depress": ("most", 0.0)},
        **{"upper_raise": ("least", 0.1), "lip_press": ("most", 0.0), "lip_funnel": ("most", 0.1)},
    },
    "TH": {"tongue_out": ("least", 0.8)},
    "SZ": {"jaw_open": ("most", 0.12)},
    "SH": {"jaw_open": ("most", 0.14), "lip_funnel": ("least", 0.6)},
}
CONTACT_MIDDLE = {"BMP": 0.35}  # share of the phone; a bilabial opens before its interval (with the burst) ends
CONTACT_HOLD = 0.3  # share of the phone on each side of the middle
CONTACT_SLOPE_S = 0.028
CAMERA_S = 0.5 / FPS + 0.001  # a contact held this long on each side of its middle is seen by at least one frame
CLOSED_GAP_MM = -0.4  # inner lips that touch along their whole width
PRESSED_GAP_MM = -0.8  # what flesh allows
WIDEST_JAW = 1.0  # speech doesn't open the jaw further, however lively the speaker
CLOSING_S, OPENING_S = 0.16, 0.10  # how fast lips close after speech, and open ahead of it

NOISE_TAU_S = 0.15
NOISE_STD = {
    **{"jaw_open": 0.025, "lip_round": 0.03, "lip_spread": 0.05, "upper_raise": 0.05, "lower_depress": 0.05},
    **{"corner_up": 0.08, "brow_raise": 0.15},
}
BROW_S = 0.12  # standard deviation of the brow's bump on a stressed syllable
BLINK_S = 0.07
HEAD_TAU_S = 0.6
HEAD_BIAS_DEG, HEAD_SWAY_DEG = (3.4, 5.7, 2.3), (1.0, 1.4, 0.8)  # standard deviations about x (nod), y (turn), z (tilt)
HEAD_SHIFT_M = 0.0015


@dataclass(frozen=True)
class Style:
    """How one speaker moves. The default is the rule itself: no noise, no blinks, a still head."""

    gain: tuple[float, ...] = (1.0,) * len(ARTICULATORS)
    theta_scale: float = 1.0  # above 1: crisper, less co-articulation
    lips_theta_scale: float = 1.0  # the same of SLOW_SHAPES alone, on top
    visual_lead_s: float = 0.0  # the mouth moves before the sound
    brow: float = 0.35  # brow raise on a stressed syllable
    noise: float = 0.0  # scale of the random motion of the face
    blinks_hz: float = 0.0
    head: float = 0.0  # scale of head motion


# A speaker who hardly moves his mouth: a filmed mouth's width varies by some 3 %, the rule's by 13; the lips of w, r, u
# come and go with their phone. What GRID's speaker s1 does, by eye and by his 45 validation clips' landmarks.
CALM_GAIN = {"jaw_open": 0.75, "upper_raise": 0.5, "lip_round": 0.3, "lip_spread": 0.2, "lip_funnel": 0.25}
STYLES = {
    "rule": Style(),
    "calm": Style(
        gain=tuple(CALM_GAIN.get(name, 1.0) for name in ARTICULATORS), lips_theta_scale=2.0, visual_lead_s=-0.02
    ),
}


def random_style(rng: np.random.Generator) -> Style:
    """A speaker's style."""
    gain = rng.uniform(0.85, 1.15) * rng.uniform(0.9, 1.1, len(ARTICULATORS))
    return Style(
        gain=tuple(gain.round(4).tolist()),
        theta_scale=round(rng.uniform(0.85, 1.25), 4),
        visual_lead_s=round(rng.uniform(0.005, 0.030), 4),
        brow=round(rng.uniform(0.15, 0.6), 4),
        noise=round(rng.uniform(0.7, 1.2), 4),
        blinks_hz=round(rng.uniform(0.1, 0.4), 4),
        head=round(rng.uniform(0.6, 1.2), 4),
    )


@dataclass(frozen=True)
class LipAperture:
    """Gap of the inner lips in mm as a linear function of the coefficients: rest_mm + coefficients @ per_unit_mm."""

    rest_mm: float
    per_unit_mm: np.ndarray  # (K,)

    @classmethod
    def of_template(cls, template: FaceTemplate) -> "LipAperture":
        """Measure a template; InputError if it isn't moved by `ARTICULATORS`."""
        if template.articulation_names != ARTICULATORS:
            raise InputError(
                f"face template {template.name!r} is moved by {', '.join(template.articulation_names) or 'nothing'}; "
                f"the articulation rules move {', '.join(ARTICULATORS)}"
            )
        units = np.concatenate([np.zeros((1, len(ARTICULATORS))), np.eye(len(ARTICULATORS))]).astype(np.float32)
        gaps_mm = lip_aperture_mm(template, template.offsets(units)).astype(np.float64)
        return cls(float(gaps_mm[0]), gaps_mm[1:] - gaps_mm[0])

    def gap_mm(self, coefficients: np.ndarray) -> np.ndarray:
        """(T, K) -> (T,)"""
        return self.rest_mm + coefficients @ self.per_unit_mm


def articulate(
    phones: list[Interval],
    duration_s: float,
    style: Style,
    template_aperture: LipAperture,
    rng: np.random.Generator,
    fps: float = FPS,
) -> np.ndarray:
    """Coefficients (T, 16) float32 of `ARTICULATORS` at the frames' centres; T covers `duration_s`.

    Bilabials close the given template's lips exactly, and so does silence. Raises InputError on unknown symbols.
    """
    n_frames = frames_of(round(duration_s * SAMPLE_RATE)) if fps == FPS else int(np.ceil(duration_s * fps))
    times_s = (np.arange(n_frames) + 0.5) / fps + style.visual_lead_s
    segments = segments_of(phones, duration_s)
    contact = {kind: _contact(segments, kind, times_s) for kind in CONTACTS}
    rest = _silence(segments, times_s)
    closed = np.maximum(contact["BMP"], rest)

    motion = _blend(segments, times_s, style.theta_scale, style.lips_theta_scale) * np.array(style.gain)
    motion[:, COLUMN["brow_raise"]] += style.brow * _brow(segments, times_s)
    free = 1 - np.max([*contact.values(), 0.6 * rest], axis=0)
    motion += style.noise * _noise(n_frames, rng, fps) * free[:, None]
    for kind, bounds in CONTACTS.items():
        for name, bound in bounds.items():
            _pull(motion[:, COLUMN[name]], bound, contact[kind])
    np.minimum(motion[:, COLUMN["jaw_open"]], WIDEST_JAW, out=motion[:, COLUMN["jaw_open"]])
    _close(motion, closed, template_aperture)
    motion[:, COLUMN["blink"]] = _blinks(n_frames, style.blinks_hz, rng, fps)
    return motion.astype(np.float32)


def head_motion(n_frames: int, style: Style, rng: np.random.Generator, fps: float = FPS) -> np.ndarray:
    """Head pose (T, 6) float32: rotation vector (rad) about x, y, z, then translation (m); a slow sway about a bias."""
    bias = rng.standard_normal(3) * np.deg2rad(HEAD_BIAS_DEG)
    sway = ornstein_uhlenbeck(n_frames, 6, HEAD_TAU_S, rng, fps)
    sway[1:-1] = (sway[:-2] + 2 * sway[1:-1] + sway[2:]) / 4  # heads have mass
    rotation = bias + sway[:, :3] * np.deg2rad(HEAD_SWAY_DEG)
    return (style.head * np.concatenate([rotation, HEAD_SHIFT_M * sway[:, 3:]], axis=1)).astype(np.float32)


def _blend(
    segments: list[Segment], times_s: np.ndarray, theta_scale: float, lips_theta_scale: float = 1.0
) -> np.ndarray:
    """(T, K): every segment's targets, weighted by their dominance."""
    starts = np.array([s.start_s for s in segments])
    ends = np.array([s.end_s for s in segments])
    plateau = np.array([PLATEAU.get(s.kind, PLATEAU["consonant"]) for s in segments]) * (ends - starts)
    theta = theta_scale * np.array([s.theta for s in segments])
    target = np.stack([s.target for s in segments])  # (N, K)
    alpha = np.stack([s.alpha for s in segments])

    tau_s = times_s[:, None] - (starts + ends) / 2  # (T, N)
    distance_s = np.maximum(0, np.abs(tau_s) - plateau)
    plain = np.exp(-theta * distance_s)
    shaped = np.exp(-theta * lips_theta_scale * np.where(tau_s < 0, EARLY, LATE) * distance_s)
    slow = np.isin(ARTICULATORS, SLOW_SHAPES)
    weights = np.where(slow, shaped[:, :, None], plain[:, :, None]) * alpha  # (T, N, K)
    return (weights * target).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-12)


def _contact(segments: list[Segment], kind: str, times_s: np.ndarray) -> np.ndarray:
    """(T,) in [0, 1]: how much a class of consonants insists on its contact."""
    weight = np.zeros(len(times_s))
    for segment in segments:
        if segment.kind == kind:
            length_s = segment.end_s - segment.start_s
            middle_s = segment.start_s + CONTACT_MIDDLE.get(kind, 0.5) * length_s
            outside_s = np.maximum(0, np.abs(times_s - middle_s) - max(CONTACT_HOLD * length_s, CAMERA_S))
            weight = np.maximum(weight, np.exp(-((outside_s / CONTACT_SLOPE_S) ** 2)))
    return weight


def _silence(segments: list[Segment], times_s: np.ndarray) -> np.ndarray:
    """(T,) in [0, 1]: how far the mouth has come to rest."""
    weight = np.zeros(len(times_s))
    for n, segment in enumerate(segments):
        if segment.kind == "silence":
            since = np.inf if n == 0 else times_s - segment.start_s
            until = np.inf if n == len(segments) - 1 else segment.end_s - times_s
            ramp = np.clip(np.minimum(since / CLOSING_S, until / OPENING_S), 0, 1) * np.ones(len(times_s))
            weight = np.maximum(weight, ramp * ramp * (3 - 2 * ramp))
    return weight


def _pull(values: np.ndarray, bound: tuple[str, float], weight: np.ndarray) -> None:
    """Move values (T,), in place, to at most or at least the bound, as far as the weight says."""
    side, limit = bound
    bounded = np.minimum(values, limit) if side == "most" else np.maximum(values, limit)
    values += weight * (bounded - values)


def _close(motion: np.ndarray, closed: np.ndarray, aperture: LipAperture) -> None:
    """Close the lips, in place, where `closed` (T,) is 1; elsewhere keep them from passing through each other."""
    for name, share in (("upper_raise", 1.0), ("lower_depress", 1.0), ("lip_funnel", 1.0), ("lip_round", 0.55)):
        motion[:, COLUMN[name]] *= 1 - share * closed
    _pull(motion[:, COLUMN["jaw_open"]], ("most", 0.05), closed)
    for name in ("jaw_open", "lip_press", "lower_tuck", "tongue_out", "lip_funnel", "lip_round"):
        np.maximum(motion[:, COLUMN[name]], 0, out=motion[:, COLUMN[name]])
    lower, per_unit_mm = COLUMN["lower_depress"], aperture.per_unit_mm[COLUMN["lower_depress"]]
    motion[:, lower] -= closed * (aperture.gap_mm(motion) - CLOSED_GAP_MM) / per_unit_mm
    motion[:, lower] += np.maximum(0, PRESSED_GAP_MM - aperture.gap_mm(motion)) / per_unit_mm


def _brow(segments: list[Segment], times_s: np.ndarray) -> np.ndarray:
    """(T,): a bump on each stressed syllable."""
    middles_s = np.array([(s.start_s + s.end_s) / 2 for s in segments if s.stressed])
    bumps = np.exp(-0.5 * ((times_s[:, None] - middles_s) / BROW_S) ** 2)
    return bumps.max(axis=1, initial=0.0)


def _noise(n_frames: int, rng: np.random.Generator, fps: float) -> np.ndarray:
    """(T, K): slow random motion of the lips, the corners and the brows."""
    noise = np.zeros((n_frames, len(ARTICULATORS)))
    columns = [COLUMN[name] for name in NOISE_STD]
    noise[:, columns] = ornstein_uhlenbeck(n_frames, len(columns), NOISE_TAU_S, rng, fps) * list(NOISE_STD.values())
    return noise


def _blinks(n_frames: int, blinks_hz: float, rng: np.random.Generator, fps: float) -> np.ndarray:
    """(T,) in [0, 1]: blinks at random times."""
    middles_s = rng.uniform(0, n_frames / fps, rng.poisson(blinks_hz * n_frames / fps))
    distance = (np.arange(n_frames)[:, None] + 0.5) / fps - middles_s
    return np.exp(-((distance / BLINK_S) ** 4)).max(axis=1, initial=0.0)
