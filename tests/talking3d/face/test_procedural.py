import numpy as np
import pytest
import torch
from scipy.spatial import Delaunay

from talking3d.face import head_parts
from talking3d.face.motion import Motion
from talking3d.face.muscles import NAMES
from talking3d.face.procedural import SHAPE_NAMES, procedural_face, random_identity
from talking3d.face.regions import lip_aperture_mm, lip_width_mm
from talking3d.render.camera import Camera
from talking3d.render.rasterize import Mesh, rasterize

# jaw_open, lip_round, lip_spread, tongue_dorsum, lip_funnel, lower_depress, upper_raise
VOWELS = {
    "i": (0.16, 0, 0.85, 0.7, 0, 0.3, 0.2),
    "e": (0.38, 0, 0.6, 0.4, 0, 0.2, 0),
    "æ": (0.72, 0, 0.4, 0, 0, 0.2, 0.25),
    "ɑ": (0.95, 0, 0, 0, 0, 0, 0),
    "ɒ": (0.8, 0.4, 0, 0, 0, 0, 0),
    "ɜ": (0.36, 0.25, 0, 0, 0.3, 0, 0),
    "ɔ": (0.66, 0.55, 0, 0, 0, 0, 0),
    "o": (0.42, 0.78, 0, 0, 0, 0, 0),
    "ʊ": (0.24, 0.65, 0, 0, 0, 0, 0),
    "u": (0.1, 1, 0, 0, 0, 0, 0),
    "y": (0.12, 0.95, 0, 0.6, 0, 0, 0),
    "ʃ": (0.07, 0.3, 0, 0, 1, 0, 0),
    "w": (0.05, 1.1, 0, 0, 0, 0, 0),
}
VOWEL_NAMES = (
    "jaw_open",
    "lip_round",
    "lip_spread",
    "tongue_dorsum",
    "lip_funnel",
    "lower_depress",
    "upper_raise",
)


@pytest.fixture(scope="module")
def face():
    return procedural_face()


@pytest.fixture(scope="module")
def people():
    return [random_identity(np.random.default_rng(seed)) for seed in range(6)]


def coefficients(**values):
    assert set(values) <= set(NAMES)
    return np.array([[values.get(name, 0.0) for name in NAMES]], np.float32)


def posed(face, **values):
    return face.verts + face.offsets(coefficients(**values))[0]


def contact_gaps_mm(face, verts):
    """Height of the gap between the lips along the contact line, corner to corner."""
    ring = face.region("lips_inner")
    upper, lower = ring[1:30], ring[:30:-1]
    return 1e3 * (verts[upper, 1] - verts[lower, 1])


def test_the_contract_of_sizes_and_names(face):
    assert 3500 <= len(face.verts) <= 6100
    assert len(face.region_faces("lower_face")) <= 5000
    assert face.shape_names == SHAPE_NAMES and len(SHAPE_NAMES) == 10
    assert len(NAMES) == 16 and face.articulation_names == NAMES
    for name in ("lips", "lips_inner", "upper_face", "mouth_interior", "teeth_upper", "teeth_lower", "tongue", "eyes"):
        assert len(face.region(name)) > 0
    assert face.colors.min() >= 0 and face.colors.max() <= 1
    assert 0.2 < np.ptp(face.verts[face.region("skin"), 1]) < 0.35  # metres


def test_the_mesh_is_a_consistently_oriented_surface(face):
    directed = np.concatenate([face.faces[:, [0, 1]], face.faces[:, [1, 2]], face.faces[:, [2, 0]]]).astype(np.int64)
    keys = directed[:, 0] * len(face.verts) + directed[:, 1]
    assert len(np.unique(keys)) == len(keys), "two triangles run along one edge in the same direction"
    assert set(range(len(face.verts))) == set(face.faces.ravel().tolist()), "a vertex belongs to no triangle"


@pytest.mark.parametrize("landmark", [8, 30, 51, 57, 21])
def test_the_front_of_the_face_looks_at_the_viewer(face, landmark):
    near = (face.faces == face.landmarks[landmark]).any(axis=1)
    a, b, c = (face.verts[face.faces[near, k]] for k in range(3))
    assert np.cross(b - a, c - a)[:, 2].sum() > 0


