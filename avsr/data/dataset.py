"""Utterances for the recogniser: manifest rows to padded batches, the same whether a face was filmed or drawn.

Shapes: B batch, S samples, T video frames, U tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from omegaconf import MISSING
from torch.utils.data import Dataset

from avsr.data.alignment import IGNORE, frame_labels, label_inventory, read_alignment, token_frames
from avsr.data.arrays import ArrayCache, fit_frames, pad_arrays
from avsr.data.augment import CROP, AugmentConfig, CorruptAugment, LipAugment, NoiseAugment, centre_crop
from avsr.data.batching import BucketBatchSampler
from avsr.data.corrupt import corrupt_lips, corrupt_sound
from avsr.data.manifest import read_manifest
from avsr.data.noise import disturb, read_noise_manifest, voice_of
from avsr.data.text import Tokenizer, load_tokenizer
from avsr.errors import InputError
from avsr.media.audio import check_waveform, read_audio
from avsr.media.timing import SAMPLE_RATE, frames_of, samples_of
from avsr.media.video import read_lips

NO_TOKEN = -1  # padding of token ids
# the targets of an utterance of which nothing is known, beside its streams
UNLABELLED = {"tokens": np.zeros(0, np.int64), "frame_labels": np.zeros(0, np.int64)}
NEED, USE = ("text", "duration_s"), ("audio", "lips", "alignment")  # manifest fields


@dataclass
class DataConfig:
    """What a recogniser is trained on."""

    train: list[str] = MISSING  # manifests; one that is listed twice counts twice (oversampling)
    train_times: list[int] | None = None  # how often an epoch goes through each of them; None: once
    valid: list[str] = MISSING  # manifests
    tokenizer: str = MISSING  # tokenizer.model
    frame_label: str | None = None  # "words" or "phones": targets for every frame, from the alignments
    word_slack: int | None = None  # CTC says a word within so many frames of where its alignment has it; None: anywhere
    modalities: str = "av"  # streams to read: "a", "v" or "av"; the other is left absent
    valid_noise: str | None = None  # noise manifest for validation (None: clean)
    max_frames_per_batch: int = 1600  # bound on utterances x frames of the longest
    max_utts: int = 16
    cache_mb: int = 2048  # of decoded sound and lips, for training and for validation each, in each process
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self):
        times = self.train_times
        if times is not None and (len(times) != len(self.train) or min(times, default=1) < 1):
            raise InputError(
                f"data.train_times {times} must say how often, once at least, each of data.train counts: "
                f"{len(self.train)} manifests"
            )


class UtteranceDataset(Dataset):
    """Utterances as dicts of arrays; `collate` makes batches of them.

    Item i of an epoch depends on (seed, epoch, i) only, so a resumed run sees what an uninterrupted one saw.

    Args:
        rows: manifest rows, each with audio or lips.
        tokenizer: encodes the texts; None: no tokens are given and texts may be absent (decoding).
        labels: label inventory for frame labels, or None.
        tier: "words" or "phones", the tier that `labels` numbers.
        word_slack: frames by which a word's tokens may be said before or after it; None: anywhere.
        augment: augmentation of training, or None for evaluation (centre crop, no random noise).
        seed: of the augmentation.
        noise_lines: a noise manifest's lines, for evaluation in noise, or None.
        corruption_lines: a corruption manifest's lines, for evaluation of what is corrupted, or None.
        cache_mb: RAM for decoded sound and lips.
        modalities: streams to read: "a", "v" or "av".

    Raises:
        InputError: naming the utterance: an empty text, characters outside the tokenizer, neither sound nor lips, no
            line in the noise or the corruption manifest; when an item is read: missing, corrupt, silent, empty or NaN
            sound, corrupt lips, sound and lips that differ by more than 5 frames, a bad alignment.
    """

    def __init__(
        self,
        rows: list[dict],
        tokenizer: Tokenizer | None,
        *,
        labels: dict[str, int] | None = None,
        tier: str | None = None,
        word_slack: int | None = None,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        noise_lines: list[dict] | None = None,
        corruption_lines: list[dict] | None = None,
        cache_mb: int = 0,
        modalities: str = "av",
    ) -> None:
        if modalities not in ("a", "v", "av"):
            raise InputError(f"modalities {modalities!r}: expected 'a', 'v' or 'av'.")
        self.rows = rows
        self.labels = labels
        self.tier = tier
        self.word_slack = word_slack
        self.seed = seed
        self.epoch = 0
        self._cache = ArrayCache(cache_mb)
        self._audio = [row["audio"] if "a" in modalities else None for row in rows]
        self._lips = [row["lips"] if "v" in modalities else None for row in rows]
        self._tokens = [_encode(row, tokenizer) for row in rows]
        self._spans = [[] if word_slack is None else tokenizer.word_spans(tokens.tolist()) for tokens in self._tokens]
        self._noise = None if noise_lines is None else {line["utt_id"]: line for line in noise_lines}
        self._corruption = None if corruption_lines is None else {line["utt_id"]: line for line in corruption_lines}
        for row, audio, lips in zip(rows, self._audio, self._lips, strict=True):
            if audio is None and lips is None:
                wanted = {"a": "audio", "v": "lips", "av": "audio or lips"}[modalities]
                raise InputError(f"{row['utt_id']}: its manifest line has no {wanted}.")
            if self._noise is not None and audio is not None and row["utt_id"] not in self._noise:
                raise InputError(f"{row['utt_id']}: the noise manifest has no line for it; make it of the same rows.")
            if self._corruption is not None and row["utt_id"] not in self._corruption:
                raise InputError(f"{row['utt_id']}: the corruption manifest has no line for it; make it of these rows.")
        self._lip_augment = self._noise_augment = self._corrupt_augment = None
        if augment is not None:
            talkers = _Talkers([path for path in self._audio if path is not None], self._waveform)
            self._lip_augment = LipAugment(augment)
            voices = [voice_of(row) for row, path in zip(rows, self._audio, strict=True) if path is not None]
            self._noise_augment = NoiseAugment(augment, talkers, self._waveform, voices)
            self._corrupt_augment = CorruptAugment(augment)

    def __len__(self) -> int:
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose augmentation the next items get."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict:
        """One utterance: the batch's keys (see `collate`) without padding; waveform (S,), lips (T,88,88)."""
        try:
            return self._item(index, np.random.default_rng((self.seed, self.epoch, index)))
        except InputError as error:
            raise InputError(f"{self.rows[index]['utt_id']}: {error}") from error

    def _item(self, index: int, rng: np.random.Generator) -> dict:
        row, audio, lips_path = self.rows[index], self._audio[index], self._lips[index]
        lips = None if lips_path is None else self._cache.get(lips_path, lambda: read_lips(lips_path))
        if audio is not None:
            waveform = self._disturb(self._waveform(audio), row, rng)
            n_frames = frames_of(len(waveform))
        else:
            n_frames = len(lips)
            waveform = np.zeros(samples_of(n_frames), dtype=np.float32)
        if lips is None:
            pictures = np.zeros((n_frames, CROP, CROP), dtype=np.uint8)
        else:
            lips = fit_frames(lips, n_frames)
            pictures = centre_crop(lips) if self._lip_augment is None else self._lip_augment(lips, rng)
        corruption = self._corruption_of(row, rng)
        if corruption is not None:
            waveform = corrupt_sound(waveform, corruption)
            pictures = pictures if lips is None else corrupt_lips(pictures, corruption)
        item = {
            "utt_id": row["utt_id"],
            "waveform": waveform,
            "lips": pictures,
            "has_audio": audio is not None,
            "has_video": lips is not None,
            "tokens": self._tokens[index],
            "frame_labels": self._frame_labels(row, n_frames),
        }
        return item if self.word_slack is None else item | {"token_frames": self._token_frames(index, n_frames)}

    def _waveform(self, path: str) -> np.ndarray:
        return self._cache.get(path, lambda: _read_speech(path))

    def _disturb(self, waveform: np.ndarray, row: dict, rng: np.random.Generator) -> np.ndarray:
        if self._noise is not None:
            return disturb(waveform, self._noise[row["utt_id"]], read=self._waveform)
        if self._noise_augment is not None:
            return self._noise_augment(waveform, rng, voice_of(row))
        return waveform

    def _corruption_of(self, row: dict, rng: np.random.Generator) -> dict | None:
        if self._corruption is not None:
            return self._corruption[row["utt_id"]]
        return None if self._corrupt_augment is None else self._corrupt_augment(rng)

    def _frame_labels(self, row: dict, n_frames: int) -> np.ndarray:
        if self.labels is None or row["alignment"] is None:
            return np.full(n_frames, IGNORE, dtype=np.int64)

        def read() -> np.ndarray:
            intervals = read_alignment(row["alignment"], row["duration_s"]).get(self.tier)
            if intervals is None:
                return np.full(n_frames, IGNORE, dtype=np.int64)
            return frame_labels(intervals, n_frames, self.labels)

        return self._cache.get(("labels", row["alignment"], n_frames), read)

    def _token_frames(self, index: int, n_frames: int) -> np.ndarray:
        row, tokens = self.rows[index], self._tokens[index]

        def read() -> np.ndarray:
            words = []
            if row["alignment"] is not None:
                words = read_alignment(row["alignment"], row["duration_s"])["words"]
            return token_frames(words, tokens, self._spans[index], n_frames, self.word_slack)

        return self._cache.get(("tokens", index, n_frames), read)


