"""Mouth, eyes and landmarks of a bare mesh, found by its holes.

Scans and morphable models are open at the mouth and at the eyes. The holes give an upright frame, whatever the file's
axes are; lips and landmarks follow from the shape around the mouth's hole. Found landmarks are vertices near the iBUG
points, not a detector's: good enough to cut lip crops, to lay motion over and to paint lips. Where a mesh has no such
holes, the user gives landmarks instead.

Letters: V vertices, F faces, N loop vertices.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy.sparse.csgraph import dijkstra

from avsr.errors import InputError
from talking3d.face.head_surface import AVERAGE
from talking3d.face.mesh_graph import boundary_loops, edge_graph, vertex_normals
from talking3d.face.mouth_parts import vermilion_heights
from talking3d.face.template import N_LANDMARKS

MIN_LOOP = 8  # vertices
GIVE_LANDMARKS = (
    "give --landmarks FILE: JSON with the vertex of each iBUG-68 point as a list of 68 (-1 where absent) or a mapping "
    '{"48": 1234, ...}; mouth (48-67) and eyes (36-47) are needed'
)
_DEFAULT_RED_MM = (6.0, 9.2)  # heights of the upper and the lower lip's red in the middle
_RED_BOUNDS_MM = ((3.5, 9.0), (5.0, 12.0))
_NEAR_MM = 30.0  # along the surface, from the mouth's hole
_SHARP = 1.5  # of a crease, see `_Lips.crease`
_NARROWEST_MM, _WIDEST_MM = 8, 40  # from the middle of the mouth to a corner
_CORNER_MM = 2.4  # between the inner and the outer corner


class Openings(NamedTuple):
    """Loops of vertices round the mouth's hole and the eyes' (as the picture shows them)."""

    mouth: np.ndarray
    left_eye: np.ndarray
    right_eye: np.ndarray


class Frame(NamedTuple):
    """Rotation (3, 3) into the upright frame, the mouth's middle (3,), and the eyes' distance, in the mesh's unit."""

    rotation: np.ndarray
    origin: np.ndarray
    eye_distance: float

    def points(self, verts: np.ndarray) -> np.ndarray:
        return (verts - self.origin) @ self.rotation.T


def find_openings(verts: np.ndarray, faces: np.ndarray, name: str) -> tuple[Openings, Frame]:
    """The mouth's hole, the eyes' holes, and the frame that they stand upright in.

    The longest border is taken as the mesh's edge (neck or mask); of the other holes, the mouth and the eyes are the
    three that look most like a face: two of one size, and a third as far from the one as from the other. InputError
    where there are fewer than three.
    """
    loops = [loop for loop in boundary_loops(faces) if len(loop) >= MIN_LOOP]
    loops = sorted(loops, key=lambda loop: _length(verts, loop))[:-1]
    if len(loops) < 3:
        raise InputError(
            f"mesh {name}: found {len(loops)} holes, a mouth and two eyes would be three: the lips cannot be found by "
            f"shape; {GIVE_LANDMARKS}"
        )
    best = min(
        (
            (_unlikeness(verts, loops[m], loops[a], loops[b]), m, a, b)
            for m in range(len(loops))
            for a, b in itertools.combinations([k for k in range(len(loops)) if k != m], 2)
        ),
    )
    _, m, a, b = best
    mouth, eyes = loops[m], [loops[a], loops[b]]
    frame = upright_frame(verts, faces, verts[mouth].mean(axis=0), *(verts[eye].mean(axis=0) for eye in eyes))
    eyes.sort(key=lambda eye: frame.points(verts[eye])[:, 0].mean())
    return Openings(mouth, *eyes), frame


def upright_frame(verts, faces, mouth: np.ndarray, eye: np.ndarray, other_eye: np.ndarray) -> Frame:
    """The frame of a face by the middles (3,) of its mouth and eyes and by where its triangles look."""
    between = (eye + other_eye) / 2
    up = between - mouth
    reach = 1.2 * np.linalg.norm(up)
    near = np.linalg.norm(verts[faces].mean(axis=1) - (mouth + between) / 2, axis=1) < reach
    a, b, c = (verts[faces[near, k]] for k in range(3))
    outward = np.cross(b - a, c - a).sum(axis=0)
    across = other_eye - eye
    across = across * np.sign(np.cross(up, outward) @ across)
    x = across / np.linalg.norm(across)
    y = up - (up @ x) * x
    y /= np.linalg.norm(y)
    rotation = np.stack([x, y, np.cross(x, y)])
    return Frame(rotation, mouth, float(np.linalg.norm(across)))


