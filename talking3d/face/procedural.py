"""The kit's own face: a whole head from formulas, with a shape basis, an articulation basis and colours."""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from talking3d.face import head_parts, mouth_parts
from talking3d.face.complexion import Complexion, face_colors, random_complexion
from talking3d.face.head_surface import AVERAGE, SHAPE_NAMES, warp
from talking3d.face.mouth_parts import N_AROUND, RINGS, ring_faces
from talking3d.face.muscles import N_LIP_RINGS, articulation_basis
from talking3d.face.muscles import NAMES as ARTICULATION_NAMES
from talking3d.face.template import FaceTemplate

_MM = 1e-3
_INTERIOR = ("teeth_upper", "teeth_lower", "tongue", "cavity")


def _build(shape: dict):
    """Positions (V, 3) mm, part slices and per-part marks of the face with these shape coefficients."""
    lips = mouth_parts.lips(shape)
    upper, lower = mouth_parts.teeth(True), mouth_parts.teeth(False)
    tongue, tongue_along = mouth_parts.tongue()
    (eye_right, rho), (eye_left, _) = head_parts.eyeball(1), head_parts.eyeball(-1)
    hair, hair_marks = head_parts.hair(shape)
    pieces = {
        "lips": lips,
        "lid_right": head_parts.lids(1, shape),
        "lid_left": head_parts.lids(-1, shape),
        "skin": head_parts.free_skin(shape),
        "eye_right": eye_right,
        "eye_left": eye_left,
        "ear_right": head_parts.ear(1, shape),
        "ear_left": head_parts.ear(-1, shape),
        "hair": hair,
        "shirt": head_parts.shirt(),
        "teeth_upper": upper[0],
        "teeth_lower": lower[0],
        "tongue": tongue,
        "cavity": np.concatenate([lips[:N_AROUND], mouth_parts.cavity()]),
    }
    marks = {"teeth_upper": upper[3], "teeth_lower": lower[3], "tongue": tongue_along, "hair": hair_marks}
    marks |= {"eye_right": rho, "eye_left": rho}
    parts, start = {}, 0
    for name, piece in pieces.items():
        parts[name] = slice(start, start + len(piece))
        start += len(piece)
    still = ("shirt", *(name for name in _INTERIOR if name != "cavity"))
    points = np.concatenate([piece if name in still else warp(piece, shape) for name, piece in pieces.items()])
    return points, parts, marks


def _faces(parts) -> np.ndarray:
    """Triangles (F, 3) of the whole face, counter-clockwise seen from outside."""

    def grid(name, rows, columns, closed):
        return parts[name].start + ring_faces(rows, columns, closed)

    def capped(name, rows, columns):
        """A closed grid whose last ring meets in the part's last vertex."""
        start, tip = parts[name].start, parts[name].stop - 1
        last = start + (rows - 1) * columns + np.arange(columns)
        return np.concatenate(
            [grid(name, rows, columns, True), np.stack([last, np.roll(last, -1), np.full(columns, tip)], 1)]
        )

    n_lid_ring = (head_parts.LID_RINGS - 1) * head_parts.N_LID
    outer = [
        parts["lips"].stop - N_AROUND + np.arange(N_AROUND),
        parts["lid_right"].start + n_lid_ring + np.arange(head_parts.N_LID),
        parts["lid_left"].start + n_lid_ring + np.arange(head_parts.N_LID),
        np.arange(parts["skin"].start, parts["skin"].stop),
    ]
    eye = head_parts.fan_then_rings(len(head_parts.EYE_RINGS), head_parts.N_EYE)
    ear = head_parts.fan_then_rings(head_parts.EAR_RINGS, head_parts.N_EAR)
    columns = (parts["teeth_upper"].stop - parts["teeth_upper"].start) // mouth_parts.N_TEETH_ROWS
    flipped = [0, 2, 1]
    return np.concatenate(
        [
            np.concatenate(outer)[head_parts.skin_mesh()[2]],
            grid("lips", len(RINGS), N_AROUND, True)[:, flipped],
            grid("lid_right", head_parts.LID_RINGS, head_parts.N_LID, True)[:, flipped],
            grid("lid_left", head_parts.LID_RINGS, head_parts.N_LID, True),
            parts["eye_right"].start + eye,
            parts["eye_left"].start + eye,
            parts["ear_right"].start + ear,
            parts["ear_left"].start + ear[:, flipped],
            capped("hair", head_parts.HAIR_ROWS, head_parts.HAIR_COLUMNS),
            grid("shirt", head_parts.SHIRT_ROWS, head_parts.SHIRT_COLUMNS, True)[:, flipped],
            grid("teeth_upper", mouth_parts.N_TEETH_ROWS, columns, False)[:, flipped],
            grid("teeth_lower", mouth_parts.N_TEETH_ROWS, columns, False),
            capped("tongue", mouth_parts.N_TONGUE_ALONG, mouth_parts.N_TONGUE_AROUND),
            capped("cavity", 4, N_AROUND),
        ]
    )


