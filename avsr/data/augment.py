"""Augmentation for training: lips (crop, flip, zoom, rotation, light, time masks), rooms and noise, corruption."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional

from avsr.data.corrupt import CORRUPTIONS, draw_corruption
from avsr.data.noise import KINDS, make_babble, mix_at_snr, pink_noise, recorded_noise, reverberate, white_noise
from avsr.errors import InputError
from avsr.media.timing import FPS

CROP = 88  # pixels that the recogniser sees, of 96 (as AV-HuBERT and Auto-AVSR)


@dataclass
class AugmentConfig:
    """What training does to lips and speech. Ranges are half-widths around no change."""

    random_crop: bool = True
    flip_probability: float = 0.5
    zoom: float = 0.06  # size x (1 +- this)
    rotation_deg: float = 4.0
    brightness: float = 0.1  # of full scale
    contrast: float = 0.2  # deviation from the mean x (1 +- this)
    time_masks_per_s: float = 0.5  # stretches of frames that show the clip's mean picture (Auto-AVSR)
    time_mask_s: float = 0.4  # longest of them

    clean_probability: float = 0.25  # share of utterances without noise
    snr_min_db: float = -10.0
    snr_max_db: float = 15.0
    noise_kinds: list[str] = field(default_factory=lambda: ["babble", "white", "pink"])
    noise_weights: list[float] = field(default_factory=lambda: [0.6, 0.2, 0.2])
    noise_files: list[str] = field(default_factory=list)  # for the kind "recorded"
    babble_talkers: int = 6
    reverb_share: float = 0.0  # of utterances that are heard in a room, be they noisy or not
    rir_files: list[str] = field(default_factory=list)  # the rooms' impulse responses

    corrupt_share: float = 0.0  # of clips that get one of `corruptions`, at a severity uniform in its kind's range
    corruptions: list[str] = field(default_factory=lambda: list(CORRUPTIONS))


def centre_crop(lips: np.ndarray) -> np.ndarray:
    """(T,96,96) to its middle (T,88,88): what evaluation sees."""
    top, left = ((size - CROP) // 2 for size in lips.shape[1:])
    return lips[:, top : top + CROP, left : left + CROP]


class LipAugment:
    """Lips (T,96,96) uint8 to (T,88,88) uint8; one crop, turn and light for the whole clip."""

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config

    def __call__(self, lips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        c = self.config
        height, width = lips.shape[1:]
        slack_y, slack_x = height - CROP, width - CROP
        top, left = rng.integers(slack_y + 1), rng.integers(slack_x + 1)
        if not c.random_crop:
            top, left = slack_y // 2, slack_x // 2
        flip = rng.random() < c.flip_probability
        scale = 1 + c.zoom * rng.uniform(-1, 1)
        angle = np.deg2rad(c.rotation_deg * rng.uniform(-1, 1))
        gain = 1 + c.contrast * rng.uniform(-1, 1)
        shift = 255 * c.brightness * rng.uniform(-1, 1)

        if c.zoom or c.rotation_deg:
            crop = _similarity_crop(lips, top, left, scale, angle)
        else:
            crop = torch.from_numpy(lips[:, top : top + CROP, left : left + CROP].astype(np.float32))
        if flip:
            crop = crop.flip(2)
        level = crop.mean() * (1 - gain) + shift + 0.5  # the half rounds, as uint8 cuts
        crop = crop.mul_(gain).add_(level).clamp_(0, 255)
        self._mask_time(crop, rng)
        return crop.to(torch.uint8).numpy()

    def _mask_time(self, lips: torch.Tensor, rng: np.random.Generator) -> None:
        n_frames = len(lips)
        longest = min(round(self.config.time_mask_s * FPS), n_frames)
        n_masks = round(self.config.time_masks_per_s * n_frames / FPS)
        if n_masks == 0 or longest == 0:
            return
        mean_picture = lips.mean(dim=0)
        for _ in range(n_masks):
            length = rng.integers(longest + 1)
            start = rng.integers(n_frames - length + 1)
            lips[start : start + length] = mean_picture


class NoiseAugment:
    """Put a share of speech into rooms and mix noise of a random kind into it, at an SNR that is uniform in dB.

    Args:
        config: kinds, weights, SNR range, rooms.
        talkers: waveforms that babble and talkers are made of; any sequence, also one that reads lazily.
        read: reads a noise file or an impulse response to a waveform (S,).
        voices: whose voice each of `talkers` is, for the kind "talker".

    Raises:
        InputError: kinds and weights that don't belong together, kinds that lack their sources, an empty SNR range,
            a share of rooms without rooms.
    """

    def __init__(
        self,
        config: AugmentConfig,
        talkers: Sequence[np.ndarray],
        read: Callable[[str], np.ndarray],
        voices: Sequence[str] = (),
    ) -> None:
        weights = np.asarray(config.noise_weights, dtype=np.float64)
        unknown = sorted(set(config.noise_kinds) - set(KINDS))
        if unknown:
            raise InputError(f"noise_kinds: unknown {unknown[0]!r}; expected some of {', '.join(KINDS)}.")
        if len(weights) != len(config.noise_kinds) or (weights < 0).any() or not weights.sum() > 0:
            raise InputError(
                f"noise_weights {config.noise_weights} must give a weight >= 0 to each of {config.noise_kinds}."
            )
        if "recorded" in config.noise_kinds and not config.noise_files:
            raise InputError("noise_kinds has 'recorded': list its sound files in noise_files.")
        if "talker" in config.noise_kinds and len(set(voices)) < 2:
            raise InputError("noise_kinds has 'talker', but the utterances of training have one speaker only.")
        _check_share("reverb_share", config.reverb_share)
        if config.reverb_share > 0 and not config.rir_files:
            raise InputError(f"reverb_share is {config.reverb_share}: list impulse responses in rir_files.")
        if config.snr_min_db > config.snr_max_db:
            raise InputError(f"snr_min_db {config.snr_min_db} is above snr_max_db {config.snr_max_db}.")
        self.config = config
        self.probabilities = weights / weights.sum()
        self.talkers = talkers
        self.read = read
        self.voices = np.asarray(voices)

    def __call__(self, waveform: np.ndarray, rng: np.random.Generator, voice: str | None = None) -> np.ndarray:
        """(S,) float32 to (S,) float32; `voice` is whose it is: a competing talker has another."""
        c = self.config
        # without rooms nothing is drawn for them, so that noise stays what it was
        if c.reverb_share > 0 and rng.random() < c.reverb_share:
            waveform = reverberate(waveform, self.read(c.rir_files[rng.integers(len(c.rir_files))]))
        if rng.random() < c.clean_probability:
            return waveform
        kind = c.noise_kinds[rng.choice(len(c.noise_kinds), p=self.probabilities)]
        snr_db = rng.uniform(c.snr_min_db, c.snr_max_db)
        return mix_at_snr(waveform, self._noise(kind, len(waveform), rng, voice), snr_db)

    def _noise(self, kind: str, n_samples: int, rng: np.random.Generator, voice: str | None) -> np.ndarray:
        if kind == "white":
            return white_noise(n_samples, rng)
        if kind == "pink":
            return pink_noise(n_samples, rng)
        if kind == "babble":
            return make_babble(self.talkers, n_samples, rng, self.config.babble_talkers)
        if kind == "talker":
            talker = rng.choice(np.flatnonzero(self.voices != voice))
            return recorded_noise(self.talkers[talker], f"speech of {self.voices[talker]}", n_samples, rng)
        path = self.config.noise_files[rng.integers(len(self.config.noise_files))]
        return recorded_noise(self.read(path), path, n_samples, rng)


class CorruptAugment:
    """Draw what corrupts a clip of training, or nothing; what corrupts a stream that the clip lacks changes nothing.

    Raises:
        InputError: unknown kinds, a share that isn't one, a share of no kinds.
    """

    def __init__(self, config: AugmentConfig) -> None:
        unknown = sorted(set(config.corruptions) - set(CORRUPTIONS))
        if unknown:
            raise InputError(f"corruptions: unknown {unknown[0]!r}; expected some of {', '.join(CORRUPTIONS)}.")
        _check_share("corrupt_share", config.corrupt_share)
        if config.corrupt_share > 0 and not config.corruptions:
            raise InputError(f"corrupt_share is {config.corrupt_share}: list in corruptions what it is a share of.")
        self.config = config

    def __call__(self, rng: np.random.Generator) -> dict | None:
        """A line for `corrupt_lips` and `corrupt_sound`."""
        if rng.random() >= self.config.corrupt_share:
            return None
        return draw_corruption(self.config.corruptions, rng)


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise InputError(f"{name} is a share between 0 and 1, got {share}.")


def _similarity_crop(lips: np.ndarray, top: int, left: int, scale: float, angle: float) -> torch.Tensor:
    """Crop of `lips` zoomed and turned about the crop's middle; (T,88,88) float32, edges repeated.

    Frames are the channels of one picture, so the sampling grid is worked out once a clip.
    """
    height, width = lips.shape[1:]
    offset = torch.arange(CROP, dtype=torch.float32) - (CROP - 1) / 2
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    source_x = cos * x - sin * y + left + (CROP - 1) / 2
    source_y = sin * x + cos * y + top + (CROP - 1) / 2
    grid = torch.stack((source_x * 2 / (width - 1) - 1, source_y * 2 / (height - 1) - 1), dim=-1)
    pictures = torch.from_numpy(lips).float().unsqueeze(0)  # (1,T,H,W)
    return functional.grid_sample(pictures, grid.unsqueeze(0), padding_mode="border", align_corners=True)[0]
