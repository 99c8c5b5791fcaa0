"""The compiled CPU half of the rasteriser: numba kernels, each for one frame, that release the GIL.

`rasterize.py` says what they compute and runs them frame by frame on a pool of threads. Points are pixels (x right, y
down), sampled at whole numbers. Depth is given as its inverse, because that is linear on the picture.
"""

import numpy as np
from numba import njit

HUGE = 1e300
MOST_AREA = 1e15  # px^2: beyond it, or infinite or NaN, a triangle has no place on any picture


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _project(verts, offsets, v, matrix, shift, eye, lens, transform):
    """Vertex v posed (x, y, z), the point (right, down) and the inverse depth that it falls on."""
    x, y, z = verts[v, 0] + offsets[v, 0], verts[v, 1] + offsets[v, 1], verts[v, 2] + offsets[v, 2]
    px = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z + shift[0]
    py = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z + shift[1]
    pz = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z + shift[2]
    near = np.float32(1) / (eye[2] - pz)
    across = lens[1] + lens[0] * near * (px - eye[0])
    down = lens[2] - lens[0] * near * (py - eye[1])
    right = transform[0, 0] * across + transform[0, 1] * down + transform[0, 2]
    return px, py, pz, right, transform[1, 0] * across + transform[1, 1] * down + transform[1, 2], near


@njit(cache=True, nogil=True, error_model="numpy")
def project_frame(part, verts, offsets, matrix, shift, eye, lens, transform):
    """Pose and project the vertices `part` (N,): posed (N, 3), points (N, 2) and inverse depth (N,).

    verts, offsets (V, 3); posed = matrix @ (verts + offsets) + shift. The camera stands at eye (3,), looks along -z and
    has the lens (focal_px, centre x, centre y); transform (2, 3) goes from its pixels to those of the picture.
    """
    n = part.shape[0]
    posed, points, inverse_depth = np.empty((n, 3), np.float32), np.empty((n, 2), np.float32), np.empty(n, np.float32)
    for k in range(n):
        x, y, z, right, down, near = _project(verts, offsets, part[k], matrix, shift, eye, lens, transform)
        posed[k, 0], posed[k, 1], posed[k, 2] = x, y, z
        points[k, 0], points[k, 1], inverse_depth[k] = right, down, near
    return posed, points, inverse_depth


@njit(cache=True, nogil=True, error_model="numpy")
def note_outside(outside, height, width, verts, offsets, matrix, shift, eye, lens, transform):
    """Clear the bits of outside (V,) of the picture's sides (left, right, top, bottom) that a vertex isn't beyond."""
    for v in range(verts.shape[0]):
        if outside[v] == 0:
            continue
        _, _, _, x, y, _ = _project(verts, offsets, v, matrix, shift, eye, lens, transform)
        outside[v] &= (x < 0) | (x > width - 1) << 1 | (y < 0) << 2 | (y > height - 1) << 3


