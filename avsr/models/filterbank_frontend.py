"""Log filterbanks as AV-HuBERT hears them (Shi et al., 2022): 26 bands at 100 Hz, four frames stacked a video frame.

Windows, filters and scale are those of python_speech_features' `logfbank` on 16-bit samples, which its checkpoints were
trained with. Letters: B batch, S samples, L filterbank frames, T video frames, D width.
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from avsr.media.timing import HOP_SAMPLES, MELS_PER_FRAME, SAMPLE_RATE, samples_of
from avsr.models.espnet import padding_mask

N_BANDS, N_FFT, WINDOW_SAMPLES = 26, 512, 400
PREEMPHASIS = 0.97
FULL_SCALE = 32768.0
FLOOR = 2.220446049250313e-16  # energy of a band that has none: float64's epsilon


class FilterbankFrontend(nn.Module):
    """waveform -> (B, T, D): 104 log energies a video frame, normalised by their own mean and variance, projected."""

    def __init__(self, dim: int, *, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(N_BANDS * MELS_PER_FRAME, dim)

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """waveform (B, S), lengths (B,) in video frames -> (B, T, D), T the longest length."""
        n_samples = samples_of(int(lengths.max()))
        waveform = functional.pad(waveform, (0, max(0, n_samples - waveform.shape[1])))[:, :n_samples]
        with torch.no_grad(), torch.autocast(waveform.device.type, enabled=False):
            features = stacked_filterbanks(waveform.float(), lengths)
        return self.project(self.dropout(functional.layer_norm(features, features.shape[-1:])))


def stacked_filterbanks(waveform: Tensor, lengths: Tensor) -> Tensor:
    """(B, S) at 16 kHz, lengths (B,) in video frames -> (B, T, 104).

    A window begins at each 160th sample, so that the last of an utterance would lie wholly past its end: it is 0.
    """
    n_frames = waveform.shape[1] // samples_of(1)
    emphasized = FULL_SCALE * (waveform - PREEMPHASIS * functional.pad(waveform, (1, 0))[:, :-1])
    emphasized = emphasized.masked_fill(padding_mask(samples_of(lengths), waveform.shape[1]), 0.0)
    windows = functional.pad(emphasized, (0, WINDOW_SAMPLES)).unfold(1, WINDOW_SAMPLES, HOP_SAMPLES)
    windows = windows[:, : n_frames * MELS_PER_FRAME]  # (B, L, 400)
    power = torch.fft.rfft(windows, N_FFT).abs().square() / N_FFT
    energies = power @ _filters().to(power.device)  # (B, L, 26)
    bands = torch.where(energies == 0, FLOOR, energies).log()
    past = padding_mask(lengths * MELS_PER_FRAME - 1, bands.shape[1])
    return bands.masked_fill(past[:, :, None], 0.0).reshape(len(bands), n_frames, -1)


@functools.cache
def _filters() -> Tensor:
    """Triangles between whole bins, evenly spaced on the mel scale from 0 to 8 kHz: (257, 26)."""
    top = 2595.0 * torch.log10(torch.tensor(1.0 + SAMPLE_RATE / 2 / 700.0, dtype=torch.float64))
    edges = 700.0 * (10.0 ** (torch.linspace(0.0, float(top), N_BANDS + 2, dtype=torch.float64) / 2595.0) - 1.0)
    edges = torch.floor((N_FFT + 1) * edges / SAMPLE_RATE)
    bins = torch.arange(N_FFT // 2 + 1, dtype=torch.float64)[:, None]
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins >= left) & (bins < middle)
    falling = (bins >= middle) & (bins < right)
    filters = rising * (bins - left) / (middle - left) + falling * (right - bins) / (right - middle)
    return filters.float()
