"""Triangles to pixels: a z-buffer on the CPU, compiled by numba.

For each pixel: which face it shows, where in that face (perspective-correct barycentrics), and how deep. Shading comes
after. Pixel (row i, column j) is sampled at the point (x=j, y=i).

Two rules make faces with mouths look right:

- *stencil*: interior faces (cavity, teeth, tongue) show only where no outer face covers the pixel, whatever the depth,
  so that teeth never poke through lips;
- outer faces that turn their back are left out, so that the back of the head doesn't close the open mouth.
"""

from typing import NamedTuple

import numpy as np
from numba import njit


class Fragments(NamedTuple):
    """What each pixel shows: face_index (H, W) int32, depth (H, W) float32, barycentrics (H, W, 3) float32.

    Where no face is, face_index is -1, depth infinite and barycentrics undefined.
    """

    face_index: np.ndarray
    barycentrics: np.ndarray
    depth: np.ndarray


def new_fragments(height: int, width: int) -> Fragments:
    """Uninitialised fragments, to be filled by `rasterize` frame after frame."""
    return Fragments(
        np.empty((height, width), np.int32),
        np.empty((height, width, 3), np.float32),
        np.empty((height, width), np.float32),
    )


def rasterize(
    points: np.ndarray,
    depth: np.ndarray,
    faces: np.ndarray,
    interior: np.ndarray,
    fragments: Fragments,
    cull_backfaces: bool = True,
) -> Fragments:
    """Fill `fragments` with the nearest face of each pixel, and return it.

    points (V, 2) float32 pixels; depth (V,) float32 > 0 (faces with a vertex at or behind the camera are left out);
    faces (F, 3) int32, counterclockwise as seen from outside; interior (F,) bool: faces under the stencil, drawn from
    both sides. At equal depth the lower face index wins. A face covers the pixels on its edges too; edges that two
    faces share leave no cracks.
    """
    fragments.face_index.fill(-1)
    fragments.depth.fill(np.inf)
    _fill(points, depth, faces, interior, cull_backfaces, *fragments)
    return fragments


@njit(cache=True, nogil=True)
def _fill(points, depth, faces, interior, cull_backfaces, face_index, barycentrics, zbuffer):
    height, width = face_index.shape
    one = np.float32(1)
    for inside in (False, True):  # the outer surface first: it is the stencil of the inside
        for f in range(faces.shape[0]):
            if interior[f] != inside:
                continue
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            xa, ya, za = points[a, 0], points[a, 1], depth[a]
            xb, yb, zb = points[b, 0], points[b, 1], depth[b]
            xc, yc, zc = points[c, 0], points[c, 1], depth[c]
            left, right = min(xa, xb, xc), max(xa, xb, xc)
            top, bottom = min(ya, yb, yc), max(ya, yb, yc)
            if right < 0 or left > width - 1 or bottom < 0 or top > height - 1 or min(za, zb, zc) <= 0:
                continue
            doubled_area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
            if doubled_area == 0 or (doubled_area > 0 and cull_backfaces and not inside):
                continue  # y points down: faces towards the viewer have a negative area
            sign = one if doubled_area > 0 else -one
            ia, ib, ic = one / za, one / zb, one / zc
            x0, x1 = int(np.ceil(max(left, np.float32(0)))), int(min(right, np.float32(width - 1)))
            y0, y1 = int(np.ceil(max(top, np.float32(0)))), int(min(bottom, np.float32(height - 1)))
            for i in range(y0, y1 + 1):
                va, vb, vc = ya - np.float32(i), yb - np.float32(i), yc - np.float32(i)
                entered = False
                for j in range(x0, x1 + 1):
                    if inside and face_index[i, j] >= 0 and not interior[face_index[i, j]]:
                        continue
                    # Relative to the sample, an edge's value only changes sign with its direction: no cracks.
                    ua, ub, uc = xa - np.float32(j), xb - np.float32(j), xc - np.float32(j)
                    wa = sign * (ub * vc - vb * uc)
                    wb = sign * (uc * va - vc * ua)
                    wc = sign * (ua * vb - va * ub)
                    if (wa < 0) | (wb < 0) | (wc < 0):
                        if entered:
                            break  # faces are convex: past the end of this row
                        continue
                    entered = True
                    qa, qb, qc = wa * ia, wb * ib, wc * ic
                    total = qa + qb + qc
                    if total == 0:
                        continue
                    scale = one / total
                    z = (wa + wb + wc) * scale
                    if z < zbuffer[i, j]:
                        zbuffer[i, j] = z
                        face_index[i, j] = f
                        barycentrics[i, j, 0] = qa * scale
                        barycentrics[i, j, 1] = qb * scale
                        barycentrics[i, j, 2] = qc * scale


@njit(cache=True, nogil=True)
def shown_vertices(face_index, faces, n_verts):
    """Whether each vertex (n_verts,) belongs to a face that some pixel of face_index (H, W) shows."""
    shown = np.zeros(n_verts, np.bool_)
    last = -1
    for i in range(face_index.shape[0]):
        for j in range(face_index.shape[1]):
            f = face_index[i, j]
            if f >= 0 and f != last:
                shown[faces[f, 0]] = shown[faces[f, 1]] = shown[faces[f, 2]] = True
                last = f
    return shown


@njit(cache=True, nogil=True)
def resolve(face_index, barycentrics, faces, values, background):
    """Interpolate values (V, C) in the fragments (2H, 2W) and average 2x2 samples to a picture (H, W, C) float32.

    background (H, W, C): what shows where no face is.
    """
    height, width, n_channels = face_index.shape[0] // 2, face_index.shape[1] // 2, values.shape[1]
    picture = np.zeros((height, width, n_channels), np.float32)
    quarter = np.float32(0.25)
    for y in range(2 * height):
        i = y // 2
        for x in range(2 * width):
            j = x // 2
            f = face_index[y, x]
            if f < 0:
                for channel in range(n_channels):
                    picture[i, j, channel] += quarter * background[i, j, channel]
                continue
            a, b, c = np.uint32(faces[f, 0]), np.uint32(faces[f, 1]), np.uint32(faces[f, 2])
            wa = quarter * barycentrics[y, x, 0]
            wb = quarter * barycentrics[y, x, 1]
            wc = quarter * barycentrics[y, x, 2]
            for channel in range(n_channels):
                value = wa * values[a, channel] + wb * values[b, channel] + wc * values[c, channel]
                picture[i, j, channel] += value
    return picture
