"""A discrete prior of facial motion: an autoencoder whose middle is a few words of a codebook for each frame.

The first stage of CodeTalker (Xing et al., CVPR 2023, arXiv 2301.02379). Written from the paper, with these
differences: it codes coefficients of the kit's basis and is trained by the kit's losses on its vertices; its encoder is
ESPnet's conformer; and its decoder looks a stated number of frames back and never ahead, so that motion which is spoken
frame by frame stays as it was decoded. What comes after a frame can still reach it, through the encoder's codes.

Letters: B batch, T video frames, D width, N components of a frame, C size of a code, E codes, K basis size.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from avsr.errors import InputError
from avsr.models.espnet import build_encoder, padding_mask
from talking3d.face.template import FaceTemplate
from talking3d.models.basis_model import BasisModel, BasisModelConfig
from talking3d.models.biased_decoder import alibi_slopes, past_bias

RENEWAL = 0.5  # share of the training in which codes that nothing uses are put elsewhere
MEMORY = 0.98  # of the running count of a code's use, a step
RARE = 0.05  # a code that is used less than this share of the mean use is as good as none


@dataclass
class MotionCodecConfig:
    """Sizes of the autoencoder."""

    components: int = 16  # words that a frame is made of ("face components")
    code_dim: int = 8
    codes: int = 256
    dim: int = 128
    layers: int = 2  # of the encoder, and of the decoder
    heads: int = 4
    ff_dim: int = 256
    kernel: int = 5  # frames that convolutions see; odd
    reach: int = 8  # frames, itself included, that each of the decoder's layers attends to
    dropout: float = 0.0

    def __post_init__(self):
        if min(self.components, self.codes, self.layers, self.reach) < 1:
            raise InputError("the motion codec needs at least one component, code, layer and frame of reach")
        if self.code_dim < 2:
            raise InputError(f"codec.code_dim is {self.code_dim}; codes of unit variance need 2 dimensions or more")


class _DecoderLayer(nn.Module):
    """Pre-norm self-attention with biases. (`nn.TransformerEncoderLayer` takes biases for masks in eval mode.)"""

    def __init__(self, dim: int, heads: int, ff_dim: int, dropout: float):
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, ff_dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(ff_dim, dim)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """Frames (B, T, D), biases (B H, T, T) -> (B, T, D)."""
        seen = self.norms[0](hidden)
        hidden = hidden + self.dropout(self.attention(seen, seen, seen, attn_mask=bias, need_weights=False)[0])
        return hidden + self.dropout(self.feed_forward(self.norms[1](hidden)))


class MotionCodec(nn.Module):
    """Motion, less the mean, to codes and back.

    Args:
        n_basis: coefficients of a frame of motion.
    """

    def __init__(self, config: MotionCodecConfig, n_basis: int):
        super().__init__()
        self.config = config
        dim, width = config.dim, config.components * config.code_dim
        sizes = {"dim": dim, "layers": config.layers, "heads": config.heads, "ff_dim": config.ff_dim}
        self.motion_in = nn.Linear(n_basis, dim)
        self.encoder = build_encoder("conformer", **sizes, kernel=config.kernel, dropout=config.dropout)
        self.to_codes = nn.Linear(dim, width)
        self.codebook = nn.Embedding(config.codes, config.code_dim)
        self.from_codes = nn.Conv1d(width, dim, config.kernel)
        self.decoder = nn.ModuleList(
            _DecoderLayer(dim, config.heads, config.ff_dim, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.motion_out = nn.Linear(dim, n_basis)
        self.register_buffer("slopes", alibi_slopes(config.heads), persistent=False)

    @property
    def seen_frames(self) -> int:
        """Frames of codes, the last one included, that a frame of motion is decoded from."""
        return self.config.kernel + self.config.layers * (self.config.reach - 1)

    def encode(self, motion: Tensor, lengths: Tensor) -> Tensor:
        """motion (B, T, K), less the mean, of `lengths` (B,) frames -> features (B, T, N C) to be quantised.

        Each component has unit variance: features that grow leave the codebook behind.
        """
        words = self._words(self.to_codes(self.encoder(self.motion_in(motion), lengths)))
        return functional.layer_norm(words, words.shape[-1:]).flatten(-2)

    def nearest(self, features: Tensor) -> Tensor:
        """Features (..., N C) -> index (..., N) of the codebook's nearest entry to each component."""
        book = self.codebook.weight
        return (book.square().sum(-1) - 2 * self._words(features) @ book.T).argmin(-1)

    def quantise(self, features: Tensor) -> Tensor:
        """Features (..., N C) -> codes of the same shape, whose gradient reaches the features as if they were these."""
        return features + (self.lookup(self.nearest(features)) - features).detach()

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (..., N) -> codes (..., N C)."""
        return self.codebook(indices).flatten(-2)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, T, N C) -> motion (B, T, K), less the mean; a frame's is that of its last `seen_frames` codes."""
        n_frames = codes.shape[1]
        hidden = self.from_codes(functional.pad(codes.transpose(1, 2), (self.config.kernel - 1, 0))).transpose(1, 2)
        bias = past_bias(self.slopes, n_frames, n_frames, period=1)
        frames = torch.arange(n_frames, device=codes.device)
        bias = bias.masked_fill(frames[:, None] - frames >= self.config.reach, -torch.inf).repeat(len(codes), 1, 1)
        for layer in self.decoder:
            hidden = layer(hidden, bias)
        return self.motion_out(self.norm(hidden))

    def _words(self, features: Tensor) -> Tensor:
        """(..., N C) -> (..., N, C)."""
        return features.unflatten(-1, (self.config.components, self.config.code_dim))


