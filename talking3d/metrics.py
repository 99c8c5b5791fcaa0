"""How far predicted motion lies from the true motion. Every figure names its formula, unit, mask and averaging.

Published tables differ in all four: the literature's LVE is a mean of *squared* distances (CodeTalker's
`cal_metric.py`, copied by most successors) while others print its root in millimetres. Both are here, apart.
Motion is (T, V, 3) float metres, vertices minus the speaker's template; a prediction longer than the truth is cut to
the truth's frames, as the published scripts do.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numba import njit
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from avsr.errors import InputError
from avsr.media.timing import FPS

BILABIALS = frozenset("pbmɓ")
CLOSED_MM = 0.5  # inner lips this near count as touching: the skin is soft, the mesh is not
PROMINENCE = 0.05  # of a curve's range: smaller wiggles are no extrema
PARTNER_FRAMES = 10  # an extremum further away than this is another gesture's
FEWEST_TO_CORRELATE = 3  # utterances of a speaker
ALIKE = 1e-6  # of the largest: intensities that spread less don't vary
CLOSURE_MARGIN_S = 0.06  # a stop's label starts at its burst; its closure lies in the 50 ms before


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's r of two traces (T,) over the frames that both have; None where one of them doesn't move."""
    n = min(len(a), len(b))
    a, b = a[:n].astype(np.float64), b[:n].astype(np.float64)  # in single precision a constant has a deviation
    return float(np.corrcoef(a, b)[0, 1]) if n > 1 and a.std() > 1e-6 and b.std() > 1e-6 else None


def lip_errors(pred: np.ndarray, true: np.ndarray, lips: np.ndarray) -> np.ndarray:
    """(T,) per frame the largest *squared* L2 distance over the vertices `lips`: max_v |pred - true|^2, m^2."""
    pred, true = _paired(pred, true)
    difference = np.asarray(pred[:, lips], dtype=np.float64) - true[:, lips]
    return np.square(difference).sum(-1).max(-1)


def lve(pairs: Iterable[tuple[np.ndarray, np.ndarray]], lips: np.ndarray) -> float:
    """Lip vertex error of the literature, m^2: the mean over all frames, pooled over sequences, of `lip_errors`."""
    return float(np.concatenate([lip_errors(pred, true, lips) for pred, true in pairs]).mean())


def lve_mm(pairs: Iterable[tuple[np.ndarray, np.ndarray]], lips: np.ndarray) -> float:
    """Lip vertex error in millimetres: the mean over all pooled frames of max_v |pred - true| (rooted, per frame)."""
    return float(1e3 * np.concatenate([np.sqrt(lip_errors(pred, true, lips)) for pred, true in pairs]).mean())


def mve_mm(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean vertex error, mm: mean over pooled frames and all V vertices of |pred - true| (rooted)."""
    errors = []
    for pred, true in pairs:
        pred, true = _paired(pred, true)
        errors.append(np.linalg.norm(np.asarray(pred, dtype=np.float64) - true, axis=-1).mean(-1))
    return float(1e3 * np.concatenate(errors).mean())


def fdd(pairs: Iterable[tuple[np.ndarray, np.ndarray]], upper_face: np.ndarray) -> tuple[float, float]:
    """Upper-face dynamics deviation (signed, absolute), m^2.

    Per sequence and vertex v of `upper_face`, s_v = std over time of |offset_v|^2; the sequence's difference is
    mean_v s_v(true) - mean_v s_v(pred). Signed is the mean of the differences over sequences (CodeTalker; positive:
    the prediction moves too little), absolute the mean of their absolute values (FaceDiffuser).
    """
    differences = []
    for pred, true in pairs:
        pred, true = _paired(pred, true)
        differences.append(_dynamics(true[:, upper_face]) - _dynamics(pred[:, upper_face]))
    return float(np.mean(differences)), float(np.abs(differences).mean())


def ldtw_mm(pairs: Iterable[tuple[np.ndarray, np.ndarray]], lips: np.ndarray) -> float:
    """Lip distance after dynamic time warping, mm: what is left of the lips' error when timing is forgiven.

    The cost of two frames is the mean distance over the vertices `lips`; a sequence's value is the cost along its
    cheapest monotonic path, divided by the path's length; the mean over sequences is returned. (The literature's "LDTW"
    differs in cost and normalisation from paper to paper; compare within one table only.)
    """
    values = []
    for pred, true in pairs:
        pred, true = _paired(pred, true)
        cost = _mean_distances(*(np.asarray(motion[:, lips], dtype=np.float32) for motion in (pred, true)))
        path = _warp(cost)
        values.append(cost[path[:, 0], path[:, 1]].mean())
    return float(1e3 * np.mean(values))


def mtm_ms(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Mean temporal misalignment (ms) of lip openings, and the share of the true extrema that found a partner.

    pairs: (predicted, true) lip openings (T,), of one length. After Chae et al. (Perceptually Accurate 3D Talking Head
    Generation, arXiv 2503.20308): openings are smoothed (Gaussian, sigma 2 frames) and warped onto each other by
    derivative DTW (Keogh & Pazzani, 2001); each true extremum is paired with the predicted one of its kind nearest to
    where the path leads it, within 10 frames; the misalignment is the mean of |t_true - t_pred| over all pairs, pooled.
    NaN if there is no pair. People notice from about 50 ms on.
    """
    gaps, n_extrema = [], 0
    for pred, true in pairs:
        found, n_true = misalignments(pred, true)
        gaps += found
        n_extrema += n_true
    return (
        float(1000 / FPS * np.mean(gaps)) if gaps else float("nan"),
        len(gaps) / n_extrema if n_extrema else float("nan"),
    )


