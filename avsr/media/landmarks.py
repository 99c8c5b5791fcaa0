"""Face landmarks in video: the 68 points of iBUG 300-W, by dlib, by a MediaPipe model of the user's
(`mediapipe_landmarks`) or, coarsely, by OpenCV's Haar face detector.

Points 0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes, 48-67 mouth (48 and 54 its corners); pixels, x right, y down.

dlib's shape predictor (Kazemi and Sullivan, CVPR 2014) was trained on iBUG 300-W, whose licence allows research use
only; the same holds for landmarks used to crop by it. It is optional: the extra `landmarks` installs it.

Letters: T video frames, H W picture height and width.
"""

import functools
import importlib.util
import itertools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avsr.errors import InputError
from avsr.files import atomic_path
from avsr.media.mediapipe_landmarks import faces_in

DETECTORS = ("auto", "dlib", "haar", "mediapipe")
N_POINTS = 68
DETECT_EVERY_FRAMES = 5
DETECT_SIDE_PX = 480  # faces are looked for on a picture reduced to this longer side
SAME_FACE_OVERLAP = 0.4  # intersection over union of two boxes that show one face a moment apart
RIVAL_AREA = 0.5  # of the largest face's: a second one of this size may be the talker
NOTED_RIVALS = 0.1  # share of the pictures that were looked at

Box = np.ndarray  # (4,) float: left, top, right, bottom in pixels

logger = logging.getLogger(__name__)


class NoFaceError(InputError):
    """No picture of a video shows a face."""


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of one face through a clip.

    points: (T, 68, 2) float32 pixels; where no face was found, interpolated between the nearest frames with one.
    found: (T,) bool. detector: "dlib", "mediapipe" or "haar" (haar knows only the face's box and puts a mean face into
    it).
    """

    points: np.ndarray
    found: np.ndarray
    detector: str

    def save(self, path: str | Path) -> None:
        """Write an .npz, whole or not at all."""
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(file, points=self.points, found=self.found, detector=self.detector)

    @staticmethod
    def load(path: str | Path) -> "Landmarks":
        """Read an .npz written by `save`. Raises InputError when it is missing, damaged or of other shapes."""
        try:
            with np.load(path) as arrays:
                landmarks = Landmarks(arrays["points"], arrays["found"], str(arrays["detector"]))
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such landmarks file; make it with `avsr prepare`") from error
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise InputError(f"{path}: not a landmarks file ({error}); make it again with `avsr prepare`") from error
        if landmarks.points.shape != (len(landmarks.found), N_POINTS, 2):
            raise InputError(f"{path}: points are {landmarks.points.shape}, expected (T, {N_POINTS}, 2)")
        return landmarks


def detect_landmarks(
    frames: Iterable[np.ndarray],
    detector: str = "auto",
    where: str | Path = "the video",
    model: str | Path | None = None,
) -> Landmarks:
    """Follow the largest face through pictures, (H, W, 3) RGB or (H, W) gray uint8 (an array or any iterable of them).

    detector: "dlib", "haar", "mediapipe" with its file as `model`, or "auto", the first of the first two that is
    installed. dlib and haar look for the face in every fifth frame, and in the frames between where its box moves away
    or is lost; elsewhere boxes are interpolated. Several faces of like size are logged.

    Raises NoFaceError where no picture of `where` shows a face, InputError on an unknown detector, on one that isn't
    installed, and on a model that is missing, isn't the detector's or isn't asked for.
    """
    if detector not in DETECTORS:
        raise InputError(f"landmark detector {detector!r} is unknown; choose {', '.join(DETECTORS)}")
    if (detector == "mediapipe") != (model is not None):
        raise InputError(
            "the landmark detector 'mediapipe', and no other, takes a model file: --landmark_model FILE.task"
        )
    crowded: list[bool] = []  # of each picture that was looked at
    if model is None:
        detector, fitted = _by_boxes(frames, detector, crowded)
    else:
        fitted = _by_model(frames, model, crowded)
    if sum(crowded) > NOTED_RIVALS * len(crowded):
        logger.warning(
            "%s: several faces of like size in %d of %d frames looked at; the first largest one is followed: cut the "
            "picture where it isn't the talker's",
            where,
            sum(crowded),
            len(crowded),
        )
    found = np.array([points is not None for points in fitted], bool)
    if not found.any():
        raise NoFaceError(
            f"{where}: no face found in any of {len(found)} frames; it must be upright, frontal, not small"
        )
    seen = np.flatnonzero(found)
    known = np.stack([fitted[t] for t in seen]).reshape(len(seen), -1)
    points = np.stack([np.interp(np.arange(len(found)), seen, column) for column in known.T], axis=1)
    return Landmarks(points.reshape(-1, N_POINTS, 2).astype(np.float32), found, detector)


def _by_boxes(frames, detector: str, crowded: list[bool]) -> tuple[str, list[np.ndarray | None]]:
    """The detector's name and points (68, 2) of each picture, None without a face, by a detector of boxes."""
    name, find_boxes, fit_points = _detector(detector)

    def look(gray: np.ndarray) -> list[Box]:
        boxes = find_boxes(gray)
        crowded.append(_is_crowd(boxes))
        return boxes

    pictures = (frame if frame.ndim == 2 else _gray(frame) for frame in frames)
    fitted: list[np.ndarray | None] = []
    previous = None
    run = list(itertools.islice(pictures, 1))
    while run:
        boxes = _follow(run, previous, look)
        fitted += [None if box is None else fit_points(gray, box) for gray, box in zip(run, boxes, strict=True)]
        previous = boxes[-1]
        run = list(itertools.islice(pictures, DETECT_EVERY_FRAMES))
    return name, fitted


