"""CTC by walking all paths."""

import itertools
import math

import torch


def all_texts(log_probs: torch.Tensor) -> dict[tuple[int, ...], float]:
    """Probability of every token sequence that log_probs (T, V) can emit."""
    totals: dict[tuple[int, ...], float] = {}
    n_frames, vocab = log_probs.shape
    for path in itertools.product(range(vocab), repeat=n_frames):
        tokens = tuple(token for token, _ in itertools.groupby(path) if token != 0)
        probability = math.exp(sum(float(log_probs[t, token]) for t, token in enumerate(path)))
        totals[tokens] = totals.get(tokens, 0.0) + probability
    return totals
