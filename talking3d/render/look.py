"""How a clip looks: light, background, stance of the head, lens and codec, fixed or drawn at random."""

from dataclasses import dataclass, replace

import numpy as np

from avsr.media.timing import FPS
from talking3d.render.shade import Lights

SWAY_S = (1.7, 2.9, 4.3)  # periods of the head's sway: they share none, so it hardly repeats
SWAY_AXES = (1.0, 1.5, 0.7)  # its strength in nod, turn and tilt
TEXTURE_KNOTS = 6  # a side: blobs as large as a sixth of the picture, as of a wall out of focus

HEAD_TURN_DEG = (2.0, 3.0, 1.2)  # standard deviations of nod, turn and tilt, beside those of the motion itself
CODEC_SHARE = 0.5  # of clips that went through a codec of low quality before they came here
CODEC_CRF = (20, 30)  # from hardly visible to what video sites send to small screens
TRAIL_SHARE = 0.5  # of clips whose shutter stayed open

# Standard deviations of what varies about a look that was found: of lamps' directions (a share of their length, about
# 8 degrees), of the head's nod, turn and tilt.
ABOUT_TURN, ABOUT_POSE_DEG = 0.14, np.array([1.0, 1.5, 0.6])


@dataclass(frozen=True)
class Look:
    """Light, background, stance, lens and codec of a clip. Colours are linear RGB; x is right, y up, z to the viewer.

    key, fill: radiance of a white matt surface facing that light. sky, ground: ambient light from above and below.
    specular: scale of all highlights. background: colours at the top and at the bottom; background_texture: relative
    standard deviation of soft blobs on them. head_turn: a rotation vector (rad) that is added to the head's all through
    the clip; head_sway: standard deviation (rad) of a slow turning to and fro. blur_px: standard deviation in the
    output's pixels. trail: the share of a picture's light that is left from the picture before. pixel_noise: standard
    deviation as a share of full scale, new in each frame. seed: of noise, texture, sway and jitter.

    Of lip crops only: crop_zoom, constant; crop_jitter_px, standard deviation of each frame's shift; codec_crf, quality
    of an H.264 round trip (higher is worse), None for none.
    """

    key_direction: tuple[float, float, float] = (-0.55, 0.75, 0.9)
    key: tuple[float, float, float] = (0.98, 0.94, 0.88)
    fill_direction: tuple[float, float, float] = (0.8, 0.1, 0.7)
    fill: tuple[float, float, float] = (0.15, 0.17, 0.20)
    sky: tuple[float, float, float] = (0.27, 0.28, 0.31)
    ground: tuple[float, float, float] = (0.10, 0.09, 0.08)
    specular: float = 1.0
    exposure: float = 1.0
    background: tuple[tuple[float, float, float], tuple[float, float, float]] = ((0.17, 0.20, 0.24), (0.04, 0.05, 0.06))
    background_texture: float = 0.0
    head_turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    head_sway: float = 0.0
    pixel_noise: float = 0.0
    blur_px: float = 0.0
    trail: float = 0.0
    crop_zoom: float = 1.0
    crop_jitter_px: float = 0.0
    codec_crf: int | None = None
    seed: int = 0

    def lights(self) -> Lights:
        """The lights, with exposure in them."""
        directions = np.array([self.key_direction, self.fill_direction], np.float32)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        colors = np.array([self.key, self.fill], np.float32) * np.float32(self.exposure)
        ambient = np.array([self.sky, self.ground], np.float32) * np.float32(self.exposure)
        return Lights(directions, colors, ambient, self.specular)

    def stance(self, head_pose: np.ndarray | None, n_frames: int) -> np.ndarray | None:
        """head_pose (T, 6), or None for a still head, with the look's turn and sway added to its rotation vectors.

        Adding vectors is composing rotations as long as the angles are small, and these are.
        """
        if self.head_sway == 0 and not any(self.head_turn):
            return head_pose
        phases = np.random.default_rng((self.seed, 1)).uniform(0, 2 * np.pi, (len(SWAY_S), 3))
        angles = 2 * np.pi * np.arange(n_frames)[:, None, None] / (FPS * np.array(SWAY_S)[:, None]) + phases
        sway = np.sin(angles).sum(axis=1) * np.sqrt(2 / len(SWAY_S)) * np.array(SWAY_AXES)  # (T, 3)
        stance = np.zeros((n_frames, 6), np.float32) if head_pose is None else np.array(head_pose, np.float32)
        stance[:, :3] += (np.array(self.head_turn) + self.head_sway * sway).astype(np.float32)
        return stance

    def texture(self, size: int) -> np.ndarray:
        """What the background (size, size) is multiplied by."""
        if self.background_texture == 0:
            return np.ones((size, size), np.float32)
        knots = np.random.default_rng((self.seed, 2)).standard_normal((TEXTURE_KNOTS, TEXTURE_KNOTS))
        place = np.linspace(0, TEXTURE_KNOTS - 1, size)
        bumps = np.exp(-0.5 * ((place[:, None] - np.arange(TEXTURE_KNOTS)) / 0.7) ** 2)  # (size, knots)
        bumps /= np.linalg.norm(bumps, axis=1, keepdims=True)
        return np.maximum(1 + self.background_texture * bumps @ knots @ bumps.T, 0.1).astype(np.float32)


