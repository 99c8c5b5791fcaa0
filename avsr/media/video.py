"""Moving pictures through PyAV: reading any video at 25 fps, writing clips, and the small files that hold lip crops.

Letters: T video frames at 25 fps, H W picture height and width in pixels. Pictures are uint8, RGB or gray.
What is written has the same bytes every time: one encoder thread, no creation time.
"""

import logging
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

from avsr.errors import InputError
from avsr.files import atomic_path
from avsr.media.lips import SIZE
from avsr.media.timing import FPS, SAMPLE_RATE

logger = logging.getLogger(__name__)

LIPS_CRF = "18"  # near lossless: mean error of a gray level about 1 of 255
VIDEO_CRF = "18"
MAX_GAP_S = (
    60.0  # between two pictures; more is a damaged time stamp, which retiming would fill with millions of frames
)
# x264 by default picks code by processor and memory alignment, and its bit counts differ in the last bit
_SAME_BYTES = {"threads": "1", "x264-params": "cpu-independent=1"}


def read_frames(path: str | Path, gray: bool = False) -> np.ndarray:
    """Read a whole video: (T, H, W, 3) RGB or, gray, (T, H, W), uint8, at 25 fps (see `stream_frames`)."""
    return np.stack(list(stream_frames(path, gray)))


def stream_frames(path: str | Path, gray: bool = False) -> Iterator[np.ndarray]:
    """Yield a video's pictures, (H, W, 3) RGB or (H, W) gray uint8, one for each 1/25 s from the first one's time.

    A video at another rate is retimed, and this is logged: each instant shows the picture that starts nearest to it. A
    rotation that the file asks for is done.

    Raises InputError: no such file, a corrupt one, one without a video stream or without pictures, a change of size,
    time stamps that jump by more than a minute.
    """
    for frame in _retime(_timed_frames(Path(path)), path):
        picture = frame.to_ndarray(format="gray" if gray else "rgb24")
        quarter_turns = round(frame.rotation / 90) % 4  # telephones store pictures as the sensor lies
        yield np.ascontiguousarray(np.rot90(picture, quarter_turns)) if quarter_turns else picture


def moving_pictures(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first video stream of an open file that isn't a song's cover, or None."""
    streams = (stream for stream in container.streams.video if Disposition.attached_pic not in stream.disposition)
    return next(streams, None)


def has_video(path: str | Path) -> bool:
    """Whether the file has a video stream (a song's cover is none). Raises InputError on a missing or corrupt file."""
    with _open(Path(path)) as container:
        return moving_pictures(container) is not None


def has_audio(path: str | Path) -> bool:
    """Whether the file has an audio stream. Raises InputError on a missing or corrupt file."""
    with _open(Path(path)) as container:
        return bool(container.streams.audio)


def write_video(path: str | Path, frames: Iterable[np.ndarray], waveform: np.ndarray | None = None) -> None:
    """Write a 25 fps mp4 (H.264 yuv420p, and AAC where `waveform` is given), whole or not at all.

    frames: (T, H, W, 3) RGB or (T, H, W) gray uint8, or an iterable of such pictures; waveform: (S,) float at 16 kHz.
    Raises InputError on no pictures and on an odd height or width, which yuv420p cannot hold.
    """
    _encode(path, frames, "yuv420p", {"crf": VIDEO_CRF, "preset": "medium"}, waveform)


def write_lips(path: str | Path, lips: np.ndarray) -> None:
    """Write lip crops (T, 96, 96) uint8 as a small, near lossless, quickly decoded H.264 mp4, whole or not at all."""
    if lips.shape[1:] != (SIZE, SIZE) or lips.dtype != np.uint8:
        raise InputError(f"{path}: lips must be (T, {SIZE}, {SIZE}) uint8, got {lips.shape} {lips.dtype}")
    _encode(path, lips, "gray", {"crf": LIPS_CRF, "preset": "superfast", "tune": "fastdecode"}, None)


def read_lips(path: str | Path) -> np.ndarray:
    """Read lip crops written by `write_lips`, (T, 96, 96) uint8 gray, as they were coded: no retiming, no scaling.

    Raises InputError: no such file, a corrupt one, one that isn't a 25 fps clip of lip crops.
    """
    path = Path(path)
    frames = []
    with _open(path) as container:
        stream = _video_stream(container, path)
        stream.codec_context.thread_count = 1  # at this size, starting threads costs more than decoding
        if (stream.width, stream.height, stream.average_rate) != (SIZE, SIZE, FPS):
            raise InputError(
                f"{path}: {stream.width}x{stream.height} at {stream.average_rate} fps is no clip of lip crops "
                f"({SIZE}x{SIZE}, {FPS} fps); make them with `avsr prepare`"
            )
        for frame in _decode(container, stream, path):
            frames.append(_gray_plane(frame))
    if not frames:
        raise InputError(f"{path}: the video has no pictures; make the lip crops again")
    return np.stack(frames)


def recompress(pictures: np.ndarray, crf: int) -> np.ndarray:
    """Pictures (T, H, W) gray or (T, H, W, 3) RGB uint8 after H.264 at the quality `crf`, like `pictures`, in memory.

    crf: 0 (as they were) to 51, x264's constant rate factor; 18 looks clean, 28 shows. The artefacts are those of a
    video of this size. Raises InputError on another crf and on an odd height or width of colour pictures.
    """
    if not 0 <= crf <= 51:
        raise InputError(f"crf must be 0 to 51, got {crf}")
    height, width = pictures.shape[1:3]
    gray = pictures.ndim == 3
    if not gray and (height % 2 or width % 2):
        raise InputError(f"pictures are {width}x{height}; H.264 needs even sides")
    encoder, decoder = av.CodecContext.create("libx264", "w"), av.CodecContext.create("h264", "r")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "gray" if gray else "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(FPS), Fraction(1, FPS)
    encoder.options = {"crf": str(crf), "preset": "superfast", **_SAME_BYTES}
    decoder.thread_count = 1
    colors, packets = "gray" if gray else "rgb24", []
    for t, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), colors)
        frame.pts = t
        packets += encoder.encode(frame)
    packets += encoder.encode()
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    return np.stack([_gray_plane(frame) if gray else frame.to_ndarray(format=colors) for frame in frames])


