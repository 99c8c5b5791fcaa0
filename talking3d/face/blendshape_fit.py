"""Motion of one rig as coefficients of another: bounded, regularised least squares on the landmarks.

The source's landmark displacements, in the target's size, are approximated by the target's articulations. The lips'
gaps weigh most, so that what closes on one face closes on the other. The fit starts from a table where both rigs' names
are known. (Blendshape fitting by constrained least squares is common practice: Lewis et al., "Practice and theory of
blendshape facial models", Eurographics 2014 state-of-the-art report, section 5.)

Letters: T frames, K articulations of the target, S of the source, P landmarks, R rows of the fit.
"""

import numpy as np

from talking3d.face.align import common_landmarks, similarity
from talking3d.face.correspondence import GAP_PAIRS, lip_gaps, mouth_width, wanted_gaps
from talking3d.face.template import FaceTemplate

# The procedural articulators as ARKit's shapes: name -> {shape: coefficient at one unit}.
ARKIT_OF = {
    "jaw_open": {"jawOpen": 0.48},
    "jaw_forward": {"jawForward": 0.5},
    "lip_round": {"mouthPucker": 1.0},
    "lip_spread": {"mouthStretch_L": 0.6, "mouthStretch_R": 0.6},
    "upper_raise": {"mouthUpperUp_L": 0.7, "mouthUpperUp_R": 0.7},
    "lower_depress": {"mouthLowerDown_L": 0.9, "mouthLowerDown_R": 0.9},
    "lower_tuck": {"mouthRollLower": 0.6},
    "lip_press": {"mouthPress_L": 0.8, "mouthPress_R": 0.8, "mouthRollLower": 0.15, "mouthRollUpper": 0.15},
    "lip_funnel": {"mouthFunnel": 0.7, "mouthPucker": 0.4},
    "corner_up": {"mouthSmile_L": 0.45, "mouthSmile_R": 0.45},
    "brow_raise": {"browInnerUp_L": 0.8, "browInnerUp_R": 0.8, "browOuterUp_L": 0.6, "browOuterUp_R": 0.6},
    "blink": {"eyeBlink_L": 1.0, "eyeBlink_R": 1.0},
    "cheek_puff": {"cheekPuff_L": 0.5, "cheekPuff_R": 0.5},
}
# How dear it is to leave the start, mm: a coefficient of 1 away from it costs as much as such an error. Shapes that no
# phone needs are dear, or a fit would abuse them to save a tenth of a millimetre.
_STAY, _STAY_SPOKEN, _STAY_OTHER = 3.0, 25.0, 60.0
_FREE = ("jawOpen", "mouthPucker", "mouthFunnel", "mouthStretch", "mouthUpperUp", "mouthLowerDown", "mouthRollLower",
         "mouthClose", "mouthShrugLower", "eyeBlink", "browInnerUp", "browOuterUp", "browRaise")  # fmt: skip
_SPOKEN = ("mouthSmile", "mouthPress", "mouthRollUpper", "mouthShrugUpper", "mouthDimple", "jawForward", "cheekPuff")
_WEIGHT = {**dict.fromkeys(range(48, 68), 1.0), **dict.fromkeys(range(4, 13), 0.4)}  # of landmarks; others 0.3
_GAP_WEIGHT, _WIDTH_WEIGHT = 5.0, 2.0
_SWEEPS = 300
_DONE = 1e-5


def fit_coefficients(
    source: FaceTemplate, target: FaceTemplate, offsets: np.ndarray, coefficients: np.ndarray | None = None
) -> np.ndarray:
    """Coefficients (T, K) of the target's articulation that move its landmarks as offsets (T, V, 3) move the source's.

    coefficients (T, S): the source's own, where its motion has any; with names that `ARKIT_OF` knows they are the
    start. InputError where a template lacks the mouth's landmarks.
    """
    numbers = common_landmarks(source, target)
    basis_rows, wanted = _rows(source, target, offsets, numbers)  # (R, K), (T, R) millimetres
    start = starting_coefficients(source, target, len(offsets), coefficients)
    stay = np.array([stay_mm(name) for name in target.articulation_names])
    return _solve(basis_rows, wanted, start, stay, *bounds(target))


