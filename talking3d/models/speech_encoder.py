"""Speech to features at the motion's rate: the recogniser's audio front end and an ESPnet encoder, seeing lip context.

Letters: B batch, S samples, T video frames, D width.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from avsr.models.espnet import build_encoder
from avsr.models.frontends import AudioFrontend


@dataclass
class SpeechEncoderConfig:
    """Log-mel, two strided convolutions to 25 Hz, then a small conformer."""

    dim: int = 128
    encoder: str = "conformer"  # conformer or e_branchformer
    layers: int = 2
    heads: int = 4
    ff_dim: int = 256
    kernel: int = 11  # frames that an encoder's convolution sees; odd
    dropout: float = 0.1
    freq_masks: int = 2  # SpecAugment in training
    freq_mask_bins: int = 10
    time_masks: int = 1
    time_mask_frames: int = 6  # mel frames: longer gaps hide whole phones, which then cannot be predicted


class SpeechEncoder(nn.Module):
    """waveform -> (B, T, D) features, one a video frame; an utterance's are the same alone and in a padded batch."""

    def __init__(self, config: SpeechEncoderConfig):
        super().__init__()
        self.frontend = AudioFrontend(
            config.dim,
            dropout=config.dropout,
            spec_augment={
                "freq_masks": config.freq_masks,
                "freq_width": config.freq_mask_bins,
                "time_masks": config.time_masks,
                "time_width": config.time_mask_frames,
            },
        )
        self.encoder = build_encoder(
            config.encoder,
            dim=config.dim,
            layers=config.layers,
            heads=config.heads,
            ff_dim=config.ff_dim,
            kernel=config.kernel,
            dropout=config.dropout,
        )

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """waveform (B, S) at 16 kHz, lengths (B,) in video frames -> (B, T, D), zero at padded frames."""
        return self.encoder(self.frontend(waveform, lengths), lengths)
