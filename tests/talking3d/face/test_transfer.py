from dataclasses import replace

import numpy as np
import pytest

from avsr.errors import InputError
from talking3d.corpus.articulation import LipAperture, Style, articulate
from talking3d.face import transfer as transferring
from talking3d.face.interior import with_interior
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face
from talking3d.face.regions import lip_aperture_mm, lip_protrusion_mm, lip_width_mm
from talking3d.face.transfer import clone_articulation, transfer

PHONES = [(0.2, 0.3, "p"), (0.3, 0.5, "iː"), (0.5, 0.6, "m"), (0.6, 0.8, "ɑː"), (0.8, 0.9, "b"), (0.9, 1.1, "uː"),
          (1.1, 1.2, "f"), (1.2, 1.4, "aɪ"), (1.4, 1.5, "s"), (1.5, 1.6, "p")]  # fmt: skip


@pytest.fixture(scope="module")
def spoken() -> Motion:
    """'p ee m ah b oo f eye s p' and silence around it."""
    face = procedural_face()
    coefficients = articulate(PHONES, 2.0, Style(), LipAperture.of_template(face), np.random.default_rng(0))
    return Motion.of_template(face, 25, coefficients=coefficients, head_pose=np.full((50, 6), 0.01))


@pytest.fixture
def inside_shown(seen_straight_on):
    """How many pixels of a frame show the mouth's inside, straight on at 2 px a millimetre."""

    def count(face, offsets):
        inside = np.isin(face.faces, face.region("mouth_interior")).all(axis=1)
        seen = seen_straight_on(face, offsets, 2000.0)
        return int(inside[seen[seen >= 0]].sum())

    return count


def test_motion_is_cloned_to_a_face_without_a_rig(spoken, bare_face):
    moved, error = transfer(spoken, procedural_face(), bare_face)
    assert moved.topology_hash == bare_face.topology_hash and moved.fps == 25
    np.testing.assert_array_equal(moved.head_pose, spoken.head_pose)
    assert error.method == "clone" and moved.offsets.shape == (50, *bare_face.verts.shape)
    assert error.n_closed > 10 and error.n_missed == 0
    assert error.gap_max_mm < 0.01 and error.width_max_mm < 3 and error.round_trip_mm < 1.0
    wide, rest = (
        lip_width_mm(bare_face, moved.offsets),
        lip_width_mm(procedural_face(), spoken.offsets_for(procedural_face())),
    )
    assert np.corrcoef(wide, rest)[0, 1] > 0.98


def test_motion_is_fitted_to_a_face_with_a_rig(spoken, bare_face):
    own = procedural_face()
    rigged = clone_articulation(own, bare_face)
    moved, error = transfer(spoken, own, rigged)
    assert error.method == "fit" and moved.coefficients.shape == (50, 16)
    assert error.n_missed == 0 and error.gap_mm < 0.4 and error.width_mm < 1 and error.round_trip_mm < 1.0
    assert "closures missed: 0 of" in str(error) and "there and back" in str(error)


def test_parts_of_a_clip_are_carried_as_the_whole(spoken, bare_face, monkeypatch):
    whole, error = transfer(spoken, procedural_face(), bare_face)
    monkeypatch.setattr(transferring, "_AT_ONCE", 7)
    parts, again = transfer(spoken, procedural_face(), bare_face)
    np.testing.assert_allclose(parts.offsets, whole.offsets, atol=1e-7)
    assert again.gap_mm == pytest.approx(error.gap_mm, abs=1e-6) and again.n_closed == error.n_closed


def test_offsets_are_carried_as_coefficients_are(spoken, bare_face):
    own = procedural_face()
    plain = Motion.of_template(own, 25, offsets=spoken.offsets_for(own))
    one, other = (transfer(m, own, bare_face, round_trip=False) for m in (spoken, plain))
    np.testing.assert_allclose(one[0].offsets, other[0].offsets, atol=1e-6)
    assert one[1].round_trip_mm is None and "there and back" not in str(one[1])