def _gray_plane(frame: av.VideoFrame) -> np.ndarray:
    plane = frame.planes[0]  # gray as it was written; decoders add empty colour planes
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _open(path: Path) -> av.container.InputContainer:
    if not path.is_file():
        raise InputError(f"{path}: no such video file; check the path")
    try:
        return av.open(str(path))
    except av.FFmpegError as error:
        raise InputError(f"{path}: not a readable media file ({error}); export it again") from error


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    stream = moving_pictures(container)
    if stream is None:
        raise InputError(f"{path}: no video stream; give a file with pictures")
    return stream


def _decode(container: av.container.InputContainer, stream: av.VideoStream, path: Path) -> Iterator[av.VideoFrame]:
    try:
        yield from container.decode(stream)
    except av.FFmpegError as error:
        raise InputError(f"{path}: the video is damaged ({error}); export it again") from error


def _timed_frames(path: Path) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """Yield (start_s, duration_s, frame) of each picture, from 0 on; evenly spaced where a file states no times."""
    with _open(path) as container:
        stream = _video_stream(container, path)
        rate = stream.average_rate or stream.guessed_rate or Fraction(FPS)
        first_s, size = None, None
        for index, frame in enumerate(_decode(container, stream, path)):
            if size is not None and size != (frame.width, frame.height):
                raise InputError(
                    f"{path}: picture {index} is {frame.width}x{frame.height}, the others {size}; re-encode"
                )
            size = frame.width, frame.height
            time_s = float(index / rate) if frame.time is None else frame.time
            first_s = time_s if first_s is None else first_s
            yield time_s - first_s, float(1 / rate), frame


def _retime(timed_frames: Iterable[tuple[float, float, av.VideoFrame]], path: str | Path) -> Iterator[av.VideoFrame]:
    """For each instant n / 25 s of the video yield the frame that starts nearest to it."""
    n, n_read, last, last_s, end_s = 0, 0, None, 0.0, 0.0
    for time_s, duration_s, frame in timed_frames:
        n_read += 1
        if last is not None and time_s - last_s > MAX_GAP_S:
            raise InputError(f"{path}: time stamps jump from {last_s:.2f} to {time_s:.2f} s; re-encode the video")
        while last is not None and n / FPS - last_s < time_s - n / FPS:
            yield last
            n += 1
        last, last_s, end_s = frame, time_s, time_s + duration_s
    if last is None:
        raise InputError(f"{path}: the video has no pictures; export it again")
    n_total = max(1, round(end_s * FPS))
    if n_read != n_total:
        logger.info("%s: retimed from %d pictures in %.2f s to %d at %d fps", path, n_read, end_s, n_total, FPS)
    for _ in range(n, n_total):
        yield last


def _encode(
    path: str | Path, frames: Iterable[np.ndarray], pixel_format: str, options: dict, waveform: np.ndarray | None
) -> None:
    with atomic_path(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        video, audio = None, None
        for frame in frames:
            if video is None:
                video = container.add_stream("libx264", rate=FPS, options={**options, **_SAME_BYTES})
                video.pix_fmt = pixel_format
                video.height, video.width = frame.shape[:2]
                if pixel_format == "yuv420p" and (video.height % 2 or video.width % 2):
                    raise InputError(f"{path}: pictures are {video.width}x{video.height}; H.264 needs even sides")
                if waveform is not None:
                    audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "gray" if frame.ndim == 2 else "rgb24")
            container.mux(video.encode(picture))
        if video is None:
            raise InputError(f"{path}: there are no pictures to write")
        container.mux(video.encode())
        if audio is not None:
            samples = av.AudioFrame.from_ndarray(np.asarray(waveform, np.float32)[None], format="fltp", layout="mono")
            samples.sample_rate, samples.pts = SAMPLE_RATE, 0  # the muxer notes the padding before 0
            container.mux(audio.encode(samples))
            container.mux(audio.encode())
