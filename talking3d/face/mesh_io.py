"""Meshes from and to OBJ and PLY files, vertex order kept."""

import logging
from pathlib import Path

import numpy as np

from avsr.errors import InputError
from avsr.files import write_text

FLAT = 1e-6  # of the median area: no picture shows such a triangle

logger = logging.getLogger(__name__)


def read_mesh(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float64 in the file's own unit and triangles (F, 3) int32, polygons split into fans.

    The file's vertex order is kept, because index lists and motion refer to it. InputError on a file that is missing,
    unreadable, or holds no triangles.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"mesh {path}: no such file")
    readers = {".obj": _read_obj, ".ply": _read_ply}
    if path.suffix.lower() not in readers:
        raise InputError(f"mesh {path}: expected an .obj or .ply file")
    try:
        verts, faces = readers[path.suffix.lower()](path)
        verts, faces = np.asarray(verts, np.float64), np.asarray(faces, np.int32)
    except Exception as error:
        raise InputError(f"mesh {path}: not readable as a mesh ({error})") from error
    if verts.ndim != 2 or faces.ndim != 2 or len(faces) == 0:
        raise InputError(f"mesh {path}: holds no triangles")
    if faces.min() < 0 or faces.max() >= len(verts):
        raise InputError(f"mesh {path}: a face refers to a vertex outside 1..{len(verts)}")
    if not np.isfinite(verts).all():
        raise InputError(f"mesh {path}: holds NaN or infinite coordinates")
    return verts, faces


def drop_degenerate(verts: np.ndarray, faces: np.ndarray, name: str) -> np.ndarray:
    """The triangles (F', 3) that have an area, in any unit; how many had none is logged.

    Published meshes hold a few collapsed triangles. No picture shows them, but their normals are undefined and a
    template refuses them. Their vertices stay. InputError where more than a tenth has none: such a mesh is broken.
    """
    a, b, c = (verts[faces[:, k]].astype(np.float64) for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    flat = area <= FLAT * np.median(area[area > 0]) if area.any() else np.ones(len(area), bool)
    if flat.mean() > 0.1:
        raise InputError(f"mesh {name}: {int(flat.sum())} of {len(faces)} triangles are degenerate: repair the mesh")
    if flat.any():
        logger.warning("mesh %s: %d degenerate triangles of %d left out", name, int(flat.sum()), len(faces))
    return faces[~flat]


def _read_ply(path: Path):
    import trimesh

    mesh = trimesh.load(path, process=False, force="mesh")
    return mesh.vertices, mesh.faces


def _read_obj(path: Path):
    """Read by hand: trimesh splits vertices by texture coordinates, and index lists need the file's own order."""
    verts, faces = [], []
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            kind, *fields = line.split() or [""]
            if kind == "v":
                verts.append([float(value) for value in fields[:3]])
            elif kind == "f":
                numbers = [int(field.split("/")[0]) for field in fields]
                corners = [n - 1 if n > 0 else len(verts) + n for n in numbers]
                faces += [[corners[0], *pair] for pair in zip(corners[1:-1], corners[2:], strict=True)]
    return verts, faces


def write_obj(path: str | Path, verts: np.ndarray, faces: np.ndarray, colors: np.ndarray | None = None) -> None:
    """Write vertices (V, 3) and triangles (F, 3) as Wavefront OBJ, whole or not at all.

    colors (V, 3) in [0, 1] go after the coordinates of each vertex, the extension that mesh viewers read.
    """
    rows = verts if colors is None else np.concatenate([verts, colors], axis=1)
    lines = ["v " + " ".join(f"{value:.7g}" for value in row) for row in rows]
    lines += [f"f {a} {b} {c}" for a, b, c in np.asarray(faces) + 1]
    write_text(path, "\n".join(lines) + "\n")
