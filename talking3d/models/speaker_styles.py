"""Speaking styles: a learned vector for each training speaker."""

import torch
from torch import Tensor, nn

from talking3d.corpus.motion_dataset import UNKNOWN


class SpeakerStyles(nn.Embedding):
    """Speakers (B,), indices or `UNKNOWN`, to styles (B, D). Unknown speakers get the mean of the learned ones.

    Styles (B, D) themselves, as `talking3d.style` finds them, stay as they are.
    """

    def __init__(self, n_speakers: int, dim: int):
        super().__init__(max(1, n_speakers), dim)
        nn.init.normal_(self.weight, std=0.1)

    def forward(self, speakers: Tensor) -> Tensor:
        if speakers.is_floating_point():
            return speakers
        known = (speakers != UNKNOWN)[:, None]
        return torch.where(known, super().forward(speakers.clamp(min=0)), self.weight.mean(0))
