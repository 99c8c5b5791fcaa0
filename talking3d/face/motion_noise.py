"""Noise on motion, for readers' training: motion that is a noiseless function of sound or text is trusted too much."""

from dataclasses import replace

import numpy as np

from avsr.errors import InputError
from avsr.media.timing import FPS
from talking3d.face.blendshape_fit import bounds
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate

CORRELATION_S = 0.2  # about a syllable: a face that articulates each a little differently, not one that trembles


def with_noise(motion: Motion, template: FaceTemplate, share: float, rng: np.random.Generator) -> Motion:
    """The motion with an Ornstein-Uhlenbeck process on each articulation, of `share` of its own standard deviation.

    Of offsets the articulations are their least-squares coefficients, and what the noise moves is added. Coefficients
    stay within what the template's articulation allows, or where the motion itself was. Raises InputError on a negative
    share, on a template without articulation, and on motion in another basis.
    """
    if not share >= 0:
        raise InputError(f"noise on motion must be a share of at least 0 of its standard deviation, got {share}")
    if not len(template.articulation_names):
        raise InputError(f"face template {template.name!r} has no articulation to put noise on: draw it without noise")
    offsets = motion.offsets_for(template)
    values = motion.coefficients if motion.offsets is None else _articulated(template, offsets)
    noise = share * values.std(axis=0, dtype=np.float64) * ornstein_uhlenbeck(*values.shape, CORRELATION_S, rng)
    low, high = bounds(template)
    noisy = np.clip(values + noise, np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0)))
    if motion.offsets is None:
        return replace(motion, coefficients=noisy.astype(np.float32))
    return replace(motion, offsets=offsets + template.offsets(noisy - values))


def _articulated(template: FaceTemplate, offsets: np.ndarray) -> np.ndarray:
    """Least-squares coefficients (T, K) of the articulation for offsets (T, V, 3)."""
    basis = template.articulation_basis.reshape(len(template.articulation_names), -1).astype(np.float64)
    return offsets.reshape(len(offsets), -1) @ basis.T @ np.linalg.pinv(basis @ basis.T)


def ornstein_uhlenbeck(
    n_frames: int, n_columns: int, correlation_s: float, rng: np.random.Generator, fps: float = FPS
) -> np.ndarray:
    """Independent stationary processes (T, K) of unit variance whose correlation falls to 1/e in `correlation_s`."""
    kept = np.exp(-1 / (fps * correlation_s))
    steps = rng.standard_normal((n_frames, n_columns))
    steps[1:] *= np.sqrt(1 - kept**2)
    for t in range(1, n_frames):
        steps[t] += kept * steps[t - 1]
    return steps
