"""Raw sound to features at the video's rate: a ResNet-18 along time over the waveform itself.

The audio front end of Petridis et al. (2018) and Ma et al. (2021, 2023), in the layer names of Auto-AVSR's checkpoints.

Letters: B batch, S samples, T video frames, C channels, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from avsr.media.timing import HOP_SAMPLES, SAMPLES_PER_FRAME, samples_of
from avsr.models.espnet import padding_mask

CHANNELS = (64, 128, 256, 512)  # of the four layers; each but the first halves the rate
STRIDE = 4  # of the first convolution
POOLED = SAMPLES_PER_FRAME // (STRIDE * 2 ** (len(CHANNELS) - 1))  # 20 steps of the last layer a video frame
VARIANCE_FLOOR = 1e-8


class _Block(nn.Module):
    """Two convolutions and a way around them: (B, C, S) -> (B, channels, S / stride)."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv1d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm1d(channels)
        self.conv2 = nn.Conv1d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm1d(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            shortcut = nn.Conv1d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm1d(channels))

    def forward(self, x: Tensor) -> Tensor:
        around = x if self.downsample is None else self.downsample(x)
        return functional.silu(self.bn2(self.conv2(functional.silu(self.bn1(self.conv1(x))))) + around)


class _ResNet18(nn.Module):
    """(B, 1, 640 T) -> (B, 512, T)."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(1, CHANNELS[0], 80, STRIDE, padding=38, bias=False)
        self.bn1 = nn.BatchNorm1d(CHANNELS[0])
        widths = (CHANNELS[0], *CHANNELS)
        for number, (before, channels) in enumerate(zip(widths, CHANNELS, strict=False), start=1):
            layer = nn.Sequential(_Block(before, channels, 1 if number == 1 else 2), _Block(channels, channels, 1))
            setattr(self, f"layer{number}", layer)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.silu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return functional.avg_pool1d(x, POOLED)


class WaveformFrontend(nn.Module):
    """waveform -> zero mean and unit variance over the utterance -> ResNet-18 -> one feature a video frame.

    An utterance's features in eval mode are the same alone and in a padded batch: every convolution gets zeros where
    padding is, as it does past the end of an utterance that stands alone. In training `time_masks` stretches of each
    waveform, of up to `time_mask_mels` mel frames, are silent.
    """

    def __init__(self, dim: int, *, dropout: float, time_masks: int, time_mask_mels: int):
        super().__init__()
        self.time_masks = time_masks
        self.time_mask_samples = time_mask_mels * HOP_SAMPLES
        self.trunk = _ResNet18()
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(CHANNELS[-1], dim)
        self._lengths: Tensor | None = None  # (B,) video frames, of the batch in flight
        for module in self.trunk.modules():
            if isinstance(module, nn.Conv1d) and module.kernel_size[0] > 1:
                module.register_forward_pre_hook(self._silence_padding)

    def _silence_padding(self, _module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = inputs  # (B, C, steps)
        steps_a_frame = x.shape[-1] // int(self._lengths.max())
        return (x.masked_fill(padding_mask(self._lengths * steps_a_frame, x.shape[-1])[:, None], 0.0),)

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """waveform (B, S), lengths (B,) in video frames -> (B, T, D), T the longest length."""
        n_samples = samples_of(int(lengths.max()))
        waveform = functional.pad(waveform, (0, max(0, n_samples - waveform.shape[1])))[:, :n_samples]
        with torch.no_grad(), torch.autocast(waveform.device.type, enabled=False):
            waveform = normalize_waveform(waveform.float(), lengths)
            if self.training:
                waveform = self._mask_stretches(waveform)
        self._lengths = lengths
        features = self.trunk(waveform[:, None]).transpose(1, 2)  # (B, T, 512)
        self._lengths = None
        return self.project(self.dropout(features))

    def _mask_stretches(self, waveform: Tensor) -> Tensor:
        n_samples, samples = waveform.shape[1], torch.arange(waveform.shape[1], device=waveform.device)
        for _ in range(self.time_masks):
            chance = torch.rand(2, len(waveform), 1, device=waveform.device)
            first, width = chance[0] * n_samples, chance[1] * self.time_mask_samples
            waveform = waveform.masked_fill((samples >= first) & (samples < first + width), 0.0)
        return waveform


def normalize_waveform(waveform: Tensor, lengths: Tensor) -> Tensor:
    """Give each utterance zero mean and unit variance over its own frames: (B, S), lengths (B,) -> (B, S), 0 beyond."""
    real = ~padding_mask(samples_of(lengths), waveform.shape[1])
    count = samples_of(lengths)[:, None]
    centred = (waveform - (waveform * real).sum(dim=1, keepdim=True) / count) * real
    return centred / (centred.square().sum(dim=1, keepdim=True) / count + VARIANCE_FLOOR).sqrt()
