import numpy as np
import pytest

from avsr.errors import InputError
from talking3d.face.interior import with_interior
from talking3d.face.procedural import procedural_face


def test_teeth_tongue_and_eyes_come_after_the_faces_own_vertices(biwi_face):
    whole = with_interior(biwi_face)
    n_own = len(biwi_face.verts)
    np.testing.assert_array_equal(whole.verts[:n_own], biwi_face.verts)
    np.testing.assert_array_equal(whole.region("lips"), biwi_face.region("lips"))
    assert whole.topology_hash != biwi_face.topology_hash
    for name in ("mouth_interior", "teeth_upper", "teeth_lower", "tongue", "eyes"):
        assert whole.region(name).min() >= n_own
    lips = whole.verts[whole.landmarks[60:68]]
    for name in ("teeth_upper", "teeth_lower", "tongue"):
        assert whole.verts[whole.region(name), 2].max() < lips[:, 2].max() + 0.002
        assert np.abs(whole.verts[whole.region(name), 0].mean()) < 0.004


def test_eyeballs_stay_round_and_are_not_doubled(bare_face):
    assert "eyes" in bare_face.regions
    whole = with_interior(bare_face)
    np.testing.assert_array_equal(whole.region("eyes"), bare_face.region("eyes"))
    assert len(whole.verts) == len(bare_face.verts) + len(procedural_face().region("mouth_interior"))


def test_a_face_with_an_interior_gets_no_second_one():
    with pytest.raises(InputError, match="'procedural' has a mouth interior already"):
        with_interior(procedural_face())
