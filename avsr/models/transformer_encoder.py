"""The transformer of wav2vec 2.0, HuBERT and AV-HuBERT, its positions from a convolution (Baevski et al., 2020).

Letters: B batch, T frames, D width.
"""

import torch
from torch import Tensor, nn
from torchaudio.models.wav2vec2.components import (
    ConvolutionalPositionalEmbedding,
    EncoderLayer,
    FeedForward,
    SelfAttention,
    Transformer,
)

from avsr.errors import InputError
from avsr.models.espnet import padding_mask

POSITION_KERNEL, POSITION_GROUPS = 128, 16


class TransformerEncoder(nn.Module):
    """Layers that normalise first; an utterance's output does not depend on the padding beside it."""

    def __init__(self, *, dim: int, layers: int, heads: int, ff_dim: int, dropout: float):
        super().__init__()
        if dim % heads or dim % POSITION_GROUPS:
            raise InputError(f"a transformer's dim must be a multiple of its heads and {POSITION_GROUPS}, got {dim}")
        self.encoder = Transformer(
            ConvolutionalPositionalEmbedding(dim, POSITION_KERNEL, POSITION_GROUPS),
            dropout,
            nn.ModuleList(
                EncoderLayer(
                    attention=SelfAttention(dim, heads, dropout),
                    dropout=dropout,
                    layer_norm_first=True,
                    feed_forward=FeedForward(dim, ff_dim, dropout, dropout),
                )
                for _ in range(layers)
            ),
            layer_norm_first=False,  # of the stack: its norm comes last
            layer_drop=0.0,
        )

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Encode features (B, T, D) of `lengths` (B,) frames -> (B, T, D) float32, zero at padded frames."""
        padding = padding_mask(lengths, features.shape[1])
        features = features.masked_fill(padding[:, :, None], 0.0)
        lowest = torch.finfo(features.dtype).min
        mask = torch.zeros_like(padding, dtype=features.dtype).masked_fill(padding, lowest)
        mask = mask[:, None, None, :].expand(-1, 1, features.shape[1], -1)
        return self.encoder(features, mask).masked_fill(padding[:, :, None], 0.0).float()
