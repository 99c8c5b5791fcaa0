"""Teeth, tongue, mouth cavity and eyeballs for a face that comes as skin alone.

Letters: V vertices, F faces.
"""

from dataclasses import replace

import numpy as np

from avsr.errors import InputError
from talking3d.face.align import similarity, warp_by_landmarks
from talking3d.face.procedural import procedural_face
from talking3d.face.template import FaceTemplate

PARTS = ("mouth_interior", "teeth_upper", "teeth_lower", "tongue", "eyes")

_EYE_REACH_M = 0.025  # from the lids' middle to all of its own eyeball


def with_interior(face: FaceTemplate) -> FaceTemplate:
    """The template with the procedural face's teeth, tongue, cavity and eyeballs, laid into it by its landmarks.

    The new vertices follow the template's own, so that index lists still hold, but the topology is another: motion
    made for the bare template doesn't fit. They stand still in the template's own bases; motion that is carried over
    moves them. InputError where the template has a mouth interior already.
    """
    if "mouth_interior" in face.regions:
        raise InputError(f"face template {face.name!r} has a mouth interior already")
    own = procedural_face()
    parts = ("mouth_interior", *(["eyes"] if "eyes" not in face.regions else []))
    kept = np.concatenate([own.region(part) for part in parts])
    number = np.full(len(own.verts), -1)
    number[kept] = len(face.verts) + np.arange(len(kept))
    added = number[own.faces]
    placed = warp_by_landmarks(own, face, own.verts[kept])
    for eye in (slice(36, 42), slice(42, 48)):
        lids = own.verts[own.landmarks[eye]]
        ball = np.linalg.norm(own.verts[kept] - lids.mean(axis=0), axis=1) < _EYE_REACH_M
        ball &= np.isin(kept, own.region("eyes"))
        placed[ball] = similarity(lids, face.verts[face.landmarks[eye]]).points(own.verts[kept[ball]])  # stays round
    still = np.zeros((1, len(kept), 3), np.float32)
    return replace(
        face,
        verts=np.concatenate([face.verts, placed]),
        faces=np.concatenate([face.faces, added[(added >= 0).all(axis=1)]]),
        regions=face.regions
        | {part: number[own.region(part)] for part in PARTS if (number[own.region(part)] >= 0).all()},
        colors=np.concatenate([face.colors, own.colors[kept]]),
        shape_basis=np.concatenate([face.shape_basis, np.repeat(still, len(face.shape_names), 0)], axis=1),
        articulation_basis=np.concatenate(
            [face.articulation_basis, np.repeat(still, len(face.articulation_names), 0)], axis=1
        ),
    )
