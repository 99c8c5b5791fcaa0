"""The student: speech to the motion of a face mesh, all frames at once.

    waveform -> SpeechEncoder -> speaking style -> coefficients (T, K) of a basis fitted to the training motion

Letters: B batch, S samples, T video frames, D width, K basis size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from avsr.errors import InputError
from avsr.models.espnet import padding_mask
from talking3d.corpus.articulation import CLOSED_GAP_MM
from talking3d.corpus.motion_dataset import UNKNOWN
from talking3d.face.template import FaceTemplate
from talking3d.metrics import CLOSED_MM
from talking3d.models.contact_head import KERNEL, ContactHead, contact_loss
from talking3d.models.motion_model import MotionModel, MotionModelConfig
from talking3d.models.speaker_styles import SpeakerStyles
from talking3d.models.speech_encoder import SpeechEncoder

SHARPNESS = 5.0  # of the step from open to touching lips over the contact's log-odds


@dataclass
class Audio2MeshConfig(MotionModelConfig):
    """What a student is made of and what it is trained for; stored in its checkpoint."""

    style_drop: float = 0.3  # share of training utterances spoken in the average style, as unknown speakers will be
    contact_weight: float = 2.0  # of each judgement whether the lips touch
    missed_contact: float = 3.0  # cost of a contact that is missed, against 1 of a false one: viewers see it sooner

    def __post_init__(self):
        super().__post_init__()
        if not 0.0 <= self.style_drop <= 1.0:
            raise InputError(f"style_drop is a share between 0 and 1, got {self.style_drop}")


class Audio2Mesh(MotionModel):
    """Non-autoregressive student with a speaking style for each training speaker.

    Sounds that may be m or n have a mean of closed and open lips as their least squared error, which no mouth shows. So
    whether the lips touch is judged apart, and where it is likely they are closed.

    Unknown speakers get the mean of the learned styles. An utterance's output in eval mode is the same alone and in a
    padded batch. Arguments as `MotionModel`'s.
    """

    NAME, Config = "audio2mesh", Audio2MeshConfig

    def __init__(
        self, config: Audio2MeshConfig, basis: np.ndarray, mean: np.ndarray, template: FaceTemplate, speakers: list[str]
    ):
        super().__init__(config, basis, mean, template, speakers)
        dim, n_basis = config.encoder.dim, len(basis)
        self.encoder = SpeechEncoder(config.encoder)
        self.styles = SpeakerStyles(len(speakers), config.style_dim)
        self.style_scale = nn.Linear(config.style_dim, dim)
        self.sound_contact = ContactHead(dim, config.encoder.dropout)
        self.contact = ContactHead(dim, config.encoder.dropout)
        self.hidden = nn.Linear(dim, dim)
        self.head = nn.Linear(dim, n_basis)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        # the coefficients' change that opens the lips by 1 mm at the least vertex and coefficient loss
        gap = self.gap.double().numpy()
        opening = np.linalg.solve(
            self.gram.double().numpy() + config.coefficient_weight / n_basis * np.eye(n_basis), gap
        )
        self.register_buffer("opening", torch.tensor(opening / max(gap @ opening, 1e-12)).float(), persistent=False)

    @property
    def view_frames(self) -> tuple[int, int] | None:
        """Video frames of sound before and after its own that a frame of motion depends on; None: on all."""
        heard = self.config.encoder.view_frames
        return None if heard is None else tuple(frames + KERNEL // 2 for frames in heard)

    def coefficients(self, waveform: Tensor, lengths: Tensor, speakers: Tensor) -> Tensor:
        """waveform (B, S), lengths (B,) in frames, speakers as `MotionModel` has them -> (B, T, K), zero at padding."""
        output, contact, _ = self._hear(waveform, lengths, speakers)
        output = self._close_lips(output, contact)
        return output.masked_fill(padding_mask(lengths, output.shape[1])[:, :, None], 0.0)

    def _hear(self, waveform: Tensor, lengths: Tensor, speakers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients (B, T, K) of least squared error; log-odds (B, T) that the lips touch, after and before the
        encoder. All mean nothing at padding."""
        sound = self.encoder.frontend(waveform, lengths)  # (B, T, D)
        sound_contact = self.sound_contact(sound, lengths)
        features = self.encoder.encoder(sound, lengths)
        contact = self.contact(features, lengths)
        features = features * (1 + self.style_scale(self.styles(speakers)))[:, None]
        return self.mean + self.head(nn.functional.silu(self.hidden(features))), contact, sound_contact

    def _close_lips(self, output: Tensor, contact: Tensor) -> Tensor:
        """Coefficients (B, T, K) whose gap shrinks to CLOSED_GAP_MM as far as the log-odds (B, T) tell."""
        too_open_mm = (self.gap_mm(output) - CLOSED_GAP_MM).clamp(min=0)
        return output - (torch.sigmoid(SHARPNESS * contact) * too_open_mm)[:, :, None] * self.opening

    def predict_with_losses(self, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """The coefficients (B, T, K) that the losses are of; and these: those of `motion_losses`, and

        contact: cross-entropy of the judgement whether the inner lips are within CLOSED_MM, where a contact weighs
            `missed_contact` times as much as a frame without one; and the same of a judgement by the sound alone, which
            only trains: the encoder knows the training sentences, and words tell where lips close. In training the
            other losses see the motion before its lips are closed, or they would make the judgement a mean again.
        """
        lengths, speakers = batch["lengths"], batch["speakers"]
        if self.training:
            dropped = torch.rand(len(speakers), device=speakers.device) < self.config.style_drop
            speakers = speakers.masked_fill(dropped, UNKNOWN)
        output, *contacts = self._hear(batch["waveform"], lengths, speakers)
        if not self.training:
            output = self._close_lips(output, contacts[0])
        terms = self.motion_losses(output, batch)
        real = ~padding_mask(lengths, output.shape[1])
        touching = (self.gap_mm(batch["motion"]) <= CLOSED_MM)[real]
        terms["contact"] = sum(
            contact_loss(log_odds[real], touching, self.config.missed_contact) for log_odds in contacts
        )
        terms["loss"] = terms["loss"] + self.config.contact_weight * terms["contact"]
        return output, terms
