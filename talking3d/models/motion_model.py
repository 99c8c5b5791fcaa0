"""What every model of speech to motion shares: the basis it answers in, the losses on its vertices, prediction of any
length, and its checkpoint.

Letters: B batch, S samples, T video frames, V vertices, K basis size.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from avsr.errors import InputError
from avsr.files import write_json
from avsr.media.audio import check_waveform
from avsr.media.timing import FPS, frames_of, samples_of
from avsr.models.espnet import padding_mask
from avsr.training.checkpoint import load_pretrained, load_weights, model_card, save_pretrained
from avsr.training.config import from_dict
from talking3d.corpus.motion_dataset import UNKNOWN
from talking3d.face.motion import Motion
from talking3d.face.regions import lip_aperture_mm
from talking3d.face.template import FaceTemplate
from talking3d.models.speech_encoder import SpeechEncoderConfig

SPANNED = 1e-6  # share of a basis's energy that its copy in another basis may lose


@dataclass
class MotionModelConfig:
    """What the models share; a model's own config adds to it."""

    encoder: SpeechEncoderConfig = field(default_factory=SpeechEncoderConfig)
    basis_size: int = 32  # most components of the training motion; fewer if they hold all of it
    style_dim: int = 8
    lip_weight: float = 10.0  # of a lip vertex against another in the vertex and velocity losses
    velocity_weight: float = 1.0  # against the vertex loss's 1
    closure_weight: float = 2.0  # of the lip-gap loss
    coefficient_weight: float = 2.0  # of the plain error of the coefficients
    closure_mm: float = 2.0  # gap at which that loss has fallen to 1/e: closures count most
    window_s: float = 20.0  # longer speech is predicted in windows of this length
    context_s: float = 2.0  # that overlap by this much on both sides, where a model hears the whole utterance

    def __post_init__(self):
        if self.window_s <= 2 * self.context_s:
            raise InputError(f"window_s ({self.window_s}) must be longer than twice context_s ({self.context_s})")


