"""Colours for a head that comes without any: skin, lips, brows and lash lines, laid on by its landmarks.

The procedural face knows where its blood, shadows and brows are; another head is laid over it by landmarks and takes
the colours that lie there.

Letters: V vertices, F faces.
"""

from collections.abc import Sequence

import numpy as np

from talking3d.face.align import warp_by_landmarks
from talking3d.face.complexion import Complexion, brow_cover, mix, skin_colors
from talking3d.face.head_surface import hairline, smoothstep
from talking3d.face.mesh_graph import unique_edges
from talking3d.face.procedural import procedural_face
from talking3d.face.template import FaceTemplate

_MM = 1e3
LASH_MM = 1.1  # reach of the lash line's darkness from the lids' rims
WHITE, PUPIL = (0.58, 0.54, 0.50), 0.006
HEAD_AXIS_Z_MM = -90.0  # of the procedural head, about which its hairline goes round
IRIS_MM, PUPIL_MM = 5.9, 2.1


def paint_skin(face: FaceTemplate, person: Complexion, rims: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Linear albedo (V, 3) of the template's skin and lips, by its landmarks and its region "lips".

    rims: the vertices of the eyes' openings, which get lash lines. Vertices of eyes, teeth and tongue are coloured as
    skin too: paint them afterwards.
    """
    likeness = warp_by_landmarks(face, procedural_face(), face.verts)
    out = skin_colors(_MM * likeness, person, np.random.default_rng(person.seed))
    hair = np.array(person.hair)
    out = mix(out, hair * 0.8 + np.array(person.skin) * 0.05, 0.82 * brow_cover(_MM * likeness))
    for rim in rims:
        out = mix(out, hair * 0.6, _lash_line(face.verts, rim))
    cover, tone = _lips(face)
    lip = np.array(person.lip) * tone[:, None]
    return np.clip(mix(out, lip, cover), 0.002, 1.0)


def paint_eyeball(points: np.ndarray, axis: np.ndarray, person: Complexion) -> np.ndarray:
    """Linear albedo (N, 3) of an eyeball: points (N, 3) mm from its centre, axis (3,) unit: through the pupil."""
    along = points @ axis
    away = np.linalg.norm(points - along[:, None] * axis, axis=1)
    front = along > 0
    side = np.cross(axis, [0.0, 1.0, 0.0])
    angle = np.arctan2(points[:, 1], points @ side)
    white = np.array(WHITE) * (1 - 0.35 * smoothstep(away, 8, 15))[:, None]
    iris = np.array(person.iris) * (0.75 + 0.5 * np.sin(angle * 9) ** 2 + 0.5 * (away < 3.8))[:, None]
    iris = iris * (1 - 0.65 * smoothstep(away, IRIS_MM - 1.2, IRIS_MM))[:, None]
    out = mix(white, iris, front * smoothstep(-away, -IRIS_MM - 0.4, -IRIS_MM + 0.4))
    out = mix(out, np.full(3, PUPIL), front * smoothstep(-away, -PUPIL_MM - 0.3, -PUPIL_MM + 0.3))
    return out * (1 - 0.45 * smoothstep(points[:, 1], 1.0, 6.0))[:, None]


def face_regions(face: FaceTemplate, skin: np.ndarray) -> dict[str, np.ndarray]:
    """upper_face and lower_face among the skin's vertices: what lies over the procedural face's."""
    _, y, z = _MM * warp_by_landmarks(face, procedural_face(), face.verts[skin]).T
    upper = (y > 36) & (y < 118) & (z > -70)
    lower = (y < 46) & (y > -84) & (z > -63)
    return {"upper_face": skin[upper], "lower_face": skin[lower]}


def smooth_over_mesh(values: np.ndarray, faces: np.ndarray, times: int) -> np.ndarray:
    """Values (V,) averaged with those of their neighbours, `times` over."""
    edges, _ = unique_edges(faces)
    both = np.concatenate([edges, edges[:, ::-1]])
    degree = np.bincount(both[:, 0], minlength=len(values))
    for _ in range(times):
        around = np.bincount(both[:, 0], weights=values[both[:, 1]], minlength=len(values))
        values = 0.5 * values + 0.5 * np.where(degree > 0, around / np.maximum(degree, 1), values)
    return values


def hair_cover(face: FaceTemplate, scalp: np.ndarray) -> np.ndarray:
    """How much cropped hair covers each of the scalp's vertices, (N,) in [0, 1]: it grows behind the hairline."""
    likeness = _MM * warp_by_landmarks(face, procedural_face(), face.verts[scalp])
    angle = np.abs(np.arctan2(likeness[:, 0], likeness[:, 2] - HEAD_AXIS_Z_MM))
    return smoothstep(likeness[:, 1] - hairline(angle), -3.0, 3.0)


def _lash_line(verts, rim):
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(verts[rim]).query(verts)
    height = verts[:, 1] - verts[rim, 1].mean()
    upper = smoothstep(_MM * height, -1.5, 1.0)
    return (0.25 + 0.6 * upper) * np.exp(-((_MM * distance / LASH_MM) ** 2))


def _lips(face):
    """How red each vertex is, and how bright its red: (V,), (V,). Dark where the lips meet, lighter below."""
    from scipy.spatial import cKDTree

    inside = np.zeros(len(face.verts))
    inside[face.regions.get("lips", [])] = 1.0
    cover = smooth_over_mesh(inside, face.faces, 2)
    contact = face.verts[face.landmarks[60:68]]
    line = np.concatenate(
        [np.linspace(a, b, 9)[:-1] for a, b in zip(contact, np.roll(contact, -1, axis=0), strict=True)]
    )
    distance, nearest = cKDTree(line).query(face.verts)
    tone = np.interp(_MM * distance, [0, 1.0, 3.0], [0.62, 0.85, 1.0])
    upper = face.verts[:, 1] > line[nearest, 1]
    return cover, tone * np.where(upper, 0.92, 1.05)