def test_a_cloned_rig_takes_the_corpus_rules_and_closes(bare_face):
    rigged = clone_articulation(procedural_face(), bare_face)
    np.testing.assert_array_equal(rigged.verts, bare_face.verts)
    coefficients = articulate(PHONES, 2.0, Style(), LipAperture.of_template(rigged), np.random.default_rng(0))
    gap = lip_aperture_mm(rigged, rigged.offsets(coefficients))
    for start, end, phone in PHONES:
        if phone in "pbm":
            assert gap[int(25 * start) - 1 : int(25 * end) + 1].min() < 0
    assert gap.max() > 6


@pytest.mark.parametrize(
    ("method", "message"),
    [("fit", "'bare' has no articulations to fit; use method clone"), ("copy", "expected one of")],
)
def test_impossible_methods_are_errors(spoken, bare_face, method, message):
    with pytest.raises(InputError, match=message):
        transfer(spoken, procedural_face(), bare_face, method)


def test_what_cannot_be_carried_is_an_error(spoken, bare_face):
    own = procedural_face()
    landmarks = bare_face.landmarks.copy()
    landmarks[62] = -1
    with pytest.raises(InputError, match=r"'bare' lacks the mouth's iBUG landmarks \[62\]"):
        transfer(spoken, own, replace(bare_face, landmarks=landmarks))
    with pytest.raises(InputError, match="was made for 'procedural'"):
        transfer(spoken, bare_face, own)
    with pytest.raises(InputError, match="'bare' has no articulations to clone"):
        clone_articulation(bare_face, own)


def test_speech_on_the_published_arkit_head(spoken, ict_face, inside_shown):
    """Closed lips show nothing of the mouth, vowels open it, /u/ comes forward and /i/ is wide."""
    own = procedural_face()
    moved, error = transfer(spoken, own, ict_face)
    assert error.method == "fit" and error.n_missed == 0 and error.n_closed > 10
    assert error.gap_mm < 0.4 and error.round_trip_mm < 2.5
    assert moved.coefficients.min() >= 0 and moved.coefficients.max() <= 1
    names = np.array(ict_face.articulation_names)
    for one, other in (("mouthPress_L", "mouthPress_R"), ("mouthStretch_L", "mouthStretch_R")):
        np.testing.assert_allclose(*(moved.coefficients[:, names == name] for name in (one, other)), atol=0.1)
    offsets = ict_face.offsets(moved.coefficients)
    gap = lip_aperture_mm(ict_face, offsets)
    source = lip_aperture_mm(own, spoken.offsets_for(own))
    assert np.corrcoef(gap, source)[0, 1] > 0.99
    closed = np.flatnonzero(source < -0.3)
    assert len(closed) > 8 and max(inside_shown(ict_face, offsets[t]) for t in closed[::4]) < 12
    assert inside_shown(ict_face, offsets[int(np.argmax(source))]) > 300
    u, i = int(25 * 1.0), int(25 * 0.42)
    assert lip_protrusion_mm(ict_face, offsets)[u] > 1.5 > lip_protrusion_mm(ict_face, offsets)[i]
    assert lip_width_mm(ict_face, offsets)[i] > lip_width_mm(ict_face, offsets)[u] + 10


def test_speech_on_biwi(spoken, biwi_face, inside_shown):
    whole = with_interior(biwi_face)
    moved, error = transfer(spoken, procedural_face(), whole)
    assert error.method == "clone" and error.n_missed == 0 and error.width_mm < 1 and error.round_trip_mm < 1.0
    gap = lip_aperture_mm(procedural_face(), spoken.offsets_for(procedural_face()))
    shown = [inside_shown(whole, moved.offsets[t]) for t in (int(np.argmin(gap)), int(np.argmax(gap)))]
    assert shown[0] < 40 and shown[1] > 300
