"""From the 68 landmarks of somebody filmed to the motion of a face template.

A `Talker` is one speaker: the template with the speaker's shape, and how the speaker's landmarks lie with the lips
closed. A detector's points differ from the template's by what they mean and by the person; it puts the inner lips 2 to
4 mm apart where they touch. So motion is fitted as a difference from that rest: what is as it was at rest is the
template at rest.

Whether lips touch, a detector's inner points hardly tell, unless they are far apart. Two things do: how far apart the
lips' outer borders are, and how dark the line between the lips is, for an open mouth has shade in it. Both in one
measure, in millimetres, decide.

Units are metres and pixels outside, millimetres of the template inside. Letters: T frames, P landmarks that the
template has, C columns of the lips' gap, K articulations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from avsr.errors import InputError
from avsr.files import atomic_path
from avsr.media.landmarks import Landmarks
from avsr.media.timing import FPS
from talking3d.face.align import common_landmarks, shift_landmarks
from talking3d.face.blendshape_fit import bounds, stay_mm
from talking3d.face.correspondence import CONTACT_GAP_M, GAP_PAIRS, lip_gaps
from talking3d.face.face_frame import STEADY, aside, lay, lay_back, plane, similar
from talking3d.face.landmark_solver import Rig, project, solve
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate
from talking3d.render.camera import rotation_matrices

LIPS = np.arange(48, 68)
DISTANCE_MM = 1200.0  # taken for the camera's: it turns changes of size into steps towards it
MOST_CLIPS = 200  # that a speaker's rest is estimated from
FEWEST_FRAMES = FPS  # with a face, of all clips: in a second of speech lips close once
# How dear a pose is: of a speaker, who faces the camera and has eyes and nose of the template's size; of a frame, in
# turning from the speaker's usual (mm a radian; mm; mm a share).
SPEAKER_STAY, FRAME_STAY = np.array([100, 100, 100, 0, 0, 300]), np.array([10, 10, 10, 0, 0, 0])
SHAPE_STAY_MM, SHAPE_BOUND = 1.5, 2.0
# What the shapes cannot do, a warp does: the points where a detector means what a template means, and how smoothly.
LIKENESS, LIKENESS_SMOOTHING = np.array([7, 8, 9, *range(27, 60)]), 0.01
GAP_WEIGHT = 6.0
OUTER_PAIRS = ((49, 59), (50, 58), (51, 57), (52, 56), (53, 55))  # iBUG: upper and lower border of the lips
# Lips that are open by no more than the first beyond their rest are in contact; from the second on, a gap is as seen,
# and has some height. A detector's lips come late to fast closures, which are 1 to 2 mm beyond rest.
CONTACT_MM, OPEN_MM, LEAST_GAP_MM = 2.0, 3.0, 0.8
# Inner lips that a detector sees further apart than at rest, by the second, are open whatever their borders say: in a
# smile lips are thin and teeth bright. Up to the first it errs.
DOUBTED_MM, APART_MM = 3.0, 5.0
PALE_MM = 1.0  # a line paler than at rest takes no more than this off: early frames of a video may lack contrast
# Light and stance change from clip to clip: by how much the clip's own low quantile is off its usual place is taken off
# by half, and no more than this.
LOW_QUANTILE, LOW_SHARE, LOW_MOST_MM = 0.2, 0.5, 1.5
REST_MM, DENSITY_MM = 0.8, 0.5  # so near to the usual closed lips a frame shows the speaker at rest; what is usual
# Inner lips that a detector puts further apart are not closed; if all are, so few frames count as closed. The rest of a
# turned head would be taken for another shape: where there are some from the front, they count.
SHUT_MM, FEW, FRONTAL, FEWEST_RESTS = 4.5, 0.1, 0.15, 5
LINE_ROWS, LINE_COLUMNS, LINE_POOL = slice(20, 80), slice(24, 72), 4  # of a lip crop: the middle of the mouth
DOUBTFUL = 0.04  # lips that are so far off, as a share of the mouth's width, are believed half
_MM = 1e3


class TooShortError(InputError):
    """There is too little film of a speaker."""


@dataclass(frozen=True)
class Tracked:
    """A filmed clip: landmarks, and how dark (T,) the line between the lips is (`line_darkness`), None where there are
    no pictures of them."""

    landmarks: Landmarks
    darkness: np.ndarray | None = None

    def __post_init__(self):
        if self.landmarks.detector == "haar":
            raise InputError("landmarks of the detector 'haar' know the face's box and no lips; detect them otherwise")
        if not np.any(self.landmarks.found):
            raise InputError("no frame's face was found: there are no landmarks to fit")
        if not np.isfinite(self.landmarks.points[self.seen]).all():
            raise InputError("landmarks of found faces hold NaN or infinite values; detect them again")
        if self.darkness is not None and len(self.darkness) != len(self.landmarks.found):
            n_pictures, n_frames = len(self.darkness), len(self.landmarks.found)
            raise InputError(
                f"{n_pictures} pictures of lips but landmarks of {n_frames} frames; prepare the clip again"
            )

    @property
    def seen(self) -> np.ndarray:
        """Mask (T,) of the frames whose face was found."""
        return np.asarray(self.landmarks.found, bool)


def line_darkness(lips: np.ndarray) -> np.ndarray:
    """How much darker (T,) than its column the darkest point of each column of the mouth is, as a share of the column's
    gray, averaged over the mouth's middle; lips (T, 96, 96) uint8."""
    middle = lips[:, LINE_ROWS, LINE_COLUMNS].astype(np.float32)
    columns = middle.reshape(*middle.shape[:2], -1, LINE_POOL).mean(axis=3)
    mean = columns.mean(axis=1)
    return ((mean - columns.min(axis=1)) / np.maximum(mean, 1.0)).mean(axis=1)


