from dataclasses import replace

import numpy as np
import pytest

from talking3d.face.correspondence import correspond, lip_gaps, lip_sides, nearest_on_surface, wanted_gaps
from talking3d.face.interior import with_interior
from talking3d.face.procedural import procedural_face


def unit(face, name):
    return face.articulation_basis[[face.articulation_names.index(name)]]


@pytest.fixture(scope="module")
def pairs(bare_face):
    return correspond(procedural_face(), bare_face)


def test_nearest_points_are_those_of_a_search_through_all_triangles():
    rng = np.random.default_rng(0)
    face = procedural_face()
    faces = face.faces[::7]
    points = face.verts[rng.integers(0, len(face.verts), 20)] + rng.normal(0, 0.004, (20, 3))
    corners, weights, distance = nearest_on_surface(points, face.verts.astype(float), faces)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert weights.min() >= -1e-9
    at = np.einsum("nc,ncx->nx", weights, face.verts[corners])
    np.testing.assert_allclose(np.linalg.norm(at - points, axis=1), distance, atol=1e-9)
    grid = np.array([(i, j, 12 - i - j) for i in range(13) for j in range(13 - i)]) / 12
    samples = np.einsum("gc,fcx->gfx", grid, face.verts[faces]).reshape(-1, 3)
    for point, found in zip(points, distance, strict=True):
        nearest = np.linalg.norm(samples - point, axis=1).min()
        assert found <= nearest + 1e-9 and nearest - found < 0.002


def test_normals_tell_the_front_of_a_sheet_from_its_back():
    verts = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0.001], [1, 0, 0.001], [0, 1, 0.001]], float)
    faces = np.array([[0, 1, 2], [3, 5, 4]])  # the upper sheet looks down
    point, up = np.array([[0.2, 0.2, 0.0008]]), np.array([[0.0, 0.0, 1.0]])
    assert set(nearest_on_surface(point, verts, faces)[0][0]) == {3, 4, 5}
    assert set(nearest_on_surface(point, verts, faces, up)[0][0]) == {0, 1, 2}


def test_sides_part_the_lips_and_leave_the_cheeks(bare_face):
    for face in (procedural_face(), bare_face):
        side = lip_sides(face)
        lm = face.landmarks
        assert (side[lm[[50, 51, 52, 61, 62, 63]]] == 1).all() and (side[lm[[56, 57, 58, 65, 66, 67]]] == -1).all()
        y = face.verts[:, 1]
        red = np.zeros(len(y), bool)
        red[face.region("lips")] = True
        middle = red & (np.abs(face.verts[:, 0]) < 0.015)
        assert (side[middle & (y > 0.003)] == 1).all() and (side[middle & (y < -0.005)] == -1).all()


def test_a_face_is_its_own_correspondence():
    face = procedural_face()
    offsets = face.articulation_basis[[0, 3, 14]]
    moved = correspond(face, face).carry(offsets)
    away = 1e3 * np.linalg.norm(moved - offsets, axis=-1)
    inner = face.region("lips_inner")
    assert away.mean() < 0.2 and away[:, inner].mean() < 0.6


def test_the_jaw_carries_the_lower_lip_and_leaves_the_upper(pairs, bare_face):
    moved = 1e3 * pairs.carry(unit(procedural_face(), "jaw_open"))[0]
    lm = bare_face.landmarks
    assert (moved[lm[[65, 66, 67, 57]], 1] < -10).all()
    assert np.abs(moved[lm[[51, 62, 30, 27]], 1]).max() < 1.5
    assert np.abs(moved[lm[36:48]]).max() < 1


def test_gaps_follow_the_source_and_contact_stays_contact(pairs, bare_face):
    face = procedural_face()
    offsets = np.concatenate([0 * unit(face, "jaw_open"), *(unit(face, n) for n in ("jaw_open", "lip_round"))])
    gaps = lip_gaps(bare_face, pairs.carry(offsets))
    np.testing.assert_allclose(gaps, wanted_gaps(face, offsets, pairs.laid.scale), atol=1e-6)
    assert (gaps[0] <= -2e-4 + 1e-7).all() and (gaps[1] > 0.008).all()


def test_a_larger_face_moves_further(bare_face):
    face = procedural_face()
    larger = replace(bare_face, verts=1.25 * bare_face.verts)
    offsets = unit(face, "jaw_open")
    ratio = np.linalg.norm(correspond(face, larger).carry(offsets)) / np.linalg.norm(
        correspond(face, bare_face).carry(offsets)
    )
    assert ratio == pytest.approx(1.25, rel=0.02)


def test_teeth_and_tongue_move_with_their_like(bare_face):
    face = procedural_face()
    whole = with_interior(bare_face)
    pairs = correspond(face, whole)
    jaw, tongue = (pairs.carry(unit(face, name))[0] for name in ("jaw_open", "tongue_out"))
    own = face.articulation_basis[0]
    for name, offsets in (("teeth_lower", jaw), ("teeth_upper", jaw)):
        expected = own[face.region(name)].mean(axis=0)
        np.testing.assert_allclose(offsets[whole.region(name)].mean(axis=0), expected, atol=0.0015)
    assert tongue[whole.region("tongue"), 2].max() > 0.009
    assert np.abs(tongue[whole.region("teeth_lower")]).max() == 0


def test_the_rig_on_biwi_reads_as_speech(biwi_face):
    face = procedural_face()
    pairs = correspond(face, biwi_face)
    moved = pairs.carry(np.concatenate([unit(face, name) for name in ("lip_round", "lip_spread", "jaw_open")]))
    corners = biwi_face.landmarks[[48, 54]]
    width = np.linalg.norm(np.diff(biwi_face.verts[corners] + moved[:, corners], axis=1)[:, 0], axis=-1)
    rest = np.linalg.norm(np.diff(biwi_face.verts[corners], axis=0))
    assert width[0] < 0.6 * rest and width[1] > 1.15 * rest
    chin = np.argmin(biwi_face.verts[:, 1])
    assert moved[2, chin, 1] < -0.006
