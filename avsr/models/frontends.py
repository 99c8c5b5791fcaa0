"""Sound and lips to features at the video's rate.

Letters: B batch, S samples, L mel frames, T video frames, N real video frames of a whole batch, D width, H W image.
Both front ends give an utterance the same features alone and in a padded batch.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from avsr.errors import InputError
from avsr.media.audio import N_MELS, log_mel
from avsr.media.timing import MELS_PER_FRAME, SAMPLES_PER_FRAME
from avsr.models.espnet import build_spec_augment, padding_mask

LIP_MEAN, LIP_STD = 0.421, 0.165  # of gray mouth crops in [0, 1], the values of Auto-AVSR and AV-HuBERT
CHANNELS_2D = 32  # of the audio front end's 2D convolutions
PAST_MELS, FUTURE_MELS = 6, 6  # mel frames before and after a video frame's own four that its feature is made of
SPEECH_MEAN, SPEECH_STD = -6.0, 3.8  # of log-mel bands: espeak-ng's voices and close-talk recordings agree within 0.3
PRIOR_MELS = 50  # mel frames that these weigh as much as
RESNETS = {"resnet18": "relu", "resnet18_swish": "swish", "resnet18_prelu": "prelu"}  # activations of visual front ends
CONTEXT_FRAMES = 5  # video frames that one step of the visual stem sees


def normalize_log_mel(features: Tensor, padding: Tensor) -> Tensor:
    """Give every band zero mean and unit variance over an utterance's real frames.

    features (B, L, 80), padding (B, L) bool -> (B, L, 80), zero at padding. Cepstral mean and variance normalisation,
    on log-mel bands.
    """
    real = (~padding)[:, :, None].to(features.dtype)  # (B, L, 1)
    count = real.sum(dim=1, keepdim=True)
    mean = (features * real).sum(dim=1, keepdim=True) / count
    centred = (features - mean) * real
    std = (centred.square().sum(dim=1, keepdim=True) / count).sqrt()
    return centred / (std + 1e-3)


def normalize_locally(features: Tensor, padding: Tensor, past_mels: int, future_mels: int) -> Tensor:
    """Give every band zero mean and unit variance by what is heard around each frame.

    features (B, L, 80), padding (B, L) bool -> (B, L, 80), zero at padding. Heard are `past_mels` frames before a frame
    and `future_mels` after it, itself, and PRIOR_MELS frames of speech at a usual level, which hold off the noise that
    silence would be blown up to. (Cepstral mean and variance normalisation in a sliding window.)
    """
    n_mels = features.shape[1]
    real = (~padding)[:, :, None].double()  # float32 sums would lose digits in an hour
    heard = features.double() * real
    sums = torch.stack([heard, heard.square(), real.expand_as(heard)]).cumsum(dim=2)  # (3, B, L, 80)
    sums = functional.pad(sums, (0, 0, 1, 0))  # of the first l frames, l from 0
    mels = torch.arange(n_mels, device=features.device)
    first, last = (mels - past_mels).clamp(min=0), (mels + future_mels + 1).clamp(max=n_mels)
    prior = PRIOR_MELS * torch.tensor([SPEECH_MEAN, SPEECH_STD**2 + SPEECH_MEAN**2, 1.0], dtype=torch.float64)
    total, power, count = sums[:, :, last] - sums[:, :, first] + prior.to(features.device)[:, None, None, None]
    mean = total / count
    return ((heard - mean) / (power / count - mean.square()).sqrt() * real).to(features.dtype)


class AudioFrontend(nn.Module):
    """waveform -> log-mel at 100 Hz -> normalised -> SpecAugment -> two convolutions of stride 2.

    "conv1d" convolves along time only; "conv2d" along time and frequency, which forgives a shift in pitch.
    Normalisation is over the utterance, or `normalize_locally` by `statistics`, mel frames of the past and future.
    """

    def __init__(
        self,
        dim: int,
        *,
        dropout: float,
        spec_augment: dict[str, int],
        kind: str = "conv1d",
        statistics: tuple[int, int] | None = None,
    ):
        super().__init__()
        self.statistics = statistics
        self.spec_augment = build_spec_augment(**spec_augment)
        # along time kernel 6, stride 2, padding 2: each output is centred between the two inputs that it stands for
        if kind == "conv1d":
            self.convolutions = nn.ModuleList(
                nn.Conv1d(width, dim, kernel_size=6, stride=2, padding=2) for width in (N_MELS, dim)
            )
            self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in self.convolutions)
            width = dim
        elif kind == "conv2d":
            self.convolutions = nn.ModuleList(
                nn.Conv2d(channels, CHANNELS_2D, kernel_size=(3, 6), stride=2, padding=(1, 2))
                for channels in (1, CHANNELS_2D)
            )
            self.norms = None
            width = CHANNELS_2D * N_MELS // 4
        else:
            raise InputError(
                f"unknown audio_frontend {kind!r}; expected conv1d, conv2d (recognisers: resnet1d, filterbank)"
            )
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(width, dim)

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """waveform (B, S), lengths (B,) in video frames -> (B, T, D), T the longest length."""
        n_frames = int(lengths.max())
        n_samples = n_frames * SAMPLES_PER_FRAME
        waveform = functional.pad(waveform, (0, max(0, n_samples - waveform.shape[1])))[:, :n_samples]
        with torch.no_grad(), torch.autocast(waveform.device.type, enabled=False):
            features = log_mel(waveform.float())  # (B, L, 80), L = 4 T
            padding = padding_mask(lengths * MELS_PER_FRAME, features.shape[1])
            if self.statistics is None:
                features = normalize_log_mel(features, padding)
            else:
                features = normalize_locally(features, padding, *self.statistics)
        if self.training and self.spec_augment is not None:
            features, _ = self.spec_augment(features)
        features = features.transpose(1, 2)  # (B, 80, L); conv2d: (B, 1, 80, L)
        features = features if self.norms is not None else features[:, None]
        for step, convolution in enumerate(self.convolutions):
            features = convolution(features)  # time last: L / 2, then L / 4
            if self.norms is not None:
                features = self.norms[step](features.transpose(1, 2)).transpose(1, 2)
            real = ~padding_mask(lengths * (MELS_PER_FRAME >> (step + 1)), features.shape[-1])  # (B, time)
            features = functional.silu(features) * real.view(len(real), *[1] * (features.ndim - 2), -1)
        return self.project(self.dropout(features.flatten(1, -2).transpose(1, 2)))


def stack_context(lips: Tensor, lengths: Tensor, context: int = CONTEXT_FRAMES) -> tuple[Tensor, Tensor]:
    """Gather every real frame with its neighbours in time, and leave padding out.

    lips (B, T, H, W), lengths (B,) -> stacks (N, context, H, W) with zeros past an utterance's ends, and the (B, T)
    bool of the frames that they belong to. A 2D convolution over such stacks is a 3D convolution over the video whose
    kernel spans `context` frames, and costs nothing for padded frames.
    """
    real = ~padding_mask(lengths, lips.shape[1])  # (B, T)
    lips = lips * real[:, :, None, None]
    padded = functional.pad(lips, (0, 0, 0, 0, context // 2, context // 2))  # (B, T + context - 1, H, W)
    windows = padded.unfold(1, context, 1)  # (B, T, H, W, context)
    return windows[real].permute(0, 3, 1, 2), real


def _convolution(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _small_trunk(channels: list[int]) -> tuple[nn.Module, int]:
    """Three strided convolutions: 44 px -> 15 -> 8 -> 4."""
    first, second, third = channels
    trunk = nn.Sequential(
        _convolution(CONTEXT_FRAMES, first, kernel=5, stride=3),
        _convolution(first, second, kernel=3, stride=2),
        _convolution(second, third, kernel=3, stride=2),
        nn.Flatten(),
    )
    return trunk, third * 4 * 4


def _activation(name: str, channels: int) -> nn.Module:
    if name == "prelu":
        return nn.PReLU(channels)
    return nn.SiLU(inplace=True) if name == "swish" else nn.ReLU(inplace=True)


def _resnet18_trunk(activation: str) -> tuple[nn.Module, int]:
    """The field's visual front end: 5x7x7 stem and ResNet-18 (Stafylakis & Tzimiropoulos, 2017)."""
    from torchvision.models.resnet import BasicBlock, ResNet

    class Block(BasicBlock):
        """torchvision's, with an activation for each of its two places: slopes that are learned are not shared."""

        def __init__(self, in_channels: int, channels: int, *args, **kwargs):
            super().__init__(in_channels, channels, *args, **kwargs)
            del self.relu
            self.relu1, self.relu2 = _activation(activation, channels), _activation(activation, channels)

        def forward(self, x: Tensor) -> Tensor:
            around = x if self.downsample is None else self.downsample(x)
            return self.relu2(self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))) + around)

    trunk = ResNet(Block, [2, 2, 2, 2])
    trunk.conv1 = nn.Conv2d(CONTEXT_FRAMES, 64, kernel_size=7, stride=2, padding=3, bias=False)
    trunk.relu = _activation(activation, 64)
    trunk.fc = nn.Identity()
    return trunk, 512


