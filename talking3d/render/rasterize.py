"""Triangles to pixels, differentiably: which face a pixel shows, where in that face, and how deep.

    points (B, V, 2), depth (B, V) -> face_index, barycentrics, depth (B, H, W) -> interpolate -> values (B, H, W, C)

The choice of the face has no gradient (`soft.py` has one for outlines); where in the face, how deep, and all that is
interpolated do, as in PyTorch3D with a blur radius of 0. Pixel (row i, column j) is sampled at the point (x=j, y=i).

Two rules make faces with mouths look right:

- *stencil*: interior faces (cavity, teeth, tongue) show only where no outer face covers the pixel, whatever the depth,
  so that teeth never poke through lips;
- outer faces that turn their back may be left out, so that the back of the head doesn't close the open mouth.

Backends: "torch" (vectorised, any device, the readable twin), "cpu" (compiled by numba, one thread a frame) and
"pytorch3d" where it is installed; "auto" is "cpu" for tensors on the CPU, "torch" otherwise. At equal depth the lower
face index wins. A face covers the pixels on its edges too, and shared edges leave no cracks. A face with a corner at or
behind the camera, without area, or with a corner that is not finite is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from avsr.errors import InputError
from talking3d.render import kernels

BACKENDS = ("auto", "torch", "cpu", "pytorch3d")
CANDIDATES_AT_ONCE = 2**24  # pairs of a face and a pixel in its bounding box; bounds the torch backend's memory


class Fragments(NamedTuple):
    """What each pixel shows: face_index (B, H, W) int32, -1 where none; barycentrics (B, H, W, 3); depth (B, H, W).

    Barycentrics and depth are 0 where no face is, and differentiable in the points and the depth given.
    """

    face_index: Tensor
    barycentrics: Tensor
    depth: Tensor


class Mesh(NamedTuple):
    """What is drawn: faces (F, 3) int32, counterclockwise from outside; indices of outer and inner ones among them.

    Inner faces are those under the stencil; they are drawn from both sides. A face in neither list is not drawn.
    """

    faces: Tensor
    outer: Tensor
    inner: Tensor

    @classmethod
    def of(cls, faces, interior=None, drawn=None, device=None) -> Mesh:
        """faces (F, 3); interior (F,) bool, default none; drawn (F,) bool, default all. Arrays or tensors."""
        faces = torch.as_tensor(faces).to(device=device, dtype=torch.int32).contiguous()
        interior = torch.zeros(len(faces), dtype=torch.bool) if interior is None else torch.as_tensor(interior)
        drawn = torch.ones(len(faces), dtype=torch.bool) if drawn is None else torch.as_tensor(drawn)
        outer, inner = (torch.nonzero(chosen & drawn)[:, 0].int().to(faces.device) for chosen in (~interior, interior))
        return cls(faces, outer, inner)


def rasterize(
    points: Tensor, depth: Tensor, mesh: Mesh, size: tuple[int, int], cull_backfaces: bool = True, backend: str = "auto"
) -> Fragments:
    """Find what each pixel of B pictures of size (H, W) shows.

    points (B, V, 2) pixels, depth (B, V) > 0 before the camera: float32, or float64 for more exact fragments. Raises
    InputError on other shapes, a face that refers to a vertex which isn't there, an unknown backend, or one that cannot
    run here.
    """
    _check(points, depth, mesh)
    backend = chosen_backend(backend, points.device)
    inverse_depth = 1 / depth
    with torch.no_grad():
        find = {"cpu": _find_compiled, "torch": _find_vectorised, "pytorch3d": _find_pytorch3d}[backend]
        face_index = find(points.detach(), inverse_depth.detach(), mesh, size, cull_backfaces)
    if backend == "cpu":
        return Fragments(face_index, *_Locate.apply(points, inverse_depth, mesh.faces, face_index))
    return Fragments(face_index, *locate(points, inverse_depth, mesh.faces, face_index))


def interpolate(fragments: Fragments, mesh: Mesh, values: Tensor, backend: str = "auto") -> Tensor:
    """values (B, V, C) of the vertices at each pixel: (B, H, W, C), 0 where no face is."""
    if chosen_backend(backend, values.device) == "cpu":
        return _Interpolate.apply(fragments.barycentrics, values, mesh.faces, fragments.face_index)
    corners = _corners(values, mesh.faces, fragments.face_index)  # (B, H, W, 3, C)
    return (fragments.barycentrics[..., None] * corners).sum(-2)


def locate(points: Tensor, inverse_depth: Tensor, faces: Tensor, face_index: Tensor) -> tuple[Tensor, Tensor]:
    """Perspective-correct barycentrics (B, H, W, 3) and depth (B, H, W) of the faces shown; 0 where none is."""
    _, height, width = face_index.shape
    corners = _corners(points, faces, face_index)  # (B, H, W, 3, 2)
    x = torch.arange(width, device=points.device)[None, None, :, None]
    y = torch.arange(height, device=points.device)[None, :, None, None]
    u, v = corners[..., 0] - x, corners[..., 1] - y
    sub_areas = u.roll(-1, -1) * v.roll(-2, -1) - v.roll(-1, -1) * u.roll(-2, -1)  # opposite of each corner
    weights = sub_areas * _corners(inverse_depth[..., None], faces, face_index)[..., 0]
    total = weights.sum(-1)
    scale = torch.where(total != 0, 1 / torch.where(total == 0, 1, total), 0)
    return weights * scale[..., None], sub_areas.sum(-1) * scale


def chosen_backend(backend: str, device: torch.device | str) -> str:
    """The backend that "auto" stands for on a device. Raises InputError: unknown, or unable to run on that device."""
    if backend not in BACKENDS:
        raise InputError(f"unknown rasteriser {backend!r}; choose one of {', '.join(BACKENDS)}")
    device = torch.device(device)
    if backend == "auto":
        return "cpu" if device.type == "cpu" else "torch"
    if backend == "cpu" and device.type != "cpu":
        raise InputError(f"the rasteriser 'cpu' cannot draw tensors on {device}: use 'torch', or move them to the CPU")
    return backend


def in_threads(draw: Callable[[int], object], n_frames: int) -> None:
    """Call draw(t) for each frame, on as many threads as torch uses; the kernels release the GIL."""
    n_threads = min(torch.get_num_threads(), n_frames)
    if n_threads <= 1:
        for t in range(n_frames):
            draw(t)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(draw, range(n_frames)))


def _check(points: Tensor, depth: Tensor, mesh: Mesh) -> None:
    if points.ndim != 3 or points.shape[2] != 2 or depth.shape != points.shape[:2]:
        raise InputError(
            f"points have shape {tuple(points.shape)} and depth {tuple(depth.shape)}: expected (B, V, 2) and (B, V)"
        )
    if len(mesh.faces) and not 0 <= int(mesh.faces.min()) <= int(mesh.faces.max()) < points.shape[1]:
        raise InputError(
            f"the mesh's faces refer to vertices {int(mesh.faces.min())} to {int(mesh.faces.max())}, but there are "
            f"{points.shape[1]}: these vertices belong to another topology"
        )


def _corners(values: Tensor, faces: Tensor, face_index: Tensor) -> Tensor:
    """values (B, V, C) of the three corners of the face at each pixel: (B, H, W, 3, C), 0 where none is."""
    n_batch, n_verts, n_channels = values.shape
    shown = face_index >= 0
    vertex = values.new_zeros((*face_index.shape, 3), dtype=torch.long)
    vertex[shown] = faces[face_index[shown].long()].long()
    vertex = vertex + n_verts * torch.arange(n_batch, device=values.device)[:, None, None, None]
    return torch.where(shown[..., None, None], values.reshape(-1, n_channels)[vertex], 0)


# --- any device


def _find_vectorised(points, inverse_depth, mesh, size, cull_backfaces):
    outer = _nearest(points, inverse_depth, mesh.faces, mesh.outer, size, not cull_backfaces)
    if len(mesh.inner) == 0:
        return outer
    return torch.where(outer >= 0, outer, _nearest(points, inverse_depth, mesh.faces, mesh.inner, size, True))


def _nearest(points, inverse_depth, faces, chosen, size, two_sided):
    """The nearest of the chosen faces at each pixel: (B, H, W) int32, -1 where none is.

    Each face meets each sample of its bounding box; those inside bid for their pixel with a key in which the inverse
    depth comes first (a positive float's bits grow with it), then the lower face index.
    """
    (height, width), n_batch = size, len(points)
    chosen = chosen.long()
    corner = faces[chosen].long()  # (F', 3)
    pixels, near = points[:, corner], inverse_depth[:, corner]  # (B, F', 3, 2), (B, F', 3)
    area = doubled_area(pixels)
    drawn = (near > 0).all(-1) & near.isfinite().all(-1) & area.isfinite() & (area != 0 if two_sided else area < 0)
    sign = area.sign().flatten()
    near, flat = near.reshape(-1, 3), pixels.reshape(-1, 3, 2)
    keys = torch.zeros(n_batch * height * width, dtype=torch.int64, device=points.device)
    for of, x, y in candidates(pixels, drawn, size):
        # Relative to the sample, an edge's value only changes sign with its direction: no cracks.
        u, v = flat[of, :, 0] - x[:, None], flat[of, :, 1] - y[:, None]  # (N, 3)
        weights = u.roll(-1, 1) * v.roll(-2, 1) - v.roll(-1, 1) * u.roll(-2, 1)
        inside = (weights * sign[of, None] >= 0).all(1)
        of, x, y, weights = of[inside], x[inside], y[inside], weights[inside]
        depth_bits = ((weights * near[of]).sum(1) / weights.sum(1)).float().view(torch.int32).long()
        pixel = (of // len(chosen) * height + y) * width + x
        keys.scatter_reduce_(0, pixel, depth_bits << 32 | (2**31 - 1 - chosen[of % len(chosen)]), "amax")
    face_index = torch.where(keys > 0, (2**31 - 1) - (keys & 0x7FFFFFFF), -1).int()
    return face_index.reshape(n_batch, height, width)


def doubled_area(pixels: Tensor) -> Tensor:
    """Twice the area (...) of triangles (..., 3, 2) px^2; negative where they face the viewer, as y points down."""
    (abx, aby), (acx, acy) = ((pixels[..., k, :] - pixels[..., 0, :]).unbind(-1) for k in (1, 2))
    return abx * acy - aby * acx


def candidates(pixels: Tensor, drawn: Tensor, size: tuple[int, int], margin: float = 0.0) -> Iterator[tuple]:
    """Yield the samples (of, x, y), each (N,), in the bounding boxes of triangles (B, F, 3, 2), a share at a time.

    of: number b F + f of the triangle; drawn (B, F) bool: those that count; margin: pixels around the boxes.
    """
    last = torch.tensor([size[1] - 1, size[0] - 1], device=pixels.device)
    low = torch.minimum((pixels.amin(2) - margin).ceil().clamp(min=0), last + 1)  # (B, F, 2)
    extent = torch.minimum((pixels.amax(2) + margin).floor(), last) - low + 1
    extent = torch.where(drawn[..., None], extent, 0).clamp(min=0).long().reshape(-1, 2)
    low, n_samples = low.nan_to_num().long().reshape(-1, 2), extent.prod(1)
    used = torch.nonzero(n_samples)[:, 0]
    if len(used) == 0:
        return
    share = (n_samples[used].cumsum(0) - 1) // CANDIDATES_AT_ONCE
    for part in torch.split(used, torch.unique_consecutive(share, return_counts=True)[1].tolist()):
        of = torch.repeat_interleave(part, n_samples[part])
        first = torch.repeat_interleave(n_samples[part].cumsum(0) - n_samples[part], n_samples[part])
        rank = torch.arange(len(of), device=of.device) - first
        yield of, low[of, 0] + rank % extent[of, 0], low[of, 1] + rank // extent[of, 0]


# --- the compiled kernels


def _find_compiled(points, inverse_depth, mesh, size, cull_backfaces):
    face_index = np.empty((len(points), *size), np.int32)
    xy, near = _array(points), _array(inverse_depth)
    faces, outer, inner = (part.numpy() for part in mesh)

    def draw(t: int) -> None:
        scratch = np.empty(size, np.float32)
        kernels.rasterize_frame(xy[t], near[t], faces, outer, inner, not cull_backfaces, face_index[t], scratch)

    in_threads(draw, len(points))
    return torch.from_numpy(face_index)


class _Locate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, inverse_depth, faces, face_index):
        ctx.save_for_backward(points, inverse_depth, faces, face_index)
        xy, near, corners, index = _array(points), _array(inverse_depth), faces.numpy(), face_index.numpy()
        barycentrics, depth = np.empty((*index.shape, 3), xy.dtype), np.empty(index.shape, xy.dtype)
        in_threads(
            lambda t: kernels.locate_frame(xy[t], near[t], corners, index[t], barycentrics[t], depth[t]), len(index)
        )
        return torch.from_numpy(barycentrics), torch.from_numpy(depth)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_barycentrics, grad_depth):
        xy, near, corners, index = (_array(saved) for saved in ctx.saved_tensors)
        to_barycentrics, to_depth = _array(grad_barycentrics), _array(grad_depth)
        to_xy, to_near = np.zeros_like(xy), np.zeros_like(near)
        in_threads(
            lambda t: kernels.locate_frame_backward(
                xy[t], near[t], corners, index[t], to_barycentrics[t], to_depth[t], to_xy[t], to_near[t]
            ),
            len(index),
        )
        return torch.from_numpy(to_xy), torch.from_numpy(to_near), None, None


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, barycentrics, values, faces, face_index):
        ctx.save_for_backward(barycentrics, values, faces, face_index)
        weights, verts, corners, index = (_array(part) for part in (barycentrics, values, faces, face_index))
        out = np.empty((*index.shape, values.shape[-1]), verts.dtype)
        in_threads(lambda t: kernels.interpolate_frame(index[t], weights[t], corners, verts[t], out[t]), len(index))
        return torch.from_numpy(out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out):
        weights, verts, corners, index = (_array(saved) for saved in ctx.saved_tensors)
        grad, to_weights, to_verts = _array(grad_out), np.zeros_like(weights), np.zeros_like(verts)
        in_threads(
            lambda t: kernels.interpolate_frame_backward(
                index[t], weights[t], corners, verts[t], grad[t], to_weights[t], to_verts[t]
            ),
            len(index),
        )
        return torch.from_numpy(to_weights), torch.from_numpy(to_verts), None, None


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().numpy())


def _find_pytorch3d(points, inverse_depth, mesh, size, cull_backfaces):
    from talking3d.render.pytorch3d import nearest_faces

    return nearest_faces(points, 1 / inverse_depth, mesh, size, cull_backfaces)
