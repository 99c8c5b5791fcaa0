"""Motion made for one face template carried to another, with the error that this makes.

Two methods: "fit" to a target that has articulations of its own (`blendshape_fit`: coefficients by bounded least
squares on landmarks), "clone" to one that has none (`correspondence`: displacements through a correspondence of the
surfaces). Either keeps the gap between the lips, so that lips which touch on the one face touch on the other, at rest
too: a target whose lips stand apart at rest closes them under a motion that does nothing.

Letters: T frames, V vertices, K articulations.
"""

from dataclasses import dataclass, replace

import numpy as np

from avsr.errors import InputError
from talking3d.face.align import common_landmarks, similarity
from talking3d.face.blendshape_fit import fit_coefficients
from talking3d.face.correspondence import Correspondence, correspond, lip_gaps, mouth_width, wanted_gaps
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate

METHODS = ("auto", "fit", "clone")
CLOSED_MM, OPEN_MM = 0.0, 0.3  # lips closed on the source and apart by more than this on the target: a missed closure
_AT_ONCE = 100  # frames
_ROUND_TRIP_FRAMES = 100
_MM = 1e3


@dataclass(frozen=True)
class TransferError:
    """What a transfer got wrong, in millimetres.

    method: of the way there. gap_mm, gap_max_mm: mean and largest absolute error of the lips' gap at three columns
    (iBUG 61-67, 62-66, 63-65), which cloning keeps by construction; width_mm, width_max_mm: of the distance between the
    mouth's corners; both against the source's in the target's size. n_missed of n_closed: frames whose lips touch on
    the source but not on the target. round_trip_mm, round_trip_max_mm: mean and largest distance of the source's lip
    vertices after the way there and back (back by the method that "auto" chooses), over at most 100 frames; None where
    it wasn't measured or the source has no region "lips".
    """

    method: str
    gap_mm: float
    gap_max_mm: float
    width_mm: float
    width_max_mm: float
    n_missed: int
    n_closed: int
    round_trip_mm: float | None = None
    round_trip_max_mm: float | None = None

    def __str__(self) -> str:
        line = (
            f"{self.method}: lip gap off by {self.gap_mm:.2f} mm (at most {self.gap_max_mm:.2f}), mouth width by "
            f"{self.width_mm:.2f} mm (at most {self.width_max_mm:.2f}); closures missed: {self.n_missed} of "
            f"{self.n_closed} frames"
        )
        if self.round_trip_mm is not None:
            line += (
                f"; lip vertices after the way there and back: {self.round_trip_mm:.2f} mm "
                f"(at most {self.round_trip_max_mm:.2f})"
            )
        return line


def transfer(
    motion: Motion, source: FaceTemplate, target: FaceTemplate, method: str = "auto", *, round_trip: bool = True
) -> tuple[Motion, TransferError]:
    """Carry a motion of `source` to `target`.

    method: "fit", "clone", or "auto": fit where the target has articulations, clone where not. The result holds
    coefficients after a fit and offsets after cloning, 12 bytes a vertex and frame (to avoid that, clone the rig once
    by `clone_articulation`); head_pose stays as it is. round_trip: measure the way back too.

    Raises InputError where the motion isn't the source's, a template lacks the mouth's landmarks, the target has no
    articulation to fit, or the method is unknown.
    """
    carry = _carrier(source, target, method)
    arrays: dict[str, list] = {"coefficients": [], "offsets": []}
    gaps, wanted, widths, wide = [], [], [], []
    scale, across = _sizes(source, target)
    for part in _parts(motion):
        offsets = part.offsets_for(source)
        kind, values = carry(offsets, part.coefficients)
        moved = target.offsets(values) if kind == "coefficients" else values
        arrays[kind].append(values)
        gaps.append(lip_gaps(target, moved))
        wanted.append(wanted_gaps(source, offsets, scale))
        widths.append(_widths(target, moved))
        wide.append(across * _widths(source, offsets))
    carried = Motion.of_template(
        target,
        motion.fps,
        head_pose=motion.head_pose,
        **{kind: np.concatenate(values) for kind, values in arrays.items() if values},
    )
    gap, goal = _MM * np.concatenate(gaps), _MM * np.concatenate(wanted)
    width = _MM * np.abs(np.concatenate(widths) - np.concatenate(wide))
    closed = goal[:, 1] <= CLOSED_MM
    error = TransferError(
        method="fit" if carried.coefficients is not None else "clone",
        gap_mm=float(np.abs(gap - goal).mean()),
        gap_max_mm=float(np.abs(gap - goal).max()),
        width_mm=float(width.mean()),
        width_max_mm=float(width.max()),
        n_missed=int((closed & (gap[:, 1] > OPEN_MM)).sum()),
        n_closed=int(closed.sum()),
    )
    if round_trip:
        mean, largest = _round_trip(motion, carried, source, target)
        error = replace(error, round_trip_mm=mean, round_trip_max_mm=largest)
    return carried, error


