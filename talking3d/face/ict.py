"""ICT-FaceKit's head, read from its published folder, as a face template.

The folder `FaceXModel` of https://github.com/ICT-VGL/ICT-FaceKit (MIT) holds one OBJ for the neutral head, one for each
expression (ARKit's names, sides as _L and _R of the person) and one for each identity mode, all of one topology in
centimetres, and `vertex_indices.json` with the 68 landmarks. Which vertices are what is the table "Face Model Topology"
of its README. Model: Li et al., "Learning Formation of Physically-Based Face Attributes", CVPR 2020.

Letters: V vertices, F faces.
"""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from avsr.errors import InputError
from talking3d.face.complexion import Complexion, mix
from talking3d.face.head_parts import inside_polygon
from talking3d.face.head_surface import smoothstep
from talking3d.face.lip_outline import within_lips
from talking3d.face.mesh_graph import edge_graph, path_through, unique_edges
from talking3d.face.mesh_io import drop_degenerate, read_mesh
from talking3d.face.muscles import tongue_actions
from talking3d.face.paint import face_regions, hair_cover, paint_eyeball, paint_skin, smooth_over_mesh
from talking3d.face.template import FaceTemplate

NEUTRAL = "generic_neutral_mesh"
N_VERTS = 26719
_CM = 1e-2
_EYE_DISTANCE_CM = (4.5, 8.0)
PARTS = {  # vertex ranges, as the README lists them
    "face": (0, 9409),
    "head_and_neck": (9409, 11248),
    "mouth_socket": (11248, 13294),
    "eye_socket_left": (13294, 13678),
    "eye_socket_right": (13678, 14062),
    "gums_and_tongue": (14062, 17039),
    "teeth_upper": (17039, 19247),
    "teeth_lower": (19247, 21451),
    "sclera_left": (21451, 22221),
    "iris_left": (22221, 23021),
    "sclera_right": (23021, 23791),
    "iris_right": (23791, 24591),
    "lacrimal_fluid": (24591, 24999),
    "eye_blend": (24999, 25047),
    "eye_occlusion": (25047, 25351),
    "eyelashes": (25351, 26719),
}
# Shells that a renderer must draw transparent or by a texture's alpha, and the iris, which lies behind the cornea.
# Drawn opaque they hide the eye. Their vertices stay, so that published indices hold; their triangles are left out.
LEFT_OUT = ("iris_left", "iris_right", "lacrimal_fluid", "eye_blend", "eye_occlusion", "eyelashes")
_PUPIL = {"sclera_left": 0, "sclera_right": 0}  # of each sclera: the vertex where its meridians meet in front
_LIP_RINGS = 16  # rings of edges round the mouth, counted from its socket, that the red of the lips can reach

logger = logging.getLogger(__name__)


def load_ict(folder: str | Path, person: Complexion | None = None) -> FaceTemplate:
    """Read ICT-FaceKit's `FaceXModel` folder, or the one that holds it.

    The template has all 26,719 vertices, in metres about the middle of the lips; the identity modes that are there as
    its shape basis (coefficients are standard deviations), the expressions that are there as its articulation basis
    (0 to 1 each), colours of `person`, and no triangles for `LEFT_OUT`. As the published tongue only follows the
    jaw, the kit's own tongue_tip, tongue_out and tongue_dorsum come after the expressions.

    Raises InputError where the neutral mesh, the landmarks or jawOpen are missing, a mesh has another topology or
    holds NaN, or the unit isn't the centimetre.
    """
    folder = Path(folder)
    if not (folder / f"{NEUTRAL}.obj").is_file() and (folder / "FaceXModel").is_dir():
        folder = folder / "FaceXModel"
    if not (folder / f"{NEUTRAL}.obj").is_file():
        raise InputError(f"{folder} holds no {NEUTRAL}.obj: give ICT-FaceKit's folder FaceXModel")
    verts, faces = read_mesh(folder / f"{NEUTRAL}.obj")
    if len(verts) != N_VERTS:
        raise InputError(
            f"{folder / NEUTRAL}.obj has {len(verts)} vertices, ICT-FaceKit's has {N_VERTS}: another topology; "
            "`talking3d template mesh` reads any"
        )
    landmarks = _read_landmarks(folder / "vertex_indices.json")
    _check_unit(verts, landmarks, folder)
    names = sorted(path.stem for path in folder.glob("*.obj") if path.stem != NEUTRAL)
    offsets = {name: _CM * (_read_positions(folder / f"{name}.obj") - verts) for name in names}
    if "jawOpen" not in offsets:
        raise InputError(f"{folder} lacks jawOpen.obj, which no speech can do without")
    identities = [name for name in names if re.fullmatch(r"identity\d+", name)]
    expressions = [name for name in names if name not in identities]
    offsets |= _tongue_articulations(_CM * verts, offsets["jawOpen"])
    expressions += list(tongue_actions(np.zeros(1)))
    origin = verts[landmarks[60:68]].mean(axis=0)
    faces = drop_degenerate(verts, _visible(faces), NEUTRAL)
    bare = FaceTemplate(
        name="ict",
        verts=_CM * (verts - origin),
        faces=faces,
        landmarks=landmarks,
        shape_basis=np.array([offsets[name] for name in identities]).reshape(-1, N_VERTS, 3),
        shape_names=tuple(identities),
        articulation_basis=np.stack([offsets[name] for name in expressions]),
        articulation_names=tuple(expressions),
    )
    return _dressed(bare, offsets["jawOpen"], person or Complexion())


