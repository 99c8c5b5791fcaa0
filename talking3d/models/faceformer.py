"""FaceFormer: speech to motion frame by frame, each from its own past (Fan et al., CVPR 2022, arXiv 2112.05329).

Written from the paper. Two things differ, so that methods compare: it hears through the kit's speech encoder instead of
wav2vec 2.0, and answers in the kit's basis, not in vertices. The losses on its vertices are the student's.

Letters: B batch, S samples, T video frames, D width, K basis size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from avsr.errors import InputError
from avsr.models.espnet import padding_mask
from talking3d.face.template import FaceTemplate
from talking3d.models.biased_decoder import BiasedDecoder
from talking3d.models.motion_model import MotionModel, MotionModelConfig
from talking3d.models.speaker_styles import SpeakerStyles
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
    """A `BiasedDecoder` of one layer; unknown speakers get the mean of the styles. Arguments as `MotionModel`'s."""

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
        self.encoder = SpeechEncoder(config.encoder)
        self.decoder = BiasedDecoder(
            len(basis),
            dim=config.encoder.dim,
            layers=1,
            heads=config.heads,
            ff_dim=config.ff_dim,
            period=config.period,
            dropout=config.dropout,
            n_speakers=len(speakers),
        )
        self.head = nn.Linear(config.encoder.dim, len(basis))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def styles(self) -> SpeakerStyles:
        """The training speakers' styles."""
        return self.decoder.styles

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
        if past is None:
            output = self.mean + self.decoder.speak(sound, speakers, self.head)
        else:
            output = self.mean + self.head(self.decoder.follow(sound, speakers, past - self.mean))
        return output.masked_fill(padding_mask(lengths, output.shape[1])[:, :, None], 0.0)