@dataclass
class MotionPriorConfig(BasisModelConfig):
    """What a motion prior is made of."""

    codec: MotionCodecConfig = field(default_factory=MotionCodecConfig)
    code_weight: float = 1.0  # of the codebook's loss, against the motion's
    commitment: float = 0.25  # of the encoder's distance to its codes, within the codebook's loss


class MotionPrior(BasisModel):
    """The codec in training. It hears nothing. Arguments as `BasisModel`'s."""

    NAME, Config = "motion_prior", MotionPriorConfig

    def __init__(
        self,
        config: MotionPriorConfig,
        basis: np.ndarray,
        mean: np.ndarray,
        template: FaceTemplate,
        speakers: list[str],
    ):
        super().__init__(config, basis, mean, template, speakers)
        self.codec = MotionCodec(config.codec, len(basis))
        self.register_buffer("use", torch.ones(config.codec.codes), persistent=False)

    def predict_with_losses(self, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """The batch's motion after coding (B, T, K); and `motion_losses` of it, and

        code: mean squared distance of the codes from the features that chose them, which moves the codes, and
            `commitment` times the same, which moves the features (VQ-VAE: van den Oord et al., NeurIPS 2017).
        perplexity: of the codes' use in this batch, 1 to `codes`.
        """
        motion, lengths = batch["motion"], batch["lengths"]
        real = ~padding_mask(lengths, motion.shape[1])
        features = self.codec.encode(motion - self.mean, lengths)
        indices = self.codec.nearest(features)
        codes = self.codec.lookup(indices)
        output = self.mean + self.codec.decode(features + (codes - features).detach())
        terms = self.motion_losses(output, batch)
        terms["code"] = (codes - features.detach())[real].square().mean()
        terms["code"] = terms["code"] + self.config.commitment * (features - codes.detach())[real].square().mean()
        terms["loss"] = terms["loss"] + self.config.code_weight * terms["code"]
        used = torch.bincount(indices[real].flatten(), minlength=self.config.codec.codes).float()
        share = used / used.sum()
        terms["perplexity"] = torch.special.entr(share).sum().exp()
        if self.training and batch.get("progress", 0.0) < RENEWAL:
            self._renew(share * len(share), features[real].detach())
        return output.masked_fill(~real[:, :, None], 0.0), terms

    @torch.no_grad()
    def _renew(self, use: Tensor, features: Tensor) -> None:
        """Put codes that nothing chose of late where features (R, N C) of this batch are; use (E,), 1 on average."""
        self.use.mul_(MEMORY).add_(use, alpha=1 - MEMORY)
        dead = (self.use < RARE).nonzero()[:, 0]
        words = features.reshape(-1, self.config.codec.code_dim)
        chosen = torch.randint(len(words), (len(dead),), device=words.device)
        self.codec.codebook.weight[dead] = words[chosen]
        self.use[dead] = 1.0