def starting_coefficients(source, target, n_frames: int, coefficients: np.ndarray | None) -> np.ndarray:
    """(T, K): by name where the rigs share it, by `ARKIT_OF` in either direction, else 0."""
    start = np.zeros((n_frames, len(target.articulation_names)))
    if coefficients is None:
        return start
    column = {name: k for k, name in enumerate(target.articulation_names)}
    for s, name in enumerate(source.articulation_names):
        known = {name: 1.0} if name in column else ARKIT_OF.get(name, {})
        for shape, share in known.items():
            if shape in column:
                start[:, column[shape]] += share * coefficients[:, s]
    if column.keys() <= ARKIT_OF.keys() | {"tongue_tip", "tongue_out", "tongue_dorsum"}:
        own = {name: s for s, name in enumerate(source.articulation_names)}
        for name, shapes in ARKIT_OF.items():
            present = [(own[shape], share) for shape, share in shapes.items() if shape in own]
            if present and name in column and name not in own:
                start[:, column[name]] = np.mean([coefficients[:, s] / share for s, share in present], axis=0)
    low, high = bounds(target)
    return np.clip(start, low, high)


def bounds(target: FaceTemplate) -> tuple[np.ndarray, np.ndarray]:
    """What each coefficient may be, (K,), (K,): 0 to 1 for ARKit's shapes, -3 to 3 for statistical expressions
    ("expression..."), -1 to 1 for what goes to either side, a little beyond 0 to 1 for others, whose closures go below
    0."""
    low, high = [], []
    for name in target.articulation_names:
        if name.startswith("expression"):
            pair = (-3.0, 3.0)
        elif name in ("jaw_side", "jaw_roll"):
            pair = (-1.0, 1.0)
        else:
            pair = (-0.5, 1.4) if "_" in name and name[-2:] not in ("_L", "_R") else (0.0, 1.0)
        low.append(pair[0])
        high.append(pair[1])
    return np.array(low), np.array(high)


def stay_mm(name: str) -> float:
    """How dear it is for the articulation of this name to leave the start."""
    if name.startswith(("mouth", "jaw", "eye", "brow", "cheek", "nose", "Pupil")) and name not in ARKIT_OF:
        return _STAY if name.startswith(_FREE) else _STAY_SPOKEN if name.startswith(_SPOKEN) else _STAY_OTHER
    return _STAY


def _rows(source, target, offsets, numbers):
    """The fit's rows of each articulation (R, K) and of each frame (T, R), millimetres: points, gaps, width."""
    laid = similarity(source.verts[source.landmarks[numbers]], target.verts[target.landmarks[numbers]])
    moved = laid.vectors(offsets[:, source.landmarks[numbers]].astype(np.float64))
    wide = mouth_width(target) / mouth_width(source)
    mouth = np.isin(numbers, range(48, 68))
    moved[:, mouth, 0] *= wide / laid.scale
    weight = np.array([_WEIGHT.get(int(n), 0.3) for n in numbers])[:, None]
    basis = target.articulation_basis
    still = np.zeros((1, *target.verts.shape), np.float32)
    rest_gaps = lip_gaps(target, still)
    gaps = _GAP_WEIGHT * (wanted_gaps(source, offsets, laid.scale) - rest_gaps)
    own_gaps = _GAP_WEIGHT * (lip_gaps(target, basis) - rest_gaps)
    width, own_width = ((o[:, f.landmarks[54], 0] - o[:, f.landmarks[48], 0])[:, None] for f, o in
                        ((source, offsets), (target, basis)))  # fmt: skip
    points = (weight * moved).reshape(len(offsets), -1)
    own_points = (weight * basis[:, target.landmarks[numbers]]).reshape(len(basis), -1)
    wanted = np.concatenate([points, gaps, _WIDTH_WEIGHT * wide * width], axis=1)
    rows = np.concatenate([own_points, own_gaps, _WIDTH_WEIGHT * own_width], axis=1).T
    assert rows.shape[0] == 3 * len(numbers) + len(GAP_PAIRS) + 1
    return 1e3 * rows, 1e3 * wanted


def _solve(rows, wanted, start, stay, low, high):
    """The minimum within bounds of |rows @ c - wanted|^2 + |stay * (c - start)|^2 for each frame, (T, K).

    Cyclic coordinate descent, all frames at once; the problem is strictly convex, so it ends at its only minimum.
    """
    gram = rows.T @ rows + np.diag(stay**2)
    pull = wanted @ rows + stay**2 * start
    found = start.copy()
    for _ in range(_SWEEPS):
        largest = 0.0
        for k in range(len(gram)):
            step = (pull[:, k] - found @ gram[:, k]) / gram[k, k]
            new = np.clip(found[:, k] + step, low[k], high[k])
            largest = max(largest, float(np.abs(new - found[:, k]).max(initial=0.0)))
            found[:, k] = new
        if largest < _DONE:
            break
    return found.astype(np.float32)
