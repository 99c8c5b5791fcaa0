"""FaceFormer: speech to motion frame by frame, each from its own past (Fan et al., CVPR 2022, arXiv 2112.05329).

Written from the paper. Two things differ, so that methods compare: it hears through the kit's speech encoder instead of
wav2vec 2.0, and answers in the kit's basis, not in vertices. The losses on its vertices are the student's.

Letters: B batch, S samples, T video frames, D width, H heads, K basis size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from avsr.errors import InputError
from avsr.models.espnet import padding_mask
from talking3d.face.template import FaceTemplate
from talking3d.models.motion_model import MotionModel, MotionModelConfig
from talking3d.models.speech_encoder import SpeechEncoder


@dataclass
class FaceFormerConfig(MotionModelConfig):
    """What a FaceFormer is made of; stored in its checkpoint."""

    heads: int = 4
    ff_dim: int = 256
    period: int = 25  # frames after which positions repeat and attention falls off by a step
    dropout: float = 0.1
    teacher_forcing: bool = False  # train on the true past; the paper trains on the model's own

    def __post_init__(self):
        super().__post_init__()
        if self.encoder.dim % self.heads:
            raise InputError(f"faceformer.heads ({self.heads}) must divide encoder.dim ({self.encoder.dim})")


class FaceFormer(MotionModel):
    """Autoregressive transformer decoder of one layer. Unknown speakers get the mean of the learned styles.

    A frame attends to its past, with biases that forget it by whole periods, and to the sound of its own frame
    ("biased cross-modal attention", whose mask leaves one frame of sound to each frame of motion). With one layer the
    past's keys and values are those of its inputs, so nothing is computed twice. Arguments as `MotionModel`'s.
    """

    NAME, Config = "faceformer", FaceFormerConfig

    def __init__(
        self,
        config: FaceFormerConfig,
        basis: np.ndarray,
        mean: np.ndarray,
        template: FaceTemplate,
        speakers: list[str],
    ):
        super().__init__(config, basis, mean, template, speakers)
        dim, n_basis = config.encoder.dim, len(basis)
        self.encoder = SpeechEncoder(config.encoder)
        self.styles = nn.Embedding(max(1, len(speakers)), dim)
        nn.init.normal_(self.styles.weight, std=0.1)
        self.past = nn.Linear(n_basis, dim)
        self.self_attention, self.cross_attention = (
            nn.MultiheadAttention(dim, config.heads, dropout=config.dropout, batch_first=True) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, config.ff_dim), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(config.ff_dim, dim)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(dim, n_basis)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer(
            "slopes", 2.0 ** (-8.0 * (torch.arange(config.heads) + 1) / config.heads), persistent=False
        )

    def coefficients(self, waveform: Tensor, lengths: Tensor, speakers: Tensor) -> Tensor:
        """waveform (B, S), lengths (B,) in frames, speakers as `MotionModel` has them -> (B, T, K), zero at padding."""
        return self._speak(waveform, lengths, speakers, None)

    def predict_with_losses(self, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """The coefficients (B, T, K) that the losses are of, and these: `motion_losses`."""
        past = batch["motion"] if self.training and self.config.teacher_forcing else None
        output = self._speak(batch["waveform"], batch["lengths"], batch["speakers"], past)
        return output, self.motion_losses(output, batch)

    def _speak(self, waveform: Tensor, lengths: Tensor, speakers: Tensor, past: Tensor | None) -> Tensor:
        """(B, T, K); past (B, T, K): the motion to go on from, the model's own where None."""
        sound = self.encoder(waveform, lengths)  # (B, T, D)
        style = self.style_vectors(speakers)  # (B, D)
        n_frames = sound.shape[1]
        positions = self._positions(n_frames, sound.device)
        if past is not None:
            before = torch.cat([style[:, None], self.past(past[:, :-1] - self.mean) + style[:, None]], dim=1)
            output = self._decode(before + positions, before + positions, sound, self._bias(n_frames, n_frames))
        else:
            inputs, frames = [style + positions[0]], []
            for t in range(n_frames):
                history = torch.stack(inputs, dim=1)  # (B, t + 1, D)
                frames.append(self._decode(history[:, -1:], history, sound[:, t : t + 1], self._bias(t + 1, 1)))
                if t + 1 < n_frames:
                    inputs.append(self.past(frames[-1][:, 0] - self.mean) + style + positions[t + 1])
            output = torch.cat(frames, dim=1)
        return output.masked_fill(padding_mask(lengths, n_frames)[:, :, None], 0.0)

    def _decode(self, now: Tensor, history: Tensor, sound: Tensor, bias: Tensor) -> Tensor:
        """Frames (B, Q, D) with their history (B, P, D) and their own sound (B, Q, D) -> coefficients (B, Q, K)."""
        n_batch, n_now, dim = now.shape
        seen = self.self_attention(now, history, history, attn_mask=bias.repeat(n_batch, 1, 1), need_weights=False)[0]
        now = self.norms[0](now + self.dropout(seen))
        own = sound.reshape(n_batch * n_now, 1, dim)  # each frame of motion attends to one frame of sound
        heard = self.cross_attention(now.reshape(n_batch * n_now, 1, dim), own, own, need_weights=False)[0]
        now = self.norms[1](now + self.dropout(heard.reshape(n_batch, n_now, dim)))
        now = self.norms[2](now + self.dropout(self.feed_forward(now)))
        return self.mean + self.head(now)

    def _positions(self, n_frames: int, device: torch.device) -> Tensor:
        """Periodic positional encoding (T, D): sines of the frame's number modulo the period."""
        dim = self.config.encoder.dim
        place = (torch.arange(n_frames, device=device) % self.config.period)[:, None]
        angle = place / 10000 ** (torch.arange(0, dim, 2, device=device) / dim)
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :dim]

    def _bias(self, n_past: int, n_now: int) -> Tensor:
        """Attention biases (H, Q, P) of the last n_now of n_past frames: minus whole periods ago, times a head's slope.

        The future is -inf.
        """
        frames = torch.arange(n_past, device=self.slopes.device)
        ago = frames[n_past - n_now :, None] - frames
        bias = -(ago // self.config.period).float() * self.slopes[:, None, None]
        return bias.masked_fill(ago < 0, -torch.inf)
