"""Videos and lip clips: round trips, retiming against a naive search, equal bytes, and each error."""

import logging
import struct
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition

from avsr.errors import InputError
from avsr.media.audio import read_audio
from avsr.media.lips import SIZE
from avsr.media.video import (
    has_audio,
    has_video,
    read_frames,
    read_lips,
    recompress,
    stream_frames,
    write_lips,
    write_video,
)


def _levels(n_frames: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Pictures (T, H, W, 3) of one gray level each, which survives coding and tells the frame's number."""
    levels = (20 + 5 * (np.arange(n_frames) % 40)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (n_frames, height, width, 3))


def _numbers(frames: np.ndarray) -> list[int]:
    return [round((float(frame.mean()) - 20) / 5) for frame in frames]


def _soft_lips(n_frames: int) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    time_s = np.arange(n_frames)[:, None, None] / 25
    return (128 + 60 * np.sin(x / 9 + 3 * time_s) * np.cos(y / 11 - 2 * time_s)).astype(np.uint8)


def _write_at(path, frames, times_ms, fps=25):
    """Write pictures at given presentation times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for picture, time_ms in zip(frames, times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = int(time_ms), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_video_round_trip(tmp_path):
    frames = _levels(30)
    write_video(tmp_path / "a.mp4", frames, np.zeros(19200, np.float32))
    read = read_frames(tmp_path / "a.mp4")
    assert read.shape == frames.shape and read.dtype == np.uint8
    assert np.abs(read.astype(int) - frames).max() <= 3
    gray = read_frames(tmp_path / "a.mp4", gray=True)
    assert gray.shape == frames.shape[:3]
    assert np.abs(gray.astype(int) - frames[..., 0]).max() <= 3
    assert has_video(tmp_path / "a.mp4") and has_audio(tmp_path / "a.mp4")


def test_colours_are_kept(tmp_path):
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    frames[...] = 200, 60, 30
    write_video(tmp_path / "a.mp4", frames)
    assert np.abs(read_frames(tmp_path / "a.mp4").astype(int) - frames).max() <= 4
    assert not has_audio(tmp_path / "a.mp4")


def test_pictures_may_come_one_by_one(tmp_path):
    write_video(tmp_path / "whole.mp4", _levels(9))
    write_video(tmp_path / "stream.mp4", (frame for frame in _levels(9)))
    assert (tmp_path / "whole.mp4").read_bytes() == (tmp_path / "stream.mp4").read_bytes()
    assert len(list(stream_frames(tmp_path / "stream.mp4"))) == 9


def test_equal_input_gives_equal_bytes(tmp_path):
    """x264's default settings fail this about every fourth time; a creation time would fail it after a second."""
    sound = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    contents = set()
    for _ in range(10):
        write_video(tmp_path / "a.mp4", _levels(12), sound)
        write_lips(tmp_path / "lips.mp4", _soft_lips(12))
        contents.add((tmp_path / "a.mp4").read_bytes() + (tmp_path / "lips.mp4").read_bytes())
        time.sleep(0.12)
    assert len(contents) == 1


@pytest.mark.parametrize("fps", [10, 24, 30, 50, 60])
def test_other_rates_are_retimed_to_the_nearest_picture(tmp_path, caplog, fps):
    n_frames = 36
    times_s = np.arange(n_frames) / fps
    _write_at(tmp_path / "a.mkv", _levels(n_frames), np.round(1000 * times_s), fps)
    with caplog.at_level(logging.INFO, logger="avsr.media.video"):
        read = read_frames(tmp_path / "a.mkv")
    wanted_s = np.arange(len(read)) / 25
    distance_s = np.abs(wanted_s[:, None] - times_s)
    shown = np.array(_numbers(read))
    assert (distance_s[np.arange(len(read)), shown] <= distance_s.min(axis=1) + 1e-3).all()
    assert abs(len(read) / 25 - n_frames / fps) <= 0.03
    assert "retimed" in caplog.text


def test_uneven_times_are_retimed(tmp_path):
    _write_at(tmp_path / "a.mkv", _levels(5), [0, 40, 210, 250, 290])
    assert _numbers(read_frames(tmp_path / "a.mkv")) == [0, 1, 1, 1, 2, 2, 3, 4]  # 120 ms is nearer to 40 than to 210


def test_right_rate_is_not_logged(tmp_path, caplog):
    write_video(tmp_path / "a.mp4", _levels(10))
    with caplog.at_level(logging.INFO, logger="avsr.media.video"):
        assert _numbers(read_frames(tmp_path / "a.mp4")) == list(range(10))
    assert not caplog.records


def test_first_picture_may_start_late(tmp_path):
    _write_at(tmp_path / "a.mkv", _levels(10), 540 + 40 * np.arange(10))
    assert _numbers(read_frames(tmp_path / "a.mkv")) == list(range(10))


def test_rotation_of_a_telephone_is_done(tmp_path):
    """mp4 keeps the rotation as a matrix in the track header (ISO/IEC 14496-12, 8.3.2): here a quarter clockwise."""
    frames = np.zeros((2, 32, 64, 3), np.uint8)
    frames[:, :16, :] = 250  # bright above
    write_video(tmp_path / "a.mp4", frames)
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    matrix = content.index(b"tkhd") + 44
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(content)
    read = read_frames(tmp_path / "a.mp4", gray=True)
    assert read.shape == (2, 64, 32)
    assert read[0, :, 24].mean() > 200 and read[0, :, 8].mean() < 50  # bright on the right


def test_a_song_s_cover_is_no_video(tmp_path):
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=25)
        cover.width = cover.height = 64
        cover.pix_fmt = "yuvj420p"
        cover.disposition = Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        samples = av.AudioFrame.from_ndarray(np.full((1, 16000), 0.1, np.float32), "fltp", "mono")
        samples.sample_rate, samples.pts = 16000, 0
        container.mux(sound.encode(samples))
        container.mux(sound.encode())
    with av.open(str(tmp_path / "a.m4a")) as container:
        assert len(container.streams.video) == 1
    assert has_audio(tmp_path / "a.m4a") and not has_video(tmp_path / "a.m4a")
    assert 16000 <= len(read_audio(tmp_path / "a.m4a")) < 17100


