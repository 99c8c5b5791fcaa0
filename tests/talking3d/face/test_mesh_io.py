import numpy as np
import pytest

from avsr.errors import InputError
from talking3d.face.mesh_io import read_mesh, write_obj
from talking3d.face.procedural import procedural_face


def test_a_written_mesh_comes_back(tmp_path):
    face = procedural_face()
    write_obj(tmp_path / "face.obj", face.verts, face.faces, face.colors)
    verts, faces = read_mesh(tmp_path / "face.obj")
    np.testing.assert_allclose(verts, face.verts, atol=1e-6)
    np.testing.assert_array_equal(faces, face.faces)


def test_vertex_order_is_kept_where_vertices_coincide(tmp_path):
    (tmp_path / "two.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 0\nv 1 0 0\nv 0 0 1\nf 1 2 3\nf 4 5 6\n")
    verts, faces = read_mesh(tmp_path / "two.obj")
    assert len(verts) == 6
    np.testing.assert_array_equal(faces, [[0, 1, 2], [3, 4, 5]])


def test_biwi_ply_keeps_the_order_its_index_lists_need(shared):
    verts, faces = read_mesh(shared / "biwi" / "BIWI.ply")
    assert verts.shape == (23370, 3)
    assert faces.max() < 23370
    lips = np.array((shared / "biwi" / "lve.txt").read_text().replace(",", " ").split(), dtype=int)
    assert (np.ptp(verts[lips, :2], axis=0) < 0.6 * np.ptp(verts[:, :2], axis=0)).all()
    assert lips.max() < len(verts)


def test_quads_of_a_real_obj_become_triangles(shared):
    path = shared / "ict_facekit" / "FaceXModel" / "generic_neutral_mesh.obj"
    verts, faces = read_mesh(path)
    lines = path.read_text().splitlines()
    assert len(verts) == sum(line.startswith("v ") for line in lines) == 26719
    first = np.array([line.split()[1:] for line in lines if line.startswith("v ")][100], float)
    np.testing.assert_allclose(verts[100], first)
    assert len(faces) == sum(len(line.split()) - 3 for line in lines if line.startswith("f "))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mesh.stl", "solid", "expected an .obj or .ply"),
        ("points.obj", "v 0 0 0\nv 1 0 0\n", "holds no triangles"),
        ("words.obj", "v 0 zero 0\n", "not readable as a mesh"),
        ("outside.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4\n", "vertex outside 1..3"),
        ("nan.obj", "v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "holds NaN"),
        ("broken.ply", "ply\nnonsense", "not readable as a mesh"),
    ],
)
def test_unusable_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_mesh(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="absent.obj: no such file"):
        read_mesh(tmp_path / "absent.obj")