def clone_articulation(source: FaceTemplate, target: FaceTemplate) -> FaceTemplate:
    """The target with the source's named articulations on it, cloned; what moves the source by coefficients moves it.

    The target's own articulations are replaced. A unit opens the lips as far as on the source, in the target's size;
    the rest pose stays.
    """
    if len(source.articulation_names) == 0:
        raise InputError(f"face template {source.name!r} has no articulations to clone")
    basis = correspond(source, target).clone_basis()
    return replace(target, articulation_basis=basis, articulation_names=source.articulation_names)


def _carrier(source, target, method):
    """A function of offsets (T, V, 3) and the source's coefficients or None: ("coefficients" or "offsets", values)."""
    if method not in METHODS:
        raise InputError(f"transfer method {method!r}: expected one of {', '.join(METHODS)}")
    has_rig = len(target.articulation_names) > 0
    if method == "fit" and not has_rig:
        raise InputError(f"face template {target.name!r} has no articulations to fit; use method clone")
    if method == "fit" or (method == "auto" and has_rig):
        return lambda offsets, own: ("coefficients", fit_coefficients(source, target, offsets, own))
    pairs: Correspondence = correspond(source, target)
    return lambda offsets, own: ("offsets", pairs.carry(offsets))


def _parts(motion: Motion):
    for start in range(0, motion.n_frames, _AT_ONCE):
        yield _frames(motion, slice(start, start + _AT_ONCE))


def _frames(motion: Motion, which) -> Motion:
    arrays = {name: getattr(motion, name) for name in ("coefficients", "offsets", "head_pose")}
    return replace(motion, **{name: value[which] for name, value in arrays.items() if value is not None})


def _sizes(source, target) -> tuple[float, float]:
    """How much larger the target is, by its landmarks, and how much wider its mouth."""
    numbers = common_landmarks(source, target)
    laid = similarity(source.verts[source.landmarks[numbers]], target.verts[target.landmarks[numbers]])
    return laid.scale, mouth_width(target) / mouth_width(source)


def _widths(face, offsets):
    corners = face.landmarks[[48, 54]]
    left, right = np.moveaxis(face.verts[corners] + offsets[:, corners], 1, 0)
    return np.linalg.norm(right - left, axis=-1)


def _round_trip(motion, carried, source, target):
    """Mean and largest distance (mm) of the source's lips there and back, over at most 100 frames spread evenly."""
    if "lips" not in source.regions:
        return None, None
    kept = np.unique(np.linspace(0, motion.n_frames - 1, _ROUND_TRIP_FRAMES).round().astype(int))
    there = _frames(carried, kept)
    kind, values = _carrier(target, source, "auto")(there.offsets_for(target), there.coefficients)
    back = source.offsets(values) if kind == "coefficients" else values
    lips = source.region("lips")
    away = _MM * np.linalg.norm(back[:, lips] - _frames(motion, kept).offsets_for(source)[:, lips], axis=-1)
    return float(away.mean()), float(away.max())
