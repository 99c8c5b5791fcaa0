"""How sure a figure is: bootstrap intervals over utterances, and paired differences of systems.

A figure pools utterances as a ratio of sums: word error is all errors by all words, a mean over frames all frames'
errors by all frames, a mean over utterances all values by their number. So what an utterance gives is a total and a
weight, and of U utterances a tally (U, ..., 2). Drawing utterances with replacement and pooling again shows how far
chance moves the figure (Bisani & Ney, ICASSP 2004). Systems on the same utterances are drawn together: the same seed
draws the same utterances.
"""

from dataclasses import dataclass

import numpy as np

from avsr.score import Scores

DRAWS = 1000
CHUNK = 1000  # draws at a time, so that memory stays bounded
LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """One system's figure minus another's, with its 95 % interval; p: two-sided, that there is no difference.

    p is twice the share of draws on the rarer side of zero, and never below 2 / (draws + 1).
    """

    difference: float
    low: float
    high: float
    p: float


def pooled(tally: np.ndarray) -> np.ndarray:
    """Tally (U, ..., 2) -> figures (...); NaN where no utterance has weight."""
    return _ratio(np.asarray(tally, dtype=np.float64).sum(axis=0))


def resampled(tally: np.ndarray, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Tally (U, ..., 2) -> figures (draws, ...), each over U utterances drawn with replacement."""
    tally = np.asarray(tally, dtype=np.float64)
    n_utts, rng = len(tally), np.random.default_rng(seed)
    figures = []
    for first in range(0, draws, CHUNK):
        n = min(CHUNK, draws - first)
        drawn = rng.integers(n_utts, size=(n, n_utts)) + n_utts * np.arange(n)[:, None]
        times = np.bincount(drawn.ravel(), minlength=n * n_utts).reshape(n, n_utts)  # that each utterance is drawn
        figures.append(_ratio(np.tensordot(times.astype(np.float64), tally, axes=1)))
    return np.concatenate(figures)


def interval(tally: np.ndarray, draws: int = DRAWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The ends (...) of the 95 % interval of a tally's (U, ..., 2) figures."""
    return _ends(resampled(tally, draws, seed))


def difference(a: np.ndarray, b: np.ndarray, draws: int = DRAWS, seed: int = 0) -> Difference:
    """b's figure minus a's, of two tallies (U, 2) of the same utterances in the same order."""
    moved = resampled(b, draws, seed) - resampled(a, draws, seed)
    moved = moved[~np.isnan(moved)]
    low, high = _ends(moved)
    rarer = min((moved <= 0).sum(), (moved >= 0).sum())
    p = min(1.0, 2 * (rarer + 1) / (len(moved) + 1))
    return Difference(float(pooled(b) - pooled(a)), float(low), float(high), float(p))


def word_tally(scores: Scores) -> np.ndarray:
    """(U, 2): word errors in percent, words."""
    return np.stack([100.0 * scores.word_errors, scores.word_counts], axis=-1)


def char_tally(scores: Scores) -> np.ndarray:
    """(U, 2): character errors in percent, characters."""
    return np.stack([100.0 * scores.char_errors, scores.char_counts], axis=-1)


RATES = {"WER": word_tally, "CER": char_tally}


def _ends(figures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.nanquantile(figures, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def _ratio(sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan)
