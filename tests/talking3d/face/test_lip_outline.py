import numpy as np

from talking3d.face.lip_outline import smooth_outline, within_lips
from talking3d.face.procedural import procedural_face


def test_the_outline_is_closed_and_passes_through_its_landmarks():
    face = procedural_face()
    points = face.verts[face.landmarks[48:60]]
    curve = smooth_outline(points)
    nearest = np.linalg.norm(points[:, None, :2] - curve[None], axis=-1).min(axis=1)
    assert 1e3 * nearest.max() < 0.5
    steps = np.linalg.norm(curve - np.roll(curve, 1, axis=0), axis=1)
    assert steps.max() < 3 * np.median(steps)


def test_the_lips_found_are_those_of_the_face():
    face = procedural_face()
    found = within_lips(face.verts, face.verts[face.landmarks[48:60]])
    lips = np.zeros(len(face.verts), bool)
    lips[face.region("lips")] = True
    front = np.zeros(len(face.verts), bool)
    front[np.concatenate([face.region("skin"), face.region("lips")])] = True
    front &= face.verts[:, 2] > -0.02
    assert (found & lips).sum() > 0.8 * lips.sum()
    assert (found & front & ~lips).sum() < 0.1 * lips.sum()
    assert not within_lips(np.array([[0.05, 0, 0], [0, 0.03, 0]]), face.verts[face.landmarks[48:60]]).any()
