"""SyncNet3D: does this motion belong to this sound, and if late, by how much? (Learn2Talk, arXiv 2404.12888)

Two towers give each video frame an embedding of the sound and one of the lips' motion around it; together they lie near
each other, shifted against each other they don't. Trained as SyncNet's successors are, contrastively: the right frame
of motion against the same clip's shifted ones, which only timing tells apart, and against other clips'.

The frozen *expert* is a loss; a *judge* of another seed and width gives LSE-D and LSE-C. A network that was a loss
never scores. Letters: B batch, S samples, T video frames, D width, U lip vertices, K basis size.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from avsr.errors import InputError
from avsr.media.audio import N_MELS, log_mel
from avsr.media.timing import MELS_PER_FRAME, SAMPLES_PER_FRAME, samples_of
from avsr.models.espnet import padding_mask
from avsr.models.frontends import normalize_log_mel
from avsr.training.checkpoint import load_pretrained, load_weights, model_card, save_pretrained
from avsr.training.config import from_dict
from talking3d.face.template import FaceTemplate

NAME = "syncnet3d"
MM = 1000.0
WINDOW_FRAMES = 11  # an offset is judged over this many frames; SyncNet's published accuracies are over 11 too


@dataclass
class SyncNet3DConfig:
    """Sizes and the contrastive task; stored in a checkpoint."""

    width: int = 128
    dim: int = 128  # of the embeddings
    kernel: int = 5  # video frames (0.2 s) that each tower's last convolution sees; odd
    dropout: float = 0.1
    max_offset: int = 15  # frames: in-clip negatives are shifted by up to this much
    cross_clip: int = 64  # frames of other clips among the negatives of a batch
    temperature: float = 0.07  # at the start; learned

    def __post_init__(self):
        if self.kernel % 2 == 0:
            raise InputError(f"syncnet3d.kernel is {self.kernel}; it must be odd, to be centred on its frame")


class SyncNet3D(nn.Module):
    """Embeds speech and lip motion frame by frame; both see only `kernel` frames and a margin of two mel frames.

    Args:
        config: sizes.
        template: a face of the topology whose motion it sees, by the region "lips".
        lip_basis: (K, U, 3) metres, the lips' part of the basis that training batches give motion in.
    """

    def __init__(self, config: SyncNet3DConfig, template: FaceTemplate, lip_basis: np.ndarray):
        super().__init__()
        self.config = config
        self.template = template
        lips = template.region("lips")
        self.register_buffer("lips", torch.as_tensor(lips, dtype=torch.long), persistent=False)
        self.register_buffer("lip_basis", torch.as_tensor(np.asarray(lip_basis), dtype=torch.float32))
        width, half = config.width, config.kernel // 2
        self.hear = nn.ModuleList(
            [
                nn.Conv1d(N_MELS, width, 5, padding=2),  # mel frames
                nn.Conv1d(width, width, MELS_PER_FRAME, stride=MELS_PER_FRAME),  # to video frames
                nn.Conv1d(width, width, config.kernel, padding=half),
            ]
        )
        self.see = nn.ModuleList(
            [nn.Conv1d(6 * len(lips), width, 1), nn.Conv1d(width, width, config.kernel, padding=half)]
        )
        self.hear_norms, self.see_norms = (
            nn.ModuleList(nn.LayerNorm(width) for _ in tower) for tower in (self.hear, self.see)
        )
        self.hear_out, self.see_out = (
            nn.Sequential(nn.Dropout(config.dropout), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, config.dim))
            for _ in range(2)
        )
        self.log_scale = nn.Parameter(torch.tensor(1 / config.temperature).log())

    def embed_audio(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """waveform (B, S) at 16 kHz, lengths (B,) in video frames -> unit embeddings (B, T, D)."""
        n_samples = int(lengths.max()) * SAMPLES_PER_FRAME
        waveform = functional.pad(waveform, (0, max(0, n_samples - waveform.shape[1])))[:, :n_samples]
        features = log_mel(waveform.float())  # (B, 4 T, 80)
        padding = padding_mask(lengths * MELS_PER_FRAME, features.shape[1])
        features = normalize_log_mel(features, padding).transpose(1, 2)
        return self._tower(features, self.hear, self.hear_norms, self.hear_out, lengths)

    def embed_motion(self, offsets: Tensor, lengths: Tensor) -> Tensor:
        """offsets (B, T, U, 3) metres of the lip vertices, lengths (B,) -> unit embeddings (B, T, D)."""
        still = padding_mask(lengths, offsets.shape[1])[:, :, None]
        place = (MM * offsets.flatten(2)).masked_fill(still, 0)
        velocity = functional.pad(place.diff(dim=1), (0, 0, 1, 0))
        features = torch.cat([place, velocity], dim=-1).transpose(1, 2)  # (B, 6 U, T)
        return self._tower(features, self.see, self.see_norms, self.see_out, lengths)

    def _tower(self, features, convolutions, norms, out, lengths) -> Tensor:
        for convolution, norm in zip(convolutions, norms, strict=True):
            features = functional.silu(norm(convolution(features).transpose(1, 2)))
            steps = features.shape[1] // int(lengths.max())  # a video frame
            features = features.masked_fill(padding_mask(lengths * steps, features.shape[1])[:, :, None], 0)
            features = features.transpose(1, 2)
        return functional.normalize(out(features.transpose(1, 2)), dim=-1)

    def lip_offsets(self, coefficients: Tensor) -> Tensor:
        """Lip offsets (B, T, U, 3) metres of coefficients (B, T, K) of the training basis."""
        return torch.einsum("btk,kux->btux", coefficients, self.lip_basis)

    def similarities(self, audio: Tensor, motion: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine of each frame's sound with its clip's motion `max_offset` frames earlier to later: (B, T, 2 v + 1).

        Also returns the same shape's bool of the pairs that exist: both frames lie within the clip.
        """
        reach = self.config.max_offset
        shifted = functional.pad(motion, (0, 0, reach, reach)).unfold(1, 2 * reach + 1, 1)  # (B, T, D, 2 v + 1)
        frames = torch.arange(motion.shape[1], device=motion.device)
        other = frames[:, None] + torch.arange(-reach, reach + 1, device=motion.device)  # (T, 2 v + 1)
        end = lengths[:, None, None]
        exists = (other >= 0) & (other < end) & (frames[:, None] < end)
        return torch.einsum("btd,btdo->bto", audio, shifted), exists

    def forward(self, batch: dict) -> dict[str, Tensor]:
        """The losses of a batch of `motion_dataset.collate`: loss and its terms; in eval mode offset accuracies too.

        frame: InfoNCE of a frame of sound over its clip's frames within `max_offset` and over other clips'. window: the
        same in the mean over 5 frames, and in-clip only, which is how offsets are judged. exact, near: the share of
        11-frame windows whose best of 25 offsets is the true one, or within one frame of it.
        """
        lengths = batch["lengths"]
        audio = self.embed_audio(batch["waveform"], lengths)
        motion = self.embed_motion(self.lip_offsets(batch["motion"]), lengths)
        scores, exists = self.similarities(audio, motion, lengths)
        real = ~padding_mask(lengths, audio.shape[1])
        scale = self.log_scale.exp().clamp(max=100)
        logits = (scale * scores).masked_fill(~exists, -torch.inf)
        terms = {"frame": self._frame_loss(logits, audio, motion, real, scale)}
        pooled, whole = windows(scores, exists, 5)
        target = torch.full((), self.config.max_offset, device=audio.device)
        pooled = (3 * scale * pooled).masked_fill(~whole, -torch.inf)[whole[..., self.config.max_offset]]
        terms["window"] = functional.cross_entropy(pooled, target.expand(len(pooled)))
        terms["loss"] = terms["frame"] + terms["window"]
        if not self.training:
            terms |= offset_accuracy(scores, exists)
        return terms

    def _frame_loss(self, logits, audio, motion, real, scale) -> Tensor:
        flat_audio, flat_motion = audio[real], motion[real]  # (N, D)
        clip = torch.arange(len(real), device=real.device)[:, None].expand_as(real)[real]
        chosen = torch.randperm(len(clip), device=real.device)[: self.config.cross_clip]
        other = (scale * flat_audio @ flat_motion[chosen].T).masked_fill(clip[:, None] == clip[chosen], -torch.inf)
        target = torch.full((len(clip),), self.config.max_offset, device=real.device)
        return functional.cross_entropy(torch.cat([logits[real], other], dim=1), target)

    @torch.no_grad()
    def distances(self, waveform: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Mean distance of sound and motion at each offset -v..v: (2 v + 1,), as SyncNet has it.

        waveform (S,) at 16 kHz, offsets (T, V, 3) metres of the whole face. Entry v + k is the mean over the clip's
        frames t of |audio_t - motion_{t+k}| between unit embeddings, over pairs that exist (SyncNet pads with zeros).
        A clip must be longer than v frames: InputError.
        """
        length = min(len(offsets), len(waveform) // SAMPLES_PER_FRAME)
        if length <= self.config.max_offset:
            raise InputError(
                f"a clip of {length} frames is too short to be shifted by {self.config.max_offset}: give at least "
                f"{self.config.max_offset + 1} frames"
            )
        device = self.lip_basis.device
        lengths = torch.tensor([length], device=device)
        sound = torch.as_tensor(np.asarray(waveform[: samples_of(length)], np.float32), device=device)[None]
        lips = torch.as_tensor(np.asarray(offsets[:length], np.float32), device=device)[None, :, self.lips]
        scores, exists = self.similarities(self.embed_audio(sound, lengths), self.embed_motion(lips, lengths), lengths)
        apart = (2 - 2 * scores[0]).clamp(min=0).sqrt() * exists[0]
        return (apart.sum(0) / exists[0].sum(0)).cpu().numpy()

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


def windows(scores: Tensor, exists: Tensor, n_frames: int) -> tuple[Tensor, Tensor]:
    """Mean (B, T - n + 1, O) over n_frames consecutive frames of scores (B, T, O), and where all of them exist."""
    pooled = functional.avg_pool1d((scores * exists).transpose(1, 2), n_frames, stride=1).transpose(1, 2)
    whole = functional.avg_pool1d(exists.float().transpose(1, 2), n_frames, stride=1).transpose(1, 2) > 1 - 1e-6
    return pooled, whole


def offset_accuracy(scores: Tensor, exists: Tensor, n_offsets: int = 25) -> dict[str, Tensor]:
    """exact, near: share of 11-frame windows whose best of `n_offsets` is the true one, or within a frame of it.

    Only windows count for which every offset exists.
    """
    middle, reach = scores.shape[-1] // 2, n_offsets // 2
    pooled, whole = windows(scores, exists, WINDOW_FRAMES)
    near_by = slice(middle - reach, middle + reach + 1)
    found = pooled[..., near_by][whole[..., near_by].all(-1)].argmax(-1) - reach
    n_windows = max(len(found), 1)
    return {"exact": (found == 0).sum() / n_windows, "near": (found.abs() <= 1).sum() / n_windows}
