"""PyTorch3D's rasteriser (Ravi et al., arXiv 2007.08501; BSD licence) behind the kit's interface, where installed.

Its conventions, which nothing else here uses: normalised device coordinates with +x to the left and +y up, [-1, 1] over
the shorter side of the picture, pixel centres at half pixels.
"""

import torch
from torch import Tensor

from avsr.errors import InputError
from talking3d.render.rasterize import Mesh


def nearest_faces(points: Tensor, depth: Tensor, mesh: Mesh, size: tuple[int, int], cull_backfaces: bool) -> Tensor:
    """The face at each pixel (B, H, W) int32, -1 where none is; arguments as `rasterize.rasterize`.

    Raises InputError where PyTorch3D isn't installed.
    """
    try:
        from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
        from pytorch3d.structures import Meshes
    except ImportError as error:
        raise InputError(
            "the rasteriser 'pytorch3d' needs PyTorch3D, which has no wheels: install it as its INSTALL.md says, or "
            "use 'cpu' or 'torch'"
        ) from error
    ndc = to_ndc(points, size)
    verts = torch.cat([ndc, depth[..., None]], dim=-1)  # (B, V, 3)

    def nearest(chosen: Tensor, cull: bool) -> Tensor:
        faces = mesh.faces[chosen.long()].long()
        meshes = Meshes(verts=list(verts), faces=[faces] * len(verts))
        packed, *_ = rasterize_meshes(
            meshes, image_size=size, faces_per_pixel=1, perspective_correct=True, cull_backfaces=cull, bin_size=0
        )
        packed = packed[..., 0]  # (B, H, W): numbered through the batch
        first = len(faces) * torch.arange(len(verts), device=packed.device)[:, None, None]
        return torch.where(packed >= 0, chosen.long()[(packed - first).clamp(min=0)], -1).int()

    outer = nearest(mesh.outer, cull_backfaces)
    if len(mesh.inner) == 0:
        return outer
    return torch.where(outer >= 0, outer, nearest(mesh.inner, False))


def to_ndc(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels (..., 2) of a picture (H, W) to PyTorch3D's normalised device coordinates."""
    height, width = size
    middle = points.new_tensor([(width - 1) / 2, (height - 1) / 2])
    return (middle - points) * (2 / min(height, width))


def from_ndc(ndc: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `to_ndc`."""
    height, width = size
    middle = ndc.new_tensor([(width - 1) / 2, (height - 1) / 2])
    return middle - ndc * (min(height, width) / 2)
