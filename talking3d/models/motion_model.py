"""What every model of speech to motion shares: what it hears by, its styles, and prediction of any length.

Letters: B batch, S samples, T video frames, K basis size.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from avsr.errors import InputError
from avsr.media.audio import check_waveform
from avsr.media.timing import FPS, frames_of, samples_of
from talking3d.corpus.motion_dataset import UNKNOWN
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate
from talking3d.models.basis_model import BasisModel, BasisModelConfig
from talking3d.models.speaker_styles import SpeakerStyles
from talking3d.models.speech_encoder import SpeechEncoderConfig

SPANNED = 1e-6  # share of a basis's energy that its copy in another basis may lose


@dataclass
class MotionModelConfig(BasisModelConfig):
    """What the models share; a model's own config adds to it."""

    encoder: SpeechEncoderConfig = field(default_factory=SpeechEncoderConfig)
    style_dim: int = 8
    window_s: float = 20.0  # longer speech is predicted in windows of this length
    context_s: float = 2.0  # that overlap by this much on both sides, where a model hears the whole utterance

    def __post_init__(self):
        if self.window_s <= 2 * self.context_s:
            raise InputError(f"window_s ({self.window_s}) must be longer than twice context_s ({self.context_s})")


class MotionModel(BasisModel):
    """Speech to coefficients (T, K), by an `encoder`; a model says how in `coefficients`. Made as `BasisModel`s are."""

    Config: ClassVar[type[MotionModelConfig]]

    def start_from(self, other: MotionModel) -> None:
        """Take the weights of a trained model of the same kind, sizes and basis; it may know other speakers.

        A speaker whom it doesn't know starts from the mean of its styles. Raises InputError where the sizes differ.
        """
        own, given = self.state_dict(), other.state_dict()
        for name, module in self.named_modules():
            if isinstance(module, SpeakerStyles):
                styles = given[f"{name}.weight"]
                rows = [other.speakers.index(s) if s in other.speakers else UNKNOWN for s in self.speakers]
                mean = styles.mean(0)
                given[f"{name}.weight"] = torch.stack([mean if i == UNKNOWN else styles[i] for i in rows or [UNKNOWN]])
        for name in own.keys() | given.keys():
            if name not in own or name not in given or own[name].shape != given[name].shape:
                raise InputError(
                    f"init: {name} of the {self.NAME} to start from is not this model's: give its own {self.NAME}.* "
                    "settings, which its config.yaml holds"
                )
        self.load_state_dict(given)

    @property
    def stored_config(self) -> MotionModelConfig:
        """The config with a pretrained network's architecture, so that a checkpoint is read without its folder."""
        return replace(self.config, encoder=self.encoder.config)

    @abstractmethod
    def coefficients(self, waveform: Tensor, lengths: Tensor, speakers: Tensor) -> Tensor:
        """waveform (B, S), lengths (B,) in frames -> (B, T, K), zero at padding.

        speakers: (B,) indices or `UNKNOWN`; or their styles themselves, (B, D), as `fit_style` finds them.
        """

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


def _cross_fade(n_frames: int, context: int, *, fade_in: bool, fade_out: bool) -> np.ndarray:
    """(n_frames, 1) weights of a window: 1, falling linearly over the frames it shares with its neighbours."""
    ramp = (np.arange(n_frames, dtype=np.float32) + 1) / (context + 1)
    weights = np.ones(n_frames, dtype=np.float32)
    if fade_in:
        weights = np.minimum(weights, ramp)
    if fade_out:
        weights = np.minimum(weights, ramp[::-1])
    return weights[:, None]