def test_landmarks_are_complete_and_in_ibug_order(face):
    x, y, _ = face.verts[face.landmarks].T
    assert (face.landmarks >= 0).all() and len(set(face.landmarks.tolist())) == 68
    for left_to_right in (range(0, 17), range(17, 27), range(31, 36), range(48, 55), range(60, 65)):
        assert (np.diff(x[list(left_to_right)]) > -1e-3).all()
    assert x[36] < x[39] < 0 < x[42] < x[45]
    assert y[37] > y[41] and y[43] > y[47] and y[51] > y[62] > y[57] and y[8] < y[57]
    assert (np.diff(x[[54, 55, 56, 57, 58, 59, 48]]) < 0).all()
    mirror = [(0, 16), (4, 12), (17, 26), (36, 45), (39, 42), (48, 54), (50, 52), (60, 64), (31, 35)]
    for left, right in mirror:
        np.testing.assert_allclose(
            face.verts[face.landmarks[left]], face.verts[face.landmarks[right]] * [-1, 1, 1], atol=2e-3
        )


def test_lips_touch_along_their_whole_length_at_rest(face, people):
    for person in [face, *people]:
        gaps = contact_gaps_mm(person, person.verts)
        assert gaps.max() <= 1e-3 and gaps.min() > -0.5


@pytest.mark.parametrize(
    ("name", "mm"),
    [("jaw_open", 16.4), ("lip_funnel", 7.6), ("lower_depress", 6.0), ("upper_raise", 5.2), ("lip_round", 3.1)],
)
def test_one_unit_opens_the_lips_as_documented(face, name, mm):
    opened = lip_aperture_mm(face, face.offsets(np.concatenate([coefficients(), coefficients(**{name: 1.0})])))
    assert opened[1] - opened[0] == pytest.approx(mm, rel=0.03)


@pytest.mark.parametrize(
    "name", ["jaw_forward", "lip_spread", "lip_press", "corner_up", "tongue_out", "brow_raise", "blink"]
)
def test_other_units_leave_the_lips_closed(face, name):
    assert contact_gaps_mm(face, posed(face, **{name: 1.0})).max() < 0.05


def test_a_closure_solved_in_the_middle_closes_the_whole_line(face, people):
    """The corpus closes p, b, m by lowering lower_depress until the middle's gap is -0.2 mm."""
    for person in [face, *people]:
        bilabial = {"jaw_open": 0.05, "lip_press": 0.8, "lip_round": 0.3}
        gap = lip_aperture_mm(person, person.offsets(coefficients(**bilabial)))[0]
        unit = lip_aperture_mm(person, person.offsets(coefficients(lower_depress=1.0)))[0]
        unit -= lip_aperture_mm(person, person.offsets(coefficients()))[0]
        bilabial["lower_depress"] = -(gap + 0.2) / unit
        assert contact_gaps_mm(person, posed(person, **bilabial)).max() < 0.05


@pytest.mark.parametrize("vowel", VOWELS)
def test_no_vowel_turns_the_lips_inside_out(face, people, vowel):
    values = dict(zip(VOWEL_NAMES, VOWELS[vowel], strict=True))
    for person in [face, *people]:
        verts = posed(person, **values)
        assert contact_gaps_mm(person, verts).min() > -0.3
        rings = person.region("lips").reshape(-1, 60)[2:]  # contact line to the vermilion's border
        x, y, _ = np.moveaxis(verts[rings], -1, 0)
        upper, lower = slice(4, 27), slice(34, 57)
        assert (np.diff(y[:, upper], axis=0) > 0).all() and (np.diff(y[:, lower], axis=0) < 0).all()
        assert (np.diff(x[:, :31], axis=1) < 1e-4).all(), "columns of the upper lip cross"


def test_strong_rounding_never_crosses_the_corners(people):
    """Speaking styles scale a unit by up to 1.4."""
    for person in people:
        verts = posed(person, lip_round=1.4)
        assert (np.diff(verts[person.region("lips_inner")[:31], 0]) < 0).all()