@njit(cache=True, nogil=True, error_model="numpy")
def fill(points, inverse_depth, faces, chosen, two_sided, box, face_index, nearest):
    """Write the `chosen` (N,) faces into face_index (H, W) wherever they beat nearest (H, W), the inverse depth there.

    box: (left, right, top, bottom) pixels, both ends included, to stay within. Where a row of a triangle begins and
    ends is found from its edges. The neighbour across an edge computes the same crossing, to the bit, so shared edges
    leave no cracks.
    """
    for k in range(chosen.shape[0]):
        f = chosen[k]
        a, b, c = np.uint32(faces[f, 0]), np.uint32(faces[f, 1]), np.uint32(faces[f, 2])
        xa, ya = np.float64(points[a, 0]), np.float64(points[a, 1])
        xb, yb = np.float64(points[b, 0]), np.float64(points[b, 1])
        xc, yc = np.float64(points[c, 0]), np.float64(points[c, 1])
        area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
        if not (area < 0 or (two_sided and area > 0)) or abs(area) > MOST_AREA:
            continue  # y points down: faces towards the viewer have a negative area
        x0, x1 = np.ceil(max(min(xa, min(xb, xc)), box[0])), np.floor(min(max(xa, max(xb, xc)), box[1]))
        y0, y1 = np.ceil(max(min(ya, min(yb, yc)), box[2])), np.floor(min(max(ya, max(yb, yc)), box[3]))
        if x1 < x0 or y1 < y0:
            continue
        za, zb, zc = np.float64(inverse_depth[a]), np.float64(inverse_depth[b]), np.float64(inverse_depth[c])
        if not (za > 0 and zb > 0 and zc > 0):
            continue
        # Edge functions a x + b y + c, at least 0 inside; divided by the area they are barycentrics on the picture.
        sign = 1.0 if area > 0 else -1.0
        a0, a1, a2 = sign * (yb - yc), sign * (yc - ya), sign * (ya - yb)
        b0, b1, b2 = sign * (xc - xb), sign * (xa - xc), sign * (xb - xa)
        c0, c1, c2 = sign * (xb * yc - yb * xc), sign * (xc * ya - yc * xa), sign * (xa * yb - ya * xb)
        scale = 1.0 / (sign * area)
        depth_x = np.float32((a0 * za + a1 * zb + a2 * zc) * scale)
        depth_y = (b0 * za + b1 * zb + b2 * zc) * scale
        depth_1 = (c0 * za + c1 * zb + c2 * zc) * scale
        # An edge bounds the row on the left (a > 0) or on the right (a < 0). A level one (a = 0) bounds it on the left
        # too: at -HUGE or, where the row is outside, at HUGE.
        n0 = -1.0 / a0 if a0 != 0 else -HUGE
        n1 = -1.0 / a1 if a1 != 0 else -HUGE
        n2 = -1.0 / a2 if a2 != 0 else -HUGE
        left0, left1, left2 = a0 >= 0, a1 >= 0, a2 >= 0
        for i in range(int(y0), int(y1) + 1):
            t0, t1, t2 = (b0 * i + c0) * n0, (b1 * i + c1) * n1, (b2 * i + c2) * n2
            first = max(max(x0, t0 if left0 else -HUGE), max(t1 if left1 else -HUGE, t2 if left2 else -HUGE))
            last = min(min(x1, HUGE if left0 else t0), min(HUGE if left1 else t1, HUGE if left2 else t2))
            if not first <= last:
                continue
            row = np.float32(depth_y * i + depth_1)
            for j in range(int(np.ceil(first)), int(last) + 1):
                z = depth_x * np.float32(j) + row
                if z > nearest[i, j]:
                    nearest[i, j] = z
                    face_index[i, j] = f


@njit(cache=True, nogil=True)
def rasterize_frame(points, inverse_depth, faces, outer, inner, two_sided, face_index, nearest):
    """Fill face_index (H, W) with the nearest face of each pixel, -1 where none is; nearest (H, W) float32 is scratch.

    points (V, 2), inverse_depth (V,); faces (F, 3) int32. outer, inner: indices of the faces to draw; the inner
    ones only show where no outer one does. two_sided: draw outer faces that turn their back too.
    """
    height, width = face_index.shape
    face_index[:] = -1
    nearest[:] = 0
    fill(points, inverse_depth, faces, outer, two_sided, (0.0, width - 1.0, 0.0, height - 1.0), face_index, nearest)
    if inner.shape[0] == 0:
        return
    left, right, top, bottom = width, -1, height, -1
    for i in range(height):
        for j in range(width):
            if face_index[i, j] >= 0:
                nearest[i, j] = np.inf  # nothing inner passes
            else:
                left, right, top, bottom = min(left, j), max(right, j), min(top, i), max(bottom, i)
    box = (float(left), float(right), float(top), float(bottom))
    fill(points, inverse_depth, faces, inner, True, box, face_index, nearest)