def random_look(rng: np.random.Generator) -> Look:
    """A look within what rooms, lamps, webcams and their codecs do; deterministic in rng.

    Key light from -57 to 57 degrees at 0.7 to 1.1, fill 10 to 50 % of it, sky 0.18 to 0.42; exposure +-15 %; the head
    turned by some 2 to 3 degrees and swaying by up to 1; noise 0.3 to 1.2 %, blur 0.3 to 0.8 px, half the clips with a
    trail of up to 30 %, half through H.264 at crf 20 to 30. The ranges are moderate: wider ones cost readers of real
    lips accuracy.
    """
    azimuth, height = rng.uniform(-1.0, 1.0), rng.uniform(0.0, 0.9)
    tint = 1 + 0.06 * rng.standard_normal(3)
    key = rng.uniform(0.7, 1.1)
    ambient = rng.uniform(0.18, 0.42)
    grays = rng.uniform(0.02, 0.6, size=2)[:, None] * (1 + 0.1 * rng.standard_normal((2, 3)))
    return replace(
        Look(),
        key_direction=(float(np.sin(azimuth)), float(height), float(np.cos(azimuth))),
        key=tuple((key * tint).tolist()),
        fill_direction=(float(-np.sin(azimuth)) + 0.3, 0.1, 0.7),
        fill=tuple((key * rng.uniform(0.1, 0.5) / tint).tolist()),
        sky=(ambient,) * 3,
        ground=(ambient * rng.uniform(0.3, 0.8),) * 3,
        specular=float(rng.uniform(0.5, 1.3)),
        exposure=float(np.exp(rng.normal(-0.05, 0.15))),
        background=tuple(tuple(np.clip(gray, 0, 1).tolist()) for gray in grays),
        background_texture=float(rng.uniform(0.0, 0.4)),
        head_turn=tuple(np.deg2rad(np.array(HEAD_TURN_DEG) * rng.standard_normal(3)).tolist()),
        head_sway=float(np.deg2rad(rng.uniform(0.0, 1.0))),
        pixel_noise=float(rng.uniform(0.003, 0.012)),
        blur_px=round(float(rng.uniform(0.3, 0.8)), 2),
        trail=float(rng.uniform(0.0, 0.3)) if rng.random() < TRAIL_SHARE else 0.0,
        crop_zoom=float(np.exp(rng.normal(0, 0.04))),
        crop_jitter_px=float(rng.uniform(0.1, 0.5)),
        codec_crf=int(rng.integers(CODEC_CRF[0], CODEC_CRF[1] + 1)) if rng.random() < CODEC_SHARE else None,
        seed=int(rng.integers(2**31)),
    )


def look_about(look: Look, rng: np.random.Generator) -> Look:
    """The look as another day, a little other light and stance would have it; deterministic in rng.

    Lamps turn by some 8 degrees and are 10 to 20 % stronger or weaker; the head turns by 1 to 1.5 degrees and sways by
    up to 0.5; noise and blur vary by a quarter, the mouth's size by 3 %.
    """

    def times(values, sigma):
        factor = np.exp(rng.normal(0, sigma))
        return tuple(float(factor * value) for value in values)

    def turned(direction):
        return tuple((direction + ABOUT_TURN * np.linalg.norm(direction) * rng.standard_normal(3)).tolist())

    return replace(
        look,
        key_direction=turned(look.key_direction),
        fill_direction=turned(look.fill_direction),
        key=times(look.key, 0.1),
        fill=times(look.fill, 0.2),
        sky=times(look.sky, 0.1),
        ground=times(look.ground, 0.2),
        specular=look.specular * float(np.exp(rng.normal(0, 0.2))),
        exposure=look.exposure * float(np.exp(rng.normal(0, 0.06))),
        head_turn=tuple((np.array(look.head_turn) + np.deg2rad(ABOUT_POSE_DEG * rng.standard_normal(3))).tolist()),
        head_sway=look.head_sway + float(np.deg2rad(rng.uniform(0, 0.5))),
        pixel_noise=look.pixel_noise * float(np.exp(rng.normal(0, 0.25))),
        blur_px=round(look.blur_px * float(np.exp(rng.normal(0, 0.25))), 2),
        crop_zoom=look.crop_zoom * float(np.exp(rng.normal(0, 0.03))),
        crop_jitter_px=look.crop_jitter_px + float(rng.uniform(0.1, 0.4)),
        seed=int(rng.integers(2**31)),
    )
