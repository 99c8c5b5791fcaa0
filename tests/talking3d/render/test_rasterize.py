"""The compiled rasteriser against a naive one, against geometry known in advance and against PyTorch3D's renders."""

import numpy as np
import pytest

from talking3d.render.rasterize import Fragments, new_fragments, rasterize, resolve


def naive_rasterize(points, depth, faces, interior, height, width, cull_backfaces=True) -> Fragments:
    """Each face over the whole picture, in float32 as the kernel; the same rules, no bounding boxes, no early exits."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    index = np.full((height, width), -1, np.int32)
    nearest = np.full((height, width), np.inf, np.float32)
    weights = np.zeros((height, width, 3), np.float32)
    covered = np.zeros((height, width), bool)
    for inside in (False, True):
        for f in np.flatnonzero(interior == inside):
            corners = points[faces[f]]
            (xa, ya), (xb, yb), (xc, yc) = corners
            doubled_area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
            towards = doubled_area < 0
            if doubled_area == 0 or (cull_backfaces and not inside and not towards) or depth[faces[f]].min() <= 0:
                continue
            u, v = (corners[:, 0, None, None] - x), (corners[:, 1, None, None] - y)  # (3, H, W)
            w = np.stack([u[k - 2] * v[k - 1] - u[k - 1] * v[k - 2] for k in range(3)])
            w = -w if towards else w
            q = w * (np.float32(1) / depth[faces[f]])[:, None, None]
            with np.errstate(divide="ignore", invalid="ignore"):
                scale = np.float32(1) / (q[0] + q[1] + q[2])
                z = (w[0] + w[1] + w[2]) * scale
                won = (w >= 0).all(axis=0) & (z < nearest) & ~(covered & inside)
            index[won], nearest[won] = f, z[won]
            weights[won] = (q * scale)[:, won].T
        covered = index >= 0
    return Fragments(index, weights, nearest)


def assert_same(fast: Fragments, naive: Fragments):
    assert np.array_equal(fast.face_index, naive.face_index)
    assert np.array_equal(fast.depth, naive.depth)
    shown = naive.face_index >= 0
    assert np.array_equal(fast.barycentrics[shown], naive.barycentrics[shown])


def random_soup(rng, n_faces, height, width, spread):
    """Unconnected triangles in, across and outside the picture, in front of and behind the camera."""
    middle = rng.uniform([-0.2 * width, -0.2 * height], [1.2 * width, 1.2 * height], (n_faces, 1, 2))
    points = (middle + rng.normal(0, spread, (n_faces, 3, 2))).reshape(-1, 2).astype(np.float32)
    depth = rng.uniform(-0.2, 3, 3 * n_faces).astype(np.float32)
    faces = np.arange(3 * n_faces, dtype=np.int32).reshape(-1, 3)
    return points, depth, faces, rng.random(n_faces) < 0.3


@pytest.mark.parametrize("cull", [True, False])
@pytest.mark.parametrize("seed, spread", [(0, 3), (1, 12), (2, 60), (3, 0.4)])
def test_equals_the_naive_twin_on_triangle_soup(seed, spread, cull):
    rng = np.random.default_rng(seed)
    soup = random_soup(rng, 150, 45, 60, spread)
    fast = rasterize(*soup, new_fragments(45, 60), cull)
    assert_same(fast, naive_rasterize(*soup, 45, 60, cull))


def test_equals_the_naive_twin_on_corners_at_pixel_centres_and_ties_of_depth():
    rng = np.random.default_rng(5)
    points = rng.integers(0, 24, (120, 2)).astype(np.float32)
    depth = np.ones(120, np.float32)
    faces = rng.integers(0, 120, (200, 3)).astype(np.int32)  # some degenerate
    fast = rasterize(points, depth, faces, np.zeros(200, bool), new_fragments(24, 24), False)
    assert_same(fast, naive_rasterize(points, depth, faces, np.zeros(200, bool), 24, 24, False))


def test_a_used_buffer_is_as_good_as_a_new_one():
    rng = np.random.default_rng(0)
    used = rasterize(*random_soup(rng, 100, 30, 30, 10), new_fragments(30, 30))
    soup = random_soup(rng, 20, 30, 30, 5)
    assert_same(rasterize(*soup, used), naive_rasterize(*soup, 30, 30))


def grid_mesh(n, size):
    """A jittered sheet of 2 (n - 1)^2 triangles whose border lies beyond the picture."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(np.linspace(-5, size + 4, n), np.linspace(-5, size + 4, n), indexing="ij")
    points = np.stack([x, y], axis=-1)
    points[1:-1, 1:-1] += rng.uniform(-1, 1, (n - 2, n - 2, 2)) * 0.3 * (size + 9) / n
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = np.concatenate(
        [np.stack([corner, corner + n, corner + 1], 1), np.stack([corner + 1, corner + n, corner + n + 1], 1)]
    )
    return points.reshape(-1, 2).astype(np.float32), faces.astype(np.int32)


