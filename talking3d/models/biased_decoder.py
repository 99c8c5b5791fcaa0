"""The decoder of FaceFormer (Fan et al., CVPR 2022, arXiv 2112.05329), which CodeTalker took over: autoregressive
transformer layers with periodic positions and biases that forget the past by whole periods.

Letters: B batch, T video frames, Q frames asked for, P frames of past and present, D width, H heads, K basis size.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

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
            features = layer(features, *layer.keys_values(features), layer.hear(sound), bias)
        return features

    def speak(self, sound: Tensor, speakers: Tensor, answer: Callable[[Tensor], Tensor]) -> Tensor:
        """Motion (B, T, K), less the mean, that goes on from itself, frame by frame.

        answer: features (B, 1, D) of the next frame -> its motion (B, 1, K), less the mean. The keys and values of what
        a layer saw are kept, so that no frame goes through it twice.
        """
        style, n_frames = self.styles(speakers), sound.shape[1]
        positions = periodic_positions(n_frames, style.shape[-1], self.period, sound.device)
        heard = [layer.hear(sound).split(1, dim=1) for layer in self.layers]
        keys, values = ([[] for _ in self.layers] for _ in range(2))
        motion = []
        biases = past_bias(self.slopes, n_frames, n_frames, self.period)
        features = (style + positions[0])[:, None]
        for t in range(n_frames):
            for i, layer in enumerate(self.layers):
                for kept, new in zip((keys[i], values[i]), layer.keys_values(features), strict=True):
                    kept.append(new)
                past = torch.cat(keys[i], dim=2), torch.cat(values[i], dim=2)
                features = layer(features, *past, heard[i][t], biases[:, t : t + 1, : t + 1])
            motion.append(answer(features))
            if t + 1 < n_frames:
                features = self.past(motion[-1]) + (style + positions[t + 1])[:, None]
        return torch.cat(motion, dim=1)


class BiasedLayer(nn.Module):
    """A frame attends to its past, with biases, and to the sound of its own frame ("biased cross-modal attention",
    whose mask leaves one frame of sound to each frame of motion)."""

    def __init__(self, dim: int, heads: int, ff_dim: int, dropout: float):
        super().__init__()
        self.dim, self.heads = dim, heads
        self.self_attention, self.cross_attention = (
            nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, ff_dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(ff_dim, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def keys_values(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """What frames (B, P, D) are found by and what they say to later ones: (B, H, P, D / H) each."""
        both = self._project(self.self_attention, frames, slice(self.dim, None))
        return tuple(self._heads(part) for part in both.chunk(2, dim=-1))

    def hear(self, sound: Tensor) -> Tensor:
        """Attention of each frame to its own sound (B, Q, D) alone, which is that sound's value, whatever asks."""
        values = self._project(self.cross_attention, sound, slice(2 * self.dim, None)).unflatten(-1, (self.heads, -1))
        kept = functional.dropout(values.new_ones(*values.shape[:-1], 1), self.dropout.p, self.training)  # of weights
        return self.cross_attention.out_proj((kept * values).flatten(-2))

    def forward(self, now: Tensor, keys: Tensor, values: Tensor, heard: Tensor, bias: Tensor) -> Tensor:
        """Frames (B, Q, D), keys and values of them and their past (B, H, P, D / H), what they hear (B, Q, D), biases
        (H, Q, P) -> (B, Q, D)."""
        queries = self._heads(self._project(self.self_attention, now, slice(self.dim)))
        dropout = self.dropout.p if self.training else 0.0
        seen = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias[None], dropout_p=dropout)
        now = self.norms[0](now + self.dropout(self.self_attention.out_proj(seen.transpose(1, 2).flatten(-2))))
        now = self.norms[1](now + self.dropout(heard))
        return self.norms[2](now + self.dropout(self.feed_forward(now)))

    def _project(self, attention: nn.MultiheadAttention, frames: Tensor, rows: slice) -> Tensor:
        """frames by some rows of an attention's projections: queries, keys, values below one another."""
        return functional.linear(frames, attention.in_proj_weight[rows], attention.in_proj_bias[rows])

    def _heads(self, frames: Tensor) -> Tensor:
        """(B, Q, D) -> (B, H, Q, D / H)."""
        return frames.unflatten(-1, (self.heads, -1)).transpose(1, 2)


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
