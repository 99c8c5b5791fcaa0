"""Any face mesh as a template: OBJ or PLY with its vertex order kept, lips and landmarks given or found.

Letters: V vertices, F faces.
"""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from avsr.errors import InputError
from talking3d.face.align import similarity
from talking3d.face.complexion import Complexion
from talking3d.face.find_mouth import GIVE_LANDMARKS, Frame, find_landmarks, find_openings
from talking3d.face.lip_outline import within_lips
from talking3d.face.mesh_graph import boundary_loops, edge_graph, parts_of, path_through
from talking3d.face.mesh_io import drop_degenerate, read_mesh
from talking3d.face.paint import face_regions, paint_eyeball, paint_skin
from talking3d.face.procedural import procedural_face
from talking3d.face.template import N_LANDMARKS, FaceTemplate

UNITS_M = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}
EYE_DISTANCE_M = (0.045, 0.080)  # middle of the one eye to that of the other
AVERAGE_EYE_DISTANCE_M = 0.063
LIP_DEPTH_M = 0.022  # how far behind the lips' contact line what lies within their outline still belongs to them
_EYEBALL_M = 0.020  # its middle is no further than this from the middle of the lids
_FEWEST_IN_EYE = 40  # vertices

logger = logging.getLogger(__name__)


def template_from_mesh(
    path: str | Path,
    *,
    unit: str | None = None,
    lips: str | Path | None = None,
    upper_face: str | Path | None = None,
    landmarks: str | Path | None = None,
    person: Complexion | None = None,
    name: str | None = None,
) -> FaceTemplate:
    """Read a mesh and put it in the kit's frame: metres, upright, looking along +z, the mouth's middle at the origin.

    Args:
        path: .obj or .ply.
        unit: "m", "cm" or "mm". None: the one of them in which the eyes are 45 to 80 mm apart, and where none is, the
            mesh is scaled so that they are 63 mm apart; either is logged.
        lips, upper_face: text files of vertex indices, separated by commas or spaces, that become these regions, as
            `lve.txt` and `fdd.txt` of BIWI do (the red of the lips is then found all the same, as region "vermilion").
            None: lips are the vertices within the outer lip landmarks.
        landmarks: JSON, the vertex of each iBUG-68 point: a list of 68 (-1 where absent) or a mapping from number to
            vertex; mouth (48-67) and eyes (36-47) at least. None: found by the mesh's holes at mouth and eyes.
        person: colours. name: of the template; default the file's.

    The axes of the file don't matter: eyes and mouth tell where up and front are, and a mesh whose triangles look
    inwards is turned inside out.

    Raises InputError on a mesh that can't be read, of which too much is degenerate, without mouth or eyes to be found,
    on an unknown unit, and on index files that don't fit the mesh.
    """
    path = Path(path)
    verts, faces = read_mesh(path)
    if unit is not None and unit not in UNITS_M:
        raise InputError(f"unit {unit!r}: expected one of {', '.join(UNITS_M)}")
    return template_of(
        verts,
        faces,
        name=path.stem if name is None else name,
        unit=unit,
        landmarks=None if landmarks is None else read_landmarks(landmarks, len(verts)),
        regions={
            region: read_indices(file, len(verts))
            for region, file in (("lips", lips), ("upper_face", upper_face))
            if file is not None
        },
        person=person,
    )


def template_of(
    verts: np.ndarray,
    faces: np.ndarray,
    *,
    name: str,
    unit: str | None = None,
    landmarks: np.ndarray | None = None,
    regions: dict[str, np.ndarray] | None = None,
    person: Complexion | None = None,
) -> FaceTemplate:
    """`template_from_mesh` for arrays: verts (V, 3) in `unit`, triangles (F, 3), landmarks (68,), regions by name."""
    verts = np.asarray(verts, np.float64)
    faces = _outward(verts, drop_degenerate(verts, np.asarray(faces), name), name)
    if landmarks is None:
        openings, frame = find_openings(verts, faces, name)
    else:
        frame = _frame_of(verts, landmarks)
    scale = _scale(frame.eye_distance, unit, name)
    upright = scale * frame.points(verts)
    if landmarks is None:
        landmarks = find_landmarks(1e3 * upright, faces, openings, name)
    return dressed(upright, faces, landmarks, name=name, regions=regions, person=person)


