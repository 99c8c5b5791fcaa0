"""Sound: reading any file as 16 kHz mono, checking it, writing it, and its log-mel spectrogram.

Letters: S samples, L mel frames (100 Hz), C channels. A waveform is (S,) float32 in [-1, 1] at 16 kHz.
"""

import functools
import logging
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
import torchaudio.functional

from avsr.errors import InputError
from avsr.files import atomic_path
from avsr.media.timing import HOP_SAMPLES, SAMPLE_RATE, frames_of, samples_of
from avsr.media.video import moving_pictures

logger = logging.getLogger(__name__)

N_MELS = 80
N_FFT = 512
WINDOW_SAMPLES = 400  # 25 ms
MEL_LOW_HZ, MEL_HIGH_HZ = 20.0, 7600.0
MEL_FLOOR = 1e-5  # power; its log is what silence reads
SILENT_PEAK = 1e-4  # -80 dB of full scale: three steps of a 16-bit recording

_SOUNDFILE_SUFFIXES = {".wav", ".flac", ".ogg"}


def read_audio(path: str | Path) -> np.ndarray:
    """Read the sound of an audio or video file as (S,) float32, mono, 16 kHz, in [-1, 1].

    Channels are averaged. Another sample rate is resampled and logged. The sound of a video starts at the video's first
    picture: a codec's padding before it is cut, a late start is filled with zeros. Values beyond full scale (a float
    file, or the overshoot of resampling) scale the whole waveform down, which is logged.

    Raises InputError: no such file, a corrupt one, one without an audio stream or without samples, NaN or infinity.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such audio file; check the path")
    read = _read_soundfile if path.suffix.lower() in _SOUNDFILE_SUFFIXES else _read_container
    waveform, sample_rate = read(path)
    if not waveform.size:
        raise InputError(f"{path}: the sound has no samples; record or export it again")
    if not np.isfinite(waveform).all():
        raise InputError(f"{path}: the sound holds NaN or infinite samples; export it again as 16-bit PCM")
    if sample_rate != SAMPLE_RATE:
        logger.info("%s: resampled from %d to %d Hz", path, sample_rate, SAMPLE_RATE)
        waveform = torchaudio.functional.resample(torch.from_numpy(waveform), sample_rate, SAMPLE_RATE).numpy()
    peak = np.abs(waveform).max()
    if peak > 1:
        logger.info("%s: scaled down by %.3f to stay in [-1, 1]", path, peak)
        waveform = waveform / peak
    return waveform


def check_waveform(waveform: np.ndarray, where: str | Path) -> None:
    """Raise InputError, naming `where`, unless `waveform` is (S,) of finite, audible samples."""
    if waveform.ndim != 1:
        raise InputError(
            f"{where}: expected one channel of shape (samples,), got {waveform.shape}; average the channels"
        )
    if not waveform.size:
        raise InputError(f"{where}: the sound has no samples; record or export it again")
    if not np.isfinite(waveform).all():
        raise InputError(f"{where}: the sound holds NaN or infinite samples; export it again as 16-bit PCM")
    peak = np.abs(waveform).max()
    if peak < SILENT_PEAK:
        raise InputError(f"{where}: the sound is silent (peak {peak:.1e} of full scale); leave the utterance out")


def write_wav(path: str | Path, waveform: np.ndarray) -> None:
    """Write (S,) float in [-1, 1] as a 16-bit PCM WAV at 16 kHz, whole or not at all."""
    with atomic_path(path) as partial:
        soundfile.write(partial, waveform, SAMPLE_RATE, format="WAV", subtype="PCM_16")


def log_mel(waveform: torch.Tensor) -> torch.Tensor:
    """Natural-log mel power spectrogram: (..., S) float at 16 kHz -> (..., L, N_MELS) float32.

    L is exactly four per video frame that the sound covers; the last video frame is filled up with zeros. Mel frame l
    is centred on its own hop, samples 160 l to 160 (l + 1), with zeros around the sound, so that neither further zeros
    behind it nor the rest of a batch change it. Mel scale and filters: HTK, as torchaudio computes them.
    """
    *leading, n_samples = waveform.shape
    n_padded = samples_of(frames_of(n_samples))
    edge = (N_FFT - HOP_SAMPLES) // 2
    signal = waveform.reshape(-1, n_samples).float()
    signal = torch.nn.functional.pad(signal, (edge, n_padded - n_samples + edge))
    window = torch.hann_window(WINDOW_SAMPLES, device=signal.device)
    spectrum = torch.stft(
        signal, N_FFT, HOP_SAMPLES, WINDOW_SAMPLES, window, center=False, return_complex=True
    )  # (N, bins, L)
    power = spectrum.abs().square().transpose(1, 2)
    mel = power @ _mel_filters().to(signal.device)
    return mel.clamp(min=MEL_FLOOR).log().reshape(*leading, -1, N_MELS)


@functools.cache
def _mel_filters() -> torch.Tensor:
    return torchaudio.functional.melscale_fbanks(N_FFT // 2 + 1, MEL_LOW_HZ, MEL_HIGH_HZ, N_MELS, SAMPLE_RATE)


def _read_soundfile(path: Path) -> tuple[np.ndarray, int]:
    try:
        samples, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)  # (S, C)
    except soundfile.LibsndfileError as error:
        raise InputError(f"{path}: not a readable sound file ({error}); export it again") from error
    return samples.mean(axis=1), sample_rate


def _read_container(path: Path) -> tuple[np.ndarray, int]:
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise InputError(f"{path}: no audio stream; give a file with sound, or the sound as a file of its own")
            stream = container.streams.audio[0]
            sample_rate = stream.codec_context.sample_rate
            to_float = av.AudioResampler(format="fltp", rate=sample_rate)
            start_s, blocks = None, []
            for frame in container.decode(stream):
                start_s = frame.time if start_s is None else start_s
                blocks += [block.to_ndarray().mean(axis=0) for block in to_float.resample(frame)]  # (C, S) -> (S,)
            blocks += [block.to_ndarray().mean(axis=0) for block in to_float.resample(None)]
            video = moving_pictures(container)
            video_start_s = None
            if video is not None and video.start_time is not None:
                video_start_s = float(video.start_time * video.time_base)
    except av.FFmpegError as error:
        raise InputError(f"{path}: not a readable sound file ({error}); export it again") from error
    waveform = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if start_s is not None and video_start_s is not None:
        late_samples = round((start_s - video_start_s) * sample_rate)
        waveform = np.pad(waveform, (late_samples, 0)) if late_samples > 0 else waveform[-late_samples:]
    return waveform, sample_rate
