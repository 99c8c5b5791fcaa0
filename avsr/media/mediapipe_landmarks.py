"""The 68 points of iBUG 300-W out of MediaPipe's FaceLandmarker, by the user's own model file (`face_landmarker.task`).

MediaPipe is optional: the extra `mediapipe` installs it, with an OpenCV of its own; models are at
https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker. Of its 478 points one or the mean of two stand
for each of iBUG's, by the published table of Peizhi Yan's mediapipe2dlib (2024, MIT licence,
https://github.com/PeizhiYan/Mediapipe_2_Dlib_Landmarks), in which point 13 lacks the half that its mirror image 3 has;
here it has it. Its inner lips touch where lips do, unlike dlib's.

Letters: T video frames, H W picture height and width.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from avsr.errors import InputError
from avsr.media.timing import FPS

N_POINTS = 478
MOST_FACES = 4  # that are looked for; of one alone MediaPipe smooths the points over time, and lips would come late

_JAW = (127, 234, 93, (132, 58), (58, 172), 136, 150, 176, 152, 400, 379, 365, (397, 288), (361, 288), 323, 454, 356)
_BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
_NOSE = ((168, 6), (197, 195), 5, 4, 75, 97, 2, 326, 305)
_EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
_OUTER_LIPS = (61, 39, 37, 0, 267, 269, 291, 321, 314, 17, 84, 91)
_INNER_LIPS = (78, 82, 13, 312, 308, 317, 14, 87)
# (68, 2): where one point stands for iBUG's it is there twice
IBUG = np.array([np.broadcast_to(n, 2) for n in (*_JAW, *_BROWS, *_NOSE, *_EYES, *_OUTER_LIPS, *_INNER_LIPS)])


def to_ibug(points: np.ndarray) -> np.ndarray:
    """MediaPipe's points (..., 478, D) as iBUG's (..., 68, D)."""
    return points[..., IBUG, :].mean(axis=-2)


def faces_in(frames: Iterable[np.ndarray], model: str | Path) -> Iterator[np.ndarray]:
    """Yield the faces (N, 68, 2) in pixels, N from 0 to 4, of each picture, (H, W, 3) RGB or (H, W) gray uint8.

    frames: at 25 fps. model: the .task file. Raises InputError where MediaPipe isn't installed, and on a missing file
    or one that is no FaceLandmarker model.
    """
    if not os.path.isfile(model):
        raise InputError(f"{model}: no such file; give MediaPipe's FaceLandmarker model, face_landmarker.task")
    try:
        import mediapipe
    except ImportError as error:
        raise InputError("landmark detector 'mediapipe' is not installed: pip install 'liploop[mediapipe]'") from error
    vision = mediapipe.tasks.vision
    options = vision.FaceLandmarkerOptions(
        base_options=mediapipe.tasks.BaseOptions(model_asset_path=os.fspath(model)),
        running_mode=vision.RunningMode.VIDEO,
        num_faces=MOST_FACES,
    )
    try:
        landmarker = vision.FaceLandmarker.create_from_options(options)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{model}: not a model of MediaPipe's FaceLandmarker ({error})") from error
    with landmarker:
        for t, frame in enumerate(frames):
            rgb = np.ascontiguousarray(np.stack([frame] * 3, axis=-1) if frame.ndim == 2 else frame)
            picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=rgb)
            found = landmarker.detect_for_video(picture, 1000 * t // FPS).face_landmarks
            shares = np.array([[(p.x, p.y) for p in face] for face in found]).reshape(-1, N_POINTS, 2)
            # a share of the picture counts from its edge, pixels from the middle of the first
            yield to_ibug(shares * (rgb.shape[1], rgb.shape[0]) - 0.5)
