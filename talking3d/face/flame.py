"""FLAME from the user's own licensed file, as a face template.

Li et al., "Learning a model of facial shape and expression from 4D scans", SIGGRAPH Asia 2017. The model isn't part of
this kit: register at https://flame.is.tue.mpg.de and give `generic_model.pkl`, `FLAME2020`'s or `FLAME2023`'s file.
Chumpy isn't needed, and nothing in the file is run (`safe_pickle`).

Letters: V vertices, F faces, J joints, S shapes, E expressions.
"""

import logging
from pathlib import Path

import numpy as np

from avsr.errors import InputError
from talking3d.face.complexion import Complexion
from talking3d.face.find_mouth import find_landmarks, find_openings
from talking3d.face.from_mesh import EYE_DISTANCE_M, check_landmarks, dressed, read_landmarks
from talking3d.face.mesh_io import drop_degenerate
from talking3d.face.safe_pickle import read_pickled
from talking3d.face.template import N_LANDMARKS, FaceTemplate
from talking3d.render.camera import rotation_matrices

N_SHAPES = 300  # of the columns of shapedirs; expressions follow
JAW = 2  # its joint: root, neck, jaw, eyes
JAW_ANGLE = np.radians(11.0)  # of one unit of its turns, as of the procedural face's jaw_open
JAW_TURNS = ("jaw_open", "jaw_side", "jaw_roll")  # about +x, the chin goes down; +y, to the viewer's right; +z

logger = logging.getLogger(__name__)


def load_flame(
    path: str | Path,
    *,
    masks: str | Path | None = None,
    landmarks: str | Path | None = None,
    n_shapes: int = 100,
    n_expressions: int = 50,
    person: Complexion | None = None,
) -> FaceTemplate:
    """Read a FLAME model file.

    Args:
        path: .pkl or .npz with v_template, f, shapedirs and, for the jaw, J_regressor and weights (posedirs is used
            where it is there).
        masks: `FLAME_masks.pkl`: its lips, eyeballs and other parts become regions. None: lips are found.
        landmarks: an embedding of iBUG points (`flame_static_embedding.pkl` with 51 points or `landmark_embedding.npy`
            with 68; of each, the nearest vertex counts), or JSON as for any mesh. None: found by the mesh's holes.
        n_shapes, n_expressions: how many of the leading components to keep.

    The articulation basis holds expression_000 ... (standard deviations) and the jaw's turns about three axes
    (`JAW_TURNS`), by 11 degrees, made linear: the way from rest to the turned jaw, with the model's pose corrective.

    Raises InputError on a file that isn't FLAME's, that would run code, with NaN, or in another unit than the metre.
    """
    model = read_pickled(path)
    verts, all_faces, directions = _checked(model, path)
    faces = drop_degenerate(verts, all_faces, str(path))
    if landmarks is None:
        openings, frame = find_openings(verts, faces, str(path))
        _check_unit(frame.eye_distance, path)
        found = find_landmarks(1e3 * frame.points(verts), faces, openings, str(path))
    else:
        found = _read_embedding(landmarks, all_faces, len(verts))
        eyes = [verts[found[eye]].mean(axis=0) for eye in (slice(36, 42), slice(42, 48))]
        _check_unit(float(np.linalg.norm(eyes[0] - eyes[1])), path)
    face = dressed(
        verts, faces, found, name="flame", regions={} if masks is None else _regions(masks, len(verts)), person=person
    )
    n_all_shapes = min(N_SHAPES, directions.shape[2])
    shapes = directions[..., : min(n_shapes, n_all_shapes)]
    expressions = directions[..., n_all_shapes : n_all_shapes + n_expressions]
    basis, names = [*np.moveaxis(expressions, 2, 0)], [f"expression_{k:03d}" for k in range(expressions.shape[2])]
    if {"J_regressor", "weights"} <= model.keys():
        basis += _jaw_turns(model, verts, path)
        names += JAW_TURNS
    else:
        logger.warning("%s: no J_regressor or weights: the template gets no jaw_open", path)
    return FaceTemplate(
        **{key: getattr(face, key) for key in ("name", "verts", "faces", "regions", "landmarks", "colors")},
        shape_basis=np.moveaxis(shapes, 2, 0),
        shape_names=tuple(f"shape_{k:03d}" for k in range(shapes.shape[2])),
        articulation_basis=np.array(basis).reshape(-1, len(verts), 3),
        articulation_names=tuple(names),
    )


