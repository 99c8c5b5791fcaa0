"""How far a model hears and sees: bounded views make streaming possible.

Units: video frames (25 a second), mel frames (100 a second).
"""

from dataclasses import dataclass

from avsr.errors import InputError
from avsr.media.timing import MEL_RATE, MELS_PER_FRAME
from avsr.models.frontends import FUTURE_MELS, PAST_MELS

SPILL_MELS = 1  # the window of a mel frame's spectrum reaches into its neighbours


@dataclass
class ViewConfig:
    """Bounds on what an encoder and the normalisation of its sound depend on; None: the whole utterance."""

    attention_past: int | None = None  # frames before its own that a frame attends to in each layer
    attention_future: int | None = None  # and after it
    statistics_past_s: float | None = None  # sound before a frame by which log-mel is normalised
    statistics_future_s: float | None = None  # and after it

    def __post_init__(self):
        for name, unit in (("attention_{}", "frames"), ("statistics_{}_s", "seconds")):
            keys = name.format("past"), name.format("future")
            past, future = (getattr(self, key) for key in keys)
            if (past is None) != (future is None) or (past is not None and min(past, future) < 0):
                raise InputError(f"{keys[0]} and {keys[1]} are {unit} from 0, or both null; got {past} and {future}")

    @property
    def attention(self) -> tuple[int, int] | None:
        """Frames before and after its own that a frame attends to in each layer; None: all."""
        return None if self.attention_past is None else (self.attention_past, self.attention_future)

    @property
    def statistics(self) -> tuple[int, int] | None:
        """Mel frames before and after its own by which one is normalised; None: the whole utterance."""
        if self.statistics_past_s is None:
            return None
        return round(self.statistics_past_s * MEL_RATE), round(self.statistics_future_s * MEL_RATE)


def encoder_view(kind: str, layers: int, kernel: int, attention: tuple[int, int]) -> tuple[int, int]:
    """Frames before and after its own that an output of `build_encoder` depends on."""
    reach = kernel // 2
    if kind == "conformer":
        past, future = (frames + reach for frames in attention)
    else:  # attention beside one convolution, then another
        past, future = (max(frames, reach) + reach for frames in attention)
    return layers * past, layers * future


def audio_view(statistics: tuple[int, int]) -> tuple[int, int]:
    """Video frames before and after its own that a feature of `AudioFrontend` depends on."""
    past, future = (
        -(-(mels + around + SPILL_MELS) // MELS_PER_FRAME)
        for mels, around in zip((PAST_MELS, FUTURE_MELS), statistics, strict=True)
    )
    return past, future