def find_landmarks(verts_mm: np.ndarray, faces: np.ndarray, openings: Openings, name: str) -> np.ndarray:
    """(68,) vertices of the iBUG points of mouth and eyes, nose (27, 30, 33) and chin (8); -1 for the others.

    verts_mm (V, 3): upright, millimetres, the mouth's middle at the origin. InputError, naming the mesh, where the
    mouth's hole has no lips around it.
    """
    landmarks = np.full(N_LANDMARKS, -1)
    landmarks[36:42] = _eye_points(verts_mm, openings.left_eye)
    landmarks[42:48] = _eye_points(verts_mm, openings.right_eye)
    landmarks[48:68] = _mouth_points(verts_mm, faces, openings.mouth, name)
    x, y, z = verts_mm.T
    eyes_y = verts_mm[landmarks[36:48], 1].mean()
    middle = np.abs(x - verts_mm[landmarks[48:68], 0].mean()) < 8

    def furthest(among, towards):
        among = np.flatnonzero(among)
        return among[np.argmax(verts_mm[among] @ towards)] if len(among) else -1

    landmarks[30] = furthest(middle & (y > 12) & (y < 0.8 * eyes_y), np.array([0.0, 0.0, 1.0]))
    landmarks[8] = furthest(middle & (y < -20) & (z > -32), np.array([0.0, -0.75, 0.66]))
    landmarks[27] = _front_near(verts_mm, np.flatnonzero(y > 12), (0.0, eyes_y))
    nose_y, lip_y = y[landmarks[30]], y[landmarks[51]]
    under_nose = (np.abs(x) < 3) & (y > lip_y + 2) & (y < nose_y - 3) & (z > -25)
    landmarks[33] = furthest(under_nose, np.array([0.0, 0.0, -1.0]))
    return landmarks


