from dataclasses import replace

import numpy as np
import pytest

from avsr.errors import InputError
from talking3d.face.procedural import procedural_face
from talking3d.face.regions import lip_aperture_mm, lip_protrusion_mm, lip_region, lip_width_mm


@pytest.fixture(scope="module")
def face():
    return procedural_face()


def moved(face, **coefficients):
    row = [coefficients.get(name, 0.0) for name in face.articulation_names]
    return face.offsets(np.array([row]))


def test_aperture_is_linear_in_the_coefficients(face):
    rest = lip_aperture_mm(face, moved(face))
    jaw, funnel = (lip_aperture_mm(face, moved(face, **{n: 1.0})) - rest for n in ("jaw_open", "lip_funnel"))
    both = lip_aperture_mm(face, moved(face, jaw_open=0.3, lip_funnel=0.7)) - rest
    np.testing.assert_allclose(both, 0.3 * jaw + 0.7 * funnel, atol=1e-3)


def test_measures_follow_the_mouth(face):
    assert lip_width_mm(face, moved(face, lip_round=1)) < lip_width_mm(face, moved(face)) - 15
    assert lip_width_mm(face, moved(face, lip_spread=1)) > lip_width_mm(face, moved(face)) + 8
    assert lip_protrusion_mm(face, moved(face, lip_round=1)) > 2
    np.testing.assert_allclose(lip_protrusion_mm(face, moved(face)), 0)


def test_a_wider_margin_takes_in_more_skin(face):
    lips, near, wide = (lip_region(face, margin) for margin in (0, 5, 15))
    assert set(lips) < set(near) < set(wide)
    gaps = np.linalg.norm(face.verts[wide][:, None] - face.verts[lips][None], axis=-1).min(axis=1)
    assert gaps.max() <= 0.015 + 1e-6


def test_wrong_offsets_and_absent_landmarks_are_named(face):
    with pytest.raises(InputError, match="offsets for 'procedural' must be"):
        lip_aperture_mm(face, np.zeros((2, 5, 3)))
    blind = replace(face, landmarks=np.full(68, -1))
    with pytest.raises(InputError, match=r"lacks the iBUG landmarks \[62, 66\]"):
        lip_aperture_mm(blind, np.zeros((1, *face.verts.shape)))