def collate(items: list[dict]) -> dict:
    """Pad items to a batch.

    Returns:
        waveform (B,S) float32, zero-padded; waveform_lengths (B,) samples
        lips (B,T,88,88) uint8, zero-padded; lengths (B,) video frames, those that cover the waveform
        has_audio, has_video (B,) bool: whether the stream is there (zeros otherwise)
        tokens (B,U) int64, padded with -1; token_lengths (B,)
        token_frames (B,U,2) int64: first frame, and the one after the last, within which each token may be said; only
            where the items have it
        frame_labels (B,T) int64, padded with -100, which also marks utterances without alignment
        utt_ids list of str
    """
    batch = {
        "waveform": pad_arrays([item["waveform"] for item in items], 0),
        "waveform_lengths": torch.tensor([len(item["waveform"]) for item in items]),
        "lips": pad_arrays([item["lips"] for item in items], 0),
        "lengths": torch.tensor([len(item["lips"]) for item in items]),
        "has_audio": torch.tensor([item["has_audio"] for item in items]),
        "has_video": torch.tensor([item["has_video"] for item in items]),
        "tokens": pad_arrays([item["tokens"] for item in items], NO_TOKEN),
        "token_lengths": torch.tensor([len(item["tokens"]) for item in items]),
        "frame_labels": pad_arrays([item["frame_labels"] for item in items], IGNORE),
    }
    if "token_frames" in items[0]:
        batch["token_frames"] = pad_arrays([item["token_frames"] for item in items], 0)
    return batch | {"utt_ids": [item["utt_id"] for item in items]}


