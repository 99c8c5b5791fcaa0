"""A speaker's look estimated from filmed lip crops and the motion that was fitted to them.

First the light and the tones of lips, teeth and mouth: least squares between drawn and filmed pictures, both blurred,
by a trust-region method with finite differences (a picture is drawn in a millisecond).
Then the colour of every vertex. Linear light is linear in the albedo, drawn = A albedo, so the multiplicative update
albedo <- albedo * A'filmed / A'drawn raises the Poisson likelihood and keeps the albedo positive (Shepp and Vardi,
"Maximum likelihood reconstruction for emission tomography", IEEE TMI 1982); A' is the renderer's gradient. Last, blur
and noise: those with which drawn crops have the filmed ones' fine detail.

Crops are gray, so lights are white and albedo is gray. How bright the light is and how bright the skin cannot be told
apart: the skin keeps the template's mean brightness.

Letters: N frames, T frames of a clip, V vertices.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from avsr.errors import InputError
from avsr.media.lips import SIZE
from talking3d.face.motion import Motion
from talking3d.face.paint import smooth_over_mesh
from talking3d.face.regions import lip_aperture_mm
from talking3d.face.template import FaceTemplate
from talking3d.render.film import gray_equivalent, srgb_to_linear
from talking3d.render.look import Look
from talking3d.render.renderer import SAMPLES, Shot, check_motion, draw_frames, lip_shot
from talking3d.render.speaker_look import SpeakerLook

MOST_CLIPS, FRAMES_A_CLIP = 12, 6  # that a look is found from
LIGHT_FRAMES = 24  # of these, for the light
COARSE_PX = 1.5  # blur of both pictures where light is compared: what motion is off by counts less
WINDOW_PX = 26.0  # standard deviation of the weight of pixels about the mouth's middle
ROBUST = 0.08  # differences beyond this share of full scale count less: other teeth, clothes, a stray hair
STEP, MOST_STEPS = 0.1, 8
ALBEDO_STEPS, FEWEST_PX = 6, 2.0  # a vertex that shows in fewer pixels than this keeps its colour
LEAST_ALBEDO, MOST_ALBEDO = 0.004, 0.95
BLURS_PX = np.arange(0.0, 2.05, 0.1)
DETAIL_PX = 1.5  # what is left of a picture without its blur by this is its fine detail
STILL_SHARE = 0.3  # of pixels, the least moving ones, that show the noise

# What the light's fit moves, in units of which one is a plausible change: start, low, high.
# Angles in units of 0.4 rad, radiances and tones as logarithms in units of 0.4.
STARTS = {
    "azimuth": (0.0, -3.0, 3.0),
    "elevation": (1.5, -0.5, 3.0),
    "key": (0.0, -4.0, 2.0),
    "fill": (0.0, -4.0, 3.0),
    "sky": (0.0, -3.0, 3.0),
    "ground": (0.0, -3.0, 4.0),
    "specular": (-1.0, -5.0, 1.0),
    "lips": (0.0, -2.0, 3.0),
    "teeth": (-1.0, -4.0, 1.0),
    "mouth": (0.0, -2.0, 5.0),
}
ANGLE_RAD, LOG_UNIT = 0.4, 0.4
TONED = (("lips", "lips"), ("mouth_interior", "mouth"), ("teeth_upper", "teeth"), ("teeth_lower", "teeth"))
SURE = 0.01  # what leaving the start by one unit costs, as a difference in all pixels
KEY, FILL, SKY, GROUND = 0.75, 0.2, 0.28, 0.15  # at the start


@dataclass(frozen=True)
class FilmedLips:
    """A clip: its filmed lip crops (T, 96, 96) uint8, and the motion that was fitted to it."""

    template: FaceTemplate
    motion: Motion
    lips: np.ndarray

    def __post_init__(self):
        if len(self.lips) != self.motion.n_frames:
            raise InputError(
                f"{len(self.lips)} filmed crops but motion of {self.motion.n_frames} frames; fit the clip again"
            )


class Frames(NamedTuple):
    """Frames of clips to compare with: template at rest, offsets (N, V, 3), head_pose (N, 6), their shot, and the film
    (N, 96, 96) in [0, 1]."""

    template: FaceTemplate
    offsets: np.ndarray
    head_pose: np.ndarray
    shot: Shot
    film: np.ndarray

    def part(self, frames: np.ndarray) -> "Frames":
        shot = self.shot._replace(transforms=self.shot.transforms[frames])
        return Frames(self.template, self.offsets[frames], self.head_pose[frames], shot, self.film[frames])

    def drawn(self, template: FaceTemplate, look: Look) -> np.ndarray:
        """Pictures (N, 96, 96) in [0, 1] of another dress of the template."""
        rng = np.random.default_rng(look.seed)
        pictures = draw_frames(template, self.offsets, self.head_pose, look, self.shot, rng, SAMPLES, "auto")
        return np.stack([picture[..., 0] for picture in pictures]) / np.float32(255)


def fit_look(clips: Sequence[FilmedLips]) -> SpeakerLook:
    """Find the look of a speaker's crops; of more than 12 clips evenly chosen ones count, and of each 6 frames.

    Raises InputError when there are no clips, or clips of several templates.
    """
    frames = choose_frames(clips)
    units = _fit_light(frames.part(np.unique(np.linspace(0, len(frames.film) - 1, LIGHT_FRAMES).round().astype(int))))
    look, template = _dressed(frames.template, units)
    template = replace(template, colors=_fit_albedo(frames, template, look))
    noise = _noise(clips)
    look = replace(look, pixel_noise=noise, blur_px=_fit_blur(frames, template, replace(look, pixel_noise=noise)))
    return SpeakerLook(look, template.colors, template.topology_hash)


def choose_frames(clips: Sequence[FilmedLips]) -> Frames:
    """Frames of the clips from closed to wide open lips, in even steps of their ranks. InputError as `fit_look`."""
    if not clips:
        raise InputError("there are no filmed clips to find a look from")
    chosen = np.linspace(0, len(clips) - 1, min(len(clips), MOST_CLIPS)).round().astype(int)
    clips = [clips[i] for i in chosen]
    template = clips[0].template
    if any(clip.template.topology_hash != template.topology_hash for clip in clips):
        raise InputError("the clips were fitted with different templates; find the look of one fit's clips")
    parts = []
    for clip in clips:
        offsets = clip.motion.offsets_for(clip.template)
        pose = np.zeros((len(offsets), 6), np.float32) if clip.motion.head_pose is None else clip.motion.head_pose
        check_motion(clip.template, offsets, pose)
        order = np.argsort(lip_aperture_mm(clip.template, offsets), kind="stable")
        at = order[np.linspace(0, len(order) - 1, min(FRAMES_A_CLIP, len(order))).round().astype(int)]
        shot = lip_shot(clip.template, offsets, pose, Look())
        parts.append((offsets[at], pose[at], shot.transforms[at], clip.lips[at].astype(np.float32) / 255))
    offsets, pose, transforms, film = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Frames(template, offsets, pose, shot._replace(transforms=transforms), film)


def agreement(drawn: np.ndarray, film: np.ndarray) -> dict[str, float]:
    """How near drawn pictures (N, 96, 96) in [0, 1] are to filmed ones.

    correlation, difference: of pixels, the mean over frames. mean_correlation, mean_difference: of the frames' mean
    pictures. motion_correlation: of what all frames have beyond their mean picture. histogram_distance: of gray
    histograms (Wasserstein-1). Differences are absolute and, as the distance, in gray levels of 255.
    """

    def correlation(a, b):
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    both = list(zip(drawn, film, strict=True))
    gray = np.sort(drawn.ravel()) - np.sort(film.ravel())
    return {
        "correlation": float(np.mean([correlation(a, b) for a, b in both])),
        "difference": 255 * float(np.mean([np.abs(a - b).mean() for a, b in both])),
        "mean_correlation": correlation(drawn.mean(axis=0), film.mean(axis=0)),
        "mean_difference": 255 * float(np.abs(drawn.mean(axis=0) - film.mean(axis=0)).mean()),
        "histogram_distance": 255 * float(np.abs(gray).mean()),
        "motion_correlation": correlation(drawn - drawn.mean(axis=0), film - film.mean(axis=0)),
    }


def _fit_light(frames: Frames) -> dict[str, float]:
    """The values of `STARTS` with which drawn frames are most like the filmed ones."""
    from scipy.optimize import least_squares

    start, low, high = np.array(list(STARTS.values())).T
    weight = np.sqrt(_window())
    goal = _blurred(frames.film, COARSE_PX)
    scale = 1 / np.sqrt(goal.shape[0] * np.square(weight).sum())

    def residuals(values):
        look, template = _dressed(frames.template, dict(zip(STARTS, values, strict=True)))
        apart = weight * (_blurred(frames.drawn(template, look), COARSE_PX) - goal)
        kept = np.sqrt(2 * (np.sqrt(1 + np.square(apart / ROBUST)) - 1)) * ROBUST * np.sign(apart)
        return np.concatenate([scale * kept.ravel(), SURE * (values - start)])

    found = least_squares(
        residuals, start, lambda values: _slopes(residuals, values, high), (low, high), max_nfev=MOST_STEPS
    )
    return dict(zip(STARTS, found.x.tolist(), strict=True))


def _slopes(function: Callable, values: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The Jacobian by steps that are long enough to change pictures of 256 grays, and stay within the bounds."""
    here, columns = function(values), []
    for k in range(len(values)):
        step = STEP if values[k] + STEP <= high[k] else -STEP
        there = values.copy()
        there[k] += step
        columns.append((function(there) - here) / step)
    return np.stack(columns, axis=1)


