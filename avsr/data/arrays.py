"""Arrays of utterances of unequal length: kept in memory up to a bound, cut to the sound, padded to a batch."""

from collections.abc import Callable, Hashable

import numpy as np
import torch

from avsr.errors import InputError

MISMATCH_FRAMES = 5  # sound and lips may differ in length by this much (0.2 s)


class ArrayCache:
    """Decoded arrays up to a bound. What came first stays: an epoch visits all, so evicting would lose all."""

    def __init__(self, cache_mb: int) -> None:
        self.room = cache_mb * 2**20
        self.kept: dict[Hashable, np.ndarray] = {}

    def get(self, key: Hashable, read: Callable[[], np.ndarray]) -> np.ndarray:
        value = self.kept.get(key)
        if value is None:
            value = read()
            if value.nbytes <= self.room:
                self.kept[key] = value
                self.room -= value.nbytes
        return value


def fit_frames(lips: np.ndarray, n_frames: int) -> np.ndarray:
    """Lips (T,96,96) cut, or their last frame repeated, to the length of the sound.

    Raises InputError where they differ by more than `MISMATCH_FRAMES`.
    """
    missing = n_frames - len(lips)
    if abs(missing) > MISMATCH_FRAMES:
        raise InputError(
            f"the sound lasts {n_frames} frames and the lips {len(lips)}; they may differ by at most "
            f"{MISMATCH_FRAMES} (0.2 s). Prepare the clip again, or take it out of the manifest."
        )
    if missing > 0:
        return np.concatenate((lips, np.repeat(lips[-1:], missing, axis=0)))
    return lips[:n_frames]


def pad_arrays(arrays: list[np.ndarray], value: int) -> torch.Tensor:
    """(B, longest, ...) of arrays (length, ...)."""
    longest = max(len(array) for array in arrays)
    padded = np.full((len(arrays), longest, *arrays[0].shape[1:]), value, dtype=arrays[0].dtype)
    for line, array in zip(padded, arrays, strict=True):
        line[: len(array)] = array
    return torch.from_numpy(padded)
