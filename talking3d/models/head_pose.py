"""PoseVAE: how a head moves while it speaks (the optional head motion of Learn2Talk, arXiv 2404.12888).

Heads do not follow speech as lips do: the same words go with many motions. So a variational autoencoder, conditional on
the sound, learns their distribution, as SadTalker's PoseVAE does (arXiv 2211.12194), and sampling it gives one of them.
Where SadTalker decodes windows of 32 frames, here every frame has latents, whose prior is a process in time, and
convolutions decode them: a motion may have any length and has no windows that could meet badly. Further latents, one
set a clip, hold what stays the same in it, as how lively it is. All this is sway about the clip's mean pose, its
posture, which is normally distributed and needs no network.

Letters: B batch, S samples, T video frames, D width, Z latents of a frame, C latents of a clip. A pose has 6 numbers:
rotation vector (rad), then translation (m), as `Motion.head_pose` has them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import lfilter
from torch import Tensor, nn
from torch.nn import functional

from avsr.errors import InputError
from avsr.media.audio import check_waveform
from avsr.media.timing import frames_of
from avsr.models.espnet import padding_mask
from avsr.models.frontends import AudioFrontend
from avsr.training.checkpoint import Pretrained

FINEST = 0.02  # detail that the likelihood asks for, in standard deviations

STILL = 1e-6  # rad or m: a standard deviation up to this is no motion


@dataclass
class HeadPoseConfig:
    """Sizes and the objective; stored in a checkpoint."""

    width: int = 64
    kernel: int = 5  # frames; odd
    dilations: tuple[int, ...] = (1, 2, 4)  # of encoder and decoder: with kernel 5 a frame sees 14 on each side
    frame_latents: int = 12
    clip_latents: int = 8
    sound_dim: int = 16  # features of a frame's sound
    dropout: float = 0.1  # of the sound
    warmup: float = 0.3  # share of the training in which the divergence's weight rises from 0 to 1

    def __post_init__(self):
        if self.kernel % 2 == 0:
            raise InputError(f"head_pose.kernel is {self.kernel}; it must be odd, to be centred on its frame")
        if not 0 <= self.warmup < 1:
            raise InputError(f"head_pose.warmup is {self.warmup}; expected a share of the training, from 0 to below 1")


class DilatedConvolutions(nn.Module):
    """(B, T, in) -> (B, T, out) by residual convolutions along time; what lies past an utterance's end counts as 0."""

    def __init__(self, in_dim: int, width: int, out_dim: int, kernel: int, dilations: tuple[int, ...]):
        super().__init__()
        self.enter = nn.Linear(in_dim, width)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, kernel, padding=kernel // 2 * dilation, dilation=dilation) for dilation in dilations
        )
        self.leave = nn.Linear(width, out_dim)

    def forward(self, features: Tensor, padding: Tensor) -> Tensor:
        """features (B, T, in), padding (B, T) bool; the output means nothing at padding."""
        features = self.enter(features)
        for convolution in self.convolutions:
            seen = functional.silu(features).masked_fill(padding[:, :, None], 0)
            features = features + convolution(seen.transpose(1, 2)).transpose(1, 2)
        return self.leave(features)


