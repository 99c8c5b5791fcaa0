"""Speech that is still going on to motion: a face that speaks with a constant delay and a constant memory.

    stream = MotionStream(load_generator(checkpoint))
    for samples in microphone:
        show(stream.feed(samples))
    show(stream.finish())

Letters: S samples, T video frames, K basis size.
"""

import numpy as np
from torch import Tensor

from avsr.errors import InputError
from avsr.media.timing import FPS, SAMPLES_PER_FRAME, frames_of, samples_of
from talking3d.activity import VIEW_FRAMES, activity_of, frame_powers
from talking3d.models.motion_model import MotionModel


class MotionStream:
    """Coefficients of the frames that are decided, as their sound comes in.

    All that it gives, put together, is `talking3d.animate.speak` of the whole recording, whatever the pieces that are
    fed. A frame is decided when `lookahead_frames` after it have been heard. Each call hears what its frames depend on
    again, so larger pieces cost less.

    Args:
        model: a generator with a bounded view.
        style: a training speaker's name, or a style (D,) of `fit_style`; None: the average style.

    Raises:
        InputError: a model that hears whole utterances; an unknown style; in `feed`, samples that are no sound.
    """

    def __init__(self, model: MotionModel, style: str | Tensor | None = None):
        if model.view_frames is None:
            raise InputError(
                f"this {model.NAME} hears whole utterances and cannot speak along: train one whose encoder has "
                "attention_ and statistics_ past and future in numbers"
            )
        if not isinstance(style, Tensor):
            model.style_index(style)
        self.model, self.style = model, style
        self._at_once = samples_of(round(model.config.window_s * FPS))
        self._next = 0  # the first frame that is not decided
        self._heard = 0  # frames of which all samples are in
        self._samples, self._samples_from = np.zeros(0, np.float32), 0  # from the start of this frame on
        self._powers, self._powers_from = np.zeros(0), 0  # of the frames from this one to `_heard`
        self._finished = False

    @property
    def lookahead_frames(self) -> int:
        """Frames after its own that a frame waits for."""
        return max(self.model.view_frames[1], VIEW_FRAMES[1])

    @property
    def lookahead_ms(self) -> float:
        """The same in milliseconds: the delay from a frame's last sample to its motion, computing apart."""
        return 1000 * self.lookahead_frames / FPS

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Samples (S,) at 16 kHz, any number of them -> coefficients (T, K) of the frames they decide."""
        samples = np.asarray(samples, dtype=np.float32)
        if self._finished:
            raise InputError("this stream has finished: make another for more speech")
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise InputError(f"a stream is fed finite samples of shape (samples,), got shape {samples.shape}")
        starts = range(0, max(1, len(samples)), self._at_once)
        return np.concatenate([self._hear(samples[start : start + self._at_once]) for start in starts])

    def finish(self) -> np.ndarray:
        """Coefficients (T, K) of the frames that are left when the speech has ended."""
        self._finished = True
        self._take_powers(self._samples_from + frames_of(len(self._samples)))
        return self._decide(self._heard)

    def _hear(self, samples: np.ndarray) -> np.ndarray:
        self._samples = np.concatenate([self._samples, samples])
        self._take_powers(self._samples_from + len(self._samples) // SAMPLES_PER_FRAME)
        return self._decide(self._heard - self.lookahead_frames)

    def _take_powers(self, heard: int) -> None:
        """The powers of all frames before number `heard`."""
        start, stop = (samples_of(frame - self._samples_from) for frame in (self._heard, heard))
        self._powers = np.concatenate([self._powers, frame_powers(self._samples[start:stop])])
        self._heard = heard

    def _decide(self, stop: int) -> np.ndarray:
        """Coefficients of the frames before number `stop` that have not been given; forgets what no other needs."""
        start, stop = self._next, max(self._next, stop)
        if start == stop:
            return np.zeros((0, len(self.model.basis)), np.float32)
        self._next = stop
        frames = self.model.predict_part(
            self._samples, start - self._samples_from, stop - self._samples_from, self.style
        )
        frames = frames * activity_of(self._powers, start - self._powers_from, stop - self._powers_from)[:, None]
        first = max(0, stop - self.model.view_frames[0])
        self._samples, self._samples_from = self._samples[samples_of(first - self._samples_from) :].copy(), first
        first = max(0, stop - VIEW_FRAMES[0])
        self._powers, self._powers_from = self._powers[first - self._powers_from :].copy(), first
        return frames
