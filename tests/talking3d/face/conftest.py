"""Heads to read: the procedural one as a bare mesh with holes, in ICT-FaceKit's layout, and the published ones."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from talking3d.face import ict
from talking3d.face.from_mesh import template_from_mesh, template_of
from talking3d.face.ict import load_ict
from talking3d.face.mesh_io import write_obj
from talking3d.face.procedural import procedural_face
from talking3d.face.template import FaceTemplate
from talking3d.render.camera import Camera
from talking3d.render.rasterize import Mesh, rasterize


@pytest.fixture(scope="session")
def bare_face(bare_head) -> FaceTemplate:
    verts, faces, _ = bare_head
    return template_of(verts, faces, name="bare", unit="m")


@pytest.fixture(scope="session")
def ict_parts():
    """The procedural face in the order of ICT-FaceKit's parts: PARTS, verts (V, 3) cm, faces, landmarks, offsets."""
    face = procedural_face()
    verts, faces = face.verts.astype(np.float64), face.faces.copy()
    interior = face.region("mouth_interior")
    teeth = [face.region(name) for name in ("teeth_upper", "teeth_lower")]
    cavity = np.setdiff1d(interior, np.concatenate([*teeth, face.region("tongue")]))
    entrance = cavity[:60]  # lies on the lips' innermost ring; the published socket is sewn to the lips
    faces[np.isin(faces, entrance)] -= entrance[0] - face.region("lips")[0]
    eyes = face.region("eyes")
    skin = np.setdiff1d(np.arange(len(verts)), np.concatenate([interior, eyes]))
    half = len(eyes) // 2
    pieces = {
        "face": skin, "head_and_neck": [], "mouth_socket": cavity[60:], "eye_socket_left": [], "eye_socket_right": [],
        "gums_and_tongue": face.region("tongue"), "teeth_upper": teeth[0], "teeth_lower": teeth[1],
        "sclera_left": eyes[:half], "iris_left": [], "sclera_right": eyes[half:], "iris_right": [],
        "lacrimal_fluid": [], "eye_blend": [], "eye_occlusion": [], "eyelashes": entrance,
    }  # fmt: skip
    order = np.concatenate([np.asarray(piece, int) for piece in pieces.values()])
    ends = np.cumsum([len(piece) for piece in pieces.values()])
    parts = {name: (int(end) - len(piece), int(end)) for (name, piece), end in zip(pieces.items(), ends, strict=True)}
    number = np.argsort(order)
    basis = face.articulation_basis[:, order]
    return parts, 100 * verts[order], number[faces], number[face.landmarks], 100 * basis


@pytest.fixture
def ict_folder(ict_parts, tmp_path, monkeypatch):
    """A small folder in ICT-FaceKit's layout; the loader is told its size."""
    parts, verts, faces, landmarks, basis = ict_parts
    monkeypatch.setattr(ict, "PARTS", parts)
    monkeypatch.setattr(ict, "N_VERTS", len(verts))
    folder = tmp_path / "FaceXModel"
    folder.mkdir()
    write_obj(folder / "generic_neutral_mesh.obj", verts, faces)
    write_obj(folder / "jawOpen.obj", verts + basis[0], faces)
    write_obj(folder / "mouthPucker.obj", verts + basis[2], faces)
    write_obj(folder / "identity000.obj", 1.02 * verts, faces)
    (folder / "vertex_indices.json").write_text(json.dumps({"idx_to_landmark_verts": landmarks.tolist()}))
    return folder


@pytest.fixture(scope="session")
def ict_face(shared) -> FaceTemplate:
    return load_ict(shared / "ict_facekit")


@pytest.fixture(scope="session")
def biwi_face(shared) -> FaceTemplate:
    folder = shared / "biwi"
    return template_from_mesh(folder / "BIWI.ply", lips=folder / "lve.txt", upper_face=folder / "fdd.txt")


@pytest.fixture(scope="session")
def seen_straight_on() -> Callable[..., np.ndarray]:
    """A function that gives the face indices (256, 256), -1 for none, that a distant viewer sees of a template.

    px_per_m: the scale; y_px: the row of the mouth's middle; stencil: whether the mouth's inside shows only through it.
    """

    def draw(face, offsets, px_per_m=1500.0, y_px=128.0, stencil=True):
        interior = np.zeros(len(face.verts), bool)
        interior[face.regions.get("mouth_interior", []) if stencil else []] = True
        camera = Camera(px_per_m, (128.0, y_px), (0.0, 0.0, 1.0), orthographic=True)
        mesh = Mesh.of(face.faces, interior[face.faces].all(axis=1))
        verts = torch.from_numpy((face.verts + offsets).astype(np.float32))
        return rasterize(*camera.project(verts[None]), mesh, (256, 256)).face_index[0].numpy()

    return draw
