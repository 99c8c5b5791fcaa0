import dataclasses

import numpy as np
import pytest
from filmed import film

from avsr.errors import InputError
from avsr.media.landmarks import Landmarks
from talking3d.face.film_check import check_film
from talking3d.face.procedural import procedural_face


@pytest.fixture(scope="module")
def still() -> Landmarks:
    face = procedural_face()
    return film(face, np.zeros((40, len(face.articulation_names)), np.float32))


def turned(degrees: float) -> Landmarks:
    face, angle = procedural_face(), np.radians(degrees)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return film(
        dataclasses.replace(face, verts=face.verts @ turn.T), np.zeros((40, len(face.articulation_names)), np.float32)
    )


def changed(landmarks: Landmarks, **arrays) -> Landmarks:
    return dataclasses.replace(landmarks, **arrays)


def test_faces_that_look_about_pass(still):
    for landmarks in (still, turned(25), turned(-25), changed(still, points=still.points / 2)):
        check_film(landmarks)


def test_a_face_may_leave_and_come_back_elsewhere(still):
    found, points = still.found.copy(), still.points.copy()
    found[10:30] = False
    points[30:] += 200
    check_film(changed(still, points=points, found=found))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda still: changed(still, points=0.3 * still.points),
            r"too small: its eyes are 1\d pixels apart, expected 20",
        ),
        (lambda still: turned(45), "turned away, by some 35 degrees or more, in 40 of 40 frames"),
        (lambda still: turned(-45), "turned away"),
        (lambda still: changed(still, found=np.zeros(40, bool)), "no frame's face was found"),
        (
            lambda still: changed(still, points=np.concatenate([still.points[:20], still.points[20:] + 200])),
            r"suddenly elsewhere or of another size at 0\.80 s, as where a film cuts",
        ),
        (
            lambda still: changed(still, points=np.concatenate([still.points[:25], 2 * still.points[25:] - 180])),
            r"of another size at 1\.00 s",
        ),
    ],
    ids=["small", "turned", "turned back", "no face", "jump", "zoom"],
)
def test_films_that_no_face_can_be_fitted_to(still, change, message):
    with pytest.raises(InputError, match=message):
        check_film(change(still))
