"""Differentiable light in torch: normals, Phong's model, textures, and the twin of the skin that `shade.py` draws.

Works on vertices or on pixels alike: the leading dimensions (...) of positions, normals and colours are free.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from talking3d.render.shade import Lights, Surface

EPSILON = 1e-6  # lengths below it are not divided by


class PointLight(NamedTuple):
    """A lamp at location (3,) head space, and the strengths of its ambient, diffuse and specular light, 0 to 1."""

    location: Tensor
    ambient: float | Tensor = 0.5
    diffuse: float | Tensor = 0.4
    specular: float | Tensor = 0.2


def vertex_normals(verts: Tensor, faces: Tensor) -> Tensor:
    """Unit normals (B, V, 3) of verts (B, V, 3): the mean of the faces' (F, 3), weighted by area; 0 at loose ones."""
    faces = faces.long()
    a, b, c = (verts[:, faces[:, k]] for k in range(3))
    (px, py, pz), (qx, qy, qz) = (b - a).unbind(-1), (c - a).unbind(-1)
    across = torch.stack([py * qz - pz * qy, pz * qx - px * qz, px * qy - py * qx], dim=-1)  # (B, F, 3)
    corners = faces.T.reshape(-1)
    normals = torch.zeros_like(verts).index_add(1, corners, across.repeat(1, 3, 1))
    return torch.nn.functional.normalize(normals, dim=-1, eps=EPSILON**2)


def phong(positions: Tensor, normals: Tensor, colors: Tensor, eye: Tensor, light: PointLight, shininess: float):
    """Phong's reflection of one lamp ("Illumination for computer generated pictures", CACM 1975): like `colors`.

    positions, normals (of any length), colors (..., 3); eye (3,). On interpolated positions and normals this is
    PyTorch3D's HardPhongShader; with `light.specular` 0 it is Lambert's law, on vertices Gouraud's shading.
    """
    normals = _unit(normals)
    to_light = _unit(light.location - positions)
    facing = (normals * to_light).sum(-1, keepdim=True)
    mirrored = 2 * facing * normals - to_light
    gleam = (_unit(eye - positions) * mirrored).sum(-1, keepdim=True).clamp(min=0) * (facing > 0)
    return (light.ambient + light.diffuse * facing.clamp(min=0)) * colors + light.specular * gleam**shininess


def sample_texture(texture: Tensor, uv: Tensor) -> Tensor:
    """Bilinear samples (B, H, W, C) of texture (C, R, Q) at uv (B, H, W, 2) in [0, 1]; v is 0 at the bottom row."""
    grid = torch.stack([2 * uv[..., 0] - 1, 1 - 2 * uv[..., 1]], dim=-1)
    texture = texture.expand(len(uv), *texture.shape)
    sampled = torch.nn.functional.grid_sample(texture, grid, align_corners=False, padding_mode="border")
    return sampled.permute(0, 2, 3, 1)


def skin_radiance(verts, normals, eye, surface: Surface, light: Tensor, lights: Lights) -> Tensor:
    """What `shade.radiance` computes, differentiable: linear radiance (T, V, 3) of verts (T, V, 3) with unit normals.

    eye (3,); surface and lights as there, arrays; light (T, V, 3): shares of key, fill and sky that reach a vertex.
    """
    albedo, wrap, specular, shininess, two_sided = (
        torch.as_tensor(array, device=verts.device)
        for array in (surface.albedo, surface.wrap, surface.specular, surface.shininess, surface.two_sided)
    )
    directions, colors, (sky, ground) = (torch.as_tensor(part, device=verts.device) for part in lights[:3])
    to_eye = _unit(eye - verts)
    away = two_sided & ((normals * to_eye).sum(-1) < 0)
    normals = torch.where(away[..., None], -normals, normals)
    up = 0.5 + 0.5 * normals[..., 1:2]
    matt, shine = light[..., 2:3] * (ground + up * (sky - ground)), 0.0
    for k in range(2):
        facing = (normals @ directions[k])[..., None]
        matt = matt + light[..., k : k + 1] * colors[k] * ((facing + wrap) / (1 + wrap)).clamp(min=0)
        half = (normals * _unit(directions[k] + to_eye)).sum(-1, keepdim=True)
        lit = (facing > 0) & (half > 0.5)
        gleam = torch.where(lit, half, 1) ** shininess[:, None]
        shine = shine + torch.where(lit, light[..., k : k + 1] * colors[k, 1] * gleam, 0)
    return matt * albedo + lights.specular * specular[:, None] * shine


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1, eps=EPSILON)