def _read_landmarks(path: Path) -> np.ndarray:
    """(68,) vertices of the landmarks in vertex_indices.json, in iBUG's (Multi-PIE's) order."""
    try:
        landmarks = np.array(json.loads(path.read_text(encoding="utf-8"))["idx_to_landmark_verts"], np.int64)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: cannot read idx_to_landmark_verts ({error}); it comes with ICT-FaceKit") from error
    if landmarks.shape != (68,) or landmarks.min() < 0 or landmarks.max() >= N_VERTS:
        raise InputError(f"{path}: idx_to_landmark_verts must hold 68 vertices below {N_VERTS}")
    return landmarks


def _read_positions(path: Path) -> np.ndarray:
    """Vertices (V, 3) of an OBJ of the same topology; its faces are those of the neutral mesh."""
    rows = [line[2:] for line in path.read_bytes().splitlines() if line.startswith(b"v ")]
    if len(rows) != N_VERTS:
        raise InputError(f"{path} has {len(rows)} vertices, {NEUTRAL}.obj has {N_VERTS}: it is of another topology")
    try:
        verts = np.fromstring(b" ".join(rows).decode("ascii"), sep=" ").reshape(N_VERTS, -1)[:, :3]
    except ValueError as error:
        raise InputError(f"{path}: not readable as a mesh ({error})") from error
    if not np.isfinite(verts).all():
        raise InputError(f"{path}: holds NaN or infinite coordinates")
    return verts


def _check_unit(verts, landmarks, folder):
    apart = float(np.linalg.norm(verts[landmarks[36:42]].mean(axis=0) - verts[landmarks[42:48]].mean(axis=0)))
    low, high = _EYE_DISTANCE_CM
    if not low <= apart <= high:
        raise InputError(
            f"{folder / NEUTRAL}.obj: the eyes are {apart:.3g} units apart, expected {low} to {high} centimetres: "
            "ICT-FaceKit is published in centimetres; scale the meshes back"
        )


def part(name: str) -> np.ndarray:
    """The vertices of one of `PARTS`."""
    return np.arange(*PARTS[name])


def _visible(faces):
    hidden = np.zeros(N_VERTS, bool)
    for name in LEFT_OUT:
        hidden[part(name)] = True
    return faces[~hidden[faces].any(axis=1)]


def _dressed(face: FaceTemplate, jaw_open: np.ndarray, person: Complexion) -> FaceTemplate:
    """The template with its regions and colours."""
    skin = np.concatenate([part("face"), part("head_and_neck")])
    interior = np.concatenate([part(n) for n in ("mouth_socket", "gums_and_tongue", "teeth_upper", "teeth_lower")])
    rings = _mouth_rings(face.faces)
    lips = np.flatnonzero((rings >= 0) & within_lips(face.verts, face.verts[face.landmarks[48:60]]))
    gums = part("gums_and_tongue")
    contact = path_through(edge_graph(face.verts, face.faces), face.landmarks[60:68], closed=True)
    named = face_regions(face, part("face"))
    regions = {
        "lips": lips,
        "lips_inner": contact,
        "upper_face": named["upper_face"],
        "lower_face": np.union1d(named["lower_face"], interior),
        "mouth_interior": interior,
        "teeth_upper": part("teeth_upper"),
        "teeth_lower": part("teeth_lower"),
        "tongue": gums[_is_tongue(face.verts, gums, jaw_open)],
        "eyes": np.concatenate([part("sclera_left"), part("sclera_right")]),
        "hair": skin[hair_cover(face, skin) > 0.5],
        "skin": skin,
    }
    face = replace(face, regions=regions)
    return replace(face, colors=_colors(face, person))


