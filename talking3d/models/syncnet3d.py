"""SyncNet3D: does this motion belong to this sound, and if late, by how much? (Learn2Talk, arXiv 2404.12888)

The lips are seen as the offsets of their vertices, and velocity with them. The frozen *expert* is a loss; a *judge* of
another seed and width gives LSE-D and LSE-C. A network that was a loss never scores. Letters: B batch, S samples,
T video frames, D width, U lip vertices, K basis size.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from avsr.errors import InputError
from avsr.media.timing import SAMPLES_PER_FRAME, samples_of
from avsr.models.espnet import padding_mask
from avsr.training.checkpoint import load_pretrained, load_weights, model_card, save_pretrained
from avsr.training.config import from_dict
from talking3d.face.template import FaceTemplate
from talking3d.models.syncnet import SyncNet, SyncNetConfig

NAME = "syncnet3d"
MM = 1000.0


@dataclass
class SyncNet3DConfig(SyncNetConfig):
    """Sizes and the contrastive task; stored in a checkpoint."""


class SyncNet3D(SyncNet):
    """Embeds speech and lip motion frame by frame; both see only `kernel` frames and a margin of two mel frames.

    Args:
        config: sizes.
        template: a face of the topology whose motion it sees, by the region "lips".
        lip_basis: (K, U, 3) metres, the lips' part of the basis that training batches give motion in.
    """

    def __init__(self, config: SyncNet3DConfig, template: FaceTemplate, lip_basis: np.ndarray):
        lips = template.region("lips")
        super().__init__(config, n_seen=6 * len(lips))
        self.template = template
        self.register_buffer("lips", torch.as_tensor(lips, dtype=torch.long), persistent=False)
        self.register_buffer("lip_basis", torch.as_tensor(np.asarray(lip_basis), dtype=torch.float32))

    def embed_motion(self, offsets: Tensor, lengths: Tensor) -> Tensor:
        """offsets (B, T, U, 3) metres of the lip vertices, lengths (B,) -> unit embeddings (B, T, D)."""
        return self.embed_seen(with_velocity(MM * offsets.flatten(2), lengths), lengths)  # (B, T, 6 U)

    def embed_coefficients(self, coefficients: Tensor, lengths: Tensor, lip_basis: Tensor | None = None) -> Tensor:
        """`embed_motion` of the offsets that coefficients (B, T, K) give a lip basis (K, U, 3), the training's if None.

        Both are linear before the first activation, so that layer's weights are brought to the basis: no vertex is
        ever moved.
        """
        basis = MM * (self.lip_basis if lip_basis is None else lip_basis).flatten(1)  # (K, 3 U)
        first, *others = self.see
        weight = torch.cat([part @ basis.T for part in first.weight[:, :, 0].chunk(2, dim=1)], dim=1)  # (width, 2 K)
        convolutions = [partial(functional.conv1d, weight=weight[:, :, None], bias=first.bias), *others]
        seen = with_velocity(coefficients, lengths)
        return self._tower(seen, convolutions, self.see_norms, self.see_out, lengths)

    def forward(self, batch: dict) -> dict[str, Tensor]:
        """The `losses` of a batch of `motion_dataset.collate`."""
        lengths = batch["lengths"]
        motion = self.embed_coefficients(batch["motion"], lengths)
        return self.losses(self.embed_audio(batch["waveform"], lengths), motion, lengths)

    @torch.no_grad()
    def distances(self, waveform: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """`mean_distances` of sound and motion: (2 v + 1,).

        waveform (S,) at 16 kHz, offsets (T, V, 3) metres of the whole face. A clip must be longer than v frames:
        InputError.
        """
        length = min(len(offsets), len(waveform) // SAMPLES_PER_FRAME)
        self.check_length(length)
        device = self.lip_basis.device
        lengths = torch.tensor([length], device=device)
        sound = torch.as_tensor(np.asarray(waveform[: samples_of(length)], np.float32), device=device)[None]
        lips = torch.as_tensor(np.asarray(offsets[:length], np.float32), device=device)[None, :, self.lips]
        found = self.mean_distances(self.embed_audio(sound, lengths), self.embed_motion(lips, lengths), lengths)
        return found.cpu().numpy()

    def save_pretrained(self, folder: str | Path, state_dict: dict | None = None, facts: dict | None = None) -> None:
        """Write a checkpoint folder: weights (with the lips' basis), config, template and model card."""
        described = {"template": self.template.name, "topology": self.template.topology_hash, **(facts or {})}
        with tempfile.TemporaryDirectory() as scratch:
            self.template.save(Path(scratch) / "template.npz")
            save_pretrained(
                folder,
                name=NAME,
                config=self.config,
                state_dict=self.state_dict() if state_dict is None else state_dict,
                files={"template.npz": Path(scratch) / "template.npz"},
                card=model_card(NAME, self.config, described),
            )

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path) -> SyncNet3D:
        """Load a checkpoint in eval mode."""
        checkpoint = load_pretrained(folder_or_hub_id, expect=NAME)
        template = Path(checkpoint.folder) / "template.npz"
        if "lip_basis" not in checkpoint.state_dict or not template.is_file():
            raise InputError(f"{folder_or_hub_id} is not a whole {NAME} checkpoint: it lacks its template or lip_basis")
        config = from_dict(SyncNet3DConfig, checkpoint.config, f"{folder_or_hub_id}/config.yaml")
        model = cls(config, FaceTemplate.load(template), checkpoint.state_dict["lip_basis"].numpy())
        load_weights(model, checkpoint.state_dict, str(folder_or_hub_id))
        return model.eval()


def with_velocity(place: Tensor, lengths: Tensor) -> Tensor:
    """Frames (B, T, F) and what they have changed since the last one, (B, T, 2 F); 0 at padding and at the first."""
    place = place.masked_fill(padding_mask(lengths, place.shape[1])[:, :, None], 0)
    return torch.cat([place, functional.pad(place.diff(dim=1), (0, 0, 1, 0))], dim=-1)