def _dressed(template: FaceTemplate, units: dict[str, float]) -> tuple[Look, FaceTemplate]:
    """Look and coloured template for values of `STARTS`."""

    def times(value, name):
        return float(value * np.exp(LOG_UNIT * units[name]))

    azimuth, elevation = ANGLE_RAD * units["azimuth"], ANGLE_RAD * units["elevation"]
    flat = np.cos(elevation)
    direction = (float(np.sin(azimuth) * flat), float(np.sin(elevation)), float(np.cos(azimuth) * flat))
    look = replace(
        Look(),
        key_direction=direction,
        key=(times(KEY, "key"),) * 3,
        fill_direction=(float(-np.sin(azimuth)), 0.1, 0.7),
        fill=(times(FILL, "fill"),) * 3,
        sky=(times(SKY, "sky"),) * 3,
        ground=(times(GROUND, "ground"),) * 3,
        specular=times(1.0, "specular"),
    )
    gray = gray_equivalent(template.colors)[:, 0]
    tone = np.ones(len(gray), np.float32)
    for region, name in TONED:  # later rows win where regions overlap
        tone[template.regions.get(region, [])] = times(1.0, name)
    colors = np.repeat(np.clip(gray * tone, LEAST_ALBEDO, MOST_ALBEDO)[:, None], 3, axis=1)
    return look, replace(template, colors=colors)


