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
    """The motion with an Ornstein-Uhlenbeck process on each coefficient, of `share` of its own standard deviation.

    Coefficients stay within what the template's articulation allows, or where the motion itself was. Raises InputError
    on motion without coefficients of the articulation, and a negative share.
    """
    if not share >= 0:
        raise InputError(f"noise on motion must be a share of at least 0 of its standard deviation, got {share}")
    values = motion.coefficients
    if values is None or motion.basis != "articulation":
        raise InputError(
            f"the motion of {motion.template_name!r} has no coefficients of the articulation to put noise on; carry it "
            "over to a face that has them with `talking3d transfer`, or draw it without noise"
        )
    noise = share * values.std(axis=0, dtype=np.float64) * ornstein_uhlenbeck(*values.shape, CORRELATION_S, rng)
    low, high = bounds(template)
    noisy = np.clip(values + noise, np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0)))
    return replace(motion, coefficients=noisy.astype(np.float32))


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