def _by_model(frames, model: str | Path, crowded: list[bool]) -> list[np.ndarray | None]:
    """Points (68, 2) of each picture, None without a face, by MediaPipe."""
    fitted: list[np.ndarray | None] = []
    previous = None
    for faces in faces_in(frames, model):
        boxes = [np.concatenate([face.min(axis=0), face.max(axis=0)]) for face in faces]
        crowded.append(_is_crowd(boxes))
        previous = _nearest(boxes, previous)
        fitted.append(next((face for face, box in zip(faces, boxes, strict=True) if box is previous), None))
    return fitted


def _follow(run: list[np.ndarray], previous: Box | None, find_boxes: Callable) -> list[Box | None]:
    """Boxes of the face in consecutive pictures, of which the one before showed it at `previous`."""
    last = _nearest(find_boxes(run[-1]), previous)
    if last is None and previous is None:
        return [None] * len(run)
    if last is not None and previous is not None and _overlap(previous, last) > SAME_FACE_OVERLAP:
        return list(np.linspace(previous, last, len(run) + 1)[1:])
    boxes = []
    for gray in run[:-1]:
        previous = _nearest(find_boxes(gray), previous)
        boxes.append(previous)
    return [*boxes, last]


def _nearest(boxes: list[Box], previous: Box | None) -> Box | None:
    """The box that overlaps the previous one most; the largest where none does or there was none."""
    if not boxes:
        return None
    return max(boxes, key=lambda box: (0.0 if previous is None else _overlap(box, previous), _area(box)))


def _area(box: Box) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _is_crowd(boxes: list[Box]) -> bool:
    """Whether a second face is nearly as large as the largest."""
    areas = sorted(map(_area, boxes))
    return len(areas) > 1 and areas[-2] > RIVAL_AREA * areas[-1]


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width, height = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    return float(width * height / (_area(a) + _area(b) - width * height))


def _gray(frame: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def _reduced(gray: np.ndarray) -> tuple[np.ndarray, float]:
    """The picture, made smaller if it is large, and the factor from its pixels back to the full ones."""
    import cv2

    factor = max(gray.shape) / DETECT_SIDE_PX
    if factor <= 1:
        return np.ascontiguousarray(gray), 1.0
    size = round(gray.shape[1] / factor), round(gray.shape[0] / factor)
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA), factor