def _fit_albedo(frames: Frames, template: FaceTemplate, look: Look) -> np.ndarray:
    """Gray albedo (V, 3) of every vertex that is seen; the others keep what they have."""
    import torch

    from talking3d.render.differentiable import Painter

    painter = Painter(template, look)
    offsets = painter.tensor(frames.offsets)
    goal = painter.tensor(srgb_to_linear(frames.film) * _window())[..., None]
    weight = painter.tensor(_window())[None, :, :, None]
    albedo = template.colors[:, 0].astype(np.float64)
    for _ in range(ALBEDO_STEPS):
        leaf = painter.tensor(np.repeat(albedo[:, None], 3, axis=1)).requires_grad_()
        painter.surface = painter.surface._replace(albedo=leaf)
        drawn = painter.linear(offsets, frames.head_pose, frames.shot)
        (from_film,) = torch.autograd.grad((goal * drawn).sum(), leaf, retain_graph=True)
        (from_drawn,) = torch.autograd.grad((weight * drawn.detach() * drawn).sum(), leaf)
        top, bottom = from_film.sum(1).numpy().astype(np.float64), from_drawn.sum(1).numpy().astype(np.float64)
        seen = albedo * bottom > FEWEST_PX * np.median(drawn.detach().numpy()) ** 2
        gain = np.where(seen, top / np.where(seen, bottom, 1.0), 1.0)
        albedo = np.clip(albedo * smooth_over_mesh(gain, template.faces, 1), LEAST_ALBEDO, MOST_ALBEDO)
    return np.repeat(albedo[:, None], 3, axis=1).astype(np.float32)


def _fit_blur(frames: Frames, template: FaceTemplate, look: Look) -> float:
    """The blur (px) with which drawn frames have as much fine detail as filmed ones."""
    wanted = _detail(frames.film)
    details = [_detail(frames.drawn(template, replace(look, blur_px=round(float(px), 2)))) for px in BLURS_PX]
    return round(float(BLURS_PX[int(np.argmin(np.abs(np.log(np.array(details) / wanted))))]), 2)


def _detail(pictures: np.ndarray) -> float:
    """Weighted variance of what a blur takes away, over frames (N, 96, 96)."""
    fine = pictures - _blurred(pictures, DETAIL_PX)
    return float((_window() * np.square(fine)).sum() / (_window().sum() * len(pictures))) + 1e-12


def _noise(clips: Sequence[FilmedLips]) -> float:
    """Standard deviation of a pixel's noise as a share of full scale, from the least moving pixels of all clips."""
    spreads = []
    for clip in clips[:MOST_CLIPS]:
        if len(clip.lips) > 1:
            change = np.diff(clip.lips.astype(np.float32) / 255, axis=0).std(axis=0)
            spreads.append(np.quantile(change, STILL_SHARE) / np.sqrt(2))
    return round(float(np.median(spreads)), 4) if spreads else 0.0


def _blurred(pictures: np.ndarray, sigma_px: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(pictures, (0, sigma_px, sigma_px), mode="nearest")


def _window() -> np.ndarray:
    """Weights (96, 96) of pixels: most at the mouth."""
    at = np.exp(-0.5 * ((np.arange(SIZE) - (SIZE - 1) / 2) / WINDOW_PX) ** 2)
    return np.outer(at, at).astype(np.float32)
