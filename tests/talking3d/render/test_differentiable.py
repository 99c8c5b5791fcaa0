"""The torch road against the compiled one, and its gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from talking3d.face.procedural import procedural_face
from talking3d.render.differentiable import Painter, encode, gray_equivalent
from talking3d.render.film import gray_equivalent as film_gray
from talking3d.render.film import linear_to_srgb
from talking3d.render.look import Look, random_look
from talking3d.render.renderer import face_shot, lip_shot, render_face, render_lips


@pytest.fixture(scope="module")
def face():
    return procedural_face()


@pytest.fixture(scope="module")
def offsets(face):
    """Rest, open, spread with raised lips, rounded: (4, V, 3)."""
    coefficients = np.zeros((4, len(face.articulation_names)), np.float32)
    names = list(face.articulation_names)
    for t, pose in enumerate([{}, {"jaw_open": 0.9}, {"lip_spread": 0.8, "upper_raise": 0.5}, {"lip_round": 1.0}]):
        for name, value in pose.items():
            coefficients[t, names.index(name)] = value
    return face.offsets(coefficients)


# what is done to a clip's head pose before it is drawn, or to its pictures after
UNTREATED = {
    "pixel_noise": 0.0,
    "blur_px": 0.0,
    "trail": 0.0,
    "codec_crf": None,
    "head_turn": (0.0,) * 3,
    "head_sway": 0.0,
}
POSE = np.array([[0, 0, 0, 0, 0, 0], [0.1, 0.2, -0.1, 0.01, 0, 0.02]] * 2, np.float32)


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_lips_are_the_compiled_ones(face, offsets, backend, samples):
    look = replace(random_look(np.random.default_rng(1)), **UNTREATED)
    compiled = render_lips(face, offsets, POSE, look, samples=samples)
    painter = Painter(face, look, samples=samples, backend=backend)
    shot = lip_shot(face, offsets, POSE, look, np.random.default_rng(look.seed))
    drawn = 255 * painter.lips(torch.from_numpy(offsets), POSE, shot).numpy()
    assert np.abs(drawn - compiled).max() < 1.5 and np.abs(drawn - compiled).mean() < 0.4
    assert compiled.std() > 20


def test_the_face_is_the_compiled_one(face, offsets):
    compiled = render_face(face, offsets[:2], POSE[:2], Look(), 96)
    linear = Painter(face).linear(torch.from_numpy(offsets[:2]), POSE[:2], face_shot(face, 2, Look(), 96))
    assert np.abs(255 * encode(linear).numpy() - compiled).max() < 1.5


@pytest.mark.parametrize("draw", [render_lips, render_face])
def test_backends_draw_the_same_pictures(face, offsets, draw):
    look = Look(pixel_noise=0.01, blur_px=0.5, seed=4)
    compiled, twin = (draw(face, offsets[:2], POSE[:2], look, backend=name).astype(int) for name in ("cpu", "torch"))
    assert np.abs(compiled - twin).max() <= 2


def test_the_films_curves():
    linear = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) ** 3
    assert np.allclose(encode(linear), linear_to_srgb(linear.numpy()), atol=1e-6)
    assert np.allclose(gray_equivalent(linear), film_gray(linear.numpy()), atol=1e-3)


def test_gradients_equal_between_backends_and_reach_only_what_shows(face, offsets):
    gradients = []
    for backend in ("cpu", "torch"):
        moved = torch.from_numpy(offsets[:2]).requires_grad_()
        picture = Painter(face, backend=backend).lips(moved, POSE[:2])
        (picture * torch.linspace(0, 1, 96)).sum().backward()
        gradients.append(moved.grad)
    assert torch.cosine_similarity(*(gradient.flatten() for gradient in gradients), dim=0) > 0.9999
    assert gradients[0][:, face.region("lips")].abs().max() > 0
    assert gradients[0][:, face.region("hair")].abs().max() == 0


def test_gradient_by_finite_differences_along_smooth_motion(face, offsets):
    """Colour alone moves when a lamp-lit face is seen from a fixed crop: compare along the tongue's and the jaw's path.

    Which face a pixel shows has no gradient, so the step moves less than edges do, and pictures are averaged.
    """
    painter, shot = Painter(face, samples=3), lip_shot(face, offsets[1:2], None, Look())
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=(96, 96)).astype(np.float32))
    weights = torch.nn.functional.avg_pool2d(weights[None], 9, stride=1, padding=4)[0]
    step = np.zeros_like(offsets[1:2])
    skin = face.region("lower_face")
    step[0, skin, 2] = np.sin(80 * face.verts[skin, 0])  # a ripple in depth: it changes normals, hardly outlines

    def loss(amount):
        moved = torch.from_numpy(offsets[1:2] + np.float32(amount) * step).requires_grad_()
        return (painter.lips(moved, None, shot)[0] * weights).sum(), moved

    value, moved = loss(0.0)
    value.backward()
    slope = (moved.grad.numpy() * step).sum()
    h = 2e-5
    measured = (loss(h)[0].item() - loss(-h)[0].item()) / (2 * h)
    assert abs(slope - measured) < 0.1 * abs(measured)


def test_a_loss_on_pictures_moves_vertices_to_its_minimum(face, offsets):
    """Descending on pixels alone finds an open jaw from a nearly closed one."""
    basis = torch.from_numpy(face.articulation_basis[list(face.articulation_names).index("jaw_open")])
    painter = Painter(face)
    shot = lip_shot(face, (0.5 * basis)[None].numpy(), None, Look())
    target = painter.lips((0.5 * basis)[None], None, shot).detach()
    jaw = torch.tensor(0.3, requires_grad=True)
    optimizer = torch.optim.Adam([jaw], lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        (painter.lips((jaw * basis)[None], None, shot) - target).square().mean().backward()
        optimizer.step()
    assert abs(jaw.item() - 0.5) < 0.03