def _detector(name: str) -> tuple[str, Callable[[np.ndarray], list[Box]], Callable[[np.ndarray, Box], np.ndarray]]:
    """The detector's name, its function picture -> boxes of faces, and its function (picture, box) -> (68, 2)."""
    for candidate, build in (("dlib", _dlib), ("haar", _haar)):
        if name in ("auto", candidate) and (functions := build()) is not None:
            return candidate, *functions
    remedy = "opencv-python-headless<5" if name == "haar" else "liploop[landmarks]"
    raise InputError(f"landmark detector {name!r} is not installed: pip install '{remedy}'")


@functools.cache  # loading the predictor takes a second
def _dlib() -> tuple[Callable, Callable] | None:
    """dlib's HOG face detector and 68-point predictor, or None where they are not installed."""
    models = importlib.util.find_spec("face_recognition_models")
    if models is None or importlib.util.find_spec("dlib") is None:
        return None
    import dlib

    # the package itself cannot be imported with a recent setuptools; only its data file is needed
    weights = Path(models.submodule_search_locations[0]) / "models" / "shape_predictor_68_face_landmarks.dat"
    detect, predict = dlib.get_frontal_face_detector(), dlib.shape_predictor(str(weights))

    def find_boxes(gray: np.ndarray) -> list[Box]:
        small, factor = _reduced(gray)
        faces = detect(small, 0) or detect(small, 1)  # the second pass, enlarged, finds smaller and turned faces
        return [np.array([f.left(), f.top(), f.right(), f.bottom()]) * factor for f in faces]

    def fit_points(gray: np.ndarray, box: Box) -> np.ndarray:
        parts = predict(np.ascontiguousarray(gray), dlib.rectangle(*(round(edge) for edge in box))).parts()
        return np.array([(part.x, part.y) for part in parts], np.float64)

    return find_boxes, fit_points


@functools.cache
def _haar() -> tuple[Callable, Callable] | None:
    """OpenCV's frontal face cascade with a mean face in its box, or None where OpenCV lacks cascades (5 and later)."""
    if importlib.util.find_spec("cv2") is None:
        return None
    import cv2

    if not hasattr(cv2, "CascadeClassifier"):
        return None
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")

    def find_boxes(gray: np.ndarray) -> list[Box]:
        small, factor = _reduced(gray)
        side = max(min(small.shape) // 6, 24)
        faces = cascade.detectMultiScale(small, scaleFactor=1.1, minNeighbors=5, minSize=(side, side))
        return [np.array([x, y, x + width, y + height]) * factor for x, y, width, height in faces]

    def fit_points(_gray: np.ndarray, box: Box) -> np.ndarray:
        return box[:2] + _MEAN_FACE / 1000 * (box[2:] - box[:2])

    return find_boxes, fit_points


# The mean of dlib's points in the Haar box, mirrored on itself, over 76 frames of one frontal talker (GRID s1), in
# thousandths of the box: jaw, brows, nose, eyes, outer lip, inner lip.
_MEAN_FACE = np.array(
    [
        [131, 432],
        [139, 536],
        [148, 639],
        [160, 743],
        [184, 842],
        [236, 928],
        [310, 997],
        [397, 1046],
        [500, 1063],
        [603, 1046],
        [690, 997],
        [764, 928],
        [816, 842],
        [840, 743],
        [852, 639],
        [861, 536],
        [869, 432],
        [195, 334],
        [233, 278],
        [299, 260],
        [369, 266],
        [437, 287],
        [563, 287],
        [631, 266],
        [701, 260],
        [767, 278],
        [805, 334],
        [500, 373],
        [500, 443],
        [500, 510],
        [500, 582],
        [420, 655],
        [459, 664],
        [500, 671],
        [541, 664],
        [580, 655],
        [271, 398],
        [311, 379],
        [360, 380],
        [405, 407],
        [358, 417],
        [309, 417],
        [595, 407],
        [640, 380],
        [689, 379],
        [729, 398],
        [691, 417],
        [642, 417],
        [357, 814],
        [406, 788],
        [460, 771],
        [500, 782],
        [540, 771],
        [594, 788],
        [643, 814],
        [595, 857],
        [543, 878],
        [500, 882],
        [457, 878],
        [405, 857],
        [381, 815],
        [460, 802],
        [500, 807],
        [540, 802],
        [619, 815],
        [541, 829],
        [500, 833],
        [459, 829],
    ]  # fmt: skip
)
