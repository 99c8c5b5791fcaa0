"""Speech features of a recogniser of this kit: what it makes of sound before that meets lips, at the video's rate.

There is more speech with its text than filmed faces. What a recogniser learned from the one, a generator that has
little of the other can hear by.

Letters: B batch, S samples, T video frames, D width, W the recogniser's width.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from avsr.errors import InputError
from avsr.models.recognizer import Recognizer
from avsr.models.recognizer_parts import STREAMS, RecognizerConfig, build_audio_frontend, build_stream_encoder


class RecognizerSpeech(nn.Module):
    """waveform -> (B, T, D): a recogniser's front end of sound and the encoder behind it, side by side and projected.

    That encoder is the sound's own, or where sound has none, in a recogniser of sound alone, the only one.

    Args:
        dim: width D.
        config: the recogniser's. InputError where it hears nothing, or has no encoder that hears nothing but sound.
        finetune: train the recogniser too.
    """

    def __init__(self, dim: int, config: RecognizerConfig, *, dropout: float, finetune: bool):
        super().__init__()
        if "a" not in config.modalities or (config.stream_layers == 0 and config.modalities != "a"):
            raise InputError(
                f"a recogniser of {STREAMS[config.modalities]} with stream_layers={config.stream_layers} has no "
                "encoder of sound to hear by: give one of audio, or of both streams with stream_layers of 1 or more"
            )
        self.finetune = finetune
        layers = config.stream_layers or config.layers
        self.network = nn.ModuleDict(
            {"frontend": build_audio_frontend(config), "encoder": build_stream_encoder(config, layers)}
        )
        self.network.requires_grad_(finetune)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(2 * config.dim, dim)

    def train(self, mode: bool = True):
        """As `nn.Module`'s; a network that is not trained drops nothing."""
        super().train(mode)
        self.network.train(mode and self.finetune)
        return self

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """waveform (B, S) at 16 kHz, lengths (B,) in video frames -> (B, T, D), T the longest length."""
        with torch.set_grad_enabled(self.finetune and torch.is_grad_enabled()):
            shallow = self.network["frontend"](waveform, lengths)  # (B, T, W)
            deep = self.network["encoder"](shallow, lengths)
        return self.project(self.dropout(torch.cat([shallow, deep], dim=-1)))

    def load_weights_of(self, folder_or_hub_id: str | Path) -> None:
        """Take the weights of the recogniser in a folder or hub id, whose config this one has."""
        recognizer = Recognizer.from_pretrained(folder_or_hub_id)
        encoders = recognizer.stream_encoders
        self.network["frontend"].load_state_dict(recognizer.audio.state_dict())
        self.network["encoder"].load_state_dict((encoders["a"] if encoders else recognizer.encoder).state_dict())