class VideoFrontend(nn.Module):
    """Lip crops (B, T, 88, 88) uint8 -> (B, T, D), one feature a frame, each from five frames.

    "resnet18" is for GPUs; "small" halves the picture and has a hundredth of the multiplications, for CPUs. Public
    checkpoints have "resnet18_swish" (Auto-AVSR) and "resnet18_prelu" (AV-HuBERT).
    """

    def __init__(self, dim: int, *, kind: str, channels: list[int], dropout: float):
        super().__init__()
        if kind == "small":
            if len(channels) != 3:
                raise InputError(f"the small visual front end has three convolutions, got visual_channels={channels}")
            self.trunk, width = _small_trunk(channels)
            self.shrink = nn.AvgPool2d(2)
        elif kind in RESNETS:
            self.trunk, width = _resnet18_trunk(RESNETS[kind])
            self.shrink = nn.Identity()
        else:
            raise InputError(f"unknown visual_frontend {kind!r}; expected small, {', '.join(RESNETS)}")
        self.trunk = self.trunk.to(memory_format=torch.channels_last)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(width, dim)

    def forward(self, lips: Tensor, lengths: Tensor) -> Tensor:
        """lips (B, T, 88, 88) uint8, lengths (B,) in frames -> (B, T, D), zero at padded frames."""
        lips = (self.shrink(lips.float()) / 255.0 - LIP_MEAN) / LIP_STD
        stacks, real = stack_context(lips, lengths)  # (N, 5, H, W)
        features = self.project(self.dropout(self.trunk(stacks.contiguous(memory_format=torch.channels_last))))
        output = features.new_zeros(*real.shape, features.shape[-1])
        output[real] = features
        return output