def _mouth_rings(faces):
    """(V,) number of edges from the mouth's socket to each vertex of the face, -1 from `_LIP_RINGS` on."""
    edges, _ = unique_edges(faces)
    in_face = np.arange(N_VERTS) < PARTS["face"][1]
    ring = np.full(N_VERTS, -1)
    socket = np.zeros(N_VERTS, bool)
    socket[part("mouth_socket")] = True
    reached = socket
    for number in range(_LIP_RINGS):
        touching = edges[reached[edges].any(axis=1)].ravel()
        new = touching[(ring[touching] < 0) & in_face[touching]]
        ring[new] = number
        reached = np.zeros(N_VERTS, bool)
        reached[new] = True
    return ring


def _is_tongue(verts, gums, jaw_open):
    """Mask over `gums`: what the jaw carries within the lower teeth's arch, free of them."""
    from scipy.spatial import cKDTree

    teeth = verts[part("teeth_lower")]
    angle = np.arctan2(teeth[:, 2] - teeth[:, 2].min(), teeth[:, 0])
    bins = np.clip((angle / np.pi * 16).astype(int), 0, 15)
    arch = np.array([teeth[bins == k][:, [0, 2]].mean(axis=0) for k in range(16) if (bins == k).any()])
    arch = np.concatenate([arch, arch[[-1, 0]] - [0.0, 0.06]])  # back to the throat
    distance, _ = cKDTree(teeth).query(verts[gums])
    carried = np.linalg.norm(jaw_open[gums], axis=1) > 5e-4
    return carried & inside_polygon(verts[gums][:, [0, 2]], arch) & (distance > 1.5e-3)


def _tongue_articulations(verts, jaw_open) -> dict[str, np.ndarray]:
    """Displacements (V, 3) metres by action of the tongue, which is tied to the mouth's floor by its underside."""
    gums = part("gums_and_tongue")
    tongue = gums[_is_tongue(verts, gums, jaw_open)]
    _, y, z = verts[tongue].T
    along = (z - z.min()) / (z.max() - z.min())
    top = np.array([y[np.abs(along - a) < 0.08].max() for a in along])
    free = 1 - smoothstep(top - y, 0.006, 0.016)
    out = {}
    for name, action in tongue_actions(along).items():
        out[name] = np.zeros_like(verts)
        out[name][tongue] = 1e-3 * free[:, None] * action
    return out


def _colors(face: FaceTemplate, person: Complexion) -> np.ndarray:
    """Linear albedo (V, 3)."""
    edges, _ = unique_edges(face.faces)
    sockets = np.concatenate([part("eye_socket_left"), part("eye_socket_right")])
    in_face = edges < PARTS["face"][1]
    rim = np.unique(edges[np.isin(edges, sockets).any(axis=1)[:, None] & in_face])
    rims = [rim[face.verts[rim, 0] > 0], rim[face.verts[rim, 0] < 0]]
    out = paint_skin(face, person, [side for side in rims if len(side)])
    skin = face.regions["skin"]
    out[skin] = mix(out[skin], np.array(person.hair), 0.9 * hair_cover(face, skin))
    wet, gum = np.array([0.40, 0.11, 0.11]), np.array([0.46, 0.16, 0.15])
    out[sockets] = np.array([0.35, 0.12, 0.10])
    for name in ("sclera_left", "sclera_right"):
        points = 1e3 * face.verts[part(name)]
        centre = (points.max(axis=0) + points.min(axis=0)) / 2
        axis = points[_PUPIL[name]] - centre
        out[part(name)] = paint_eyeball(points - centre, axis / np.linalg.norm(axis), person)
    front = face.verts[face.landmarks[60:68], 2].mean()
    depth = 1e3 * (front - face.verts[:, 2])
    socket = part("mouth_socket")
    out[socket] = wet * (1 - 0.9 * smoothstep(depth[socket], 8, 45))[:, None]
    gums = part("gums_and_tongue")
    out[gums] = gum * (1 - 0.85 * smoothstep(depth[gums], 15, 60))[:, None]
    tongue = face.regions["tongue"]
    groove = 1 - 0.22 * np.exp(-((1e3 * face.verts[tongue, 0] / 2.5) ** 2))
    cover = np.zeros(N_VERTS)
    cover[tongue] = 1.0
    cover = smooth_over_mesh(cover, face.faces, 1)[tongue]
    tone = groove * (1 - 0.6 * smoothstep(depth[tongue], 25, 70))
    out[tongue] = mix(out[tongue], np.array([0.54, 0.215, 0.21]) * tone[:, None], cover)
    for name in ("teeth_upper", "teeth_lower"):
        out[part(name)] = np.array([0.78, 0.73, 0.62]) * (1 - 0.5 * smoothstep(depth[part(name)], 8, 35))[:, None]
    return np.clip(out, 0.002, 1.0)