@dataclass(frozen=True)
class Talker:
    """One speaker.

    template: with the speaker's shape. rest (68, 2) mm: landmarks with the lips closed, on the template's front plane,
    +y up, NaN where the template has none. correction (68, 3) mm: from the template's landmarks to the speaker's.
    turn (3,): the usual rotation vector of the head. gap_mm (C,): between the detector's inner lips at rest. height_mm:
    between the lips' borders at rest. darkness: of the line between the lips at rest, and darkness_mm: what a unit of
    it counts, None where there were no pictures. low_mm: the usual low quantile of how far a clip's lips are open.
    """

    template: FaceTemplate
    rest: np.ndarray
    correction: np.ndarray
    turn: np.ndarray
    gap_mm: np.ndarray
    height_mm: float
    low_mm: float
    darkness: float | None = None
    darkness_mm: float | None = None

    def save(self, path: str | Path) -> None:
        """Write all but the template as an .npz, whole or not at all."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "template"}
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(file, **{name: value for name, value in arrays.items() if value is not None})

    @classmethod
    def load(cls, path: str | Path, template: FaceTemplate) -> "Talker":
        """Read what `save` wrote. Raises InputError on a missing, damaged or incomplete file."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] if stored[name].ndim else float(stored[name]) for name in stored.files}
            return cls(template=template, **arrays)
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise InputError(f"{path}: not a speaker's rest ({error}); make it again with `talking3d fit`") from error


@dataclass(frozen=True)
class ClipFit:
    """The motion of a clip: coefficients (T, K), head_pose (T, 6) as `Motion` has it; confidence (T,) from 0 to 1;
    points (T, 68, 2): the fitted landmarks in the video's pixels, NaN where the template has none; lip_error (T,):
    mean distance of the 20 lip landmarks from the detector's as a share of the mouth's width, NaN where no face was
    found; camera (2, 3): from the front plane (mm, +y up) to pixels."""

    coefficients: np.ndarray
    head_pose: np.ndarray
    confidence: np.ndarray
    points: np.ndarray
    lip_error: np.ndarray
    camera: np.ndarray

    def motion(self, template: FaceTemplate) -> Motion:
        """The clip's motion of the talker's template."""
        return Motion.of_template(template, FPS, coefficients=self.coefficients, head_pose=self.head_pose)

    def save_tracks(self, path: str | Path) -> None:
        """Write what a motion file doesn't hold, as an .npz, whole or not at all."""
        tracks = {name: getattr(self, name) for name in ("confidence", "points", "lip_error", "camera")}
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(file, **tracks)


