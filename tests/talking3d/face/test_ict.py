import json
import shutil

import numpy as np
import pytest

from avsr.errors import InputError
from talking3d.face import ict
from talking3d.face.ict import load_ict
from talking3d.face.mesh_io import write_obj
from talking3d.face.regions import lip_aperture_mm, lip_width_mm


def unit(face, **values):
    coefficients = np.zeros((1, len(face.articulation_names)), np.float32)
    for name, value in values.items():
        coefficients[0, face.articulation_names.index(name)] = value
    return face.offsets(coefficients)


def test_the_layout_becomes_a_template_in_metres(ict_folder, ict_parts):
    face = load_ict(ict_folder.parent)  # the folder that holds FaceXModel will do
    parts, verts, faces, landmarks, basis = ict_parts
    np.testing.assert_allclose(face.verts, (verts - verts[landmarks[60:68]].mean(axis=0)) / 100, atol=1e-6)
    assert face.shape_names == ("identity000",)
    assert face.articulation_names == ("jawOpen", "mouthPucker", "tongue_tip", "tongue_out", "tongue_dorsum")
    np.testing.assert_allclose(face.articulation_basis[0], basis[0] / 100, atol=1e-6)
    np.testing.assert_array_equal(face.region("teeth_upper"), np.arange(*parts["teeth_upper"]))
    assert set(face.region("tongue")) <= set(range(*parts["gums_and_tongue"]))
    assert len(face.region("lips")) > 300 and len(face.region("lips_inner")) >= 60
    assert not np.isin(face.faces, np.arange(*parts["eyelashes"])).any()


def test_the_tongue_moves_apart_from_the_jaw(ict_folder):
    face = load_ict(ict_folder)
    moved = unit(face, tongue_out=1.0)[0]
    tongue = face.region("tongue")
    assert 8 < 1e3 * moved[tongue, 2].max() < 15
    moved[tongue] = 0
    assert not moved.any()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "generic_neutral_mesh.obj").unlink(), "holds no generic_neutral_mesh.obj"),
        (lambda folder: (folder / "jawOpen.obj").unlink(), "lacks jawOpen.obj"),
        (lambda folder: (folder / "vertex_indices.json").unlink(), "cannot read idx_to_landmark_verts"),
        (lambda folder: (folder / "vertex_indices.json").write_text("{}"), "cannot read idx_to_landmark_verts"),
        (
            lambda folder: (folder / "vertex_indices.json").write_text('{"idx_to_landmark_verts": [1, 2]}'),
            "must hold 68 vertices",
        ),
        (lambda folder: (folder / "smile.obj").write_text("v 0 0 0\n"), "smile.obj has 1 vertices.*another topology"),
    ],
)
def test_incomplete_folders_are_named(ict_folder, spoil, message):
    spoil(ict_folder)
    with pytest.raises(InputError, match=message):
        load_ict(ict_folder)


def test_another_topology_unit_or_nan_is_an_error(ict_folder, ict_parts, monkeypatch):
    _, verts, faces, _, _ = ict_parts
    write_obj(ict_folder / "mouthPucker.obj", np.where(np.arange(len(verts))[:, None] == 9, np.nan, verts), faces)
    with pytest.raises(InputError, match="mouthPucker.obj: holds NaN"):
        load_ict(ict_folder)
    write_obj(ict_folder / "generic_neutral_mesh.obj", verts / 100, faces)
    with pytest.raises(InputError, match="expected 4.5 to 8.0 centimetres"):
        load_ict(ict_folder)
    monkeypatch.setattr(ict, "N_VERTS", 26719)
    with pytest.raises(InputError, match="vertices, ICT-FaceKit's has 26719"):
        load_ict(ict_folder)


def test_the_published_head_is_whole(ict_face):
    face = ict_face
    assert len(face.verts) == 26719 and len(face.shape_names) == 5 and len(face.articulation_names) >= 40
    x, y, _ = face.verts[face.landmarks].T
    for left_to_right in (range(0, 17), range(17, 27), range(31, 36), range(48, 55), range(60, 65)):
        assert (np.diff(x[list(left_to_right)]) > -1e-3).all()
    assert x[36] < x[39] < 0 < x[42] < x[45] and y[51] > y[62] > y[57] > y[8]
    assert 900 < len(face.region("lips")) < 1100
    assert np.ptp(face.verts[face.region("lips"), 0]) == pytest.approx(0.0506, abs=0.002)
    assert face.verts[face.region("teeth_upper"), 1].mean() > face.verts[face.region("teeth_lower"), 1].mean()
    assert 600 < len(face.region("tongue")) < 1200
    assert not np.isin(face.region("hair"), face.region("lips")).any()


def test_the_published_parts_are_the_meshs_own(ict_face):
    """Teeth, eyeballs and the rest each are connected parts of the mesh, and the socket is sewn to the face."""
    from talking3d.face.mesh_graph import parts_of

    part = parts_of(ict_face.faces, len(ict_face.verts))
    for name in ("teeth_upper", "teeth_lower"):
        inside = np.unique(part[ict_face.region(name)])
        assert len(inside) == 16 and np.isin(part, inside).sum() == len(ict_face.region(name))
    assert part[ict.PARTS["face"][0]] == part[ict.PARTS["mouth_socket"][0]]
    assert len(np.unique(part[ict.part("gums_and_tongue")])) == 1


def test_the_published_expressions_do_what_their_names_say(ict_face):
    still = unit(ict_face)
    opened, rest = (lip_aperture_mm(ict_face, offsets)[0] for offsets in (unit(ict_face, jawOpen=1.0), still))
    assert opened - rest == pytest.approx(32.8, abs=1)
    puckered = lip_width_mm(ict_face, unit(ict_face, mouthPucker=1.0))[0] - lip_width_mm(ict_face, still)[0]
    assert puckered < -8
    smile = unit(ict_face, mouthSmile_L=1.0)[0, ict_face.landmarks]
    assert np.linalg.norm(smile[54]) > 5 * np.linalg.norm(smile[48])  # the person's left is the viewer's right


def test_the_published_eyes_look_out_of_their_lids(ict_face, seen_straight_on):
    """Straight on, both irises show and nothing covers them; closed lids cover them."""
    in_eyes = np.zeros(len(ict_face.faces), bool)
    in_eyes[ict_face.region_faces("eyes")] = True
    shown = []
    for offsets in (unit(ict_face), unit(ict_face, eyeBlink_L=1.0, eyeBlink_R=1.0)):
        seen = seen_straight_on(ict_face, offsets[0], 1200.0, 200.0, stencil=False)
        shown.append(in_eyes[seen[seen >= 0]].sum())
        if len(shown) == 1:
            eyes = np.unique(ict_face.faces[seen[seen >= 0]][in_eyes[seen[seen >= 0]]])
            assert ict_face.colors[eyes].min() < 0.02 and ict_face.colors[eyes].max() > 0.4
    assert shown[0] > 400 and shown[1] < 0.1 * shown[0]


def test_a_damaged_copy_of_the_published_folder_is_refused(shared, tmp_path):
    source = shared / "ict_facekit" / "FaceXModel"
    for name in ("generic_neutral_mesh.obj", "jawOpen.obj"):
        shutil.copy(source / name, tmp_path)
    (tmp_path / "vertex_indices.json").write_text(json.dumps({"idx_to_landmark_verts": [30000] * 68}))
    with pytest.raises(InputError, match="68 vertices below 26719"):
        load_ict(tmp_path)
