import numpy as np
import pytest

from avsr.media.timing import SAMPLE_RATE
from talking3d.corpus.perturb import PerturbConfig, damp_nasals

PHONES = [(0.0, 0.4, "ɑ"), (0.4, 0.6, "m"), (0.6, 1.0, "ɑ")]


def band_level(waveform: np.ndarray, start_s: float, end_s: float, hertz: float) -> float:
    """Amplitude of a tone in a stretch of a waveform, by correlation with it."""
    piece = waveform[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]
    times = np.arange(len(piece)) / SAMPLE_RATE
    return float(2 * np.abs(np.mean(piece * np.exp(-2j * np.pi * hertz * times))))


def test_nasals_keep_their_murmur_and_lose_what_lies_above():
    times = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tones = (np.sin(2 * np.pi * 250 * times) + np.sin(2 * np.pi * 1000 * times)).astype(np.float32)
    rng = np.random.default_rng(0)
    damping_db = np.random.default_rng(0).uniform(0, 30.0)
    damped = damp_nasals(tones, PHONES, PerturbConfig(nasal_db=30.0), rng)
    assert band_level(damped, 0.44, 0.56, 250) == pytest.approx(1, abs=0.01)
    assert band_level(damped, 0.44, 0.56, 1000) == pytest.approx(10 ** (-damping_db / 20), abs=0.01)
    for start_s, end_s in ((0.0, 0.39), (0.61, 1.0)):
        a, b = round(start_s * SAMPLE_RATE), round(end_s * SAMPLE_RATE)
        np.testing.assert_array_equal(damped[a:b], tones[a:b])


def test_speech_without_nasals_or_without_alignment_stays_as_it_is():
    waveform = np.random.default_rng(1).standard_normal(SAMPLE_RATE).astype(np.float32)
    for phones in ([], [(0.1, 0.3, "b")]):
        np.testing.assert_array_equal(
            damp_nasals(waveform, phones, PerturbConfig(), np.random.default_rng(0)), waveform
        )
