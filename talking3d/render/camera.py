"""Where the head stands and how it falls on the picture.

Head space is the template's: metres, the mouth near the origin, +y up, +z towards the viewer. A camera stands on the +z
side and looks along -z, unless its rotation says otherwise. Picture coordinates are pixels with x to the right, y down,
and *pixel centres at integers*, as landmark detectors and OpenCV have them.

PyTorch3D's conventions are others, and meet these at two doors only: `Camera.from_pytorch3d` and `render/pytorch3d.py`.
Its camera space is X R + T (row vectors) with +x to the left, +y up and +z into the picture; its picture has +x to the
left, +y up, [-1, 1] over the shorter side, and pixel centres at half pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from avsr.errors import InputError

# Head rotations turn about the joint of skull and neck: behind and a little above the mouth.
PIVOT_M = np.array([0.0, 0.02, -0.085], np.float32)
NECK_SHARE = 0.75  # a portrait ends this far below the mouth, as a share of the crown's height above it


@dataclass(frozen=True)
class Camera:
    """A pinhole or orthographic camera.

    focal_px: focal length in pixels; orthographic: pixels per metre. centre_px: the picture point (x, y) of the optical
    axis. position_m (3,): the camera's place in head space. rotation (3, 3): from head space to the camera's axes
    (right, up, towards the viewer), None where they agree. Fields may be tensors, through which gradients then flow.
    """

    focal_px: float | torch.Tensor
    centre_px: tuple[float, float] | torch.Tensor
    position_m: tuple[float, float, float] | torch.Tensor
    rotation: np.ndarray | torch.Tensor | None = None
    orthographic: bool = False

    def project(self, verts):
        """Project verts (..., V, 3) metres, an array or a tensor: points (..., V, 2) pixels and depth (..., V) metres.

        Depth is the distance before the camera along its axis; what is at or behind the camera has none above 0.
        """
        xp = torch if isinstance(verts, torch.Tensor) else np
        seen = verts - _like(self.position_m, verts)
        if self.rotation is not None:
            seen = seen @ _like(self.rotation, verts).T
        depth = -seen[..., 2]
        scale = self.focal_px if self.orthographic else self.focal_px / depth
        points = xp.stack([self.centre_px[0] + scale * seen[..., 0], self.centre_px[1] - scale * seen[..., 1]], -1)
        return points, depth

    @property
    def lens(self) -> tuple[float, float, float]:
        """focal_px and centre_px in one."""
        return self.focal_px, *self.centre_px

    @classmethod
    def from_pytorch3d(
        cls, R, T, focal_length, principal_point, size: tuple[int, int], orthographic: bool = False
    ) -> Camera:
        """The camera that PyTorch3D's Perspective- or OrthographicCameras(in_ndc=True) with these parameters is.

        R (3, 3), T (3,), focal_length and principal_point (2,) in its normalised coordinates, tensors or arrays; size:
        the picture's (H, W).
        """
        height, width = size
        half = min(height, width) / 2
        flip = _like(np.diag([-1.0, 1.0, -1.0]), R)
        centre = ((width - 1) / 2 - half * principal_point[0], (height - 1) / 2 - half * principal_point[1])
        return cls(half * focal_length, centre, -T @ R.T, flip @ R.T, orthographic)


def _like(value, verts):
    """value as an array or a tensor of verts' kind, type and device."""
    if isinstance(verts, torch.Tensor):
        return torch.as_tensor(value, dtype=verts.dtype, device=verts.device)
    return np.asarray(value, verts.dtype)


def portrait_camera(verts: np.ndarray, size: int, distance_m: float = 1.2, margin: float = 0.07) -> Camera:
    """A camera for a size x size portrait of the head verts (V, 3), from the crown to the lower neck.

    A share `margin` stays free above the crown and beside the head; shoulders may run out of the picture. A mesh that
    ends above the neck is shown whole.
    """
    top, front = float(verts[:, 1].max()), float(verts[:, 2].max())
    bottom = max(float(verts[:, 1].min()), -NECK_SHARE * top)
    head = verts[verts[:, 1] >= 0, 0]
    left, right = float(head.min()), float(head.max())
    extent = max(top - bottom, right - left) / (1 - 2 * margin)
    centre = ((size - 1) / 2, (size - 1) / 2)
    return Camera(size * distance_m / extent, centre, ((left + right) / 2, (top + bottom) / 2, front + distance_m))


def transform_points(transforms: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply picture transforms (..., 2, 3) to points (..., V, 2)."""
    return points @ np.swapaxes(transforms[..., :2], -1, -2) + transforms[..., None, :, 2]


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The picture transform (..., 2, 3) that applies `inner` first and `outer` after it."""
    linear = outer[..., :2] @ inner[..., :2]
    shift = np.einsum("...ij,...j->...i", outer[..., :2], inner[..., 2]) + outer[..., 2]
    return np.concatenate([linear, shift[..., None]], axis=-1)


def rotation_matrices(rotation_vectors: np.ndarray) -> np.ndarray:
    """Rotation matrices (T, 3, 3) of rotation vectors (T, 3), radians (Rodrigues' formula)."""
    angle = np.linalg.norm(rotation_vectors, axis=-1)
    x, y, z = np.moveaxis(rotation_vectors / np.maximum(angle, 1e-12)[:, None], -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return (np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)).astype(np.float32)


def head_transforms(head_pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Head poses (T, 6) as matrices (T, 3, 3) and shifts (T, 3): posed = matrix @ vertex + shift.

    A pose is a rotation vector (radians) about the head's pivot, then a translation (metres).
    """
    matrices = rotation_matrices(head_pose[:, :3])
    return matrices, (PIVOT_M - matrices @ PIVOT_M + head_pose[:, 3:]).astype(np.float32)


def apply_head_pose(verts: np.ndarray, head_pose: np.ndarray) -> np.ndarray:
    """Turn verts (T, V, 3) about the head's pivot and move them, as head_pose (T, 6) says (`head_transforms`).

    Raises InputError when the shapes differ or a value isn't finite.
    """
    check_head_pose(head_pose, len(verts))
    matrices, shifts = head_transforms(head_pose)
    return verts @ np.swapaxes(matrices, 1, 2) + shifts[:, None]


def check_head_pose(head_pose: np.ndarray, n_frames: int) -> None:
    """Raise InputError unless head_pose is (n_frames, 6) and finite."""
    if head_pose.shape != (n_frames, 6):
        raise InputError(
            f"head pose has shape {head_pose.shape}, expected ({n_frames}, 6): "
            "a rotation vector (rad) and a translation (m) for each frame of the motion"
        )
    bad = ~np.isfinite(head_pose).all(axis=1)
    if bad.any():
        raise InputError(f"head pose is not finite at frame {int(np.argmax(bad))}: fix or drop the motion's head_pose")
