"""Fusions of sound and sight that survive a missing stream.

Letters: B batch, T video frames, D width.
"""

import torch
from torch import Tensor, nn

from avsr.errors import InputError

CROSS_FRAMES = 12  # before and after its own that a frame looks for in the other stream: half a second of offset


class GatedFusion(nn.Module):
    """Weigh two streams per frame and channel, and mix them.

    A gate reads both streams and decides how much of each passes. The two shares sum to 1, and a missing stream's share
    is 0: with one stream absent the output depends on the other alone, whatever stands in the absent one's place.

    Untrained, it lets a lone stream through as it is, normalised, and gives the mean of two: a recogniser that starts
    from a hearing one hears at once as that one does, and need not learn it again.
    """

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.norm_audio = nn.LayerNorm(dim)
        self.norm_video = nn.LayerNorm(dim)
        self.gate = nn.Linear(2 * dim, 2 * dim)
        self.mix = nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.gate, self.mix):
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.gate.weight)
        with torch.no_grad():
            self.mix.weight.copy_(torch.eye(dim).repeat(1, 2) / 2)

    def forward(self, audio: Tensor, video: Tensor, has_audio: Tensor, has_video: Tensor, padding: Tensor) -> Tensor:
        """Fuse audio and video (B, T, D), there for has_audio and has_video (B,) bool, one at least -> (B, T, D).

        padding (B, T) bool is True at frames past an utterance's end, whose output means nothing.
        """
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

    def forward(self, audio: Tensor, video: Tensor, has_audio: Tensor, has_video: Tensor, padding: Tensor) -> Tensor:
        """As `GatedFusion.forward`."""
        audio = audio.masked_fill(~has_audio[:, None, None], 0.0)
        video = video.masked_fill(~has_video[:, None, None], 0.0)
        return self.dropout(self.mix(self.norm(torch.cat([audio, video], dim=-1))))


class ConcatFusion(nn.Module):
    """Both streams side by side through two layers, as Auto-AVSR's; a missing one is zeros."""

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.norm_audio = nn.LayerNorm(dim)
        self.norm_video = nn.LayerNorm(dim)
        self.mix = nn.Sequential(nn.Linear(2 * dim, 4 * dim), nn.SiLU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim))

    def forward(self, audio: Tensor, video: Tensor, has_audio: Tensor, has_video: Tensor, padding: Tensor) -> Tensor:
        """As `GatedFusion.forward`."""
        audio = self.norm_audio(audio).masked_fill(~has_audio[:, None, None], 0.0)
        video = self.norm_video(video).masked_fill(~has_video[:, None, None], 0.0)
        return self.mix(torch.cat([audio, video], dim=-1))


class CrossAttentionFusion(nn.Module):
    """Each stream looks for itself in the other one's neighbouring frames, adds what it finds, then both are gated.

    So lips that come a little before or after their sound are still used. What a missing stream would give is nothing.
    """

    def __init__(self, dim: int, dropout: float, heads: int):
        super().__init__()
        self.norm_audio = nn.LayerNorm(dim)
        self.norm_video = nn.LayerNorm(dim)
        self.audio_looks = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.video_looks = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.gated = GatedFusion(dim, dropout)

    def forward(self, audio: Tensor, video: Tensor, has_audio: Tensor, has_video: Tensor, padding: Tensor) -> Tensor:
        """As `GatedFusion.forward`."""
        frames = torch.arange(audio.shape[1], device=audio.device)
        ahead = frames - frames[:, None]  # (T, T): of each query's own frame
        hidden = (ahead.abs() > CROSS_FRAMES) | padding[:, None, :]  # (B, T, T)
        hidden = (hidden & (ahead != 0)).repeat_interleave(self.audio_looks.num_heads, dim=0)  # nobody sees nothing
        has_both = (has_audio & has_video)[:, None, None]
        heard, seen = self.norm_audio(audio), self.norm_video(video)
        in_video = self.audio_looks(heard, seen, seen, attn_mask=hidden, need_weights=False)[0]
        in_audio = self.video_looks(seen, heard, heard, attn_mask=hidden, need_weights=False)[0]
        audio = audio + in_video.masked_fill(~has_both, 0.0)
        video = video + in_audio.masked_fill(~has_both, 0.0)
        return self.gated(audio, video, has_audio, has_video, padding)


FUSIONS = {
    "gated": GatedFusion,
    "concat": ConcatFusion,
    "concat_norm": ConcatNormFusion,
    "cross_attention": CrossAttentionFusion,
}


def build_fusion(kind: str, *, dim: int, dropout: float, heads: int) -> nn.Module:
    """A fusion by its name in `FUSIONS`; `heads` are of cross-attention. Raises InputError for another name."""
    if kind not in FUSIONS:
        raise InputError(f"unknown fusion {kind!r}; expected {', '.join(FUSIONS)}")
    return FUSIONS[kind](dim, dropout, **({"heads": heads} if kind == "cross_attention" else {}))