def test_a_rounded_mouth_is_a_small_oval(face):
    verts = posed(face, jaw_open=0.1, lip_round=1.0)
    opening = 1e3 * verts[face.region("lips_inner")]
    width, height = np.ptp(opening[:, 0]), np.ptp(opening[:, 1])
    x, y = opening[:, 0], opening[:, 1]
    area = 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
    assert 0.70 < area / (width * height) < 0.87  # an ellipse has 0.785, a box 1
    assert lip_width_mm(face, face.offsets(coefficients(lip_round=1.0)))[0] < 30


def test_jaw_carries_chin_teeth_and_tongue_but_not_the_skull(face):
    offsets = 1e3 * face.offsets(coefficients(jaw_open=1.0))[0]
    assert offsets[face.landmarks[8], 1] < -10
    assert offsets[face.region("teeth_lower"), 1].mean() < -8
    assert offsets[face.region("tongue"), 1].mean() < -3
    for still in ("teeth_upper", "eyes", "hair", "shirt"):
        assert np.abs(offsets[face.region(still)]).max() == 0
    assert np.abs(offsets[face.landmarks[27:31]]).max() < 0.5


def drawn_straight_on(face, verts):
    """The face indices (256, 256) that a distant viewer sees of a face at 1.5 pixels a millimetre."""
    verts = verts.astype(np.float32)
    interior = np.zeros(len(verts), bool)
    interior[face.region("mouth_interior")] = True
    camera = Camera(1500.0, (128.0, 160.0), (0.0, 0.0, 1.0), orthographic=True)
    mesh = Mesh.of(face.faces, interior[face.faces].all(axis=1))
    return rasterize(*camera.project(torch.from_numpy(verts)[None]), mesh, (256, 256)).face_index[0].numpy()


def test_blinking_covers_the_eyeballs(face):
    in_eyes = np.zeros(len(face.faces), bool)
    in_eyes[face.region_faces("eyes")] = True
    shown = [in_eyes[drawn_straight_on(face, posed(face, blink=share))].sum() for share in (0, 0.25, 0.5, 0.75, 1)]
    assert shown[0] > 500
    assert all(after < 0.85 * before for before, after in zip(shown, shown[1:], strict=False))
    assert shown[-1] == 0


@pytest.mark.parametrize("values", [{}, {"lip_press": 0.8, "jaw_open": 0.05, "lower_depress": -0.14}, {"blink": 1.0}])
def test_closed_lips_show_no_teeth_and_no_gap(face, people, values):
    """Drawn straight on, no pixel of the closed mouth shows the inside."""
    for person in [face, *people]:
        inside = np.isin(person.faces, person.region("mouth_interior")).all(axis=1)
        seen = drawn_straight_on(person, posed(person, **values))
        assert (seen >= 0).sum() > 40_000 and inside[seen[seen >= 0]].sum() == 0
        opened = drawn_straight_on(person, posed(person, jaw_open=0.5))
        assert inside[opened[opened >= 0]].sum() > 200


def test_people_differ_and_share_one_topology(face, people):
    assert {person.topology_hash for person in people} == {face.topology_hash}
    skins = np.stack([p.colors[p.landmarks[30]] for p in people])
    assert np.ptp(skins[:, 0]) > 0.1
    assert all(np.linalg.norm(p.verts - q.verts) > 0.01 for p in people for q in people if p is not q)
    motion = Motion.of_template(face, 25.0, coefficients=coefficients(jaw_open=1.0))
    assert motion.offsets_for(people[0]).shape == (1, *face.verts.shape)


def test_rounding_errors_cannot_change_the_topology(monkeypatch):
    """Another machine's last digits must not give another mesh, or its motion would be refused here."""
    expected = head_parts.skin_mesh()[2]
    rng = np.random.default_rng(0)
    monkeypatch.setattr(
        head_parts, "Delaunay", lambda points: Delaunay(points + rng.uniform(-1e-7, 1e-7, points.shape))
    )
    np.testing.assert_array_equal(head_parts.skin_mesh.__wrapped__()[2], expected)


def test_a_seed_always_makes_the_same_person(people):
    again = random_identity(np.random.default_rng(3))
    np.testing.assert_array_equal(again.verts, people[3].verts)
    np.testing.assert_array_equal(again.colors, people[3].colors)
