"""Which light reaches which vertex of the face at rest: soft shadows and ambient occlusion.

Both ask one question, which of some directions a vertex sees past the rest of the head, and answer it with depth maps
drawn from these directions (Williams, "Casting curved shadows on curved surfaces", SIGGRAPH 1978). They are found once
for the face at rest, not for each frame: nose, brow and chin hardly change their shadows while a face speaks.
"""

import functools

import numpy as np

from talking3d.face.template import FaceTemplate
from talking3d.render.kernels import rasterize_frame
from talking3d.render.shade import vertex_normals

MAP_SIZE = 160  # px of a depth map: about 2 mm of a head
FAR_M = 10.0  # distance of the maps' viewpoints: nearly parallel rays
LIFT_M = 0.003  # the vertices are tested this far above the surface, or it would shade itself
AMBIENT_DIRECTIONS = 64
KEY_DIRECTIONS = 12
KEY_SPREAD = 0.22  # tangent of the key light's angular radius: a lamp with a shade


@functools.lru_cache(maxsize=64)
def ambient_share(template: FaceTemplate) -> np.ndarray:
    """The share (V,) of a uniform sky that each vertex sees, weighted by the cosine to its normal."""
    normals = vertex_normals(template.verts, template.faces)
    directions = _sphere(AMBIENT_DIRECTIONS)
    weights = np.maximum(normals @ directions.T, 0)  # (V, D)
    seen = _sees(template, normals, directions)
    return _smooth((weights * seen).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-6), template.faces)


@functools.lru_cache(maxsize=64)
def light_at_rest(template: FaceTemplate, key_direction: tuple[float, float, float]) -> np.ndarray:
    """Shares (V, 3) of the key light, the fill light and the sky that each vertex sees; a long clip asks many times."""
    open_sky = ambient_share(template)
    return np.stack([key_share(template, np.array(key_direction, np.float32)), open_sky, open_sky], axis=1)


def key_share(template: FaceTemplate, direction: np.ndarray) -> np.ndarray:
    """The share (V,) of a lamp in the unit direction (3,) that each vertex sees past the rest of the head."""
    side = np.cross(direction, [0.0, 1.0, 0.0] if abs(direction[1]) < 0.9 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    up = np.cross(side, direction)
    k = np.arange(KEY_DIRECTIONS)
    radius, angle = KEY_SPREAD * np.sqrt((k + 0.5) / KEY_DIRECTIONS), k * np.pi * (3 - np.sqrt(5))
    directions = direction + (radius * np.cos(angle))[:, None] * side + (radius * np.sin(angle))[:, None] * up
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    normals = vertex_normals(template.verts, template.faces)
    return _smooth(_sees(template, normals, directions.astype(np.float32)).mean(axis=1), template.faces)


def _sphere(n: int) -> np.ndarray:
    """Unit vectors (n, 3) spread evenly over the sphere (Fibonacci lattice)."""
    k = np.arange(n) + 0.5
    y, angle = 1 - 2 * k / n, k * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - y**2)
    return np.stack([ring * np.cos(angle), y, ring * np.sin(angle)], axis=1).astype(np.float32)


def _sees(template: FaceTemplate, normals: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Whether each vertex sees out in each unit direction (D, 3): (V, D) bool."""
    middle = (template.verts.max(axis=0) + template.verts.min(axis=0)) / 2
    verts = template.verts - middle
    scale = (MAP_SIZE / 2 - 2) / np.linalg.norm(verts, axis=1).max()
    lifted = verts + np.float32(LIFT_M) * normals
    side = np.cross(directions, np.where(np.abs(directions[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]]))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    basis = np.stack([side, np.cross(side, directions)], axis=2).astype(np.float32) * np.float32(scale)  # (D, 3, 2)
    points, depth = verts @ basis + np.float32(MAP_SIZE / 2), np.float32(FAR_M) - directions @ verts.T
    every, none = np.arange(len(template.faces)), np.arange(0)
    nearest, scratch = np.empty((MAP_SIZE, MAP_SIZE), np.float32), np.empty((MAP_SIZE, MAP_SIZE), np.int32)
    seen = np.empty((len(verts), len(directions)), bool)
    for k, direction in enumerate(directions):
        rasterize_frame(points[k], 1 / depth[k], template.faces, every, none, True, scratch, nearest)
        x, y = np.clip(np.rint(lifted @ basis[k] + MAP_SIZE / 2).astype(int), 0, MAP_SIZE - 1).T
        seen[:, k] = (np.float32(FAR_M) - lifted @ direction) * nearest[y, x] <= 1
    return seen


def _smooth(values: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The mean (V,) of each vertex and its neighbours, twice over: hides the maps' pixels."""
    for _ in range(2):
        around = np.repeat(values[faces].sum(axis=1), 3)
        count = 1 + 3 * np.bincount(faces.ravel(), minlength=len(values))
        values = (values + np.bincount(faces.ravel(), weights=around, minlength=len(values))) / count
    return values.astype(np.float32)
