"""Speech varied for training, together with the motion that belongs to it.

A student that only ever heard synthetic voices must follow people in real rooms. So voices, microphones, rooms, levels
and noise vary at random. Everything here is a function of the generator it is given.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from avsr.data.noise import mix_at_snr, pink_noise, white_noise
from avsr.media.timing import SAMPLE_RATE, frames_of

TAIL_S = 0.5  # the longest reverberation


@dataclass
class PerturbConfig:
    """How far and how often speech is varied."""

    share: float = 0.9  # of the utterances that are varied at all
    gain_db: float = 12.0  # level: up to this much softer or louder
    envelope_db: float = 6.0  # standard deviation of a smooth random spectral envelope (vocal tracts, microphones)
    speed: float = 0.15  # resampled by up to this share: pitch, formants and tempo; the motion is retimed with it
    reverb: float = 0.3  # share of the varied utterances that sound in a room
    noise: float = 0.6  # share of the varied utterances that get white or pink noise
    snr_db: list[float] = field(default_factory=lambda: [5.0, 35.0])


def perturb(
    waveform: np.ndarray, motion: np.ndarray, config: PerturbConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Vary speech (S,) and retime its motion (T, K); returns new arrays, (S',) and (T', K) with T' = frames_of(S')."""
    if rng.random() >= config.share:
        return waveform, motion
    # zeros behind the speech keep the room's tail from wrapping round to the start
    n_fft = next_fast_len(len(waveform) + round(TAIL_S * SAMPLE_RATE), real=True)
    n_varied = next_fast_len(round(n_fft / rng.uniform(1 - config.speed, 1 + config.speed)), real=True)
    speed = n_fft / n_varied
    n_samples = max(1, round(len(waveform) / speed))
    spectrum = rfft(np.asarray(waveform, dtype=np.float32), n_fft)
    spectrum *= _random_envelope(len(spectrum), config.envelope_db, rng)
    if rng.random() < config.reverb:
        spectrum *= rfft(_random_room(rng), n_fft)
    # a spectrum cut or filled up with zeros is the sound resampled, band-limited exactly
    n_bins = n_varied // 2 + 1
    spectrum = np.pad(spectrum[:n_bins], (0, max(0, n_bins - len(spectrum))))
    varied = irfft(spectrum, n_varied)[:n_samples]
    gain = 10 ** (rng.uniform(-config.gain_db, config.gain_db) / 20)
    varied *= gain * np.abs(waveform).max() / max(np.abs(varied).max(), 1e-9)
    varied = varied.clip(-1, 1).astype(np.float32)
    if rng.random() < config.noise:
        make_noise = white_noise if rng.random() < 0.5 else pink_noise
        varied = mix_at_snr(varied, make_noise(n_samples, rng), rng.uniform(*config.snr_db))
    return varied, retime(motion, speed, frames_of(n_samples))


def retime(motion: np.ndarray, speed: float, n_frames: int) -> np.ndarray:
    """Motion (T, K) as it runs at `speed` times its pace: (n_frames, K), linear between frames' centres."""
    times = np.clip((np.arange(n_frames) + 0.5) * speed - 0.5, 0, len(motion) - 1)
    before = np.floor(times).astype(int)
    after = np.minimum(before + 1, len(motion) - 1)
    share = (times - before)[:, None]
    return ((1 - share) * motion[before] + share * motion[after]).astype(np.float32)


def _random_envelope(n_bins: int, std_db: float, rng: np.random.Generator) -> np.ndarray:
    """Gain (n_bins,) over 0 to 8 kHz: normally distributed in dB at seven frequencies, linear over log frequency."""
    knots_hz = np.geomspace(60, SAMPLE_RATE / 2, 7)
    frequencies_hz = np.linspace(0, SAMPLE_RATE / 2, n_bins).clip(min=knots_hz[0])
    gains_db = np.interp(np.log(frequencies_hz), np.log(knots_hz), rng.normal(0, std_db, len(knots_hz)))
    return (10 ** (gains_db / 20)).astype(np.float32)


def _random_room(rng: np.random.Generator) -> np.ndarray:
    """A room's impulse response: the direct sound and an exponentially decaying tail of noise (Polack, 1988)."""
    decay_s = rng.uniform(0.1, TAIL_S)  # time in which the tail falls by 60 dB
    time_s = np.arange(round(decay_s * SAMPLE_RATE)) / SAMPLE_RATE
    response = rng.standard_normal(len(time_s), dtype=np.float32) * 10 ** (-3 * time_s / decay_s)
    response *= 10 ** (rng.uniform(-15, 0) / 20) / np.linalg.norm(response)
    response[0] = 1.0
    return response.astype(np.float32)