def _checked(model, path):
    absent = [key for key in ("v_template", "f", "shapedirs") if key not in model]
    if absent:
        raise InputError(f"{path}: lacks {', '.join(absent)}: it is not a FLAME model file")
    verts = np.asarray(model["v_template"], np.float64)
    faces = np.asarray(model["f"]).astype(np.int64)
    directions = np.asarray(model["shapedirs"], np.float64)
    if verts.ndim != 2 or verts.shape[1] != 3 or faces.shape[1:] != (3,) or directions.shape[:2] != verts.shape:
        raise InputError(
            f"{path}: v_template {verts.shape}, f {faces.shape} and shapedirs {directions.shape} don't fit: expected "
            "(V, 3), (F, 3) and (V, 3, S + E)"
        )
    if len(faces) == 0 or faces.min() < 0 or faces.max() >= len(verts):
        raise InputError(f"{path}: a face refers to a vertex outside 0..{len(verts) - 1}")
    if not (np.isfinite(verts).all() and np.isfinite(directions).all()):
        raise InputError(f"{path}: v_template or shapedirs hold NaN or infinite values")
    return verts, faces, directions


def _check_unit(apart: float, path):
    low, high = EYE_DISTANCE_M
    if not low <= apart <= high:
        raise InputError(
            f"{path}: the eyes are {apart:.3g} units apart, expected {low} to {high} metres: FLAME is published in "
            "metres; scale it back"
        )


def _jaw_turns(model, verts, path) -> list[np.ndarray]:
    """Displacements (V, 3) of the jaw turned by `JAW_ANGLE` about x, y and z, by skinning, and its corrective."""
    regressor, weights = (np.asarray(model[key], np.float64) for key in ("J_regressor", "weights"))
    if regressor.shape[1:] != verts.shape[:1] or weights.shape != (len(verts), len(regressor)) or len(regressor) <= JAW:
        raise InputError(
            f"{path}: J_regressor {regressor.shape} and weights {weights.shape} don't fit: expected (J, {len(verts)}) "
            f"and ({len(verts)}, J), J > {JAW}"
        )
    joint = regressor[JAW] @ verts
    correctives = np.asarray(model.get("posedirs", np.zeros((0, 0, 0))), np.float64)
    corrected = correctives.shape == (*verts.shape, 9 * (len(regressor) - 1))
    found = []
    for turn in rotation_matrices(JAW_ANGLE * np.eye(3)).astype(np.float64) - np.eye(3):
        moved = weights[:, JAW : JAW + 1] * ((verts - joint) @ turn.T)
        found.append(moved + correctives[..., 9 * (JAW - 1) : 9 * JAW] @ turn.ravel() if corrected else moved)
    return found


def _regions(path, n_verts) -> dict[str, np.ndarray]:
    """FLAME_masks.pkl's parts as regions, its two eyeballs as "eyes"."""
    masks = {name: np.unique(np.asarray(index, np.int64)) for name, index in read_pickled(path).items()}
    if "lips" not in masks:
        raise InputError(f"{path}: holds {', '.join(masks) or 'nothing'} but no lips: give FLAME_masks.pkl")
    for name, index in masks.items():
        if len(index) and (index[0] < 0 or index[-1] >= n_verts):
            raise InputError(f"{path}: mask {name!r} refers to vertices outside 0..{n_verts - 1}: of another mesh")
    balls = [masks.pop(name) for name in ("left_eyeball", "right_eyeball") if name in masks]
    return masks | ({"eyes": np.concatenate(balls)} if balls else {})


def _read_embedding(path, faces, n_verts) -> np.ndarray:
    """(68,) vertices: of each embedded point the corner of its triangle that it is nearest to."""
    if Path(path).suffix == ".json":
        return read_landmarks(path, n_verts)
    stored = read_pickled(path)
    pairs = (("full_lmk_faces_idx", "full_lmk_bary_coords"), ("lmk_face_idx", "lmk_b_coords"),
             ("static_lmk_faces_idx", "static_lmk_bary_coords"))  # fmt: skip
    for triangles_key, weights_key in pairs:
        if {triangles_key, weights_key} <= stored.keys():
            triangles = np.asarray(stored[triangles_key]).astype(np.int64).ravel()
            weights = np.asarray(stored[weights_key], np.float64).reshape(-1, 3)
            break
    else:
        raise InputError(f"{path}: holds {', '.join(stored)}, expected a landmark embedding such as lmk_face_idx")
    if (
        len(triangles) not in (51, 68)
        or len(weights) != len(triangles)
        or not 0 <= triangles.min() <= triangles.max() < len(faces)
    ):  # noqa: E501
        raise InputError(f"{path}: {len(triangles)} landmarks, expected 51 or 68 on triangles below {len(faces)}")
    landmarks = np.full(N_LANDMARKS, -1, np.int64)
    landmarks[-len(triangles) :] = faces[triangles, weights.argmax(axis=1)]
    check_landmarks(landmarks, n_verts, str(path))
    return landmarks