def misalignments(pred: np.ndarray, true: np.ndarray) -> tuple[list[int], int]:
    """What `mtm_ms` pools, of one utterance: |t_true - t_pred| of each pair, in frames, and how many true extrema."""
    if len(pred) != len(true) or len(true) < 3:
        raise InputError(f"lip openings of {len(pred)} and {len(true)} frames: give both of one length, 3 or more")
    pred, true = (gaussian_filter1d(np.asarray(opening, np.float64), 2) for opening in (pred, true))
    slopes = [_keogh_derivative(opening) for opening in (pred, true)]
    path = _warp(np.square(slopes[0][:, None] - slopes[1][None]))
    gaps, n_extrema = [], 0
    for sign in (1, -1):
        theirs = find_peaks(sign * pred, prominence=PROMINENCE * np.ptp(pred))[0]
        for frame in find_peaks(sign * true, prominence=PROMINENCE * np.ptp(true))[0]:
            n_extrema += 1
            led_to = path[path[:, 1] == frame, 0].mean()
            if len(theirs) == 0:
                continue
            partner = theirs[np.abs(theirs - led_to).argmin()]
            if abs(partner - led_to) <= PARTNER_FRAMES:
                gaps.append(int(abs(partner - frame)))
    return gaps, n_extrema


def lip_intensity_mm(offsets: np.ndarray, lips: np.ndarray) -> float:
    """How much the lips of offsets (T, V, 3) metres move, mm a frame: RMS over time of their vertices' mean step.

    The lip intensity of SLCC (see `slcc_terms`). 0 for a single frame.
    """
    if len(offsets) < 2:
        return 0.0
    steps = np.linalg.norm(np.diff(np.asarray(offsets[:, lips], dtype=np.float64), axis=0), axis=-1)  # (T - 1, U)
    return float(1e3 * np.sqrt(np.square(steps.mean(axis=1)).mean()))


def slcc_terms(speech: np.ndarray, lips: np.ndarray, speakers: Sequence) -> np.ndarray:
    """What each utterance gives to SLCC, the speech-lip intensity correlation coefficient; their mean is SLCC.

    After Chae-Yeon et al. (Perceptually Accurate 3D Talking Head Generation, CVPR 2025, arXiv 2503.20308): who speaks
    louder has livelier lips. Intensities of sound (RMS of the waveform) and lips (`lip_intensity_mm`) are z-normalised
    within each speaker; SLCC is Pearson's r between the two over all utterances. Z-scores have mean 0 and variance 1,
    so r is the mean of their products. It is to be held against the true motion's; more is not better.

    speech, lips: intensities (U,); speakers: of each utterance. Returns (U,); NaN where an intensity is NaN, and for
    speakers with fewer than 3 utterances (two can only agree or not) or whose sound or lips are always alike.
    """
    speech, lips = np.asarray(speech, dtype=np.float64), np.asarray(lips, dtype=np.float64)
    terms, there = np.full(len(speech), np.nan), np.isfinite(speech) & np.isfinite(lips)
    for speaker in set(speakers):
        theirs = there & np.array([each == speaker for each in speakers])
        of_speaker = [intensity[theirs] for intensity in (speech, lips)]
        if theirs.sum() >= FEWEST_TO_CORRELATE and all(
            values.std() > ALIKE * np.abs(values).max() for values in of_speaker
        ):
            heard, seen = ((values - values.mean()) / values.std() for values in of_speaker)
            terms[theirs] = heard * seen
    return terms


