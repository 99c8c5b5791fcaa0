"""Reading along: text while somebody still speaks, with a constant delay and a constant memory.

    stream = RecognizerStream(Recognizer.from_pretrained(checkpoint))
    for samples, lips in camera:
        print(stream.feed(samples, lips))
    print(stream.finish())

Letters: S samples, T video frames.
"""

import numpy as np
import torch

from avsr.data.augment import CROP, centre_crop
from avsr.data.dataset import UNLABELLED, collate
from avsr.errors import InputError
from avsr.media.timing import FPS, SAMPLES_PER_FRAME, frames_of, samples_of
from avsr.models.espnet import BLANK
from avsr.models.recognizer import Recognizer

AT_ONCE_FRAMES = 250  # that are encoded together, however much is fed at once


class RecognizerStream:
    """The text of the frames that are decided, by the best CTC path, as sound and lips come in.

    When the stream has finished, its text is that of greedy decoding of the whole recording, whatever the pieces that
    were fed. A frame is decided when `lookahead_frames` after it are there in every stream.

    Args:
        model: a recogniser with a bounded view.
        modality: the streams that will be fed, "a", "v" or "av"; None: all that the model was made for.

    Raises:
        InputError: a model that needs whole utterances; in `feed`, a stream too many or too few, arrays that are no
            sound or no lip crops.
    """

    def __init__(self, model: Recognizer, modality: str | None = None):
        if model.config.view_frames is None:
            raise InputError(
                "this recogniser needs whole utterances and cannot read along: train one with attention_ and "
                "statistics_ past and future in numbers"
            )
        self.model, self.modality = model.eval(), model.usable(modality)
        self._samples = np.zeros(0, np.float32)
        self._lips = np.zeros((0, CROP, CROP), np.uint8)
        self._from = 0  # the frame that both buffers begin with
        self._next = 0  # the first frame that is not decided
        self._last = BLANK  # token of the frame before it
        self._tokens: list[int] = []
        self._finished = False

    @property
    def lookahead_frames(self) -> int:
        """Frames after its own that a frame waits for."""
        return self.model.config.view_frames[1]

    @property
    def lookahead_ms(self) -> float:
        """The same in milliseconds: the delay from a frame's end to its text, computing apart."""
        return 1000 * self.lookahead_frames / FPS

    @property
    def text(self) -> str:
        """All that has been decided."""
        return self.model.tokenizer.decode(self._tokens)

    def feed(self, samples: np.ndarray | None = None, lips: np.ndarray | None = None) -> str:
        """Samples (S,) at 16 kHz and lips (T, 96, 96) uint8 at 25 fps, any number of each -> `text`."""
        if self._finished:
            raise InputError("this stream has finished: make another for more speech")
        for name, letter, value in (("sound", "a", samples), ("lips", "v", lips)):
            if value is not None and letter not in self.modality:
                raise InputError(f"this stream reads modality {self.modality!r} and was fed {name}")
        if samples is not None:
            samples = np.asarray(samples, dtype=np.float32)
            if samples.ndim != 1 or not np.isfinite(samples).all():
                raise InputError(f"a stream is fed finite samples of shape (samples,), got shape {samples.shape}")
            self._samples = np.concatenate([self._samples, samples])
        if lips is not None:
            if lips.ndim != 3 or lips.dtype != np.uint8 or min(lips.shape[1:]) < CROP:
                raise InputError(f"a stream is fed lips (frames, 96, 96) of uint8, got {lips.shape} {lips.dtype}")
            self._lips = np.concatenate([self._lips, centre_crop(lips)])
        self._decide(self._there() - self.lookahead_frames)
        return self.text

    def finish(self) -> str:
        """`text` of the whole recording; sound and lips of different length are both cut to the shorter."""
        self._finished = True
        rest = samples_of(frames_of(len(self._samples))) - len(self._samples)
        self._samples = np.pad(self._samples, (0, max(0, rest)))
        self._decide(self._there())
        return self.text

    def _there(self) -> int:
        """Frames that have arrived whole in every stream."""
        counts = {"a": len(self._samples) // SAMPLES_PER_FRAME, "v": len(self._lips)}
        return self._from + min(counts[letter] for letter in self.modality)

    def _decide(self, stop: int) -> None:
        past, future = self.model.config.view_frames
        there = self._there()
        while self._next < stop:
            until = min(stop, self._next + AT_ONCE_FRAMES)
            first, last = max(0, self._next - past), min(there, until + future)
            self._collapse(self._path(first, last)[self._next - first : until - first])
            self._next = until
            keep = max(0, until - past) - self._from
            self._samples, self._lips = self._samples[samples_of(keep) :].copy(), self._lips[keep:].copy()
            self._from += keep

    @torch.inference_mode()
    def _path(self, first: int, last: int) -> list[int]:
        """The likeliest token of each frame from number first to last, of these frames alone."""
        start, stop = first - self._from, last - self._from
        has_audio, has_video = ("a" in self.modality), ("v" in self.modality)
        lips = self._lips[start:stop] if has_video else np.zeros((stop - start, CROP, CROP), np.uint8)
        waveform = self._samples[samples_of(start) : samples_of(stop)] if has_audio else np.zeros(0, np.float32)
        item = {"utt_id": "stream", "waveform": waveform, "lips": lips, "has_audio": has_audio, "has_video": has_video}
        batch = collate([item | UNLABELLED])
        device = next(self.model.parameters()).device
        batch = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
        encoded, _ = self.model.encode(batch, self.modality)
        return self.model.ctc.log_softmax(encoded)[0].argmax(-1).tolist()

    def _collapse(self, path: list[int]) -> None:
        for token in path:
            if token not in (self._last, BLANK):
                self._tokens.append(token)
            self._last = token
