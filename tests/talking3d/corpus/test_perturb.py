"""Recoloured speech: what stays, what wanders, and that murmurs no longer tell nasals apart."""

import numpy as np
import pytest

from avsr.media.timing import SAMPLE_RATE
from talking3d.corpus.perturb import PerturbConfig, recolour

STILL = PerturbConfig(wander_db=0.0, cutoff=0.0, murmur=0.0)
MURMURS = PerturbConfig(wander_db=0.0, cutoff=0.0, murmur=1.0)


def _hum(formant_hz: float, n_samples: int = 16_000) -> np.ndarray:
    """A murmur (S,) of harmonics of 120 Hz: 30 dB below the lowest, but for one formant."""
    harmonics_hz = np.arange(120.0, 7500.0, 120.0)
    level_db = -30 + 30 * np.exp(-(((harmonics_hz - formant_hz) / 150) ** 2)) + 30 * (harmonics_hz < 400)
    phases = 2 * np.pi * harmonics_hz[:, None] * np.arange(n_samples) / SAMPLE_RATE + np.arange(62)[:, None] ** 2
    return (0.01 * (10 ** (level_db / 20)) @ np.sin(phases)).astype(np.float32)


def _level_db(waveform: np.ndarray, low_hz: float, high_hz: float) -> float:
    power = np.square(np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))))
    hertz = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)
    return 10 * np.log10(power[(hertz >= low_hz) & (hertz < high_hz)].mean())


@pytest.mark.parametrize("n_samples", [1, 100, 255, 256, 640, 40_001])
def test_nothing_to_change_changes_nothing(n_samples):
    waveform = np.random.default_rng(0).uniform(-0.5, 0.5, n_samples).astype(np.float32)
    phones = [(0.0, 0.1, "m"), (0.1, 0.2, "ə")]
    same = recolour(waveform, phones, STILL, np.random.default_rng(1))
    assert same.dtype == np.float32
    np.testing.assert_allclose(same, waveform, atol=1e-6)


def test_a_new_murmur_leaves_the_rest_alone():
    waveform = _hum(1000.0)
    varied = recolour(waveform, [(0.2, 0.4, "ə"), (0.4, 0.6, "m")], MURMURS, np.random.default_rng(0))
    window_s = 0.016
    before, after = round((0.4 - window_s) * SAMPLE_RATE), round((0.6 + window_s) * SAMPLE_RATE)
    np.testing.assert_allclose(varied[:before], waveform[:before], atol=1e-6)
    np.testing.assert_allclose(varied[after:], waveform[after:], atol=1e-6)
    inside = slice(round(0.42 * SAMPLE_RATE), round(0.58 * SAMPLE_RATE))
    assert np.abs(varied - waveform)[inside].max() > 0.1 * np.abs(waveform).max()


def test_murmurs_no_longer_show_the_formant_that_marked_them():
    """One hum has a formant at 1 kHz, another none: 20 dB apart. As m and as n they differ by what is drawn."""
    ratios = {}
    for ipa, formant_hz in (("m", 1000.0), ("n", 2600.0)):
        waveform = _hum(formant_hz)
        for seed in range(30):
            varied = recolour(waveform, [(0.0, 1.0, ipa)], MURMURS, np.random.default_rng(seed))[2000:-2000]
            ratio = _level_db(varied, 850, 1150) - _level_db(varied, 100, 400)
            ratios.setdefault(ipa, []).append(ratio)
        ratios[ipa + " before"] = _level_db(waveform, 850, 1150) - _level_db(waveform, 100, 400)
    assert ratios["m before"] - ratios["n before"] > 20
    # m's antiformant lies near, so that it's the weaker one now
    assert -12 < np.mean(ratios["m"]) - np.mean(ratios["n"]) < 3
    assert min(np.std(ratios["m"]), np.std(ratios["n"])) > 3


def test_a_cutoff_takes_the_high_frequencies_only():
    waveform = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    config = PerturbConfig(wander_db=0.0, cutoff=1.0, murmur=0.0)
    for seed in range(5):
        varied = recolour(waveform, [], config, np.random.default_rng(seed))
        assert _level_db(varied, 200, 2600) == pytest.approx(_level_db(waveform, 200, 2600), abs=0.2)
        assert _level_db(varied, 6600, 7900) < _level_db(waveform, 6600, 7900) - 15


def test_the_spectrum_wanders_through_an_utterance():
    waveform = np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)
    config = PerturbConfig(wander_db=6.0, cutoff=0.0, murmur=0.0)
    varied = recolour(waveform, [], config, np.random.default_rng(3))
    gains_db = np.array(
        [
            _level_db(varied[at : at + 800], 900, 1100) - _level_db(waveform[at : at + 800], 900, 1100)
            for at in range(0, 160_000, 4_800)  # each knot of time is drawn alone
        ]
    )
    assert 3 < gains_db.std() < 9
    assert abs(np.corrcoef(gains_db[1:], gains_db[:-1])[0, 1]) < 0.5