def test_shared_edges_leave_no_cracks():
    points, faces = grid_mesh(60, 256)
    depth = np.random.default_rng(1).uniform(1, 2, len(points)).astype(np.float32)
    shown = rasterize(points, depth, faces, np.zeros(len(faces), bool), new_fragments(256, 256))
    assert (shown.face_index >= 0).all()


def test_perspective_correct_depth_and_barycentrics():
    """A slanted plane z = 2 + x/2 seen through a pinhole: depth and position are known at each pixel."""
    focal, middle = 40.0, 31.5
    verts = np.array([[-8, -9, 0], [9, -8, 0], [-1, 12, 0]], np.float64)
    verts[:, 2] = 12 + verts[:, 0]
    points = (middle + focal * verts[:, :2] * [1, -1] / verts[:, 2:]).astype(np.float32)
    depth, faces = verts[:, 2].astype(np.float32), np.array([[0, 1, 2]], np.int32)
    shown = rasterize(points, depth, faces, np.zeros(1, bool), new_fragments(64, 64))
    rows, columns = np.nonzero(shown.face_index == 0)
    assert len(rows) > 400
    slope = (columns - middle) / focal  # x / z along the pixel's ray
    z = 12 / (1 - slope)
    assert np.allclose(shown.depth[rows, columns], z, rtol=1e-4)
    position = shown.barycentrics[rows, columns] @ verts
    assert np.allclose(position, np.stack([slope * z, -(rows - middle) / focal * z, z], axis=1), atol=1e-3)


def square(low, high, z):
    points = np.array([[low, low], [low, high], [high, high], [high, low]], np.float32)
    return points, np.full(4, z, np.float32), np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def test_interior_shows_only_where_nothing_outside_covers_it():
    outer, inner = square(2, 10, 5.0), square(6, 14, 1.0)  # the interior is nearer, and yet behind the stencil
    points, depth = np.concatenate([inner[0], outer[0]]), np.concatenate([inner[1], outer[1]])
    faces = np.concatenate([inner[2], outer[2] + 4])
    shown = rasterize(points, depth, faces, np.array([True, True, False, False]), new_fragments(16, 16)).face_index
    assert (shown[2:11, 2:11] >= 2).all()
    assert np.isin(shown[11:15, 6:15], (0, 1)).all()
    assert (shown[:2] == -1).all()


def test_outer_backs_are_culled_and_interior_ones_are_not():
    points, depth, faces = square(2, 10, 1.0)
    backwards = np.ascontiguousarray(faces[:, ::-1])
    for interior, expected in ((False, 0), (True, 81)):
        shown = rasterize(points, depth, backwards, np.full(2, interior), new_fragments(16, 16))
        assert (shown.face_index >= 0).sum() == expected


def test_resolve_averages_samples():
    rng = np.random.default_rng(0)
    soup = random_soup(rng, 60, 20, 24, 6)
    shown = rasterize(*soup, new_fragments(20, 24))
    values, background = rng.random((180, 3)).astype(np.float32), rng.random((10, 12, 3)).astype(np.float32)
    samples = np.repeat(np.repeat(background, 2, 0), 2, 1)
    for i, j in np.argwhere(shown.face_index >= 0):
        samples[i, j] = shown.barycentrics[i, j] @ values[soup[2][shown.face_index[i, j]]]
    expected = samples.reshape(10, 2, 12, 2, 3).mean(axis=(1, 3))
    got = resolve(shown.face_index, shown.barycentrics, soup[2], values, background)
    assert np.allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["sphere", "torus", "soup", "ict_mouth"])
def test_agrees_with_pytorch3d(shared, name):
    """PyTorch3D: view = verts R + T with +x left, +y up, depth z; pixel i is centred at NDC 1 - (2 i + 1) / size."""
    golden = np.load(shared / "pytorch3d_golden" / f"{name}.npz")
    size = int(golden["image_size"])
    view = golden["verts"] @ golden["R"] + golden["T"]
    ndc = golden["focal"] * view[:, :2] / view[:, 2:] + golden["principal_point"]
    points = ((1 - ndc) * size / 2 - 0.5).astype(np.float32)
    faces = golden["faces"].astype(np.int32)
    depth = np.ascontiguousarray(view[:, 2], np.float32)
    shown = rasterize(points, depth, faces, np.zeros(len(faces), bool), new_fragments(size, size), False)
    same = shown.face_index == golden["pix_to_face"]
    covered = golden["pix_to_face"] >= 0
    assert covered.mean() > 0.1
    assert same.mean() >= 0.999
    both = same & covered
    assert np.allclose(shown.depth[both], golden["zbuf"][both], rtol=1e-4)
    assert np.mean(np.abs(shown.barycentrics[both] - golden["bary"][both]).max(axis=1) < 1e-3) >= 0.999
