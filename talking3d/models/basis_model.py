"""What every model of motion shares: the basis it answers in, the losses on its vertices, and its checkpoint.

Letters: B batch, T video frames, V vertices, K basis size.
"""

from __future__ import annotations

import json
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from avsr.errors import InputError
from avsr.files import write_json
from avsr.models.espnet import padding_mask
from avsr.training.checkpoint import load_pretrained, load_weights, model_card, save_pretrained
from avsr.training.config import from_dict
from talking3d.face.regions import lip_aperture_mm
from talking3d.face.template import FaceTemplate


@dataclass
class BasisModelConfig:
    """The basis and the losses; a model's own config adds to it."""

    basis_size: int = 32  # most components of the training motion; fewer if they hold all of it
    lip_weight: float = 10.0  # of a lip vertex against another in the vertex and velocity losses
    velocity_weight: float = 1.0  # against the vertex loss's 1
    closure_weight: float = 2.0  # of the lip-gap loss
    coefficient_weight: float = 2.0  # of the plain error of the coefficients
    closure_mm: float = 2.0  # gap at which that loss has fallen to 1/e: closures count most


class BasisModel(nn.Module, ABC):
    """Coefficients (T, K) of a basis fitted to the training motion, and losses of them.

    Args:
        config: sizes and weights.
        basis: (K, V, 3) metres, of `fit_motion_basis`.
        mean: (K,) coefficients of the mean training motion.
        template: a face of the motion's topology, whose lips the losses look at; the one that speaks by default.
        speakers: training speakers, in the order of the batches' speaker indices.
    """

    NAME: ClassVar[str]
    Config: ClassVar[type[BasisModelConfig]]

    def __init__(
        self,
        config: BasisModelConfig,
        basis: np.ndarray,
        mean: np.ndarray,
        template: FaceTemplate,
        speakers: list[str],
    ):
        super().__init__()
        if basis.shape[1:] != template.verts.shape:
            raise InputError(
                f"the motion basis moves {basis.shape[1]} vertices, the template {template.name} has "
                f"{len(template.verts)}: give the template that the motion was made on"
            )
        self.config = config
        self.template = template
        self.speakers = list(speakers)
        basis = np.asarray(basis, dtype=np.float64)
        weights = np.ones(len(template.verts))
        weights[template.region("lips")] = config.lip_weight
        weighted = 1e6 * weights[:, None] / weights.sum() * basis  # m^2 -> mm^2
        gram = np.einsum("ivx,jvx->ij", weighted, basis)
        rest_mm = lip_aperture_mm(template, np.zeros((1, *template.verts.shape)))
        gap = lip_aperture_mm(template, basis) - rest_mm
        self.register_buffer("basis", torch.tensor(basis, dtype=torch.float32))
        self.register_buffer("mean", torch.tensor(np.asarray(mean), dtype=torch.float32))
        self.register_buffer("gram", torch.tensor(gram, dtype=torch.float32), persistent=False)
        self.register_buffer("gap", torch.tensor(gap).float(), persistent=False)
        self.register_buffer("rest_gap", torch.tensor(rest_mm).float(), persistent=False)

    @property
    def stored_config(self) -> BasisModelConfig:
        """The config as a checkpoint holds it."""
        return self.config

    @abstractmethod
    def predict_with_losses(self, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """The coefficients (B, T, K) that `forward`'s losses are of, and these losses."""

    def forward(self, batch: dict) -> dict[str, Tensor]:
        """The losses of a batch of `motion_dataset.collate`: `loss` and its terms, in eval mode lve_mm too."""
        return self.predict_with_losses(batch)[1]

    def motion_losses(self, output: Tensor, batch: dict) -> dict[str, Tensor]:
        """The losses of coefficients (B, T, K) against the batch's motion: `loss`, their weighted sum, and its terms.

        vertex: mean over frames of the weighted mean over vertices of the squared distance, mm^2. It is computed
            exactly without any vertex: with d the coefficients' error, sum_v w_v |sum_k d_k b_kv|^2 = d^T G d and
            G = B W B^T.
        velocity: the same of the differences between frames.
        closure: squared error of the inner-lip gap, mm^2, weighted by exp(-gap / closure_mm): what is open may be a
            little more or less open, what is closed must be closed (after Audio2Face-3D's lip-distance loss).
        coefficient: mean squared error of the coefficients, each of which has unit power in training: it lets small
            movements that tell phones apart (pressed lips, the tongue) count beside the jaw's large ones.
        lve_mm, in eval mode: mean over frames of the largest distance over lip vertices, mm, to the motion as the
            basis holds it.
        """
        config, motion = self.config, batch["motion"]
        error = (output - motion).float()  # (B, T, K)
        real = ~padding_mask(batch["lengths"], motion.shape[1])  # (B, T)
        weight = torch.exp(-self.gap_mm(motion).clamp(min=0) / config.closure_mm)
        terms = {
            "vertex": self._energy(error)[real].mean(),
            "velocity": self._energy(error.diff(dim=1))[real[:, 1:]].sum() / real[:, 1:].sum().clamp(min=1),
            "closure": (weight * (error @ self.gap).square())[real].mean(),
            "coefficient": error[real].square().mean(),
        }
        terms["loss"] = (
            terms["vertex"]
            + config.velocity_weight * terms["velocity"]
            + config.closure_weight * terms["closure"]
            + config.coefficient_weight * terms["coefficient"]
        )
        if not self.training:
            lips = self.basis[:, self.template.region("lips")]
            terms["lve_mm"] = 1e3 * torch.einsum("nk,kvx->nvx", error[real], lips).norm(dim=-1).amax(-1).mean()
        return terms

    def gap_mm(self, coefficients: Tensor) -> Tensor:
        """Signed gap (...) between the inner lips, mm, of coefficients (..., K)."""
        return coefficients @ self.gap + self.rest_gap

    def _energy(self, error: Tensor) -> Tensor:
        """Weighted mean squared vertex distance of coefficient errors (..., K) -> (...), mm^2."""
        return ((error @ self.gram) * error).sum(-1)

    def save_pretrained(self, folder: str | Path, state_dict: dict | None = None, facts: dict | None = None) -> None:
        """Write a checkpoint folder: weights (with the basis), config, template, speakers and model card.

        state_dict: other weights of this model than its own, as a trainer averages them. facts: lines of the card.
        """
        config = self.stored_config
        with tempfile.TemporaryDirectory() as scratch:
            self.template.save(Path(scratch) / "template.npz")
            write_json(Path(scratch) / "speakers.json", self.speakers)
            described = {"template": self.template.name, "topology": self.template.topology_hash, **(facts or {})}
            save_pretrained(
                folder,
                name=self.NAME,
                config=config,
                state_dict=self.state_dict() if state_dict is None else state_dict,
                files={name: Path(scratch) / name for name in ("template.npz", "speakers.json")},
                card=model_card(self.NAME, config, described),
            )

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path) -> Self:
        """Load a checkpoint in eval mode, with its basis, template and speakers."""
        checkpoint = load_pretrained(folder_or_hub_id, expect=cls.NAME)
        folder = Path(checkpoint.folder)
        config = from_dict(cls.Config, checkpoint.config, f"{folder}/config.yaml")
        for name in ("template.npz", "speakers.json"):
            if not (folder / name).is_file():
                raise InputError(f"{folder} lacks {name}: it is not a whole {cls.NAME} checkpoint")
        if not {"basis", "mean"} <= checkpoint.state_dict.keys():
            raise InputError(
                f"{folder}/model.safetensors holds no motion basis: it is not a whole {cls.NAME} checkpoint"
            )
        template = FaceTemplate.load(folder / "template.npz")
        speakers = json.loads((folder / "speakers.json").read_text(encoding="utf-8"))
        basis, mean = (checkpoint.state_dict[name].numpy() for name in ("basis", "mean"))
        model = cls(config, basis, mean, template, speakers)
        load_weights(model, checkpoint.state_dict, str(folder_or_hub_id))
        return model.eval()