def fit_talker(template: FaceTemplate, clips: Sequence[Tracked], name: str | None = None) -> Talker:
    """Estimate a speaker's shape and rest from the landmarks of clips; of more than 200 evenly chosen ones count.

    Lips count as closed where they are as open as is most usual in the lower half of their range, of frames whose inner
    lips are near each other. Raises InputError where a template lacks the mouth's landmarks, those of nose and eyes, or
    articulations, and where the clips are too short.
    """
    numbers = common_landmarks(template, template)
    if not template.articulation_names:
        raise InputError(
            f"face template {template.name!r} has no articulation to fit; take the procedural face or ICT's"
        )
    chosen = np.linspace(0, len(clips) - 1, min(len(clips), MOST_CLIPS)).round().astype(int)
    clips = [clips[i] for i in chosen]
    points = plane(np.concatenate([clip.landmarks.points[clip.seen] for clip in clips]))
    if len(points) < FEWEST_FRAMES:
        raise TooShortError(
            f"too short: a face in {len(points) / FPS:.2f} s of film is too little to know a speaker by; give "
            f"{FEWEST_FRAMES / FPS:.0f} s or more"
        )
    front = _MM * template.verts[template.landmarks].astype(np.float64)
    steady = np.intersect1d(STEADY, numbers)
    if len(steady) < 4:
        raise InputError(
            f"face template {template.name!r} lacks the landmarks of nose and eyes (27-47), by which the head is held"
        )
    points = lay(similar(points[:, steady], front[None, steady, :2]), points)
    heights = _heights(points, OUTER_PAIRS).mean(axis=1)
    darkness, darkness_mm, opened = None, None, heights
    if all(clip.darkness is not None for clip in clips):
        darkness = np.concatenate([clip.darkness[clip.seen] for clip in clips])
        darkness_mm = float(heights.std() / max(darkness.std(), 1e-3))
        opened = heights + darkness_mm * darkness
    apart = _heights(points, GAP_PAIRS).mean(axis=1)
    shut = apart <= max(SHUT_MM, np.quantile(apart, FEW))
    frontal = shut & (aside(points) <= FRONTAL)
    shut = frontal if frontal.sum() >= FEWEST_RESTS else shut
    at_rest = shut & (np.abs(opened - _densest(opened, shut)) <= REST_MM)
    ends = np.cumsum([clip.seen.sum() for clip in clips])[:-1]
    lows = [np.quantile(part, LOW_QUANTILE) for part in np.split(opened, ends)]
    rest = np.median(points[at_rest], axis=0)

    weight = np.array([_weight(n) for n in numbers])
    n_shapes = len(template.shape_names)
    rig = Rig(
        rest=front[numbers],
        basis=_MM * template.shape_basis[:, template.landmarks[numbers]].astype(np.float64),
        weight=weight,
        stay=np.full(n_shapes, SHAPE_STAY_MM),
        low=np.full(n_shapes, -SHAPE_BOUND),
        high=np.full(n_shapes, SHAPE_BOUND),
        usual_turn=np.zeros(3),
        pose_stay=SPEAKER_STAY,
    )
    pose, shape = solve(rig, rest[None, numbers], np.ones(1))
    person = template.identity(shape[0], name=name)
    # The correction lies in the front plane of the turned head: the turn's upper left block takes it to the picture.
    off = rest[numbers] - project(rig, pose, shape)[0]
    turn = rotation_matrices(pose[:, :3])[0].astype(np.float64)
    correction = np.zeros((68, 3))
    size = float(1 + pose[0, 5])  # clips are measured in the size of the head at rest
    correction[numbers, :2] = off / size @ np.linalg.inv(turn[:2, :2]).T
    alike = np.intersect1d(LIKENESS, numbers)
    before = _MM * person.verts[person.landmarks]
    person = shift_landmarks(person, alike, correction[alike] / _MM, LIKENESS_SMOOTHING)
    correction[numbers] -= (_MM * person.verts[person.landmarks] - before)[numbers]
    here = np.full((68, 2), np.nan)
    here[numbers] = rest[numbers]
    return Talker(
        template=person,
        rest=here,
        correction=correction,
        turn=pose[0, :3],
        gap_mm=np.median(_heights(points[at_rest], GAP_PAIRS), axis=0) / size,
        height_mm=float(heights[at_rest].mean()) / size,
        low_mm=float(np.median(lows) - opened[at_rest].mean()) / size,
        darkness=None if darkness is None else float(darkness[at_rest].mean()),
        darkness_mm=None if darkness is None else darkness_mm / size,
    )


def fit_clip(talker: Talker, clip: Tracked) -> ClipFit:
    """Fit a clip of the speaker."""
    face, seen = talker.template, clip.seen
    numbers = common_landmarks(face, face)
    steady = np.intersect1d(STEADY, numbers)
    flat = plane(np.where(seen[:, None, None], clip.landmarks.points, 0.0))
    middle = flat[seen].mean(axis=0)[None]
    laid = similar(middle[:, steady], talker.rest[None, steady])
    points = lay(laid, flat)

    moving = _moves(face)
    rig = _rig(talker, numbers, moving)
    pose, moved = solve(rig, points[:, numbers], seen)
    wanted = _wanted_gaps(talker, points / (1 + pose[:, 5, None, None]), clip)
    wanted -= _MM * lip_gaps(face, np.zeros((1, *face.verts.shape), np.float32))
    pose, moved = solve(rig, points[:, numbers], seen, wanted, np.concatenate([pose, moved], axis=1))

    coefficients = np.zeros((len(points), len(moving)), np.float32)
    coefficients[:, moving] = moved
    fitted = np.full((len(points), 68, 2), np.nan)
    fitted[:, numbers] = project(rig, pose, moved)
    width = np.linalg.norm(points[:, 54] - points[:, 48], axis=-1)[seen].mean()
    lip_error = np.linalg.norm(fitted[:, LIPS] - points[:, LIPS], axis=-1).mean(axis=1) / width
    lip_error[~seen] = np.nan
    confidence = np.where(seen, 1 / (1 + (lip_error / DOUBTFUL) ** 2), 0.0)
    head_pose = np.concatenate([pose[:, :3], pose[:, 3:5] / _MM, pose[:, 5:] * DISTANCE_MM / _MM], axis=1)
    return ClipFit(
        coefficients=coefficients,
        head_pose=head_pose.astype(np.float32),
        confidence=confidence.astype(np.float32),
        points=plane(lay_back(laid, fitted)).astype(np.float32),
        lip_error=lip_error.astype(np.float32),
        camera=_camera(laid[0]),
    )


