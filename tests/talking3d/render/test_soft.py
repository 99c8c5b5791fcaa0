"""Soft silhouettes against a naive loop, hard coverage and finite differences."""

import numpy as np
import torch
from scipy.special import expit

from talking3d.render.rasterize import Mesh, rasterize
from talking3d.render.soft import soft_silhouette


def naive(points, faces, height, width, sigma):
    """Each triangle over the whole picture, each edge by itself, in float64."""
    silhouette = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            uncovered = 1.0
            for face in faces:
                corners = points[face].astype(np.float64) - [j, i]
                squared, crossings = np.inf, []
                for k in range(3):
                    start, edge = corners[k], corners[(k + 1) % 3] - corners[k]
                    along = np.clip(-(start @ edge) / (edge @ edge), 0, 1)
                    squared = min(squared, np.sum((start + along * edge) ** 2))
                    crossings.append(start[0] * edge[1] - start[1] * edge[0])
                inside = min(crossings) >= 0 or max(crossings) <= 0
                uncovered *= 1 - expit((squared if inside else -squared) / sigma**2)
            silhouette[i, j] = 1 - uncovered
    return silhouette


def scene():
    rng = np.random.default_rng(0)
    points = (rng.uniform(0, 24, (6, 1, 2)) + rng.normal(0, 5, (6, 3, 2))).reshape(-1, 2)
    return torch.from_numpy(points)[None], torch.ones(1, 18).double(), Mesh.of(np.arange(18).reshape(6, 3))


def test_equals_the_naive_loop():
    points, depth, mesh = scene()
    for sigma in (0.5, 2.0):
        got = soft_silhouette(points, depth, mesh, (20, 24), sigma)[0].numpy()
        assert np.allclose(got, naive(points[0].numpy(), mesh.faces.numpy(), 20, 24, sigma), atol=3e-4)


def test_a_small_sigma_is_hard_coverage():
    points, depth, mesh = scene()
    soft = soft_silhouette(points, depth, mesh, (20, 24), 0.02)
    hard = rasterize(points, depth, mesh, (20, 24), cull_backfaces=False).face_index >= 0
    assert ((soft > 0.5) == hard).all() and (soft > 0.5).any()


def test_gradient_by_finite_differences():
    points, depth, mesh = scene()
    points.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda points: soft_silhouette(points, depth, mesh, (10, 12), 1.5), points, atol=1e-4, fast_mode=True
    )


def test_an_outline_that_must_grow_gets_a_gradient_to_grow():
    points = torch.tensor([[[4.0, 4.0], [4.0, 12.0], [12.0, 8.0]]], requires_grad=True)
    soft_silhouette(points, torch.ones(1, 3), Mesh.of(np.array([[0, 1, 2]])), (16, 16)).sum().backward()
    assert points.grad[0, 2, 0] > 0 > points.grad[0, 0, 0]  # the right corner to the right, the left ones to the left


def test_faces_behind_the_camera_cover_nothing():
    points, depth, mesh = scene()
    assert (soft_silhouette(points, -depth, mesh, (20, 24)) == 0).all()