# iBUG points of the picture's left half as (x, y) in mm on the average skin; the right half is their mirror image.
_JAW_LEFT = [(-71, 60), (-70.5, 45), (-69, 30), (-65.5, 13), (-60, -6), (-50, -21), (-37, -33), (-20, -42.5), (0, -46)]
_BROW_LEFT = [(-47, 78.5), (-38, 82.5), (-29, 82.5), (-20, 80), (-12, 76.5)]
_NOSE = [(0, 66), (0, 54), (0, 42), (0, 28), (-11, 18), (-5.5, 18), (0, 17.5), (5.5, 18), (11, 18)]


def _landmarks(points, parts) -> np.ndarray:
    """(68,) vertex of each iBUG point."""
    skin = points[parts["skin"]]
    front = skin[:, 2] > -95

    def nearest(targets):
        away = np.linalg.norm(skin[None, :, :2] - np.array(targets, float)[:, None], axis=-1) + np.where(front, 0, 1e3)
        return parts["skin"].start + away.argmin(axis=1)

    def mirrored(targets):
        return [(-x, y) for x, y in targets[::-1]]

    jaw = nearest(_JAW_LEFT + mirrored(_JAW_LEFT[:-1]))
    brows = nearest(_BROW_LEFT + mirrored(_BROW_LEFT))
    lid = head_parts.N_LID
    corners_right = np.array([lid // 2, 19 * lid // 56, 9 * lid // 56, 0, -9 * lid // 56, -19 * lid // 56]) % lid
    corners_left = np.array([0, 9 * lid // 56, 19 * lid // 56, lid // 2, -19 * lid // 56, -9 * lid // 56]) % lid
    eyes = [parts["lid_left"].start + lid + corners_left, parts["lid_right"].start + lid + corners_right]
    start, border, contact = parts["lips"].start, (N_LIP_RINGS - 1) * N_AROUND, int(np.argmin(np.abs(RINGS))) * N_AROUND
    outer = start + border + np.array([30, 23, 17, 15, 13, 7, 0, 52, 48, 45, 42, 38])
    inner = start + contact + np.array([30, 20, 15, 10, 0, 50, 45, 40])
    return np.concatenate([jaw, brows, nearest(_NOSE), *eyes, outer, inner]).astype(np.int32)


def _regions(points, parts) -> dict[str, np.ndarray]:
    index = {name: np.arange(part.start, part.stop) for name, part in parts.items()}
    x, y, z = points.T
    skin = np.concatenate([index[name] for name in ("lips", "lid_right", "lid_left", "skin", "ear_right", "ear_left")])
    face = np.zeros(len(points), bool)
    face[np.concatenate([index[name] for name in ("lips", "lid_right", "lid_left", "skin")])] = True
    interior = np.concatenate([index[name] for name in _INTERIOR])
    ring = np.repeat(RINGS, N_AROUND)
    lower = np.flatnonzero(face & (y < 46) & (y > -84) & (z > -63))
    return {
        "lips": index["lips"][ring <= 1],
        "lips_inner": index["lips"][ring == 0],
        "upper_face": np.flatnonzero(face & (y > 36) & (y < 118) & (z > -70)),
        "lower_face": np.sort(np.concatenate([lower, interior])),
        "mouth_interior": interior,
        **{name: index[name] for name in _INTERIOR},
        "eyes": np.concatenate([index["eye_right"], index["eye_left"]]),
        "ears": np.concatenate([index["ear_right"], index["ear_left"]]),
        "hair": index["hair"],
        "shirt": index["shirt"],
        "skin": skin,
    }


@lru_cache(maxsize=1)
def procedural_face() -> FaceTemplate:
    """The average face: about 6,000 vertices, 10 shape and 16 articulation displacements, in metres."""
    points, parts, marks = _build(AVERAGE)
    shape_basis = [(_build(AVERAGE | {n: 1.0})[0] - _build(AVERAGE | {n: -1.0})[0]) / 2 for n in SHAPE_NAMES]
    return FaceTemplate(
        name="procedural",
        verts=points * _MM,
        faces=_faces(parts),
        regions=_regions(points, parts),
        landmarks=_landmarks(points, parts),
        shape_basis=np.stack(shape_basis) * _MM,
        shape_names=SHAPE_NAMES,
        articulation_basis=articulation_basis(points, parts, marks["tongue"]) * _MM,
        articulation_names=ARTICULATION_NAMES,
        colors=face_colors(points, parts, marks, Complexion()),
    )


def random_identity(rng: np.random.Generator) -> FaceTemplate:
    """A person drawn from `rng`, of the same topology: shape coefficients N(0, 0.8), own complexion and haircut.

    The articulation is fitted to the person's own lips, so that a wide mouth rounds as small as a narrow one.
    """
    points, parts, marks = _build(AVERAGE)
    shape = np.clip(rng.normal(0, 0.8, len(SHAPE_NAMES)), -2, 2)
    long_hair = rng.random() < 0.45
    length = rng.uniform(0.75, 1.0) if long_hair else 0.0
    styled = warp(head_parts.hair(AVERAGE, length, rng.uniform(0.5, 1.4), rng.uniform(0, 20))[0], AVERAGE)
    person = procedural_face().identity(shape, face_colors(points, parts, marks, random_complexion(rng)))
    verts = person.verts.copy()
    verts[parts["hair"]] += ((styled - points[parts["hair"]]) * _MM).astype(np.float32)
    basis = articulation_basis(verts.astype(np.float64) / _MM, parts, marks["tongue"]) * _MM
    return replace(person, verts=verts, articulation_basis=basis)