def _rig(talker: Talker, numbers: np.ndarray, moving: np.ndarray) -> Rig:
    face = talker.template
    low, high = bounds(face)
    at_rest = lip_gaps(face, np.zeros((1, *face.verts.shape), np.float32))
    rest = _MM * face.verts[face.landmarks[numbers]].astype(np.float64) + talker.correction[numbers]
    return Rig(
        rest=rest,
        basis=_MM * face.articulation_basis[moving][:, face.landmarks[numbers]].astype(np.float64),
        weight=np.array([_weight(n) for n in numbers]),
        stay=np.array([stay_mm(name) for name in face.articulation_names])[moving],
        low=low[moving],
        high=high[moving],
        usual_turn=talker.turn,
        pose_stay=FRAME_STAY,
        gap_basis=_MM * (lip_gaps(face, face.articulation_basis[moving]) - at_rest).T.astype(np.float64),
        gap_weight=GAP_WEIGHT,
    )


def _weight(number: int) -> float:
    """Of a landmark: lips count most, then the chin; a detector's points at the cheeks' edge slide along it."""
    if number >= LIPS[0]:
        return 1.0
    return 0.4 if 4 <= number <= 12 else 0.15 if number <= 16 else 0.3


def _moves(face: FaceTemplate) -> np.ndarray:
    """Mask (K,) of the articulations that move a landmark: of the tongue's there is nothing to see."""
    landmarks = face.landmarks[face.landmarks >= 0]
    return _MM * np.abs(face.articulation_basis[:, landmarks]).max(axis=(1, 2)) > 0.05


def _densest(values: np.ndarray, counted: np.ndarray) -> float:
    """Where those of values (N,) that are counted are densest in the lower half of the range of all: lips stay closed
    longer than half open."""
    low, high = np.quantile(values, (0.02, 0.98))
    grid = np.linspace(low, (low + high) / 2, 100)
    density = [np.exp(-0.5 * ((values[counted] - at) / DENSITY_MM) ** 2).sum() for at in grid]
    return float(grid[np.argmax(density)])


def _wanted_gaps(talker: Talker, points: np.ndarray, clip: Tracked) -> np.ndarray:
    """Heights (T, C) mm of the template's gap between the lips for points (T, 68, 2): from contact to what is seen."""
    beyond = _heights(points, OUTER_PAIRS).mean(axis=1) - talker.height_mm
    darker = np.zeros(len(points))
    if talker.darkness is not None and clip.darkness is not None:
        darker = talker.darkness_mm * (clip.darkness - talker.darkness)
    low_mm = np.quantile((beyond + darker)[clip.seen], LOW_QUANTILE) - talker.low_mm
    beyond = beyond + np.maximum(darker, -PALE_MM) - np.clip(LOW_SHARE * low_mm, -LOW_MOST_MM, LOW_MOST_MM)
    apart = _heights(points, GAP_PAIRS) - talker.gap_mm
    seen = np.clip((beyond - CONTACT_MM) / (OPEN_MM - CONTACT_MM), 0, 1)
    seen = np.maximum(seen, np.clip((apart.mean(axis=1) - DOUBTED_MM) / (APART_MM - DOUBTED_MM), 0, 1))[:, None]
    return seen * np.maximum(apart, LEAST_GAP_MM) + (1 - seen) * _MM * CONTACT_GAP_M


def _heights(points: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """(T, C): of upper above lower landmarks on the front plane."""
    upper, lower = ([pair[k] for pair in pairs] for k in (0, 1))
    return points[:, upper, 1] - points[:, lower, 1]


def _camera(laid: np.ndarray) -> np.ndarray:
    factor, shift = 1 / laid[0], -laid[1] / laid[0]
    return np.array([[factor.real, -factor.imag, shift.real], [-factor.imag, -factor.real, -shift.imag]], np.float32)