def split_loop(verts: np.ndarray, loop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The upper and the lower arc of a loop, each from its leftmost to its rightmost vertex, both included."""
    loop = np.roll(loop, -int(np.argmin(verts[loop, 0])))
    turn = int(np.argmax(verts[loop, 0]))
    arcs = loop[: turn + 1], np.append(loop[turn:], loop[0])[::-1]
    lower, upper = sorted(arcs, key=lambda arc: verts[arc, 1].mean())
    return upper, lower


def _length(verts, loop):
    return float(np.linalg.norm(verts[loop] - verts[np.roll(loop, 1)], axis=1).sum())


def _unlikeness(verts, mouth, eye, other):
    """0 for an upright triangle of two equal eyes and a mouth a face-like way below them."""
    middles = [verts[loop].mean(axis=0) for loop in (mouth, eye, other)]
    apart = np.linalg.norm(middles[1] - middles[2])
    down = [np.linalg.norm(middles[0] - middles[k]) for k in (1, 2)]
    sizes = [_length(verts, loop) for loop in (eye, other)]
    return (
        abs(np.log(sizes[0] / sizes[1]))
        + 2 * abs(np.log(down[0] / down[1]))
        + abs(np.log(max(apart, 1e-9) / np.mean(down)))
    )


def _front_near(verts_mm, among, xy, reach_mm=1.5):
    """The vertex of `among` nearest to a point as seen from the front; of those within reach the foremost."""
    away = np.hypot(verts_mm[among, 0] - xy[0], verts_mm[among, 1] - xy[1])
    close = away < max(reach_mm, float(away.min()) + 1e-9)
    return among[close][np.argmax(verts_mm[among[close], 2] - away[close])]


def _eye_points(verts_mm, loop):
    upper, lower = split_loop(verts_mm, loop)
    x = verts_mm[:, 0]
    thirds = np.linspace(x[upper[0]], x[upper[-1]], 4)[1:3]
    tops, bottoms = ([arc[np.argmin(np.abs(x[arc] - t))] for t in thirds] for arc in (upper, lower))
    return [upper[0], *tops, upper[-1], *bottoms[::-1]]


def _mouth_points(verts_mm, faces, loop, name):
    """Vertices of the iBUG points 48-67."""
    near = np.flatnonzero(dijkstra(edge_graph(verts_mm, faces), indices=loop, min_only=True, limit=_NEAR_MM) < _NEAR_MM)
    lips = _Lips(verts_mm, vertex_normals(verts_mm, faces), near)
    middle = verts_mm[loop, 0].mean()
    creases = {sign: _crease_line(lips, loop, middle, sign, name) for sign in (-1, 1)}
    line = np.array(sorted(creases[-1] + creases[1][1:]))  # (N, 3): x, y of the upper and of the lower lip
    left, right = line[0, 0], line[-1, 0]
    middle, half = (left + right) / 2, (right - left) / 2
    corners = [_front_near(verts_mm, near, (x, (up + low) / 2), 1.0) for x, up, low in (line[0], line[-1])]
    outer = [
        _front_near(verts_mm, near, (x + sign * _CORNER_MM, (up + low) / 2), 1.0)
        for sign, (x, up, low) in ((-1, line[0]), (1, line[-1]))
    ]

    def contact_y(t, lip):
        return np.interp(middle + half * t, line[:, 0], line[:, 1 + lip])

    inner = {t: lips.crease(middle + half * t, (contact_y(t, 0) + contact_y(t, 1)) / 2)[:2] for t in (-0.45, 0.0, 0.45)}
    red = [_red_height(verts_mm[near], middle, contact_y(0.0, lip), sign) for lip, sign in ((0, 1), (1, -1))]
    average = [float(h) for h in vermilion_heights(np.array(0.0), AVERAGE)]

    def border(t, lip):
        height = float(vermilion_heights(np.array(t), AVERAGE)[lip]) * red[lip] / average[lip]
        return _front_near(verts_mm, near, (middle + half * t, contact_y(t, lip) + (1 - 2 * lip) * height))

    points = [outer[0], *(border(t, 0) for t in (-0.78, -0.28, 0.0, 0.28, 0.78)), outer[1]]
    points += [border(t, 1) for t in (0.76, 0.4, 0.0, -0.4, -0.76)]
    points += [corners[0], *(inner[t][0] for t in (-0.45, 0.0, 0.45)), corners[1]]
    return points + [inner[t][1] for t in (0.45, 0.0, -0.45)]


class _Lips(NamedTuple):
    """Vertices near the mouth, upright and in millimetres, with the normals of all."""

    verts_mm: np.ndarray
    normals: np.ndarray
    near: np.ndarray

    def crease(self, x, y):
        """The lips' contact at (x, y): its vertices on the upper and the lower lip, and how sharp it is, in [0, 2].

        Where lips meet, the upper one's surface looks straight down and the lower one's straight up.
        """
        points, normals = self.verts_mm[self.near], self.normals[self.near]
        off = np.abs(points[:, 0] - x)
        around = (np.abs(points[:, 1] - y) < 4) & (normals[:, 2] > -0.2)
        if around.sum() < 4:
            return -1, -1, 0.0
        among = np.flatnonzero(around & (off < max(1.3, 1.001 * np.sort(off[around])[3])))
        upper = among[np.argmin(normals[among, 1] + 0.05 * off[among])]
        lower = among[np.argmax(normals[among, 1] - 0.05 * off[among])]
        return self.near[upper], self.near[lower], normals[lower, 1] - normals[upper, 1]


def _crease_line(lips, loop, middle, sign, name):
    """The contact line from the middle out to one corner: (x, y of the upper lip, y of the lower lip) each mm."""
    verts = lips.verts_mm
    y = verts[loop[np.abs(verts[loop, 0] - middle) < 6], 1].mean()
    line = []
    for step in range(_WIDEST_MM):
        upper, lower, sharp = lips.crease(middle + sign * step, y)
        if sharp < _SHARP:
            break
        line.append((middle + sign * step, verts[upper, 1], verts[lower, 1]))
        y = (y + (verts[upper, 1] + verts[lower, 1]) / 2) / 2
    if len(line) < _NARROWEST_MM:
        raise InputError(f"mesh {name}: its mouth's hole has no lips around it that meet in a line; {GIVE_LANDMARKS}")
    return line


def _red_height(points, middle, contact_y, sign):
    """How high (mm) the red of a lip is: its border lies a little beyond the lip's most forward point."""
    default, (low, high) = _DEFAULT_RED_MM[0 if sign > 0 else 1], _RED_BOUNDS_MM[0 if sign > 0 else 1]
    height = sign * (points[:, 1] - contact_y)
    on_lip = (np.abs(points[:, 0] - middle) < 2.5) & (height > -0.5)
    height, z = height[on_lip], points[on_lip, 2]
    bins = np.arange(0.5, high + 2, 0.5)
    front = np.array([z[np.abs(height - b) < 1.6].max(initial=-np.inf) for b in bins])
    peaks = [k for k in range(1, len(bins) - 1) if front[k] >= front[k - 1] and front[k] > front[k + 1]]
    beyond = -0.5 if sign > 0 else 2.0
    return float(np.clip(bins[peaks[0]] + beyond, low, high)) if peaks else default
