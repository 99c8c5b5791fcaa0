"""The optional backend: its coordinates, its absence, and its pictures where it is installed."""

import importlib.util

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from talking3d.face.procedural import procedural_face
from talking3d.render.pytorch3d import from_ndc, to_ndc
from talking3d.render.renderer import render_lips

INSTALLED = importlib.util.find_spec("pytorch3d") is not None


def test_normalised_device_coordinates():
    corners = torch.tensor([[-0.5, -0.5], [95.5, 47.5], [47.5, 23.5]])
    assert to_ndc(corners, (48, 96)).tolist() == [[2, 1], [-2, -1], [0, 0]]  # +x left, +y up, the shorter side is 1
    points = torch.randn(7, 2) * 50
    assert torch.allclose(from_ndc(to_ndc(points, (48, 96)), (48, 96)), points, atol=1e-4)


@pytest.mark.skipif(INSTALLED, reason="PyTorch3D is installed")
def test_says_what_to_do_where_it_is_not_installed():
    face = procedural_face()
    with pytest.raises(InputError, match="needs PyTorch3D, which has no wheels"):
        render_lips(face, np.zeros((1, *face.verts.shape), np.float32), backend="pytorch3d")


@pytest.mark.skipif(not INSTALLED, reason="PyTorch3D is not installed: it has no wheels")
def test_draws_the_same_lips():
    face = procedural_face()
    offsets = np.zeros((1, *face.verts.shape), np.float32)
    ours, theirs = (render_lips(face, offsets, backend=backend).astype(int) for backend in ("cpu", "pytorch3d"))
    assert np.mean(np.abs(ours - theirs) > 2) < 0.01
