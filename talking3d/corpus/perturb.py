"""Speech varied for training, together with the motion and the lips that belong to it.

A student that only ever heard synthetic voices must follow people in real rooms. So voices, microphones, rooms, levels
and noise vary at random. Everything here is a function of the generator it is given.

A synthesizer tells phones apart by more than people do. At 1 kHz espeak-ng's m is 20 dB above its n, and at 5 kHz so
is the vowel before it; in recordings both differ by a few dB. So the spectrum wanders through the utterance and is cut
off at times, and nasals hum with murmurs drawn anew: what remains to be learned is what people do too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import irfft, next_fast_len, rfft

from avsr.data.noise import mix_at_snr, pink_noise, white_noise
from avsr.media.timing import SAMPLE_RATE

TAIL_S = 0.5  # the longest reverberation

WINDOW, HOP = 256, 64  # samples, of the short-time spectra that are recoloured
BINS_HZ = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
KNOTS_HZ = np.array([60, 250, 450, 700, 1000, 1400, 2000, 2800, 4000, 8000])
TO_BINS = np.stack([np.interp(np.log(BINS_HZ.clip(60)), np.log(KNOTS_HZ), unit) for unit in np.eye(len(KNOTS_HZ))])
WANDER_S = 0.15  # between the spectral envelopes through which speech wanders
CUTOFF_HZ, CUTOFF_DB = (2800.0, 6000.0), (20.0, 45.0)
# A human murmur at the knots, against its loudest band: set by hand, the same for every nasal.
MURMUR_DB = np.array([0, 0, -8, -16, -18, -20, -23, -27, -31, -42])
MURMUR_STD_DB, MURMUR_GAIN_DB = 6.0, (3.0, 4.0)  # of a knot; mean and standard deviation of the whole
# Where the mouth's closed branch takes energy away (Fujimura 1962, "Analysis of nasal consonants").
ANTIFORMANT_HZ = {"m": (750.0, 1250.0), "n": (1450.0, 2200.0), "ŋ": (3000.0, 4500.0)}
ANTIFORMANT_DB, ANTIFORMANT_WIDTH_HZ = (5.0, 20.0), (120.0, 250.0)
SMOOTH_BINS = 9  # of a murmur's own envelope
MOST_GAIN_DB = 40.0


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
    wander_db: float = 4.0  # standard deviation of an envelope that changes from syllable to syllable
    cutoff: float = 0.25  # share of the varied utterances that lose their high frequencies
    murmur: float = 0.7  # share of the nasals in the varied utterances that get another murmur


def perturb(
    waveform: np.ndarray,
    config: PerturbConfig,
    rng: np.random.Generator,
    phones: Sequence[tuple[float, float, str]] = (),
) -> tuple[np.ndarray, float]:
    """Vary speech (S,): a new waveform (S',), and the speed at which whatever belongs to it must run now.

    `retime` makes motion run at it, `retime_pictures` lips; both to frames_of(S') frames.

    phones: (start_s, end_s, IPA) of the speech, as alignments hold them; murmurs can change only where they are known.
    """
    if rng.random() >= config.share:
        return waveform, 1.0
    waveform = recolour(waveform, phones, config, rng)
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
    return varied, speed


def recolour(
    waveform: np.ndarray, phones: Sequence[tuple[float, float, str]], config: PerturbConfig, rng: np.random.Generator
) -> np.ndarray:
    """Speech (S,) with a wandering spectrum, perhaps without its high frequencies, and with new murmurs: (S,)."""
    padded = np.pad(np.asarray(waveform, dtype=np.float32), (WINDOW, WINDOW + -len(waveform) % HOP))
    taper = np.sin(np.pi * (np.arange(WINDOW) + 0.5) / WINDOW).astype(np.float32)
    spectra = rfft(sliding_window_view(padded, WINDOW)[::HOP] * taper)  # (L', F)
    times_s = (np.arange(len(spectra)) * HOP - WINDOW / 2) / SAMPLE_RATE
    gain_db = _wandering(times_s, config.wander_db, rng)
    if rng.random() < config.cutoff:
        gain_db -= np.clip((BINS_HZ - rng.uniform(*CUTOFF_HZ)) / 200, 0, 1) * rng.uniform(*CUTOFF_DB)
    for start_s, end_s, ipa in phones:
        inside = (times_s >= start_s) & (times_s <= end_s)
        if ipa[0] in ANTIFORMANT_HZ and inside.any() and rng.random() < config.murmur:
            gain_db[inside] += _murmur_gain_db(spectra[inside], ipa[0], rng)
    pieces = irfft(spectra * 10 ** (gain_db / 20), WINDOW).astype(np.float32) * taper * (2 * HOP / WINDOW)
    varied = np.zeros_like(padded)
    for phase in range(WINDOW // HOP):  # windows that do not overlap are added at once
        line = pieces[phase :: WINDOW // HOP].ravel()
        varied[phase * HOP : phase * HOP + len(line)] += line
    return varied[WINDOW : WINDOW + len(waveform)]


def retime(motion: np.ndarray, speed: float, n_frames: int) -> np.ndarray:
    """Motion (T, K) as it runs at `speed` times its pace: (n_frames, K), linear between frames' centres."""
    times = _source_times(len(motion), speed, n_frames)
    before = np.floor(times).astype(int)
    after = np.minimum(before + 1, len(motion) - 1)
    share = (times - before)[:, None]
    return ((1 - share) * motion[before] + share * motion[after]).astype(np.float32)


def retime_pictures(pictures: np.ndarray, speed: float, n_frames: int) -> np.ndarray:
    """Pictures (T, H, W) as they run at `speed` times their pace: (n_frames, H, W), each the nearest in time."""
    return pictures[np.rint(_source_times(len(pictures), speed, n_frames)).astype(int)]


def _source_times(n_source: int, speed: float, n_frames: int) -> np.ndarray:
    """Where each of `n_frames` frames lies among `n_source` that run at `speed`, in frames."""
    return np.clip((np.arange(n_frames) + 0.5) * speed - 0.5, 0, n_source - 1)


def _wandering(times_s: np.ndarray, std_db: float, rng: np.random.Generator) -> np.ndarray:
    """Gain (L, F) in dB: normally distributed at the knots every WANDER_S, linear over time and log frequency."""
    position = (times_s - times_s[0]) / WANDER_S
    drawn = rng.normal(0, std_db, (int(position[-1]) + 2, len(KNOTS_HZ)))
    before, share = position.astype(int), (position % 1)[:, None]
    return ((1 - share) * drawn[before] + share * drawn[before + 1]) @ TO_BINS


def _murmur_gain_db(spectra: np.ndarray, ipa: str, rng: np.random.Generator) -> np.ndarray:
    """Gain (F,) in dB that gives a nasal's short-time spectra (L, F) the envelope of another murmur."""
    level_db = 10 * np.log10(np.square(np.abs(spectra)).mean(0) + 1e-10)
    padded = np.pad(level_db, SMOOTH_BINS // 2, mode="edge")
    own_db = np.convolve(padded, np.full(SMOOTH_BINS, 1 / SMOOTH_BINS), mode="valid")
    knots_db = MURMUR_DB + rng.normal(0, MURMUR_STD_DB, len(KNOTS_HZ)) + rng.normal(*MURMUR_GAIN_DB)
    wanted_db = own_db[BINS_HZ < 500].max() + knots_db @ TO_BINS
    distance = (BINS_HZ - rng.uniform(*ANTIFORMANT_HZ[ipa])) / rng.uniform(*ANTIFORMANT_WIDTH_HZ)
    wanted_db -= rng.uniform(*ANTIFORMANT_DB) * np.exp(-0.5 * distance**2)
    return np.clip(wanted_db - own_db, -MOST_GAIN_DB, MOST_GAIN_DB)


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
