from dataclasses import replace

import numpy as np
import pytest

from avsr.errors import InputError
from talking3d.face.template import FaceTemplate


def small(**changes) -> FaceTemplate:
    rng = np.random.default_rng(0)
    fields = {
        "name": "pyramid",
        "verts": np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float),
        "faces": np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2]]),
        "regions": {"lips": np.array([1, 2])},
        "shape_basis": rng.normal(size=(2, 4, 3)),
        "shape_names": ("wide", "tall"),
        "articulation_basis": rng.normal(size=(3, 4, 3)),
        "articulation_names": ("jaw_open", "lip_round", "blink"),
    }
    return FaceTemplate(**{**fields, **changes})


def test_a_saved_template_comes_back_whole(tmp_path):
    face = small()
    face.save(tmp_path / "face.npz")
    back = FaceTemplate.load(tmp_path / "face.npz")
    for key in ("verts", "faces", "landmarks", "shape_basis", "articulation_basis", "colors"):
        np.testing.assert_array_equal(getattr(back, key), getattr(face, key))
    assert (back.name, back.shape_names, back.articulation_names) == (
        face.name,
        face.shape_names,
        face.articulation_names,
    )
    assert back.topology_hash == face.topology_hash
    np.testing.assert_array_equal(back.region("lips"), [1, 2])


def test_offsets_equal_a_sum_over_the_basis():
    face = small()
    coefficients = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    naive = np.zeros((5, 4, 3))
    for t in range(5):
        for k in range(3):
            naive[t] += coefficients[t, k] * face.articulation_basis[k]
    np.testing.assert_allclose(face.offsets(coefficients), naive, atol=1e-6)


def test_identity_adds_shape_and_keeps_topology():
    face = small()
    person = face.identity(np.array([0.5, -1.0]))
    np.testing.assert_allclose(person.verts, face.verts + 0.5 * face.shape_basis[0] - face.shape_basis[1], atol=1e-6)
    assert person.topology_hash == face.topology_hash


def test_topology_hash_sees_faces_and_vertex_count_only():
    face = small()
    assert replace(face, verts=face.verts * 2).topology_hash == face.topology_hash
    assert replace(face, faces=face.faces[:2]).topology_hash != face.topology_hash
    bare = FaceTemplate("bare", face.verts, face.faces)
    longer = FaceTemplate("longer", np.concatenate([face.verts, [[9, 9, 9]]]), face.faces)
    assert bare.topology_hash != longer.topology_hash


def test_region_faces_lie_wholly_inside():
    face = small(regions={"side": np.array([0, 1, 3])})
    np.testing.assert_array_equal(face.region_faces("side"), [1])


NAN = np.full((4, 3), np.nan)
FLAT = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verts": NAN}, "verts holds NaN"),
        ({"verts": FLAT, "faces": [[0, 1, 2], [0, 1, 3]]}, "1 degenerate triangles"),
        ({"faces": [[0, 1, 4]]}, "faces: 1 indices outside 0..3"),
        ({"faces": [[0, 1, 2, 3]]}, r"faces must be \(F, 3\)"),
        ({"regions": {"lips": [7]}}, "region 'lips': 1 indices"),
        ({"landmarks": np.zeros(5)}, "landmarks must be"),
        ({"landmarks": np.full(68, -2)}, "landmarks: 68 indices"),
        ({"colors": np.zeros((3, 3))}, "colors must be"),
        ({"shape_names": ("wide",)}, "shape_basis must be .* to fit its names"),
        ({"articulation_basis": np.zeros((3, 5, 3))}, "articulation_basis must be"),
    ],
)
def test_wrong_arrays_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        small(**changes)


def test_wrong_coefficients_and_regions_are_named():
    face = small()
    with pytest.raises(InputError, match=r"takes 2 shape coefficients \(wide, tall\)"):
        face.identity(np.zeros(3))
    with pytest.raises(InputError, match=r"moved by \(T, 3\) coefficients"):
        face.offsets(np.zeros((4, 2)))
    with pytest.raises(InputError, match="no region 'teeth'; it has: lips"):
        face.region("teeth")


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        FaceTemplate.load(tmp_path / "absent.npz")
    (tmp_path / "noise.npz").write_bytes(b"not a zip")
    with pytest.raises(InputError, match="not a readable .npz"):
        FaceTemplate.load(tmp_path / "noise.npz")
    np.savez(tmp_path / "part.npz", verts=np.zeros((4, 3)))
    with pytest.raises(InputError, match="lacks name, faces"):
        FaceTemplate.load(tmp_path / "part.npz")
    face = small()
    np.savez(tmp_path / "extra.npz", name="x", verts=face.verts, faces=face.faces, hair=np.zeros(3))
    with pytest.raises(InputError, match="unknown arrays hair"):
        FaceTemplate.load(tmp_path / "extra.npz")
