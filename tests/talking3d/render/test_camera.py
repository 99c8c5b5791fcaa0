"""Projection, head pose and picture transforms against straightforward arithmetic."""

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from talking3d.render.camera import (
    PIVOT_M,
    Camera,
    apply_head_pose,
    compose,
    head_transforms,
    portrait_camera,
    transform_points,
)
from talking3d.render.pytorch3d import from_ndc


def test_projection_by_hand():
    camera = Camera(focal_px=100, centre_px=(50, 40), position_m=(0, 0, 2))
    points, depth = camera.project(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 1], [-1, -1, -2]], np.float32))
    assert np.allclose(points, [[50, 40], [100, 40], [50, -60], [25, 65]])  # right stays right, up is a smaller y
    assert np.allclose(depth, [2, 2, 1, 4])


def test_orthographic_projection_by_hand():
    camera = Camera(focal_px=100, centre_px=(50, 40), position_m=(0, 0, 2), orthographic=True)
    points, depth = camera.project(np.array([[0, 0, 0], [1, 0.5, 1]], np.float32))
    assert np.allclose(points, [[50, 40], [150, -10]])
    assert np.allclose(depth, [2, 1])


def test_a_turned_camera_sees_what_a_straight_one_sees_of_turned_verts():
    rng = np.random.default_rng(0)
    verts, position = rng.normal(size=(50, 3)), np.array([0.3, -0.2, 4.0])
    turn = head_transforms(rng.normal(size=(1, 6)))[0][0].astype(np.float64)
    turned = Camera(80.0, (20.0, 30.0), tuple(position), rotation=turn).project(verts)
    straight = Camera(80.0, (20.0, 30.0), (0, 0, 0)).project((verts - position) @ turn.T)
    assert all(np.allclose(a, b) for a, b in zip(turned, straight, strict=True))


def test_tensors_project_as_arrays_do_and_gradients_reach_the_camera():
    verts = np.random.default_rng(0).normal(size=(2, 9, 3)).astype(np.float32)
    array = Camera(80.0, (20.0, 30.0), (0.1, 0.2, 5.0)).project(verts)
    focal, centre, position = (torch.tensor(v, requires_grad=True) for v in (80.0, [20.0, 30.0], [0.1, 0.2, 5.0]))
    points, depth = Camera(focal, centre, position).project(torch.from_numpy(verts))
    assert np.allclose(points.detach(), array[0], atol=1e-4) and np.allclose(depth.detach(), array[1])
    points.square().sum().backward()
    assert all(leaf.grad.abs().max() > 0 for leaf in (focal, centre, position))


@pytest.mark.parametrize("orthographic", [False, True])
def test_pytorch3ds_cameras(orthographic):
    """Its formulas: view = X R + T, +x left; ndc = f xy / z + p (xy without the division if orthographic)."""
    rng = np.random.default_rng(0)
    R = head_transforms(rng.normal(size=(1, 6)))[0][0]
    T, p, size = np.array([0.1, -0.2, 6.0], np.float32), np.array([0.05, -0.1], np.float32), (48, 96)
    verts = rng.normal(size=(20, 3)).astype(np.float32)
    view = verts @ R + T
    ndc = 2.5 * view[:, :2] / (1 if orthographic else view[:, 2:]) + p
    expected = from_ndc(torch.from_numpy(ndc), size).numpy()
    points, depth = Camera.from_pytorch3d(R, T, 2.5, p, size, orthographic).project(verts)
    assert np.allclose(points, expected, atol=1e-3) and np.allclose(depth, view[:, 2], atol=1e-5)


def test_portrait_keeps_a_face_without_neck_whole():
    verts = np.random.default_rng(0).uniform([-0.08, -0.06, -0.05], [0.08, 0.12, 0.05], (500, 3)).astype(np.float32)
    for size in (96, 512):
        points, depth = portrait_camera(verts, size).project(verts)
        assert points.min() > 0.05 * size - 0.5 and points.max() < 0.95 * size + 0.5
        assert np.ptp(points[:, 1]) > 0.75 * size  # and fills the picture
        assert depth.min() > 1


def test_portrait_keeps_the_head_and_cuts_shoulders():
    rng = np.random.default_rng(0)
    head = rng.uniform([-0.08, -0.06, -0.15], [0.08, 0.16, 0.05], (500, 3)).astype(np.float32)
    shoulders = rng.uniform([-0.25, -0.35, -0.15], [0.25, -0.15, 0], (500, 3)).astype(np.float32)
    camera = portrait_camera(np.concatenate([head, shoulders]), 256)
    points, _ = camera.project(head)
    assert points.min() > 0 and points.max() < 255
    points, _ = camera.project(shoulders)
    assert points[:, 0].min() < 0 and points[:, 0].max() > 255 and points[:, 1].max() > 255


def test_head_pose_turns_about_the_pivot():
    verts = np.tile(PIVOT_M + np.array([0, 0, 0.1], np.float32), (3, 1, 1))
    pose = np.zeros((3, 6), np.float32)
    pose[1, 1] = np.pi / 2  # about +y: what pointed to the viewer points to +x
    pose[2, 0] = np.pi / 2  # about +x: what pointed to the viewer points down
    pose[2, 3:] = (1, 2, 3)
    posed = apply_head_pose(verts, pose)[:, 0] - PIVOT_M
    assert np.allclose(posed, [[0, 0, 0.1], [0.1, 0, 0], [1, 1.9, 3]], atol=1e-6)


def test_rotations_are_rotations_and_small_ones_are_smooth():
    pose = np.random.default_rng(0).normal(size=(20, 6))
    pose[0, :3], pose[1, :3] = 0, 1e-9
    matrices, _ = head_transforms(pose)
    assert np.allclose(matrices @ np.swapaxes(matrices, 1, 2), np.eye(3), atol=1e-6)
    assert np.allclose(np.linalg.det(matrices), 1, atol=1e-5)
    assert np.allclose(matrices[:2], np.eye(3), atol=1e-6)
    axis = pose[2, :3] / np.linalg.norm(pose[2, :3])
    assert np.allclose(matrices[2] @ axis, axis, atol=1e-6)  # the axis of a rotation stays


def test_compose_is_one_after_the_other():
    rng = np.random.default_rng(0)
    inner, outer, points = rng.normal(size=(5, 2, 3)), rng.normal(size=(2, 3)), rng.normal(size=(5, 7, 2))
    after = transform_points(outer, transform_points(inner, points))
    assert np.allclose(transform_points(compose(outer, inner), points), after)


@pytest.mark.parametrize("shape", [(4, 3), (3, 6), (6,)])
def test_head_pose_of_another_shape(shape):
    with pytest.raises(InputError, match=r"head pose has shape .*, expected \(4, 6\)"):
        apply_head_pose(np.zeros((4, 5, 3), np.float32), np.zeros(shape, np.float32))


def test_head_pose_that_is_not_finite():
    pose = np.zeros((4, 6), np.float32)
    pose[2, 4] = np.nan
    with pytest.raises(InputError, match="not finite at frame 2"):
        apply_head_pose(np.zeros((4, 5, 3), np.float32), pose)
