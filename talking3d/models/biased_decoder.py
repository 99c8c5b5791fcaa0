"""The decoder of FaceFormer (Fan et al., CVPR 2022, arXiv 2112.05329), which CodeTalker took over: autoregressive
transformer layers with periodic positions and biases that forget the past by whole periods.

Letters: B batch, T video frames, Q frames asked for, P frames of past and present, D width, H heads, K basis size.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from talking3d.models.speaker_styles import SpeakerStyles


class BiasedDecoder(nn.Module):
    """Sound, speaking style and past motion to features of each frame. Unknown speakers get the mean of the styles.

    Args:
        n_basis: coefficients of a frame of motion.
        dim: width of the sound and of the features.
        period: frames after which positions repeat and attention falls off by a step.
        n_speakers: whose styles are learned.
    """

    def __init__(
        self,
        n_basis: int,
        *,
        dim: int,
        layers: int,
        heads: int,
        ff_dim: int,
        period: int,
        dropout: float,
        n_speakers: int,
    ):
        super().__init__()
        self.period = period
        self.styles = SpeakerStyles(n_speakers, dim)
        self.past = nn.Linear(n_basis, dim)
        self.layers = nn.ModuleList(BiasedLayer(dim, heads, ff_dim, dropout) for _ in range(layers))
        self.register_buffer("slopes", alibi_slopes(heads), persistent=False)

    def follow(self, sound: Tensor, speakers: Tensor, past: Tensor) -> Tensor:
        """Features (B, T, D) of frames that go on from true motion, all at once.

        sound (B, T, D); speakers (B,), indices or UNKNOWN; past (B, T, K), less the mean: frame t sees those before t.
        """
        style, n_frames = self.styles(speakers)[:, None], sound.shape[1]
        before = torch.cat([style, self.past(past[:, :-1]) + style], dim=1)
        features = before + periodic_positions(n_frames, before.shape[-1], self.period, sound.device)
        bias = past_bias(self.slopes, n_frames, n_frames, self.period)
        for layer in self.layers:
            features = layer(features, features, sound, bias)
        return features

    def speak(self, sound: Tensor, speakers: Tensor, answer: Callable[[Tensor], Tensor]) -> Tensor:
        """Motion (B, T, K), less the mean, that goes on from itself, frame by frame.

        answer: features (B, 1, D) of the next frame -> its motion (B, 1, K), less the mean. A frame's keys come from
        what its layers saw when it was made, so that no frame goes through a layer twice.
        """
        style, n_frames = self.styles(speakers), sound.shape[1]
        positions = periodic_positions(n_frames, style.shape[-1], self.period, sound.device)
        histories, motion = [[] for _ in self.layers], []
        features = (style + positions[0])[:, None]
        for t in range(n_frames):
            bias = past_bias(self.slopes, t + 1, 1, self.period)
            for layer, history in zip(self.layers, histories, strict=True):
                history.append(features)
                features = layer(features, torch.cat(history, dim=1), sound[:, t : t + 1], bias)
            motion.append(answer(features))
            if t + 1 < n_frames:
                features = self.past(motion[-1]) + (style + positions[t + 1])[:, None]
        return torch.cat(motion, dim=1)


class BiasedLayer(nn.Module):
    """A frame attends to its past, with biases, and to the sound of its own frame ("biased cross-modal attention",
    whose mask leaves one frame of sound to each frame of motion)."""

    def __init__(self, dim: int, heads: int, ff_dim: int, dropout: float):
        super().__init__()
        self.self_attention, self.cross_attention = (
            nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, ff_dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(ff_dim, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, now: Tensor, history: Tensor, sound: Tensor, bias: Tensor) -> Tensor:
        """Frames (B, Q, D) with their history (B, P, D), their own sound (B, Q, D), biases (H, Q, P) -> (B, Q, D)."""
        n_batch, n_now, dim = now.shape
        seen = self.self_attention(now, history, history, attn_mask=bias.repeat(n_batch, 1, 1), need_weights=False)[0]
        now = self.norms[0](now + self.dropout(seen))
        own = sound.reshape(n_batch * n_now, 1, dim)  # each frame of motion attends to one frame of sound
        heard = self.cross_attention(now.reshape(n_batch * n_now, 1, dim), own, own, need_weights=False)[0]
        now = self.norms[1](now + self.dropout(heard.reshape(n_batch, n_now, dim)))
        return self.norms[2](now + self.dropout(self.feed_forward(now)))


def alibi_slopes(heads: int) -> Tensor:
    """(H,) slopes of linear attention biases, 2^(-8 / H) to 2^-8 (ALiBi: Press et al., ICLR 2022)."""
    return 2.0 ** (-8.0 * (torch.arange(heads) + 1) / heads)


def periodic_positions(n_frames: int, dim: int, period: int, device: torch.device) -> Tensor:
    """Periodic positional encoding (T, D): sines of the frame's number modulo the period."""
    place = (torch.arange(n_frames, device=device) % period)[:, None]
    angle = place / 10000 ** (torch.arange(0, dim, 2, device=device) / dim)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :dim]


def past_bias(slopes: Tensor, n_past: int, n_now: int, period: int) -> Tensor:
    """Attention biases (H, Q, P) of the last n_now of n_past frames: minus whole periods ago, times a head's slope.

    The future is -inf.
    """
    frames = torch.arange(n_past, device=slopes.device)
    ago = frames[n_past - n_now :, None] - frames
    bias = -(ago // period).float() * slopes[:, None, None]
    return bias.masked_fill(ago < 0, -torch.inf)
