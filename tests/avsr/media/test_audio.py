"""Sound: reading real and made files, checks, log-mel against a loop, and each error."""

import logging

import numpy as np
import pytest
import soundfile
import torch
import torchaudio.functional

from avsr.errors import InputError
from avsr.media.audio import MEL_FLOOR, N_MELS, check_waveform, log_mel, read_audio, write_wav
from avsr.media.timing import SAMPLE_RATE
from avsr.media.video import write_video


def _tone(n_samples: int, sample_rate: int = SAMPLE_RATE, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(n_samples) / sample_rate)).astype(np.float32)


def test_wav_round_trip(tmp_path):
    waveform = _tone(5000)
    write_wav(tmp_path / "a.wav", waveform)
    assert soundfile.info(tmp_path / "a.wav").subtype == "PCM_16"
    read = read_audio(tmp_path / "a.wav")
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, waveform, atol=2 / 32768)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_other_rate_and_stereo_are_converted_and_logged(tmp_path, caplog, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([_tone(44100, 44100), np.zeros(44100)], axis=1), 44100)
    with caplog.at_level(logging.INFO, logger="avsr.media.audio"):
        waveform = read_audio(path)
    assert "resampled from 44100 to 16000 Hz" in caplog.text
    assert waveform.shape == (SAMPLE_RATE,)
    np.testing.assert_allclose(waveform[100:-100], 0.5 * _tone(SAMPLE_RATE)[100:-100], atol=0.02)


def test_right_rate_is_not_logged(tmp_path, caplog):
    write_wav(tmp_path / "a.wav", _tone(2000))
    with caplog.at_level(logging.INFO, logger="avsr.media.audio"):
        read_audio(tmp_path / "a.wav")
    assert not caplog.records


def test_float_file_beyond_full_scale_is_scaled(tmp_path, caplog):
    soundfile.write(tmp_path / "a.wav", 4 * _tone(2000), SAMPLE_RATE, subtype="FLOAT")
    with caplog.at_level(logging.INFO, logger="avsr.media.audio"):
        assert np.abs(read_audio(tmp_path / "a.wav")).max() == 1
    assert "scaled down by 2.0" in caplog.text


