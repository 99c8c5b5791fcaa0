"""Do the lips touch? A judgement of each video frame by features of the sound around it.

Letters: B batch, T video frames, D width.
"""

import torch
from torch import Tensor, nn

from avsr.models.espnet import padding_mask

KERNEL = 5  # video frames


class ContactHead(nn.Module):
    """Features (B, T, D) -> log-odds (B, T) that the inner lips touch, from KERNEL frames around each."""

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.convolution = nn.Conv1d(dim, dim, KERNEL, padding=KERNEL // 2)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(dim, 1)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """features (B, T, D), lengths (B,) in frames -> (B, T); padding changes nothing, and there it means nothing."""
        features = features.masked_fill(padding_mask(lengths, features.shape[1])[:, :, None], 0.0)
        hidden = self.norm(self.convolution(features.transpose(1, 2)).transpose(1, 2))
        return self.project(self.dropout(nn.functional.silu(hidden)))[:, :, 0]


def contact_loss(log_odds: Tensor, touching: Tensor, missed_contact: float) -> Tensor:
    """Mean cross-entropy of log_odds (N,) against touching (N,) bool; a touching frame weighs `missed_contact`."""
    weight = torch.tensor(missed_contact, device=log_odds.device)
    return nn.functional.binary_cross_entropy_with_logits(log_odds.float(), touching.float(), pos_weight=weight)
