"""What the sync networks share: do these sounds and these lips belong together, and if late, by how much?

Two towers give each video frame an embedding of the sound and one of the lips around it; together they lie near each
other, shifted against each other they don't. Trained as SyncNet's successors are, contrastively: the right frame of
lips against the same clip's shifted ones, which only timing tells apart, and against other clips'. What a network sees
of the lips, motion or pictures, is its own.

Letters: B batch, S samples, T video frames, D width of embeddings, F features that the lips are seen by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from avsr.errors import InputError
from avsr.media.audio import N_MELS, log_mel
from avsr.media.timing import MELS_PER_FRAME, SAMPLES_PER_FRAME
from avsr.models.espnet import padding_mask
from avsr.models.frontends import normalize_log_mel

WINDOW_FRAMES = 11  # an offset is judged over this many frames; SyncNet's published accuracies are over 11 too


@dataclass
class SyncNetConfig:
    """Sizes and the contrastive task; stored in a checkpoint."""

    width: int = 128
    dim: int = 128  # of the embeddings
    kernel: int = 5  # video frames (0.2 s) that each tower's last convolution sees; odd
    dropout: float = 0.1
    max_offset: int = 15  # frames: in-clip negatives are shifted by up to this much
    cross_clip: int = 64  # frames of other clips among the negatives of a batch
    temperature: float = 0.07  # at the start; learned

    def __post_init__(self):
        if self.kernel % 2 == 0:
            raise InputError(f"the sync network's kernel is {self.kernel}; it must be odd, to be centred on its frame")


class SyncNet(nn.Module):
    """Embeds speech and lips frame by frame.

    Args:
        config: sizes.
        n_seen: F, features of a frame that a network sees its lips by.
    """

    def __init__(self, config: SyncNetConfig, n_seen: int):
        super().__init__()
        self.config = config
        width, half = config.width, config.kernel // 2
        self.hear = nn.ModuleList(
            [
                nn.Conv1d(N_MELS, width, 5, padding=2),  # mel frames
                nn.Conv1d(width, width, MELS_PER_FRAME, stride=MELS_PER_FRAME),  # to video frames
                nn.Conv1d(width, width, config.kernel, padding=half),
            ]
        )
        self.see = nn.ModuleList([nn.Conv1d(n_seen, width, 1), nn.Conv1d(width, width, config.kernel, padding=half)])
        self.hear_norms, self.see_norms = (
            nn.ModuleList(nn.LayerNorm(width) for _ in tower) for tower in (self.hear, self.see)
        )
        self.hear_out, self.see_out = (
            nn.Sequential(nn.Dropout(config.dropout), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, config.dim))
            for _ in range(2)
        )
        self.log_scale = nn.Parameter(torch.tensor(1 / config.temperature).log())

    def embed_audio(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """waveform (B, S) at 16 kHz, lengths (B,) in video frames -> unit embeddings (B, T, D)."""
        n_samples = int(lengths.max()) * SAMPLES_PER_FRAME
        waveform = functional.pad(waveform, (0, max(0, n_samples - waveform.shape[1])))[:, :n_samples]
        features = log_mel(waveform.float())  # (B, 4 T, 80)
        padding = padding_mask(lengths * MELS_PER_FRAME, features.shape[1])
        return self._tower(normalize_log_mel(features, padding), self.hear, self.hear_norms, self.hear_out, lengths)

    def embed_seen(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, T, F) of the lips, lengths (B,) -> unit embeddings (B, T, D)."""
        return self._tower(features, self.see, self.see_norms, self.see_out, lengths)

    def _tower(self, features, convolutions: Iterable[Callable], norms, out, lengths) -> Tensor:
        for convolution, norm in zip(convolutions, norms, strict=True):
            features = functional.silu(norm(convolution(features.transpose(1, 2)).transpose(1, 2)))
            steps = features.shape[1] // int(lengths.max())  # a video frame
            features = features.masked_fill(padding_mask(lengths * steps, features.shape[1])[:, :, None], 0)
        return functional.normalize(out(features), dim=-1)

    def similarities(self, audio: Tensor, seen: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine of each frame's sound with its clip's lips `max_offset` frames earlier to later: (B, T, 2 v + 1).

        Also returns the same shape's bool of the pairs that exist: both frames lie within the clip.
        """
        reach = self.config.max_offset
        shifted = functional.pad(seen, (0, 0, reach, reach)).unfold(1, 2 * reach + 1, 1)  # (B, T, D, 2 v + 1)
        frames = torch.arange(seen.shape[1], device=seen.device)
        other = frames[:, None] + torch.arange(-reach, reach + 1, device=seen.device)  # (T, 2 v + 1)
        end = lengths[:, None, None]
        exists = (other >= 0) & (other < end) & (frames[:, None] < end)
        return torch.einsum("btd,btdo->bto", audio, shifted), exists

    def losses(self, audio: Tensor, seen: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """The losses of embeddings (B, T, D): loss and its terms; in eval mode offset accuracies too.

        frame: InfoNCE of a frame of sound over its clip's frames within `max_offset` and over other clips'. window: the
        same in the mean over 5 frames, and in-clip only, which is how offsets are judged. exact, near: the share of
        11-frame windows whose best of 25 offsets is the true one, or within one frame of it.
        """
        scores, exists = self.similarities(audio, seen, lengths)
        real = ~padding_mask(lengths, audio.shape[1])
        scale = self.log_scale.exp().clamp(max=100)
        logits = (scale * scores).masked_fill(~exists, -torch.inf)
        terms = {"frame": self._frame_loss(logits, audio, seen, real, scale)}
        pooled, whole = windows(scores, exists, 5)
        target = torch.full((), self.config.max_offset, device=audio.device)
        pooled = (3 * scale * pooled).masked_fill(~whole, -torch.inf)[whole[..., self.config.max_offset]]
        terms["window"] = functional.cross_entropy(pooled, target.expand(len(pooled)))
        terms["loss"] = terms["frame"] + terms["window"]
        if not self.training:
            terms |= offset_accuracy(scores, exists)
        return terms

    def _frame_loss(self, logits, audio, seen, real, scale) -> Tensor:
        flat_audio, flat_seen = audio[real], seen[real]  # (N, D)
        clip = torch.arange(len(real), device=real.device)[:, None].expand_as(real)[real]
        chosen = torch.randperm(len(clip), device=real.device)[: self.config.cross_clip]
        other = (scale * flat_audio @ flat_seen[chosen].T).masked_fill(clip[:, None] == clip[chosen], -torch.inf)
        target = torch.full((len(clip),), self.config.max_offset, device=real.device)
        return functional.cross_entropy(torch.cat([logits[real], other], dim=1), target)

    def check_length(self, n_frames: int) -> None:
        """Raise InputError where a clip cannot be shifted by `max_offset`."""
        if n_frames <= self.config.max_offset:
            raise InputError(
                f"a clip of {n_frames} frames is too short to be shifted by {self.config.max_offset}: give at least "
                f"{self.config.max_offset + 1} frames"
            )

    def mean_distances(self, audio: Tensor, seen: Tensor, lengths: Tensor) -> Tensor:
        """Mean distance of a clip's embeddings (1, T, D) at each offset -v..v: (2 v + 1,), as SyncNet has it.

        Entry v + k is the mean over the clip's frames t of |audio_t - seen_{t+k}|, over pairs that exist (SyncNet pads
        with zeros).
        """
        scores, exists = self.similarities(audio, seen, lengths)
        apart = (2 - 2 * scores[0]).clamp(min=0).sqrt() * exists[0]
        return apart.sum(0) / exists[0].sum(0)


def windows(scores: Tensor, exists: Tensor, n_frames: int) -> tuple[Tensor, Tensor]:
    """Mean (B, T - n + 1, O) over n_frames consecutive frames of scores (B, T, O), and where all of them exist."""
    pooled = functional.avg_pool1d((scores * exists).transpose(1, 2), n_frames, stride=1).transpose(1, 2)
    whole = functional.avg_pool1d(exists.float().transpose(1, 2), n_frames, stride=1).transpose(1, 2) > 1 - 1e-6
    return pooled, whole


def offset_accuracy(scores: Tensor, exists: Tensor, n_offsets: int = 25) -> dict[str, Tensor]:
    """exact, near: share of 11-frame windows whose best of `n_offsets` is the true one, or within a frame of it.

    Only windows count for which every offset exists.
    """
    middle, reach = scores.shape[-1] // 2, n_offsets // 2
    pooled, whole = windows(scores, exists, WINDOW_FRAMES)
    near_by = slice(middle - reach, middle + reach + 1)
    found = pooled[..., near_by][whole[..., near_by].all(-1)].argmax(-1) - reach
    n_windows = max(len(found), 1)
    return {"exact": (found == 0).sum() / n_windows, "near": (found.abs() <= 1).sum() / n_windows}
