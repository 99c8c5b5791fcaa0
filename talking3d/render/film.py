"""From linear light to pixels: the sRGB curve, gray, lens blur, a shutter that stays open, and sensor noise."""

import functools
from collections.abc import Iterable, Iterator

import numpy as np
from numba import njit

LUMA_601 = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, on encoded RGB
TABLE_STEPS = 4095
NOISE_BANK = 2**20  # normal values, drawn once: each picture takes a stretch of them, for a tenth of the time


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """sRGB transfer function (IEC 61966-2-1) of linear light, clipped to [0, 1]."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_to_linear(srgb: np.ndarray) -> np.ndarray:
    """Inverse of `linear_to_srgb` on [0, 1]."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


SRGB_TABLE = linear_to_srgb(np.linspace(0, 1, TABLE_STEPS + 1)).astype(np.float32)
LINEAR_TABLE = srgb_to_linear(np.linspace(0, 1, TABLE_STEPS + 1)).astype(np.float32)


def gray_equivalent(linear: np.ndarray) -> np.ndarray:
    """The linear grays (V, 1) that encode to the Rec. 601 luma of linear RGB (V, 3).

    They are interpolated and averaged in linear light as colours are, in a third of the time.
    """
    return _look_up(_look_up(linear, SRGB_TABLE) @ LUMA_601, LINEAR_TABLE)[:, None]


def develop(
    linear: np.ndarray, blur_px: float = 0.0, pixel_noise: float = 0.0, rng: np.random.Generator | None = None
) -> np.ndarray:
    """One linear picture (H, W, C) to uint8 sRGB: Gaussian blur, the sRGB curve, then normal noise.

    blur_px: standard deviation in pixels, at least 0. pixel_noise: standard deviation as a share of full scale; rng
    chooses where in the bank of noise the picture's begins.
    """
    if blur_px > 0:
        linear = _blur(linear, _gaussian(blur_px))
    return _expose(linear, SRGB_TABLE, _noise(linear.size, rng) if pixel_noise > 0 else None, np.float32(pixel_noise))


def open_shutter(linear: Iterable[np.ndarray], trail: float) -> Iterator[np.ndarray]:
    """Linear pictures (H, W, C) with the share `trail` in [0, 1) of each one's light from the picture before it."""
    before = None
    for picture in linear:
        yield picture if before is None or trail == 0 else np.float32(1 - trail) * picture + np.float32(trail) * before
        before = picture


def _noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """n values of unit variance; a picture larger than the bank draws its own."""
    if n > NOISE_BANK:
        return rng.standard_normal(n, np.float32)
    start = int(rng.integers(NOISE_BANK - n + 1))
    return _noise_bank()[start : start + n]


@functools.cache
def _noise_bank() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(NOISE_BANK, np.float32)


@functools.lru_cache(maxsize=64)
def _gaussian(sigma: float) -> np.ndarray:
    """Weights (2R + 1,) of a Gaussian, cut off at 2.5 sigma."""
    radius = int(np.ceil(2.5 * sigma))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return (weights / weights.sum()).astype(np.float32)


@njit(cache=True, nogil=True)
def _look_up(values, table):
    """table (N,) at values in [0, 1], the nearest entry; values outside are clipped."""
    out = np.empty(values.shape, np.float32)
    flat_in, flat_out = values.ravel(), out.ravel()
    last = table.shape[0] - 1
    for k in range(flat_in.shape[0]):
        index = int(flat_in[k] * np.float32(last) + np.float32(0.5))
        flat_out[k] = table[min(max(index, 0), last)]
    return out


@njit(cache=True, nogil=True)
def _expose(linear, table, noise, strength):
    """uint8 like linear: the nearest entry of table (N,), plus strength times noise (linear.size,) or None."""
    out = np.empty(linear.shape, np.uint8)
    flat_in, flat_out = linear.ravel(), out.ravel()
    last = table.shape[0] - 1
    for k in range(flat_in.shape[0]):
        index = int(flat_in[k] * np.float32(last) + np.float32(0.5))
        value = table[min(max(index, 0), last)]
        if noise is not None:
            value += strength * noise[k]
        flat_out[k] = min(max(int(value * np.float32(255) + np.float32(0.5)), 0), 255)
    return out


@njit(cache=True, nogil=True)
def _blur(picture, weights):
    """Separable convolution of picture (H, W, C) with weights (2R + 1,); the edge pixels go on beyond the edge."""
    height, width, n_channels = picture.shape
    radius, length = weights.shape[0] // 2, width * n_channels
    margin = radius * n_channels
    rows = picture.reshape(height, length)
    padded, out = np.empty(length + 2 * margin, np.float32), np.empty((height, length), np.float32)
    along_rows = np.empty((height + 2 * radius, length), np.float32)
    for i in range(height):
        padded[margin : margin + length] = rows[i]
        for k in range(margin):
            padded[k] = rows[i, k % n_channels]
            padded[margin + length + k] = rows[i, length - n_channels + k % n_channels]
        _weigh(padded, n_channels, length, weights, along_rows[radius + i])
    for k in range(radius):
        along_rows[k], along_rows[radius + height + k] = along_rows[radius], along_rows[radius + height - 1]
    for i in range(height):
        _weigh(along_rows[i : i + 2 * radius + 1].ravel(), length, length, weights, out[i])
    return out.reshape(picture.shape)


@njit(cache=True, nogil=True)
def _weigh(values, step, length, weights, out):
    """out (length,): the weighted sum of the stretches of values that begin at 0, step, 2 step, …"""
    out[:] = 0
    for k in range(weights.shape[0]):
        weight, stretch = weights[k], values[k * step : k * step + length]
        for x in range(length):
            out[x] += weight * stretch[x]