@njit(cache=True, nogil=True, inline="always")
def _weights(points, inverse_depth, a, b, c, x, y):
    """Sub-areas (w) of a sample and these times inverse depth (q), relative to the sample; 1 / sum of q, and depth."""
    ua, va = points[a, 0] - x, points[a, 1] - y
    ub, vb = points[b, 0] - x, points[b, 1] - y
    uc, vc = points[c, 0] - x, points[c, 1] - y
    wa, wb, wc = ub * vc - vb * uc, uc * va - vc * ua, ua * vb - va * ub
    qa, qb, qc = wa * inverse_depth[a], wb * inverse_depth[b], wc * inverse_depth[c]
    total = qa + qb + qc
    scale = 1 / total if total != 0 else 0 * total
    return wa, wb, wc, qa * scale, qb * scale, qc * scale, scale, (wa + wb + wc) * scale


@njit(cache=True, nogil=True)
def locate_frame(points, inverse_depth, faces, face_index, barycentrics, depth):
    """Perspective-correct barycentrics (H, W, 3) and depth (H, W) of what face_index (H, W) shows; 0 elsewhere."""
    for i in range(face_index.shape[0]):
        for j in range(face_index.shape[1]):
            f = face_index[i, j]
            if f < 0:
                depth[i, j] = barycentrics[i, j, 0] = barycentrics[i, j, 1] = barycentrics[i, j, 2] = 0
                continue
            a, b, c = np.uint32(faces[f, 0]), np.uint32(faces[f, 1]), np.uint32(faces[f, 2])
            _, _, _, ra, rb, rc, _, z = _weights(points, inverse_depth, a, b, c, np.float32(j), np.float32(i))
            barycentrics[i, j, 0], barycentrics[i, j, 1], barycentrics[i, j, 2] = ra, rb, rc
            depth[i, j] = z


@njit(cache=True, nogil=True)
def locate_frame_backward(
    points, inverse_depth, faces, face_index, grad_barycentrics, grad_depth, grad_points, grad_inverse_depth
):
    """Add the gradients of `locate_frame`'s outputs to grad_points (V, 2) and grad_inverse_depth (V,)."""
    for i in range(face_index.shape[0]):
        for j in range(face_index.shape[1]):
            f = face_index[i, j]
            if f < 0:
                continue
            a, b, c = np.uint32(faces[f, 0]), np.uint32(faces[f, 1]), np.uint32(faces[f, 2])
            x, y = np.float32(j), np.float32(i)
            wa, wb, wc, ra, rb, rc, scale, z = _weights(points, inverse_depth, a, b, c, x, y)
            ga, gb, gc = grad_barycentrics[i, j, 0], grad_barycentrics[i, j, 1], grad_barycentrics[i, j, 2]
            gz = grad_depth[i, j] * scale  # of the sum of sub-areas
            mean = ga * ra + gb * rb + gc * rc + grad_depth[i, j] * z
            qa, qb, qc = (ga - mean) * scale, (gb - mean) * scale, (gc - mean) * scale
            grad_inverse_depth[a] += qa * wa
            grad_inverse_depth[b] += qb * wb
            grad_inverse_depth[c] += qc * wc
            qa, qb, qc = (
                qa * inverse_depth[a] + gz,
                qb * inverse_depth[b] + gz,
                qc * inverse_depth[c] + gz,
            )
            ua, va = points[a, 0] - x, points[a, 1] - y
            ub, vb = points[b, 0] - x, points[b, 1] - y
            uc, vc = points[c, 0] - x, points[c, 1] - y
            grad_points[a, 0] += qc * vb - qb * vc
            grad_points[a, 1] += qb * uc - qc * ub
            grad_points[b, 0] += qa * vc - qc * va
            grad_points[b, 1] += qc * ua - qa * uc
            grad_points[c, 0] += qb * va - qa * vb
            grad_points[c, 1] += qa * ub - qb * ua


@njit(cache=True, nogil=True)
def interpolate_frame(face_index, barycentrics, faces, values, out):
    """values (V, C) at each pixel of out (H, W, C); 0 where no face is."""
    n_channels = values.shape[1]
    for i in range(face_index.shape[0]):
        for j in range(face_index.shape[1]):
            f = face_index[i, j]
            if f < 0:
                for channel in range(n_channels):
                    out[i, j, channel] = 0
                continue
            a, b, c = np.uint32(faces[f, 0]), np.uint32(faces[f, 1]), np.uint32(faces[f, 2])
            ra, rb, rc = barycentrics[i, j, 0], barycentrics[i, j, 1], barycentrics[i, j, 2]
            for channel in range(n_channels):
                out[i, j, channel] = ra * values[a, channel] + rb * values[b, channel] + rc * values[c, channel]


