"""Fusions of sound and sight that survive a missing stream.

Letters: B batch, T video frames, D width.
"""

import torch
from torch import Tensor, nn


class GatedFusion(nn.Module):
    """Weigh two streams per frame and channel, and mix them.

    A gate reads both streams and decides how much of each passes. The two shares sum to 1, and a missing stream's share
    is 0: with one stream absent the output depends on the other alone, whatever stands in the absent one's place.
    """

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.norm_audio = nn.LayerNorm(dim)
        self.norm_video = nn.LayerNorm(dim)
        self.gate = nn.Linear(2 * dim, 2 * dim)
        self.mix = nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, audio: Tensor, video: Tensor, has_audio: Tensor, has_video: Tensor) -> Tensor:
        """Fuse audio and video (B, T, D), there for has_audio and has_video (B,) bool, one at least -> (B, T, D)."""
        has_both = torch.stack([has_audio, has_video], dim=1)[:, None, :, None]  # (B, 1, 2, 1)
        streams = torch.stack([self.norm_audio(audio), self.norm_video(video)], dim=2)  # (B, T, 2, D)
        streams = streams.masked_fill(~has_both, 0.0)
        scores = self.gate(streams.flatten(2)).float().unflatten(-1, (2, -1))  # (B, T, 2, D)
        shares = scores.masked_fill(~has_both, float("-inf")).softmax(dim=2)
        return self.mix(self.dropout((2.0 * shares * streams).flatten(2)))


class ConcatNormFusion(nn.Module):
    """Both streams side by side, normalised and projected, a missing one as zeros (AV-HuBERT: Shi et al., 2022)."""

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(2 * dim)
        self.mix = nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, audio: Tensor, video: Tensor, has_audio: Tensor, has_video: Tensor) -> Tensor:
        """Fuse audio and video (B, T, D), there for has_audio and has_video (B,) bool -> (B, T, D)."""
        audio = audio.masked_fill(~has_audio[:, None, None], 0.0)
        video = video.masked_fill(~has_video[:, None, None], 0.0)
        return self.dropout(self.mix(self.norm(torch.cat([audio, video], dim=-1))))
