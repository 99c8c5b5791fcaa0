"""When somebody speaks: of each video frame by its level beside the last half minute's, so that a stream hears it too.

Letters: S samples, T video frames.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from avsr.media.timing import FPS, SAMPLES_PER_FRAME, frames_of, samples_of

FLOOR_DB = 12.0  # what is this far above the quietest tenth is speech,
SOFT_DB = 28.0  # or less than this below the loud frames,
RANGE_DB = 45.0  # and nothing is that lies further below them
USUAL_DB = -30.0  # of full scale: loud frames are at least this loud, or steady noise alone would be speech
REMEMBERED_S = 30.0  # of sound, by which a frame is judged
AHEAD_S = 0.2  # and so much of what follows it: speech that begins at once has no past to stand out from

SHORTEST_REST_S = 0.4  # shorter silences are closures of stops and belong to speech
HANGOVER_S = 0.16  # lips move before the sound and after it,
EASE_S = 0.08  # and come to rest over twice this

_REMEMBERED, _AHEAD, _SHORTEST_REST, _HANGOVER, _EASE = (
    round(seconds * FPS) for seconds in (REMEMBERED_S, AHEAD_S, SHORTEST_REST_S, HANGOVER_S, EASE_S)
)
_AROUND = _SHORTEST_REST - 1 + max(0, _EASE - _HANGOVER)  # frames on both sides that tell a rest from a closure, eased
VIEW_FRAMES = (_REMEMBERED + _AROUND, _AHEAD + _AROUND)  # before and after its own that a frame's activity depends on


def frame_powers(waveform: np.ndarray) -> np.ndarray:
    """Mean square of each video frame: (S,) -> (T,) float64; a last frame in part is filled with zeros."""
    n_frames = frames_of(len(waveform))
    framed = np.pad(waveform, (0, samples_of(n_frames) - len(waveform))).reshape(n_frames, SAMPLES_PER_FRAME)
    return np.square(framed, dtype=np.float64).mean(1) + 1e-10


def speech_activity(waveform: np.ndarray) -> np.ndarray:
    """How much each frame speaks: (S,) -> (T,) in [0, 1]; 0 in silence, where the face rests.

    A frame speaks when it lies 12 dB above the noise floor (the quietest tenth of what is remembered) or is one of the
    loud ones. Rests are silences of at least 0.4 s: shorter ones are the closures of stops. Lips start before the sound
    and end after it, so speech is widened by 160 ms on both sides, and eases in and out. What lies before the recording
    and after it is unknown: a silence at its edge is a rest only where it is long enough by itself.
    """
    powers = frame_powers(waveform)
    return activity_of(powers, 0, len(powers))


def activity_of(powers: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Activity (stop - start,) of some frames of a recording with these frame powers (T,).

    Powers further away than VIEW_FRAMES change nothing.
    """
    first, last = max(0, start - _AROUND), min(len(powers), stop + _AROUND)
    loudness = np.stack([powers, np.square(powers)])
    silent = np.empty(last - first, dtype=bool)
    for t in range(first, last):
        power, square = loudness[:, max(0, t - _REMEMBERED) : t + _AHEAD + 1]
        quiet = len(power) // 10
        floor_db = 10 * np.log10(np.partition(power, quiet)[quiet])
        # where its energy lies, however much is silence
        loud_db = max(10 * np.log10(square.sum() / power.sum()), USUAL_DB)
        # sound without pauses has its quietest tenth in its speech: SOFT_DB keeps that from being silence
        threshold_db = max(loud_db - RANGE_DB, min(floor_db + FLOOR_DB, loud_db - SOFT_DB))
        silent[t - first] = 10 * np.log10(powers[t]) <= threshold_db
    beyond = _SHORTEST_REST - 1 - _HANGOVER
    before, after = silent[:_SHORTEST_REST].all(), silent[-_SHORTEST_REST:].all()  # the recording, if it is a rest
    runs = _all_of(np.pad(silent, beyond, constant_values=(before, after)), _SHORTEST_REST)
    speaks = _all_of(~runs, _SHORTEST_REST - 2 * _HANGOVER)  # of the runs that hold a frame and the hangover around it
    ramp = np.hanning(2 * _EASE + 3)[1:-1]
    eased = np.convolve(np.pad(speaks.astype(float), _EASE, mode="edge"), ramp / ramp.sum(), mode="valid")
    return eased[start - first : stop - first].astype(np.float32)


def _all_of(flags: np.ndarray, width: int) -> np.ndarray:
    return sliding_window_view(flags, width).all(axis=1)
