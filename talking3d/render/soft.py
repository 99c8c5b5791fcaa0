"""Soft silhouettes: where a mesh covers the picture, with a gradient across its outline."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from talking3d.render.rasterize import Mesh, candidates, doubled_area

NEGLIGIBLE = 9.0  # sigmoid(-9) is 1e-4: samples further out are left out


def soft_silhouette(points: Tensor, depth: Tensor, mesh: Mesh, size: tuple[int, int], sigma_px: float = 1.0) -> Tensor:
    """How far each pixel is covered: (B, H, W) in [0, 1], after SoftRas (Liu et al., ICCV 2019, eq. 1 and 4).

    points (B, V, 2) pixels, depth (B, V) metres: faces with a corner at or behind the camera don't count. A face covers
    a pixel at the squared distance d^2 from its edge by sigmoid(+-d^2 / sigma_px^2), inside with +; faces are joined as
    independent events, 1 - prod (1 - covered).
    """
    (height, width), faces = size, torch.cat([mesh.outer, mesh.inner]).long()
    corner = mesh.faces[faces].long()
    pixels = points[:, corner]  # (B, F, 3, 2)
    with torch.no_grad():
        area = doubled_area(pixels)
        drawn = (depth[:, corner] > 0).all(-1) & area.isfinite() & (area != 0)
        sign = area.sign().flatten()
    flat = pixels.reshape(-1, 3, 2)
    uncovered = points.new_zeros(len(points) * height * width)  # logarithm of the product
    for of, x, y in candidates(pixels.detach(), drawn, size, margin=sigma_px * NEGLIGIBLE**0.5):
        corners = flat[of] - torch.stack([x, y], dim=1)[:, None]  # (N, 3, 2) relative to the sample
        edges = corners.roll(-1, 1) - corners
        along = -(corners * edges).sum(-1) / edges.square().sum(-1).clamp(min=1e-12)
        nearest = corners + along.clamp(0, 1)[..., None] * edges
        squared = nearest.square().sum(-1).amin(1)
        across = corners[..., 0] * edges[..., 1] - corners[..., 1] * edges[..., 0]
        inside = (across * sign[of, None] >= 0).all(1)
        logit = torch.where(inside, squared, -squared) / sigma_px**2
        pixel = (of // len(faces) * height + y) * width + x
        uncovered = uncovered.index_add(0, pixel, -softplus(logit))
    return 1 - uncovered.exp().reshape(len(points), height, width)