class MotionModel(nn.Module):
    """Speech to coefficients (T, K) of a basis fitted to the training motion; a model says how in `coefficients`.

    Args:
        config: sizes and weights.
        basis: (K, V, 3) metres, of `fit_motion_basis`.
        mean: (K,) coefficients of the mean training motion.
        template: a face of the motion's topology, whose lips the losses look at; the one that speaks by default.
        speakers: training speakers, in the order of the batches' speaker indices.
    """

    NAME: ClassVar[str]
    Config: ClassVar[type[MotionModelConfig]]

    def __init__(
        self,
        config: MotionModelConfig,
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

    def coefficients(self, waveform: Tensor, lengths: Tensor, speakers: Tensor) -> Tensor:
        """waveform (B, S), lengths (B,) in frames -> (B, T, K), zero at padding.

        speakers: (B,) indices or `UNKNOWN`; or their styles themselves, (B, D), as `fit_style` finds them.
        """
        raise NotImplementedError

    def predict_with_losses(self, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """The coefficients (B, T, K) that `forward`'s losses are of, and these losses."""
        raise NotImplementedError

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

    def style_index(self, speaker: str | None) -> int:
        """Index of a training speaker; None is the average style. Another name is an InputError."""
        if speaker is None:
            return UNKNOWN
        if speaker not in self.speakers:
            raise InputError(f"unknown style {speaker!r}; this checkpoint knows {', '.join(self.speakers)}")
        return self.speakers.index(speaker)

    @property
    def view_frames(self) -> tuple[int, int] | None:
        """Video frames of sound before and after its own that a frame of motion depends on; None: on all."""
        return None

    def predict(self, waveform: np.ndarray, style: str | Tensor | None = None) -> np.ndarray:
        """Predict motion for speech of any length: (S,) at 16 kHz -> (T, K) float32, T = frames_of(S).

        style: a training speaker's name, or a style (D,) of `fit_style`; None: the average.

        Speech longer than `window_s` is predicted in windows, so memory stays bounded. With a bounded view that changes
        nothing. Without one a frame then depends on at most `window_s` of sound around it; overlaps are cross-faded.
        """
        check_waveform(waveform, "speech to animate")
        n_frames, window = frames_of(len(waveform)), round(self.config.window_s * FPS)
        if self.view_frames is None:
            return self._predict_cross_faded(waveform, style, window)
        parts = [(start, min(start + window, n_frames)) for start in range(0, n_frames, window)]
        return np.concatenate([self.predict_part(waveform, start, stop, style) for start, stop in parts])

    def predict_part(
        self, waveform: np.ndarray, start: int, stop: int, style: str | Tensor | None = None
    ) -> np.ndarray:
        """Coefficients (stop - start, K) of frames of speech (S,), heard no further than the bounded view reaches."""
        past, future = self.view_frames
        first = max(0, start - past)
        heard = waveform[samples_of(first) : samples_of(stop + future)]
        return self._predict_window(heard, style)[start - first : stop - first]

    def _predict_cross_faded(self, waveform: np.ndarray, style: str | Tensor | None, window: int) -> np.ndarray:
        n_frames, context = frames_of(len(waveform)), round(self.config.context_s * FPS)
        total, weights = np.zeros((n_frames, len(self.basis)), np.float32), np.zeros((n_frames, 1), np.float32)
        start = 0
        while True:
            stop = min(start + window, n_frames)
            first = max(0, stop - window)  # the last window is a full one too
            ramp = _cross_fade(stop - first, context, fade_in=first > 0, fade_out=stop < n_frames)
            total[first:stop] += ramp * self._predict_window(waveform[samples_of(first) : samples_of(stop)], style)
            weights[first:stop] += ramp
            if stop == n_frames:
                return total / weights
            start += window - context

    @torch.no_grad()
    def _predict_window(self, waveform: np.ndarray, style: str | Tensor | None) -> np.ndarray:
        device = self.basis.device
        lengths = torch.tensor([frames_of(len(waveform))], device=device)
        speakers = style[None] if isinstance(style, Tensor) else torch.tensor([self.style_index(style)])
        samples = torch.from_numpy(np.asarray(waveform, dtype=np.float32))[None].to(device)
        return self.coefficients(samples, lengths, speakers.to(device))[0].cpu().numpy()

    def motion(self, coefficients: np.ndarray, template: FaceTemplate, head_pose: np.ndarray | None = None) -> Motion:
        """Coefficients (T, K) as a motion of `template`, which has this model's topology.

        Stored as the template's own articulation, where that spans the model's basis, so that a face can blink on top
        and files stay small; as offsets otherwise. Raises InputError on another topology.
        """
        if template.topology_hash != self.template.topology_hash:
            raise InputError(
                f"the model moves {self.template.name!r} ({len(self.template.verts)} vertices, topology "
                f"{self.template.topology_hash[:12]}), not {template.name!r} ({len(template.verts)} vertices, topology "
                f"{template.topology_hash[:12]}): give a template of the same topology"
            )
        basis = self.basis.cpu().numpy().reshape(len(self.basis), -1).astype(np.float64)
        own = template.articulation_basis.reshape(len(template.articulation_basis), -1).astype(np.float64)
        to_own = basis @ own.T @ np.linalg.pinv(own @ own.T)  # (K, P), least squares
        if np.square(to_own @ own - basis).sum() <= SPANNED * np.square(basis).sum():
            arrays = {"coefficients": coefficients @ to_own}
        else:
            arrays = {"offsets": (coefficients @ basis).reshape(len(coefficients), -1, 3)}
        return Motion.of_template(template, FPS, head_pose=head_pose, **arrays)

    def project(self, motion: Motion) -> np.ndarray:
        """A motion of this model's topology as its least-squares coefficients (T, K); InputError on another one."""
        basis = self.basis.cpu().numpy().reshape(len(self.basis), -1).astype(np.float64)
        offsets = motion.offsets_for(self.template).reshape(motion.n_frames, -1)
        return (offsets @ (basis / np.square(basis).sum(1, keepdims=True)).T).astype(np.float32)

    def save_pretrained(self, folder: str | Path, state_dict: dict | None = None, facts: dict | None = None) -> None:
        """Write a checkpoint folder: weights (with the basis), config, template, speakers and model card.

        state_dict: other weights of this model than its own, as a trainer averages them. facts: lines of the card.
        """
        config = self.config
        if hasattr(self, "encoder"):  # a motion prior hears nothing
            config = replace(config, encoder=self.encoder.config)  # with a pretrained network's architecture
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


def _cross_fade(n_frames: int, context: int, *, fade_in: bool, fade_out: bool) -> np.ndarray:
    """(n_frames, 1) weights of a window: 1, falling linearly over the frames it shares with its neighbours."""
    ramp = (np.arange(n_frames, dtype=np.float32) + 1) / (context + 1)
    weights = np.ones(n_frames, dtype=np.float32)
    if fade_in:
        weights = np.minimum(weights, ramp)
    if fade_out:
        weights = np.minimum(weights, ramp[::-1])
    return weights[:, None]