def dressed(
    verts: np.ndarray,
    faces: np.ndarray,
    landmarks: np.ndarray,
    *,
    name: str,
    regions: dict[str, np.ndarray] | None = None,
    person: Complexion | None = None,
) -> FaceTemplate:
    """A template with regions and colours of verts (V, 3) metres, upright; the mouth's middle moves to the origin.

    regions: given ones, which replace what is found: lips, vermilion, lips_inner, upper_face, lower_face, skin, and
    eyes where eyeballs lie apart from the skin.
    """
    verts = verts - verts[landmarks[60:68]].mean(axis=0)
    face = FaceTemplate(name=name, verts=verts, faces=faces, landmarks=landmarks)
    part = parts_of(faces, len(verts))
    skin = np.flatnonzero((part == part[landmarks[62]]) & (np.bincount(faces.ravel(), minlength=len(verts)) > 0))
    near = verts[skin, 2] > verts[landmarks[60:68], 2].min() - LIP_DEPTH_M
    red = skin[near & within_lips(verts[skin], verts[landmarks[48:60]])]
    contact = path_through(edge_graph(verts, faces), landmarks[60:68], closed=True)
    found = {"lips": red, "vermilion": red, "lips_inner": contact, **face_regions(face, skin), "skin": skin}
    rims = [
        loop for loop in boundary_loops(faces) if part[loop[0]] == part[skin[0]] and _is_eye(verts, loop, landmarks)
    ]
    colors = paint_skin(replace(face, regions=found), person or Complexion(), rims)
    balls = [np.flatnonzero(part == k) for k in np.unique(part) if k != part[skin[0]]]
    balls = [ball for ball in balls if len(ball) > _FEWEST_IN_EYE and _is_eye(verts, ball, landmarks, _EYEBALL_M)]
    for ball in balls:
        points = 1e3 * (verts[ball] - (verts[ball].max(axis=0) + verts[ball].min(axis=0)) / 2)
        colors[ball] = paint_eyeball(points, np.array([0.0, 0.0, 1.0]), person or Complexion())
    if balls:
        found["eyes"] = np.concatenate(balls)
    return replace(face, regions=found | (regions or {}), colors=colors)


def read_indices(path: str | Path, n_verts: int) -> np.ndarray:
    """Vertex indices of a text file, separated by commas, spaces or lines; InputError where they don't fit the mesh."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        indices = np.unique(np.array(text.replace(",", " ").split(), np.int64))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a list of vertex indices ({error})") from error
    if len(indices) == 0 or indices[0] < 0 or indices[-1] >= n_verts:
        raise InputError(
            f"{path}: {len(indices)} indices, expected some within 0..{n_verts - 1}: it belongs to another mesh"
        )
    return indices


def read_landmarks(path: str | Path, n_verts: int) -> np.ndarray:
    """(68,) vertices of the iBUG points from JSON, -1 where absent; InputError where mouth or eyes are missing."""
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
        landmarks = np.full(N_LANDMARKS, -1, np.int64)
        pairs = stored.items() if isinstance(stored, dict) else enumerate(stored, start=0)
        for number, vertex in pairs:
            landmarks[int(number)] = int(vertex)
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise InputError(f"{path}: not landmarks ({error}); {GIVE_LANDMARKS}") from error
    check_landmarks(landmarks, n_verts, str(path))
    return landmarks


def check_landmarks(landmarks: np.ndarray, n_verts: int, where: str) -> None:
    """InputError unless the landmarks (68,) of mouth and eyes are there and all are vertices of the mesh."""
    absent = [n for n in range(36, 68) if landmarks[n] < 0]
    if absent:
        raise InputError(f"{where}: lacks the landmarks {absent}; {GIVE_LANDMARKS}")
    if landmarks.max() >= n_verts:
        raise InputError(f"{where}: landmark {int(landmarks.argmax())} is no vertex of the mesh, which has {n_verts}")


def _outward(verts, faces, name):
    """Triangles that look outwards: a closed or half-open surface then encloses a positive volume."""
    middle = verts.mean(axis=0)
    a, b, c = (verts[faces[:, k]] - middle for k in range(3))
    if np.einsum("fx,fx->", a, np.cross(b, c)) < 0:
        logger.warning("mesh %s: its triangles look inwards; turned round", name)
        return faces[:, [0, 2, 1]]
    return faces


def _frame_of(verts, landmarks) -> Frame:
    """The frame in which the landmarks stand most like the procedural face's: eyes alone don't tell a nod."""
    own = procedural_face()
    numbers = np.flatnonzero(landmarks >= 0)
    eyes = [verts[landmarks[eye]].mean(axis=0) for eye in (slice(36, 42), slice(42, 48))]
    apart = float(np.linalg.norm(eyes[0] - eyes[1]))
    if apart == 0 or np.ptp(verts[landmarks[numbers]], axis=0).min() == 0:
        raise InputError("the landmarks of eyes and mouth coincide or lie in one plane; give the vertices of each")
    laid = similarity(verts[landmarks[numbers]], own.verts[own.landmarks[numbers]])
    return Frame(laid.rotation, verts[landmarks[48:68]].mean(axis=0), apart)


def _scale(eye_distance: float, unit: str | None, name: str) -> float:
    """Metres per unit of the file."""
    low, high = EYE_DISTANCE_M
    if unit is not None:
        apart = eye_distance * UNITS_M[unit]
        if not low <= apart <= high:
            raise InputError(
                f"mesh {name}: in {unit} its eyes are {1e3 * apart:.3g} mm apart, expected {1e3 * low:.0f} to "
                f"{1e3 * high:.0f}: give its real unit ({', '.join(UNITS_M)}), or none and it is scaled"
            )
        return UNITS_M[unit]
    for known, metres in UNITS_M.items():
        if low <= eye_distance * metres <= high:
            logger.warning("mesh %s: taken to be in %s, by the distance of its eyes", name, known)
            return metres
    scale = AVERAGE_EYE_DISTANCE_M / eye_distance
    logger.warning("mesh %s: in no usual unit; scaled by %.4g so that its eyes are 63 mm apart", name, scale)
    return scale


def _is_eye(verts, among, landmarks, reach=0.012):
    middle = verts[among].mean(axis=0)
    eyes = [verts[landmarks[part]].mean(axis=0) for part in (slice(36, 42), slice(42, 48))]
    return min(np.linalg.norm(middle - eye) for eye in eyes) < reach