def closures(aperture_mm: np.ndarray, phones: Sequence, closed_mm: float = CLOSED_MM) -> list[bool]:
    """For each bilabial (p b m) of `phones`, does the mouth close on it?

    Closed: the smallest `aperture_mm` ((T,), signed inner-lip gap) over the frames whose centre lies within the
    phone's interval, widened by 60 ms on both sides, is at most `closed_mm`. phones: (start_s, end_s, label) with IPA
    labels, as alignments hold them. A label that starts after the last frame is an InputError.
    """
    centres_s = (np.arange(len(aperture_mm)) + 0.5) / FPS
    closed = []
    for start_s, end_s, label in phones:
        if label.strip("ˈˌː") not in BILABIALS:
            continue
        near = (centres_s >= start_s - CLOSURE_MARGIN_S) & (centres_s <= end_s + CLOSURE_MARGIN_S)
        if not near.any():
            raise InputError(
                f"phone {label!r} at {start_s:.2f}-{end_s:.2f} s lies outside the motion's {len(aperture_mm)} frames "
                f"at {FPS} fps: give the alignment that belongs to this motion"
            )
        closed.append(bool(aperture_mm[near].min() <= closed_mm))
    return closed


def closure_rate(sequences: Iterable[tuple[np.ndarray, Sequence]], closed_mm: float = CLOSED_MM) -> float:
    """Share of all bilabials, pooled over (aperture_mm, phones) sequences, on which the mouth closes; NaN if none."""
    closed = [flag for aperture_mm, phones in sequences for flag in closures(aperture_mm, phones, closed_mm)]
    return float(np.mean(closed)) if closed else float("nan")


@njit(cache=True, nogil=True)
def _mean_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean distance over vertices between each frame of a (P, U, 3) and each of b (Q, U, 3): (P, Q)."""
    cost = np.zeros((len(a), len(b)))
    for p in range(len(a)):
        for q in range(len(b)):
            for v in range(a.shape[1]):
                x, y, z = a[p, v, 0] - b[q, v, 0], a[p, v, 1] - b[q, v, 1], a[p, v, 2] - b[q, v, 2]
                cost[p, q] += np.sqrt(x * x + y * y + z * z)
    return cost / a.shape[1]


def _warp(cost: np.ndarray) -> np.ndarray:
    """The cheapest monotonic path (N, 2) through cost (P, Q), from corner to corner."""
    from librosa.sequence import dtw

    return dtw(C=cost, backtrack=True)[1][::-1]


def _keogh_derivative(values: np.ndarray) -> np.ndarray:
    """The slope of derivative DTW: the mean of the left difference and half the central one."""
    inner = (values[1:-1] - values[:-2] + (values[2:] - values[:-2]) / 2) / 2
    return np.concatenate([inner[:1], inner, inner[-1:]])


def _dynamics(offsets: np.ndarray) -> float:
    """Mean over vertices of the temporal standard deviation of |offset|^2; offsets (T, U, 3) -> m^2."""
    return float(np.square(np.asarray(offsets, dtype=np.float64)).sum(-1).std(0).mean())


def _paired(pred: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if pred.shape[1:] != true.shape[1:] or pred.ndim != 3:
        raise InputError(
            f"predicted motion {pred.shape} and true motion {true.shape} are not both (T, V, 3) of one topology: "
            "compare motions of one template"
        )
    if len(pred) < len(true):
        raise InputError(
            f"the prediction has {len(pred)} frames, the truth {len(true)}: predict the whole utterance "
            "(the published scripts cut a longer prediction, never a shorter one)"
        )
    return pred[: len(true)], true
