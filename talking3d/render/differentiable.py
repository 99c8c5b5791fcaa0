"""The road from vertices to pixels in torch: what `renderer.py` draws, with gradients, on any device.

A loss on drawn lips reaches the motion through it. Gradients flow through pose, camera, normals, light in the mouth,
shading, where in its face a pixel lies and the film's curve; not through which face a pixel shows, through the crop
(which is cut once, as for filmed lips) or through the shadows (found once for the face at rest).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from talking3d.face.template import FaceTemplate
from talking3d.render.camera import compose, head_transforms
from talking3d.render.culling import part_in_view
from talking3d.render.film import LUMA_601
from talking3d.render.lighting import skin_radiance, vertex_normals
from talking3d.render.look import Look
from talking3d.render.occlusion import light_at_rest
from talking3d.render.rasterize import Mesh, interpolate, rasterize
from talking3d.render.renderer import SAMPLES, Shot, lip_shot, to_samples
from talking3d.render.shade import CONTOUR_ROUND, INNER_LIP_LANDMARKS, LAMPS_AND_SKY, SEEP_M2, surface_of


class Painter(nn.Module):
    """One face in one light, to be drawn again and again.

    samples: a pixel and axis. backend: of `rasterize.BACKENDS`. What doesn't change from frame to frame lies on the
    module's device.
    """

    def __init__(
        self, template: FaceTemplate, look: Look | None = None, *, samples: int = SAMPLES, backend: str = "auto"
    ):
        super().__init__()
        self.template = template
        self.look = Look() if look is None else look
        self.samples = samples
        self.backend = backend
        self.surface = surface_of(template)
        at_rest = light_at_rest(template, tuple(self.look.lights().directions[0].tolist()))
        self.register_buffer("rest", torch.from_numpy(template.verts), persistent=False)
        self.register_buffer("reaching", torch.from_numpy(at_rest), persistent=False)

    def lips(self, offsets: Tensor, head_pose: np.ndarray | None = None, shot: Shot | None = None) -> Tensor:
        """Draw lip crops (T, 96, 96) of offsets (T, V, 3) metres: luma in [0, 1], without the film's blur and noise.

        head_pose (T, 6), see `camera.head_transforms`. shot: how the lips are cut; None cuts them by their own
        landmarks, as `renderer.render_lips` does. Errors as there.
        """
        if shot is None:
            shot = lip_shot(self.template, offsets.detach().cpu().numpy(), head_pose, self.look)
        return encode(self.linear(offsets, head_pose, shot))[..., 0]

    def linear(self, offsets: Tensor, head_pose: np.ndarray | None, shot: Shot) -> Tensor:
        """Linear light (T, H, W, C) of offsets (T, V, 3): what `film.develop` makes a picture of."""
        height, width, n_channels = shot.background.shape
        size = (self.samples * height, self.samples * width)
        points, depth, verts = self.points(offsets, head_pose, shot)
        light = self._light(self.rest + offsets)
        part = part_in_view(self.template.faces, self.surface.interior_faces, outside_bits(points, size))
        kept = torch.from_numpy(part.kept).to(verts.device)
        verts, points, depth, light = (values.index_select(1, kept) for values in (verts, points, depth, light))
        normals = vertex_normals(verts, torch.from_numpy(part.around).to(verts.device))
        eye, surface = self.tensor(shot.camera.position_m), self.surface.of_verts(part.kept)
        colors = skin_radiance(verts, normals, eye, surface, light, self.look.lights())
        values = gray_equivalent(colors) if n_channels == 1 else colors
        mesh = Mesh(*(torch.from_numpy(array).to(verts.device) for array in (part.faces, part.outer, part.inner)))
        fragments = rasterize(points, depth, mesh, size, backend=self.backend)
        drawn = interpolate(fragments, mesh, values, self.backend)
        uncovered = (fragments.face_index < 0)[..., None].float()
        both = torch.cat([drawn, uncovered], dim=-1).movedim(-1, 1)
        drawn, uncovered = nn.functional.avg_pool2d(both, self.samples).movedim(1, -1).split([n_channels, 1], dim=-1)
        return drawn + uncovered * self.tensor(shot.background)

    def points(self, offsets: Tensor, head_pose: np.ndarray | None, shot: Shot) -> tuple[Tensor, Tensor, Tensor]:
        """Where vertices fall among the picture's samples (T, V, 2), their depth (T, V), and they, posed (T, V, 3)."""
        verts = self.rest + offsets
        if head_pose is not None:
            matrices, shifts = (self.tensor(part) for part in head_transforms(head_pose))
            verts = verts @ matrices.mT + shifts[:, None]
        points, depth = shot.camera.project(verts)
        transforms = self.tensor(compose(to_samples(self.samples), shot.transforms))
        return points @ transforms[..., :2].mT + transforms[:, None, :, 2], depth, verts

    def tensor(self, values) -> Tensor:
        """values as float32 on this module's device."""
        return torch.as_tensor(np.asarray(values, np.float32), device=self.rest.device)

    def _light(self, verts: Tensor) -> Tensor:
        """Shares (T, V, 3) of key, fill and sky at unposed verts (T, V, 3): `shade.mouth_light` in the mouth."""
        light = self.reaching.expand(len(verts), -1, -1)
        inside = torch.from_numpy(self.surface.interior_verts).to(verts.device)
        if len(inside) == 0:
            return light
        contour = verts[:, torch.from_numpy(self.template.landmarks[INNER_LIP_LANDMARKS]).long()]
        x, y = contour[:, CONTOUR_ROUND, 0], contour[:, CONTOUR_ROUND, 1]
        area = (x[:, :-1] * y[:, 1:] - y[:, :-1] * x[:, 1:]).sum(1).abs() / 2 + SEEP_M2
        depth = (contour[..., 2].mean(1)[:, None] - verts[:, inside, 2]).clamp(min=0)
        share = area[:, None] / (area[:, None] + torch.pi * depth**2)
        return light.index_copy(1, inside, share[..., None] ** self.tensor(LAMPS_AND_SKY))


def outside_bits(points: Tensor, size: tuple[int, int]) -> np.ndarray:
    """The sides of the picture beyond which points (T, V, 2) lie in every frame, as bits (V,)."""
    height, width = size
    x, y = points.detach().unbind(-1)
    sides = [side.all(0) for side in (x < 0, x > width - 1, y < 0, y > height - 1)]
    return sum(side.to(torch.uint8) << k for k, side in enumerate(sides)).cpu().numpy()


def encode(linear: Tensor) -> Tensor:
    """The sRGB transfer function (IEC 61966-2-1) of linear light, clipped to [0, 1]."""
    linear = linear.clamp(0, 1)
    curved = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, curved)


def gray_equivalent(linear: Tensor) -> Tensor:
    """The linear grays (..., 1) that encode to the Rec. 601 luma of linear RGB (..., 3)."""
    luma = (encode(linear) * torch.as_tensor(LUMA_601, device=linear.device)).sum(-1, keepdim=True)
    curved = ((luma.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(luma <= 0.04045, luma / 12.92, curved)