def test_a_jump_of_the_time_stamps(tmp_path):
    _write_at(tmp_path / "a.mkv", _levels(3), [0, 40, 7_000_000])
    with pytest.raises(InputError, match=r"a\.mkv: time stamps jump from 0\.04 to 7000\.00 s"):
        read_frames(tmp_path / "a.mkv")


def test_grid_reads(shared):
    frames = read_frames(shared / "grid" / "s1" / "bbaf3s.mpg")
    assert frames.shape == (75, 288, 360, 3)
    gray = read_frames(shared / "grid" / "s1" / "bbaf3s.mpg", gray=True)
    luma = frames @ np.array([0.299, 0.587, 0.114])
    assert np.abs(gray - luma).mean() < 3


def test_lips_round_trip_is_near_lossless_and_small(tmp_path):
    lips = _soft_lips(75)
    write_lips(tmp_path / "a.mp4", lips)
    read = read_lips(tmp_path / "a.mp4")
    assert read.shape == lips.shape and read.dtype == np.uint8
    assert np.abs(read.astype(int) - lips).mean() < 1
    assert (tmp_path / "a.mp4").stat().st_size < lips.size / 10


@pytest.mark.parametrize("level", [0, 16, 235, 255])
def test_lips_keep_the_full_range(tmp_path, level):
    write_lips(tmp_path / "a.mp4", np.full((3, SIZE, SIZE), level, np.uint8))
    assert np.abs(read_lips(tmp_path / "a.mp4").astype(int) - level).max() <= 1


def test_lips_read_fast(tmp_path):
    """75 frames take about 3 ms; even a busy machine must stay under 50."""
    write_lips(tmp_path / "a.mp4", _soft_lips(75))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        read_lips(tmp_path / "a.mp4")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05


@pytest.mark.parametrize("read", [read_frames, read_lips, has_video, has_audio])
def test_missing_and_corrupt_files(tmp_path, read):
    with pytest.raises(InputError, match=r"nowhere\.mp4: no such video file"):
        read(tmp_path / "nowhere.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no video " * 100)
    with pytest.raises(InputError, match=r"broken\.mp4: not a readable media file"):
        read(tmp_path / "broken.mp4")


