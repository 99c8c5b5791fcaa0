"""SyncNet2D: do these lips, as pictures, belong to this sound, and if late, by how much?

The expert of a 2D talking face, after Wav2Lip's (Prajwal et al., ACM MM 2020, arXiv 2008.10010): windows of five lip
crops against the sound. Wav2Lip's is asked of one pair whether it belongs together; this one tells the true frame from
its clip's shifted ones. Letters: B batch, S samples, T video frames, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from avsr.data.augment import CROP
from avsr.media.timing import SAMPLES_PER_FRAME, samples_of
from avsr.models.frontends import CONTEXT_FRAMES, VideoFrontend
from avsr.training.checkpoint import Pretrained
from talking3d.models.syncnet import SyncNet, SyncNetConfig


@dataclass
class SyncNet2DConfig(SyncNetConfig):
    """Sizes and the contrastive task; stored in a checkpoint."""

    visual_frontend: str = "small"  # small or resnet18
    visual_channels: list[int] = field(default_factory=lambda: [24, 48, 96])  # of the small one


class SyncNet2D(Pretrained, SyncNet):
    """Embeds speech and lip crops frame by frame: `kernel` frames of sound, and of features of five frames each."""

    NAME, Config = "syncnet2d", SyncNet2DConfig

    def __init__(self, config: SyncNet2DConfig):
        super().__init__(config, n_seen=config.width)
        self.pictures = VideoFrontend(
            config.width, kind=config.visual_frontend, channels=config.visual_channels, dropout=config.dropout
        )

    def embed_lips(self, lips: Tensor, lengths: Tensor) -> Tensor:
        """lips (B, T, 96, 96) gray of 0 to 255, lengths (B,) -> unit embeddings (B, T, D); differentiable in lips."""
        top = (lips.shape[-1] - CROP) // 2
        return self.embed_seen(self.pictures(lips[..., top : top + CROP, top : top + CROP], lengths), lengths)

    def forward(self, batch: dict) -> dict[str, Tensor]:
        """The `losses` of a batch of `lip_dataset.collate`."""
        lengths = batch["lengths"]
        lips = self.embed_lips(batch["lips"], lengths)
        return self.losses(self.embed_audio(batch["waveform"], lengths), lips, lengths)

    @property
    def reach(self) -> int:
        """Frames to each side of its own that an embedding of lips depends on."""
        return CONTEXT_FRAMES // 2 + self.config.kernel // 2

    def sync_loss(self, audio: Tensor, lips: Tensor, first: Tensor, judged: Tensor, lengths: Tensor) -> Tensor:
        """How ill lips go with the sound, for a generator to lower.

        audio (B, T, D) embeddings of clips of lengths (B,); lips (B, M, 96, 96), each clip's from frame `first` (B,)
        on; judged (B, M) bool. InfoNCE of the frames that are judged: the sound at a frame of lips against its clip's
        sound within `max_offset` frames.
        """
        seen = self.embed_lips(lips, (lengths - first).clamp(max=lips.shape[1]))[judged]  # (n, D)
        clip, frame = judged.nonzero(as_tuple=True)
        offsets = torch.arange(-self.config.max_offset, self.config.max_offset + 1, device=lips.device)
        other = (first[clip] + frame)[:, None] + offsets  # (n, 2 v + 1) frames of sound
        exists = (other >= 0) & (other < lengths[clip, None])
        heard = audio[clip[:, None], other.clamp(0, audio.shape[1] - 1)]
        logits = (self.log_scale.exp() * torch.einsum("nd,nod->no", seen, heard)).masked_fill(~exists, -torch.inf)
        return functional.cross_entropy(logits, torch.full((len(logits),), self.config.max_offset, device=lips.device))

    @torch.no_grad()
    def distances(self, waveform: np.ndarray, lips: np.ndarray) -> np.ndarray:
        """`mean_distances` of sound and lips: (2 v + 1,).

        waveform (S,) at 16 kHz, lips (T, 96, 96) uint8. A clip must be longer than v frames: InputError.
        """
        length = min(len(lips), len(waveform) // SAMPLES_PER_FRAME)
        self.check_length(length)
        device = self.log_scale.device
        lengths = torch.tensor([length], device=device)
        sound = torch.as_tensor(np.asarray(waveform[: samples_of(length)], np.float32), device=device)[None]
        seen = torch.as_tensor(lips[:length], device=device)[None]
        found = self.mean_distances(self.embed_audio(sound, lengths), self.embed_lips(seen, lengths), lengths)
        return found.cpu().numpy()