def test_sound_of_a_video_is_in_time(tmp_path):
    """AAC pads in front and behind; the click must still lie where it was put."""
    waveform = np.zeros(3 * SAMPLE_RATE // 2, np.float32)
    waveform[9000:9040] = 0.9
    write_video(tmp_path / "a.mp4", np.zeros((38, 32, 32, 3), np.uint8), waveform)
    read = read_audio(tmp_path / "a.mp4")
    assert abs(int(np.abs(read).argmax()) - 9020) < 60
    assert 0 <= len(read) - len(waveform) < 2 * 1024


def test_grid_sound_starts_with_its_first_picture(shared):
    """GRID's mp2 sound starts 481 samples of 44.1 kHz, the encoder's delay, before the pictures."""
    waveform = read_audio(shared / "grid" / "s1" / "bbaf3s.mpg")
    assert waveform.shape == (-(-(131328 - 481) * 16000 // 44100),)
    assert 0.02 < np.abs(waveform).max() <= 1


def test_shared_speech_reads(shared):
    waveform = read_audio(sorted((shared / "speech" / "utterances").glob("*.wav"))[0])
    check_waveform(waveform, "speech")
    assert waveform.ndim == 1


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.wav: no such audio file"):
        read_audio(tmp_path / "nowhere.wav")


@pytest.mark.parametrize("name", ["broken.wav", "broken.flac", "broken.mp4", "broken.mpg"])
def test_corrupt_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"this is no sound at all" * 50)
    with pytest.raises(InputError, match=rf"{name}: not a readable sound file"):
        read_audio(tmp_path / name)


def test_video_without_sound(tmp_path):
    write_video(tmp_path / "a.mp4", np.zeros((3, 32, 32, 3), np.uint8))
    with pytest.raises(InputError, match=r"a\.mp4: no audio stream"):
        read_audio(tmp_path / "a.mp4")


def test_empty_file(tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros(0, np.float32))
    with pytest.raises(InputError, match=r"a\.wav: the sound has no samples"):
        read_audio(tmp_path / "a.wav")


def test_nan_file(tmp_path):
    waveform = _tone(100)
    waveform[7] = np.nan
    soundfile.write(tmp_path / "a.wav", waveform, SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(InputError, match=r"a\.wav: the sound holds NaN"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "waveform, message",
    [
        (np.zeros((2, 100)), r"expected one channel of shape \(samples,\), got \(2, 100\)"),
        (np.zeros(0), "no samples"),
        (np.array([0.1, np.inf]), "NaN or infinite"),
        (np.full(1000, 5e-5), r"silent \(peak 5\.0e-05"),
    ],
)
def test_check_waveform_names_what_and_where(waveform, message):
    with pytest.raises(InputError, match=f"utt7: .*{message}"):
        check_waveform(waveform, "utt7")


def test_check_waveform_accepts_quiet_speech():
    check_waveform(1e-3 * _tone(1000), "utt7")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_wav(tmp_path / "a.wav", _tone(100))
    before = (tmp_path / "a.wav").read_bytes()
    with pytest.raises((KeyError, ValueError)):
        write_wav(tmp_path / "a.wav", np.array(["x", "y"]))
    assert (tmp_path / "a.wav").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def _naive_log_mel(waveform: np.ndarray) -> np.ndarray:
    """One mel frame at a time: 25 ms around the middle of its 10 ms."""
    n_frames = 4 * int(np.ceil(len(waveform) / 640))
    filters = torchaudio.functional.melscale_fbanks(257, 20.0, 7600.0, N_MELS, SAMPLE_RATE).double().numpy()
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = []
    for frame in range(n_frames):
        middle = 160 * frame + 80
        indices = np.arange(middle - 200, middle + 200)
        inside = (indices >= 0) & (indices < len(waveform))
        piece = np.where(inside, waveform[np.clip(indices, 0, len(waveform) - 1)], 0.0)
        power = np.abs(np.fft.rfft(piece * hann, 512)) ** 2
        frames.append(np.log(np.maximum(power @ filters, MEL_FLOOR)))
    return np.array(frames)


def test_log_mel_equals_the_loop():
    waveform = np.random.default_rng(0).normal(0, 0.1, 3000).astype(np.float32)
    mel = log_mel(torch.from_numpy(waveform)).numpy()
    assert mel.shape == (20, N_MELS)
    np.testing.assert_allclose(mel, _naive_log_mel(waveform.astype(np.float64)), atol=2e-4)


@pytest.mark.parametrize("n_samples, n_mels", [(1, 4), (640, 4), (641, 8), (1280, 8)])
def test_log_mel_has_four_frames_a_video_frame(n_samples, n_mels):
    assert log_mel(torch.ones(n_samples)).shape == (n_mels, N_MELS)


def test_log_mel_of_silence_is_the_floor():
    np.testing.assert_allclose(log_mel(torch.zeros(640)).numpy(), np.log(MEL_FLOOR), rtol=1e-6)


def test_log_mel_alone_equals_padded_in_a_batch():
    rng = np.random.default_rng(1)
    short, long = (torch.from_numpy(rng.normal(0, 0.1, n).astype(np.float32)) for n in (3000, 9000))
    batch = torch.stack([torch.nn.functional.pad(short, (0, 6000)), long])
    mel = log_mel(batch)
    assert mel.shape == (2, 60, N_MELS)
    torch.testing.assert_close(mel[0, :20], log_mel(short), atol=1e-4, rtol=0)
    torch.testing.assert_close(mel[1], log_mel(long), atol=1e-4, rtol=0)


def test_log_mel_peaks_where_the_tone_is():
    low, high = (log_mel(torch.from_numpy(_tone(6400, hz=hz))).mean(0).argmax() for hz in (300.0, 3000.0))
    assert low < high
