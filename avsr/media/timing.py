"""The kit's clock: the only home of its rates and of their exact ratios.

Sound runs at 16 kHz, log-mel at 100 Hz, video and motion at 25 fps: 160 samples a mel frame, four mel frames and
640 samples a video frame, with no remainder anywhere.
"""


def _exact_div(a: int, b: int) -> int:
    quotient, rest = divmod(a, b)
    if rest:
        raise ValueError(f"{a} is not a multiple of {b}")
    return quotient


SAMPLE_RATE = 16_000  # samples / s
FPS = 25  # video and motion frames / s
MEL_RATE = 100  # log-mel frames / s

HOP_SAMPLES = _exact_div(SAMPLE_RATE, MEL_RATE)  # 160 samples / mel frame
SAMPLES_PER_FRAME = _exact_div(SAMPLE_RATE, FPS)  # 640 samples / video frame
MELS_PER_FRAME = _exact_div(MEL_RATE, FPS)  # 4 mel frames / video frame


def frames_of(n_samples: int) -> int:
    """Video frames that cover `n_samples` samples; the last frame may be covered in part."""
    return -(-n_samples // SAMPLES_PER_FRAME)


def samples_of(n_frames: int) -> int:
    """Samples that `n_frames` video frames last."""
    return n_frames * SAMPLES_PER_FRAME