class PoseVAE(Pretrained, nn.Module):
    """p(pose | sound) with latents of each frame and of the clip.

    A clip's are standard normal. Each frame's keep a share of the last frame's (a stationary process of unit variance,
    the share is learned): so motion wanders and returns, slowly or fast, for however long.

    Args:
        config: sizes.
        mean: (6,) of the training poses, pooled over frames.
        posture_std, sway_std: (6,) of the clips' mean poses, and of how poses differ from these.
    """

    NAME, Config = "head_pose", HeadPoseConfig

    def __init__(self, config: HeadPoseConfig, mean: np.ndarray, posture_std: np.ndarray, sway_std: np.ndarray):
        super().__init__()
        self.config = config
        for name, values in (("mean", mean), ("posture_std", posture_std), ("sway_std", sway_std)):
            self.register_buffer(name, torch.tensor(np.asarray(values), dtype=torch.float32))
        how = {"freq_masks": 0, "freq_width": 1, "time_masks": 0, "time_width": 1}
        self.sound = AudioFrontend(config.sound_dim, dropout=config.dropout, spec_augment=how)
        width, stack = config.width, (config.kernel, config.dilations)
        self.encoder = DilatedConvolutions(6 + config.sound_dim, width, width, *stack)
        self.to_clip = nn.Linear(width, 2 * config.clip_latents)
        self.to_frames = nn.Linear(width + config.clip_latents, 2 * config.frame_latents)
        inputs = config.frame_latents + config.clip_latents + config.sound_dim
        self.decoder = DilatedConvolutions(inputs, width, 6, *stack)
        # share of each frame latent that its next keeps, as log-odds: at first it forgets itself within 0.08 to 1.3 s
        self.memory = nn.Parameter(torch.logit(torch.exp(-1 / torch.logspace(1, 5, config.frame_latents, 2))))

    @classmethod
    def fitting(cls, config: HeadPoseConfig, poses: list[np.ndarray]) -> PoseVAE:
        """An untrained model with the statistics of training poses (T, 6); InputError where none moves."""
        postures = np.array([pose.mean(0, dtype=np.float64) for pose in poses])
        sway = np.concatenate([pose - posture for pose, posture in zip(poses, postures, strict=True)]).std(0)
        if not (sway > STILL).any():
            raise InputError(f"the heads of all {len(poses)} training utterances stand still: nothing to learn")
        spreads = (np.where(std > STILL, std, 1.0) for std in (postures.std(0), sway))
        return cls(config, np.concatenate(poses).mean(0, dtype=np.float64), *spreads)

    def decode(self, frame_latents: Tensor, clip_latents: Tensor, sound: Tensor, lengths: Tensor) -> Tensor:
        """frame_latents (B, T, Z), clip_latents (B, C), sound (B, T, D), lengths (B,) -> sway (B, T, 6).

        About the posture, in units of sway_std; it means nothing at padding.
        """
        clip = clip_latents[:, None].expand(-1, frame_latents.shape[1], -1)
        features = torch.cat([frame_latents, clip, sound], dim=-1)
        return self.decoder(features, padding_mask(lengths, features.shape[1]))

    def sway_of(self, pose: Tensor, lengths: Tensor) -> Tensor:
        """Poses (B, T, 6) about their clips' means, in units of sway_std; 0 at padding."""
        padding = padding_mask(lengths, pose.shape[1])[:, :, None]
        posture = pose.masked_fill(padding, 0).sum(1, keepdim=True) / lengths[:, None, None]
        return ((pose - posture) / self.sway_std).masked_fill(padding, 0)

    def encode(self, sway: Tensor, sound: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sway (B, T, 6), sound (B, T, D) -> the latents' posteriors.

        Returns, each with means before log-variances, those of the frames (B, T, 2 Z) and of the clips (B, 2 C), and a
        draw of the clips' (B, C) on which the frames' depend; their mean in eval mode.
        """
        padding = padding_mask(lengths, sway.shape[1])[:, :, None]
        features = self.encoder(torch.cat([sway, sound], dim=-1), padding[:, :, 0])
        of_clips = self.to_clip(features.masked_fill(padding, 0).sum(1) / lengths[:, None])
        clips = self._draw(of_clips)
        spread = clips[:, None].expand(-1, sway.shape[1], -1)
        return self.to_frames(torch.cat([features, spread], dim=-1)), of_clips, clips

    def _draw(self, posterior: Tensor) -> Tensor:
        mean, log_variance = posterior.chunk(2, dim=-1)
        return mean + torch.randn_like(mean) * (log_variance / 2).exp() if self.training else mean

    def frame_divergence(self, posterior: Tensor) -> Tensor:
        """Kullback-Leibler divergence (B, T, Z), nats, of posteriors (B, T, 2 Z), one for each frame, from the prior.

        Summed over the first t frames it is that of their joint distributions.
        """
        mean, log_variance = posterior.chunk(2, dim=-1)
        variance, keep = log_variance.exp(), self.memory.sigmoid()
        first = mean[:, :1].square() + variance[:, :1]
        later = (mean[:, 1:] - keep * mean[:, :-1]).square() + variance[:, 1:] + keep.square() * variance[:, :-1]
        news = 1 - keep.square()
        expected = torch.cat([first, later / news + news.log()], dim=1)
        return (expected - 1 - log_variance) / 2

    def forward(self, batch: dict) -> dict[str, Tensor]:
        """The losses of a batch of `motion_dataset.collate` with `head_pose`, in nats a frame.

        loss: reconstruction + weight * (kl_frames + kl_clip), the negative evidence lower bound once the weight has
            risen to 1 over the share `warmup` of the training; in eval mode it is 1.
        reconstruction: negative log-likelihood of the sway and of its differences from frame to frame, without which
            motion comes out too smooth. Gaussian; each dimension's deviation is the batch's own root mean square error
            (Rybkin et al., "Simple and effective VAE training with calibrated decoders", arXiv 2006.13202).
        kl_frames, kl_clip: divergence of the latents from their prior.
        In eval mode also rotation_deg, root mean square error of the rotations, and active, the share of the frames'
        latents in use: those whose posterior mean varies by more than 0.01 (Burda et al., arXiv 1509.00519).
        """
        lengths = batch["lengths"]
        real = ~padding_mask(lengths, batch["head_pose"].shape[1])
        n_frames = lengths.sum()
        sway, sound = self.sway_of(batch["head_pose"], lengths), self.sound(batch["waveform"], lengths)
        of_frames, of_clips, clips = self.encode(sway, sound, lengths)
        error = self.decode(self._draw(of_frames), clips, sound, lengths) - sway
        clip_mean, clip_log_variance = of_clips.chunk(2, dim=-1)
        clip_divergence = (clip_mean.square() + clip_log_variance.exp() - 1 - clip_log_variance) / 2
        terms = {
            "reconstruction": sum(_negative_log_likelihood(e) for e in (error[real], error.diff(dim=1)[real[:, 1:]])),
            "kl_frames": self.frame_divergence(of_frames)[real].sum() / n_frames,
            "kl_clip": clip_divergence.sum() / n_frames,
        }
        weight = min(1.0, batch["progress"] / self.config.warmup) if self.training and self.config.warmup > 0 else 1.0
        terms["loss"] = terms["reconstruction"] + weight * (terms["kl_frames"] + terms["kl_clip"])
        if not self.training:
            terms["rotation_deg"] = torch.rad2deg((error * self.sway_std)[real][:, :3].square().mean().sqrt())
            terms["active"] = (of_frames.chunk(2, dim=-1)[0][real].var(0) > 0.01).float().mean()
        return terms

    @torch.no_grad()
    def sample(self, waveform: np.ndarray, rng: np.random.Generator, posture: np.ndarray | None = None) -> np.ndarray:
        """A head's motion for speech of any length: (S,) at 16 kHz -> (T, 6) float32, T = frames_of(S).

        posture: pose (6,) about which the head sways; None draws one like the training clips'. The same state of `rng`
        gives the same motion. A frame depends on the sound and the latents that the decoder's convolutions reach, 0.6 s
        to each side by default, and on the mean spectrum of all the sound.
        """
        check_waveform(waveform, "speech to move a head to")
        config, device = self.config, self.mean.device
        n_frames = frames_of(len(waveform))
        lengths = torch.tensor([n_frames], device=device)
        if posture is None:
            posture = self.mean.cpu().numpy() + self.posture_std.cpu().numpy() * rng.standard_normal(6)
        clip_latents = rng.standard_normal(config.clip_latents)
        frame_latents = self._prior_path(rng.standard_normal((n_frames, config.frame_latents)))
        heard, frames, clip = (
            torch.as_tensor(np.asarray(values, np.float32), device=device)[None]
            for values in (waveform, frame_latents, clip_latents)
        )
        sway = self.sway_std * self.decode(frames, clip, self.sound(heard, lengths), lengths)[0]
        return (sway.cpu().numpy() + posture).astype(np.float32)

    def _prior_path(self, news: np.ndarray) -> np.ndarray:
        """Standard normal (T, Z) -> frame latents (T, Z) as their prior has them."""
        keep = self.memory.sigmoid().detach().double().cpu().numpy()
        path = news * np.where(np.arange(len(news))[:, None] == 0, 1.0, np.sqrt(1 - keep**2))
        return np.stack([lfilter([1.0], [1.0, -a], track) for a, track in zip(keep, path.T, strict=True)], axis=1)

    @classmethod
    def of_config(cls, config: HeadPoseConfig) -> PoseVAE:
        """A new model, whose poses' mean and deviations are to be loaded too."""
        return cls(config, np.zeros(6), np.ones(6), np.ones(6))


def _negative_log_likelihood(errors: Tensor) -> Tensor:
    """Of errors (N, 6), nats a frame, each dimension under the normal distribution that fits it best."""
    rms = (errors.square().mean(0) + FINEST**2).sqrt()
    return (rms.log() + (1 + math.log(2 * math.pi)) / 2).sum()