def test_a_file_cut_short_is_corrupt(tmp_path):
    write_video(tmp_path / "a.mp4", _levels(20))
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[: len(content) // 2])  # mp4 keeps its index at the end
    with pytest.raises(InputError, match=r"a\.mp4: not a readable media file"):
        read_frames(tmp_path / "a.mp4")


def test_damage_in_the_middle(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3), np.uint8)
    write_video(tmp_path / "a.mp4", noise)
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    content[len(content) // 4 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mp4: the video is damaged"):
        read_frames(tmp_path / "a.mp4")


def test_sound_file_has_no_pictures(tmp_path):
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), "s16", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
    assert has_audio(tmp_path / "a.wav") and not has_video(tmp_path / "a.wav")
    with pytest.raises(InputError, match=r"a\.wav: no video stream"):
        read_frames(tmp_path / "a.wav")


def test_another_video_is_no_lip_clip(tmp_path):
    write_video(tmp_path / "a.mp4", _levels(3))
    with pytest.raises(InputError, match=r"a\.mp4: 48x32 at 25 fps is no clip of lip crops"):
        read_lips(tmp_path / "a.mp4")


@pytest.mark.parametrize("size", [(31, 32), (32, 31), (33, 33)])
def test_odd_sizes_are_refused_and_leave_nothing(tmp_path, size):
    with pytest.raises(InputError, match=rf"a\.mp4: pictures are {size[1]}x{size[0]}; H\.264 needs even sides"):
        write_video(tmp_path / "a.mp4", _levels(3, *size))
    assert not list(tmp_path.iterdir())


def test_no_pictures_are_refused(tmp_path):
    with pytest.raises(InputError, match="no pictures to write"):
        write_video(tmp_path / "a.mp4", np.zeros((0, 32, 32, 3), np.uint8))
    with pytest.raises(InputError, match="no pictures to write"):
        write_lips(tmp_path / "a.mp4", np.zeros((0, SIZE, SIZE), np.uint8))
    assert not list(tmp_path.iterdir())


def test_lips_of_another_type_are_refused(tmp_path):
    with pytest.raises(InputError, match="must be .* uint8, got .* float64"):
        write_lips(tmp_path / "a.mp4", np.zeros((2, SIZE, SIZE)))


@pytest.mark.parametrize("shape", [(7, 48, 64), (7, 48, 64, 3)])
def test_recompressed_in_memory_the_worse_the_higher_the_crf(shape):
    y, x = np.mgrid[:48, :64]
    pictures = np.stack([128 + 90 * np.sin(0.2 * x + 0.3 * y + t) * np.cos(0.15 * y) for t in range(7)])
    noise = np.random.default_rng(0).normal(0, 4, (7, 48, 64))
    pictures = np.clip(pictures + noise, 0, 255).astype(np.uint8)
    if len(shape) == 4:
        pictures = np.repeat(pictures[..., None], 3, axis=-1)
    errors = []
    for crf in (10, 24, 36):
        coded = recompress(pictures, crf)
        assert coded.shape == shape and coded.dtype == np.uint8
        assert np.array_equal(coded, recompress(pictures, crf))
        errors.append(np.abs(coded.astype(int) - pictures).mean())
        by_frame = np.abs(coded[:, None].astype(int) - pictures[None]).reshape(7, 7, -1).mean(axis=-1)
        assert (by_frame.argmin(axis=1) == np.arange(7)).all()  # no frame is lost or late
    assert errors[0] < 2 < errors[2] and errors == sorted(errors)


def test_one_picture_recompressed():
    assert recompress(np.full((1, 96, 96), 90, np.uint8), 30).shape == (1, 96, 96)


def test_what_cannot_be_recompressed():
    with pytest.raises(InputError, match="crf must be 0 to 51, got 52"):
        recompress(np.zeros((2, 4, 4), np.uint8), 52)
    with pytest.raises(InputError, match="pictures are 5x4; H.264 needs even sides"):
        recompress(np.zeros((2, 4, 5, 3), np.uint8), 20)
