"""Differentiable light against the compiled one, closed forms and finite differences."""

import numpy as np
import torch

from talking3d.face.procedural import procedural_face
from talking3d.render import shade
from talking3d.render.lighting import PointLight, phong, sample_texture, skin_radiance, vertex_normals
from talking3d.render.look import random_look


def test_normals_are_the_compiled_ones():
    face = procedural_face()
    compiled = shade.vertex_normals(face.verts, face.faces)
    ours = vertex_normals(torch.from_numpy(face.verts)[None], torch.from_numpy(face.faces))[0].numpy()
    used = np.unique(face.faces)
    assert np.abs(ours - compiled)[used].max() < 1e-4


def test_a_loose_vertex_has_no_normal_and_no_gradient_that_is_not_finite():
    verts = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]]], requires_grad=True)
    normals = vertex_normals(verts, torch.tensor([[0, 1, 2], [0, 0, 1]]))  # a degenerate face beside
    assert normals[0].tolist() == [[0, 0, 1]] * 3 + [[0, 0, 0]]
    normals.square().sum().backward()
    assert verts.grad.isfinite().all()


def test_skin_is_the_compiled_skin():
    face = procedural_face()
    surface, rng = shade.surface_of(face), np.random.default_rng(0)
    lights, eye = random_look(rng).lights(), np.array([0.02, 0.01, 1.3], np.float32)
    reach = rng.random((len(face.verts), 3)).astype(np.float32)
    normals = shade.vertex_normals(face.verts, face.faces)
    compiled = shade.radiance(face.verts, normals, eye, surface, reach, lights)
    tensors = [torch.from_numpy(array) for array in (face.verts, normals, eye)]
    ours = skin_radiance(*tensors, surface, torch.from_numpy(reach), lights).numpy()
    assert np.abs(ours - compiled).max() < 2e-3 * compiled.max()
    assert compiled.std() > 0.05


def sheet(angles):
    """Unit normals (N, 3) at these angles to the viewer, at the origin."""
    return torch.stack([angles.sin(), 0 * angles, angles.cos()], dim=-1)


def test_lamberts_law_and_the_mirror():
    angles = torch.linspace(0, torch.pi, 7)
    normals, origin, eye = 3 * sheet(angles), torch.zeros(7, 3), torch.tensor([0.0, 0, 2])
    matt = phong(origin, normals, torch.full((7, 3), 0.5), eye, PointLight(torch.tensor([0.0, 0, 9]), 0.1, 0.8, 0), 9)
    assert torch.allclose(matt, (0.5 * (0.1 + 0.8 * angles.cos().clamp(min=0)))[:, None].expand(7, 3), atol=1e-6)
    lamp = torch.tensor([1.0, 0, 1])  # 45 degrees: a mirror at 22.5 shows it to the viewer
    shine = phong(origin[:3], sheet(torch.deg2rad(torch.tensor([0, 22.5, 45]))), torch.zeros(3, 3), eye,
                  PointLight(lamp, 0, 0, 1.0), 32)[:, 0]  # fmt: skip
    assert shine[1] > 0.999 and shine[0] < 0.01 and shine[2] < 0.01


def test_gradients_by_finite_differences():
    generator = torch.Generator().manual_seed(0)
    positions, normals, colors = (torch.randn(6, 3, generator=generator).double().requires_grad_() for _ in range(3))
    eye, lamp = (torch.tensor(at).double().requires_grad_() for at in ([0.1, 0, 4], [1.0, 1, 5]))

    def shaded(positions, normals, colors, eye, lamp):
        return phong(positions, normals, colors, eye, PointLight(lamp), 8.0)

    assert torch.autograd.gradcheck(shaded, (positions, normals, colors, eye, lamp))


def test_texture_samples():
    texture = torch.arange(12.0).reshape(1, 3, 4)  # rows from the top
    centre = torch.tensor([[[[0.125, 1 - 1 / 6], [0.875, 1 / 6], [0.25, 1 - 1 / 6]]]])
    assert np.allclose(sample_texture(texture, centre)[0, 0, :, 0], [0, 11, 0.5], atol=1e-5)
