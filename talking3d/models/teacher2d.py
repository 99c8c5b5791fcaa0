"""Teacher2D: speech and one still picture of lips to lips that speak it: a 2D talking face.

After Wav2Lip (Prajwal et al., ACM MM 2020, arXiv 2008.10010): a convolutional U-Net between a still of the speaker and
each frame, with the sound at its bottleneck, trained by reconstruction and by a frozen sync expert. Its lips teach a 3D
student how speech looks. Two things differ. A clip has one still, so that what the skip connections carry of it is
computed once a clip. And the last layer says by how much to shift the still's pixels beside what to add to them: the
shifted still keeps the skin's texture, which pictures averaged over all that a sound may look like lose.

Letters: B batch, S samples, T video frames, D width, N drawn frames, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from avsr.errors import InputError
from avsr.media.audio import check_waveform
from avsr.media.lips import SIZE
from avsr.media.timing import FPS, frames_of, samples_of
from avsr.training.checkpoint import Pretrained
from talking3d.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from talking3d.models.syncnet2d import SyncNet2D

GRAY = 255.0
SHUFFLE = 2  # the U-Net works at half the picture's size; its ends fold 2 x 2 pixels into channels
DRAWN_AT_ONCE = 100  # frames, in prediction


@dataclass
class Teacher2DConfig:
    """What a teacher is made of and what it is trained for; stored in its checkpoint."""

    encoder: SpeechEncoderConfig = field(default_factory=SpeechEncoderConfig)
    channels: list[int] = field(default_factory=lambda: [24, 32, 64, 128])  # at 48, 24, 12 and 6 pixels a side
    drawn_frames: int = 6  # consecutive, of each utterance of a training batch: drawing is what takes time
    edge_weight: float = 0.3  # of the error of differences between neighbouring pixels, against the pixels' own 1
    sync_weight: float = 0.01  # of the sync expert's loss, about 3 at the start
    window_s: float = 20.0  # longer speech is heard in windows of this length
    context_s: float = 2.0  # and what it says of this much at its inner ends is left to its neighbours

    def __post_init__(self):
        if self.drawn_frames < 1:
            raise InputError(f"teacher2d.drawn_frames is {self.drawn_frames}; expected at least 1")
        if self.window_s <= 2 * self.context_s:
            raise InputError(f"window_s ({self.window_s}) must be longer than twice context_s ({self.context_s})")
        if len(self.channels) < 2:
            raise InputError(f"teacher2d.channels needs at least two scales, got {self.channels}")
        smallest = SHUFFLE * 2 ** (len(self.channels) - 1)
        if SIZE % smallest:
            raise InputError(
                f"teacher2d.channels has {len(self.channels)} scales, which {SIZE} pixels cannot be cut to"
            )


class _Up(nn.Module):
    """One scale of the decoder: twice the size, the still's skip added, the sound's say on every channel (FiLM)."""

    def __init__(self, in_channels: int, out_channels: int, dim: int):
        super().__init__()
        self.grow = nn.Sequential(nn.Conv2d(in_channels, 4 * out_channels, 3, padding=1), nn.PixelShuffle(2))
        self.skip = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.film = nn.Linear(dim, 2 * out_channels)
        self.mix = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, still: Tensor, sound: Tensor) -> Tensor:
        """x (B N, C, H, W), still (B, C', 2 H, 2 W), sound (B N, D) -> (B N, C', 2 H, 2 W)."""
        x = self.grow(x)
        skip = self.skip(still)
        x = (x.unflatten(0, (len(skip), -1)) + skip[:, None]).flatten(0, 1)
        x = functional.silu(_film(x, self.film(sound)))
        return x + functional.silu(self.mix(x))


class Teacher2D(Pretrained, nn.Module):
    """Speech and a still to lips; an utterance's are the same alone and in a padded batch, in eval mode.

    Args:
        config: sizes and weights.
        expert: the frozen sync network that training listens to; None: no sync loss.
    """

    NAME, Config = "teacher2d", Teacher2DConfig

    def __init__(self, config: Teacher2DConfig, expert: SyncNet2D | None = None):
        super().__init__()
        self.config = config
        self._expert = [] if expert is None else [expert.requires_grad_(False)]  # in a list: not trained, not saved
        dim, channels = config.encoder.dim, config.channels
        self.encoder = SpeechEncoder(config.encoder)
        self.first = nn.Conv2d(SHUFFLE**2, channels[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(wide, narrow, 3, stride=2, padding=1)
            for wide, narrow in zip(channels, channels[1:], strict=False)
        )
        side = SIZE // (SHUFFLE * 2 ** len(self.down))
        self.bottom = nn.Linear(dim, channels[-1] * side**2)  # crops are centred on the mouth: places mean something
        self.middle = nn.Conv2d(channels[-1], channels[-1], 3, padding=1)
        self.up = nn.ModuleList(
            _Up(narrow, wide, dim) for wide, narrow in reversed(list(zip(channels, channels[1:], strict=False)))
        )
        self.last = nn.Conv2d(channels[0], SHUFFLE**2 + 2, 3, padding=1)  # what to add; where from, in x and y
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def draw(self, sound: Tensor, still: Tensor) -> Tensor:
        """sound (B, N, D) features of frames, still (B, 96, 96) in [0, 1] -> lips (B, N, 96, 96), about in [0, 1]."""
        n_frames, sound = sound.shape[1], sound.flatten(0, 1)
        x = self.first(
            functional.pixel_unshuffle(still[:, None] - 0.5, SHUFFLE).contiguous(memory_format=torch.channels_last)
        )
        scales = [functional.silu(x)]
        for down in self.down:
            scales.append(functional.silu(down(scales[-1])))
        x = scales.pop().repeat_interleave(n_frames, dim=0)
        x = functional.silu(self.middle(x) + self.bottom(sound).view_as(x))
        for up in self.up:
            x = up(x, scales.pop(), sound)
        added, shift = self.last(x).float().split([SHUFFLE**2, 2], dim=1)
        shifted = _shift(still, shift.unflatten(0, (len(still), n_frames)))
        return shifted + functional.pixel_shuffle(added, SHUFFLE).view_as(shifted)

    def forward(self, batch: dict) -> dict[str, Tensor]:
        """The losses of a batch of `lip_dataset.collate`: `loss` and its terms, of `drawn_frames` frames of each
        utterance in training, of all in eval mode.

        pixel: mean absolute error of gray levels (of 1), where pixels weigh by how much they differ from the still.
        edge: the same of the differences between neighbouring pixels; it makes the teeth's and the lips' edges sharp.
        sync: the expert's `sync_loss` of the drawn frames, among the clip's true ones.
        psnr_db, still_db, in eval mode: peak signal-to-noise ratio of the batch's lips, and of the still shown in every
            frame.
        """
        lengths, still = batch["lengths"], batch["still"].float() / GRAY
        sound = self.encoder(batch["waveform"], lengths)
        drawn = self._drawn(lengths)  # (B, N) indices of frames
        real = drawn < lengths[:, None]
        clips = torch.arange(len(drawn), device=drawn.device)[:, None]
        lips, wanted = self.draw(sound[clips, drawn], still), batch["lips"][clips, drawn].float() / GRAY
        weight = _difference(wanted, still, real)[:, None].expand_as(wanted)[real]
        error = (lips - wanted)[real]  # (n, 96, 96)
        terms = {
            "pixel": (weight * error.abs()).mean(),
            "edge": sum((weight.narrow(d, 1, SIZE - 1) * error.diff(dim=d).abs()).mean() for d in (1, 2)),
        }
        terms["loss"] = terms["pixel"] + self.config.edge_weight * terms["edge"]
        if self._expert:
            terms["sync"] = self._sync(lips, drawn, batch)
            terms["loss"] = terms["loss"] + self.config.sync_weight * terms["sync"]
        if not self.training:
            terms["psnr_db"] = _psnr_db(lips.clamp(0, 1)[real], wanted[real])
            terms["still_db"] = _psnr_db(still[:, None].expand_as(wanted)[real], wanted[real])
        return terms

    def _sync(self, lips: Tensor, drawn: Tensor, batch: dict) -> Tensor:
        """The expert's loss of the drawn frames (B, N), among as many of the clip's true ones as it looks at."""
        expert = self._expert[0] = self._expert[0].to(lips.device)
        lengths = batch["lengths"]
        with torch.no_grad():
            audio = expert.embed_audio(batch["waveform"], lengths)
        n_shown = min(drawn.shape[1] + 2 * expert.reach, audio.shape[1])
        first = torch.minimum(drawn[:, 0] - expert.reach, lengths - n_shown).clamp(min=0)
        clips = torch.arange(len(drawn), device=drawn.device)[:, None]
        shown = batch["lips"][clips, first[:, None] + torch.arange(n_shown, device=first.device)].float()
        places = clips.expand_as(drawn), drawn - first[:, None]
        shown = torch.index_put(shown, places, GRAY * lips.float())
        judged = torch.zeros(shown.shape[:2], dtype=torch.bool, device=lips.device)
        judged[places] = drawn < lengths[:, None]
        return expert.sync_loss(audio, shown, first, judged, lengths)

    def _drawn(self, lengths: Tensor) -> Tensor:
        """(B, N) frames to draw: in training a window somewhere in each utterance, else all, padding included."""
        if not self.training:
            return torch.arange(int(lengths.max()), device=lengths.device).expand(len(lengths), -1)
        n_frames = min(self.config.drawn_frames, int(lengths.min()))
        start = (torch.rand(len(lengths), device=lengths.device) * (lengths - n_frames + 1)).long()
        return start[:, None] + torch.arange(n_frames, device=lengths.device)

    @torch.no_grad()
    def predict(self, waveform: np.ndarray, still: np.ndarray) -> np.ndarray:
        """Lips for speech: (S,) at 16 kHz and a still (96, 96) uint8 -> (T, 96, 96) uint8, T = frames_of(S).

        Raises InputError: silent or broken sound, a still of another shape or type.
        """
        check_waveform(waveform, "speech to draw lips for")
        if still.shape != (SIZE, SIZE) or still.dtype != np.uint8:
            raise InputError(f"the still must be ({SIZE}, {SIZE}) uint8 gray, got {still.shape} {still.dtype}")
        picture = torch.from_numpy(np.ascontiguousarray(still))[None].to(self.last.weight.device) / GRAY
        lips = [self.draw(part, picture)[0] for part in self._hear(waveform).split(DRAWN_AT_ONCE, dim=1)]
        return (GRAY * torch.cat(lips)).round().clamp(0, GRAY).to(torch.uint8).cpu().numpy()

    def _hear(self, waveform: np.ndarray) -> Tensor:
        """Features (1, T, D) of speech (S,) of any length, heard in windows, so that memory stays bounded."""
        n_frames, device = frames_of(len(waveform)), self.last.weight.device
        window, context = round(self.config.window_s * FPS), round(self.config.context_s * FPS)
        heard, done = [], 0
        while done < n_frames:
            first = max(0, done - context)
            stop = min(first + window, n_frames)
            kept = stop if stop == n_frames else stop - context
            samples = torch.from_numpy(np.asarray(waveform[samples_of(first) : samples_of(stop)], np.float32))
            features = self.encoder(samples[None].to(device), torch.tensor([stop - first], device=device))
            heard.append(features[:, done - first : kept - first])
            done = kept
        return torch.cat(heard, dim=1)


def _film(x: Tensor, sound: Tensor) -> Tensor:
    """x (N, C, H, W), its channels scaled and moved as sound (N, 2 C) says."""
    scale, offset = sound[:, :, None, None].to(x.dtype).chunk(2, dim=1)
    return x * (1 + scale) + offset


def _shift(still: Tensor, shift: Tensor) -> Tensor:
    """still (B, 96, 96) shifted for each frame by (B, N, 2, h, w), where from in half pictures -> (B, N, 96, 96)."""
    frames, size = shift.shape[1], still.shape[-1]
    shift = functional.interpolate(shift.flatten(0, 1), size=size, mode="bilinear", align_corners=False)
    centres = (torch.arange(size, device=still.device) + 0.5) * 2 / size - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    grid = torch.stack([x, y], dim=-1) + shift.permute(0, 2, 3, 1)  # (B N, 96, 96, 2)
    stills = still.repeat_interleave(frames, dim=0)[:, None]
    shown = functional.grid_sample(stills, grid, padding_mode="border", align_corners=False)
    return shown.view(len(still), frames, size, size)


def _difference(wanted: Tensor, still: Tensor, real: Tensor) -> Tensor:
    """(B, 96, 96) of mean 1: half even, half by how much each pixel of wanted (B, N, 96, 96) differs from the still."""
    apart = ((wanted - still[:, None]).abs() * real[:, :, None, None]).sum(1) / real.sum(1)[:, None, None] + 1e-3
    return 0.5 + 0.5 * apart / apart.mean((1, 2), keepdim=True)


def _psnr_db(shown: Tensor, wanted: Tensor) -> Tensor:
    return -10 * (shown - wanted).square().mean().clamp(min=1e-10).log10()