@njit(cache=True, nogil=True)
def interpolate_frame_backward(face_index, barycentrics, faces, values, grad_out, grad_barycentrics, grad_values):
    """Add the gradients of `interpolate_frame` to grad_barycentrics (H, W, 3) and grad_values (V, C)."""
    n_channels = values.shape[1]
    for i in range(face_index.shape[0]):
        for j in range(face_index.shape[1]):
            f = face_index[i, j]
            if f < 0:
                continue
            for corner in range(3):
                v = np.uint32(faces[f, corner])
                share = barycentrics[i, j, corner]
                along = 0 * share
                for channel in range(n_channels):
                    grad = grad_out[i, j, channel]
                    along += grad * values[v, channel]
                    grad_values[v, channel] += grad * share
                grad_barycentrics[i, j, corner] += along


@njit(cache=True, nogil=True, inline="always")
def _set_plane(planes, f, points, inverse_depth, a, b, c, values):
    """Set a face's row of planes (F, 5 + 3 C): corner a; inverse depth and, times it, each channel.

    These are linear on the picture: there, per px to the right, per px down. All share a factor, twice the face's area.
    """
    xa, ya = points[a, 0], points[a, 1]
    xb, yb, xc, yc = points[b, 0] - xa, points[b, 1] - ya, points[c, 0] - xa, points[c, 1] - ya
    za, zb, zc = inverse_depth[a], inverse_depth[b], inverse_depth[c]
    area = xb * yc - yb * xc
    planes[f, 0], planes[f, 1] = xa, ya
    planes[f, 2] = area * za
    planes[f, 3] = (yb - yc) * za + yc * zb - yb * zc
    planes[f, 4] = (xc - xb) * za - xc * zb + xb * zc
    for channel in range(values.shape[1]):
        va, vb, vc = za * values[a, channel], zb * values[b, channel], zc * values[c, channel]
        k = 5 + 3 * channel
        planes[f, k] = area * va
        planes[f, k + 1] = (yb - yc) * va + yc * vb - yb * vc
        planes[f, k + 2] = (xc - xb) * va - xc * vb + xb * vc


@njit(cache=True, nogil=True, error_model="numpy")
def picture_frame(points, inverse_depth, faces, face_index, values, background):
    """Interpolate values (V, C) at n x n samples a pixel and average them to a picture (H, W, C) float32.

    face_index (n H, n W); background (H, W, C): what shows where no face is. It is `locate_frame`, `interpolate_frame`
    and the mean over samples in one.
    """
    height, width, n_channels = background.shape
    n = face_index.shape[0] // height
    share = np.float32(1 / (n * n))
    planes = np.zeros((faces.shape[0], 5 + 3 * n_channels), np.float32)
    picture = np.zeros((height, width, n_channels), np.float32)
    for y in range(n * height):
        i = y // n
        for j in range(width):
            for x in range(n * j, n * j + n):
                f = face_index[y, x]
                if f < 0:
                    for channel in range(n_channels):
                        picture[i, j, channel] += share * background[i, j, channel]
                    continue
                f = np.uint32(f)
                if planes[f, 2] == 0:  # the first sample of this face
                    a, b, c = np.uint32(faces[f, 0]), np.uint32(faces[f, 1]), np.uint32(faces[f, 2])
                    _set_plane(planes, f, points, inverse_depth, a, b, c, values)
                right, down = np.float32(x) - planes[f, 0], np.float32(y) - planes[f, 1]
                depth = share / (planes[f, 2] + right * planes[f, 3] + down * planes[f, 4])
                for channel in range(n_channels):
                    k = 5 + 3 * channel
                    picture[i, j, channel] += (
                        planes[f, k] + right * planes[f, k + 1] + down * planes[f, k + 2]
                    ) * depth
    return picture
