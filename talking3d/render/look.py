"""How a clip looks: its light, its background and its lens, fixed or drawn at random."""

from dataclasses import dataclass, replace

import numpy as np

from talking3d.render.shade import Lights


@dataclass(frozen=True)
class Look:
    """Light, background and lens of a clip. Colours are linear RGB; directions have x right, y up, z to the viewer.

    key, fill: radiance of a white matt surface facing that light. sky, ground: ambient light from above and below.
    specular: scale of all highlights. background: colours at the top and at the bottom. pixel_noise: standard deviation
    as a share of full scale, new in each frame. blur_px: standard deviation in the output's pixels. crop_zoom,
    crop_jitter_px: of lip crops only, constant zoom and standard deviation of each frame's shift. seed: of noise and
    jitter.
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
    pixel_noise: float = 0.0
    blur_px: float = 0.0
    crop_zoom: float = 1.0
    crop_jitter_px: float = 0.0
    seed: int = 0

    def lights(self) -> Lights:
        """The lights, with exposure in them."""
        directions = np.array([self.key_direction, self.fill_direction], np.float32)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        colors = np.array([self.key, self.fill], np.float32) * np.float32(self.exposure)
        ambient = np.array([self.sky, self.ground], np.float32) * np.float32(self.exposure)
        return Lights(directions, colors, ambient, self.specular)


def random_look(rng: np.random.Generator) -> Look:
    """A look within what rooms, lamps and webcams do; deterministic in rng.

    The ranges are moderate: wider ones cost readers of real lips accuracy.
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
        pixel_noise=float(rng.uniform(0.003, 0.012)),
        blur_px=float(rng.uniform(0.3, 0.8)),
        crop_zoom=float(np.exp(rng.normal(0, 0.04))),
        crop_jitter_px=float(rng.uniform(0.1, 0.5)),
        seed=int(rng.integers(2**31)),
    )
