"""The part of a mesh that comes into view: the rest is neither lit nor drawn."""

from typing import NamedTuple

import numpy as np

EVERYWHERE = 0b1111  # outside bits of a vertex that no frame has been looked at for


class Part(NamedTuple):
    """Part of a mesh, its vertices numbered anew.

    kept (V',): its vertices in the whole mesh. faces (F', 3): those in view; outer, inner: which of them lie before and
    behind the stencil (`rasterize.py`). around (F'', 3): these faces and all that touch them, for the normals.
    """

    kept: np.ndarray
    faces: np.ndarray
    outer: np.ndarray
    inner: np.ndarray
    around: np.ndarray


def part_in_view(faces: np.ndarray, interior_faces: np.ndarray, outside: np.ndarray) -> Part:
    """The part of faces (F, 3) that may come into view in a clip; interior_faces (F,) bool.

    outside (V,) uint8: a bit for each side of the picture beyond which a vertex lies in every frame. A face is left out
    when all its corners lie beyond the same side.
    """
    seen = np.bitwise_and.reduce(outside[faces], axis=1) == 0  # (F,)
    used = np.zeros(len(outside), bool)
    used[faces[seen]] = True
    around = faces[used[faces].any(axis=1)]
    used[around] = True
    number = np.cumsum(used, dtype=np.int32) - 1
    inside = interior_faces[seen]
    outer, inner = (np.flatnonzero(chosen).astype(np.int32) for chosen in (~inside, inside))
    return Part(np.flatnonzero(used), number[faces[seen]], outer, inner, number[around])