class RecognitionData(NamedTuple):
    """What the trainer and the recogniser's builder need of a corpus."""

    train_dataset: UtteranceDataset
    train_sampler: BucketBatchSampler
    valid_dataset: UtteranceDataset
    valid_sampler: BucketBatchSampler
    collate: Callable[[list[dict]], dict]
    tokenizer: Tokenizer
    labels: dict[str, int] | None


def listed(config: DataConfig) -> list[tuple[str, int]]:
    """The manifests of training, and how often an epoch goes through each."""
    return list(zip(config.train, config.train_times or [1] * len(config.train), strict=True))


def recognition_data(config: DataConfig, seed: int) -> RecognitionData:
    """Datasets, samplers, tokenizer and frame-label inventory (of the training rows) of a config."""
    tokenizer = load_tokenizer(config.tokenizer)
    train_rows, valid_rows = _read_rows(listed(config)), _read_rows([(path, 1) for path in config.valid])
    labels = None if config.frame_label is None else label_inventory(train_rows, config.frame_label)
    shared = {
        "labels": labels,
        "tier": config.frame_label,
        "word_slack": config.word_slack,
        "seed": seed,
        "cache_mb": config.cache_mb,
        "modalities": config.modalities,
    }
    valid_noise = None if config.valid_noise is None else read_noise_manifest(config.valid_noise)
    return RecognitionData(
        train_dataset=UtteranceDataset(train_rows, tokenizer, augment=config.augment, **shared),
        train_sampler=_sampler(train_rows, config, shuffle=True, seed=seed),
        valid_dataset=UtteranceDataset(valid_rows, tokenizer, noise_lines=valid_noise, **shared),
        valid_sampler=_sampler(valid_rows, config, shuffle=False, seed=seed),
        collate=collate,
        tokenizer=tokenizer,
        labels=labels,
    )


class _Talkers(Sequence):
    """The waveforms of `paths`, read when they are asked for."""

    def __init__(self, paths: list[str], read: Callable[[str], np.ndarray]) -> None:
        self.paths = paths
        self.read = read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.read(self.paths[index])


def _read_rows(manifests: list[tuple[str, int]]) -> list[dict]:
    read = {path: read_manifest(path, NEED, USE) for path, _ in manifests}
    return [row for path, times in manifests for row in times * read[path]]


def _sampler(rows: list[dict], config: DataConfig, *, shuffle: bool, seed: int) -> BucketBatchSampler:
    lengths = [frames_of(round(row["duration_s"] * SAMPLE_RATE)) for row in rows]
    return BucketBatchSampler(
        lengths, max_frames=config.max_frames_per_batch, max_utts=config.max_utts, shuffle=shuffle, seed=seed
    )


def _encode(row: dict, tokenizer: Tokenizer | None) -> np.ndarray:
    """Token ids (U,) int64 of a row's text."""
    if tokenizer is None:
        return np.zeros(0, dtype=np.int64)
    try:
        return np.array(tokenizer.encode(row["text"] or ""), dtype=np.int64)
    except InputError as error:
        raise InputError(f"{row['utt_id']}: {error}") from error


def _read_speech(path: str) -> np.ndarray:
    waveform = read_audio(path)
    check_waveform(waveform, path)
    return waveform
