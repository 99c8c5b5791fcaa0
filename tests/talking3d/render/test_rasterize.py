"""Every rasteriser against a naive one, geometry known in advance, finite differences and PyTorch3D's renders."""

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from talking3d.render import kernels
from talking3d.render.camera import Camera
from talking3d.render.lighting import PointLight, phong, vertex_normals
from talking3d.render.rasterize import Fragments, Mesh, chosen_backend, interpolate, locate, rasterize

BACKENDS = ["cpu", "torch"]


def naive_rasterize(points, depth, faces, interior, height, width, cull_backfaces=True):
    """One picture, each face over all of it, in float64: the same rules, no bounding boxes, no early exits."""
    points, depth = points.astype(np.float64), depth.astype(np.float64)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    index, nearest = np.full((height, width), -1), np.full((height, width), np.inf)
    weights, covered = np.zeros((height, width, 3)), np.zeros((height, width), bool)
    for inside in (False, True):
        for f in np.flatnonzero(interior == inside):
            (xa, ya), (xb, yb), (xc, yc) = corners = points[faces[f]]
            doubled_area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
            towards = doubled_area < 0
            if doubled_area == 0 or (cull_backfaces and not inside and not towards) or depth[faces[f]].min() <= 0:
                continue
            u, v = (corners[:, 0, None, None] - x), (corners[:, 1, None, None] - y)  # (3, H, W)
            w = np.stack([u[k - 2] * v[k - 1] - u[k - 1] * v[k - 2] for k in range(3)])
            w = -w if towards else w
            q = w / depth[faces[f]][:, None, None]
            with np.errstate(divide="ignore", invalid="ignore"):
                z = w.sum(axis=0) / q.sum(axis=0)
                won = (w >= 0).all(axis=0) & (z < nearest * (1 - 1e-9)) & ~(covered & inside)
                weights[won] = (q / q.sum(axis=0))[:, won].T
            index[won], nearest[won] = f, z[won]
        covered = index >= 0
    return index, weights, np.where(covered, nearest, 0)


def run(points, depth, faces, interior, height, width, cull=True, backend="cpu") -> Fragments:
    """`rasterize` on arrays of one picture; its fragments as arrays of one picture."""
    mesh = Mesh.of(faces, interior)
    points, depth = torch.from_numpy(points)[None], torch.from_numpy(depth)[None]
    return Fragments(*(part[0].numpy() for part in rasterize(points, depth, mesh, (height, width), cull, backend)))


def assert_same(fast: Fragments, naive):
    index, weights, depth = naive
    assert np.array_equal(fast.face_index, index)
    assert np.allclose(fast.depth, depth, rtol=1e-4)
    assert np.allclose(fast.barycentrics, weights, atol=2e-4)


def random_soup(rng, n_faces, height, width, spread):
    """Unconnected triangles in, across and outside the picture, in front of and behind the camera."""
    middle = rng.uniform([-0.2 * width, -0.2 * height], [1.2 * width, 1.2 * height], (n_faces, 1, 2))
    points = (middle + rng.normal(0, spread, (n_faces, 3, 2))).reshape(-1, 2).astype(np.float32)
    depth = rng.uniform(-0.2, 3, 3 * n_faces).astype(np.float32)
    faces = np.arange(3 * n_faces, dtype=np.int32).reshape(-1, 3)
    return points, depth, faces, rng.random(n_faces) < 0.3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cull", [True, False])
@pytest.mark.parametrize("seed, spread", [(0, 3), (1, 12), (2, 60), (3, 0.4)])
def test_equals_the_naive_twin_on_triangle_soup(seed, spread, cull, backend):
    soup = random_soup(np.random.default_rng(seed), 150, 45, 60, spread)
    assert_same(run(*soup, 45, 60, cull, backend), naive_rasterize(*soup, 45, 60, cull))


@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_the_naive_twin_on_corners_at_pixel_centres_and_ties_of_depth(backend):
    rng = np.random.default_rng(5)
    points = rng.integers(0, 24, (120, 2)).astype(np.float32)
    faces = rng.integers(0, 120, (200, 3)).astype(np.int32)  # some degenerate
    scene = points, np.ones(120, np.float32), faces, np.zeros(200, bool), 24, 24, False
    assert_same(run(*scene, backend), naive_rasterize(*scene))


def test_a_batch_is_its_pictures_one_by_one_on_any_number_of_threads():
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(0, 30, (5, 90, 2)).astype(np.float32))
    depth = torch.from_numpy(rng.uniform(1, 2, (5, 90)).astype(np.float32))
    mesh = Mesh.of(np.arange(90).reshape(30, 3), rng.random(30) < 0.3)
    n_threads = torch.get_num_threads()
    try:
        for backend, threads in (("cpu", 1), ("cpu", 3), ("torch", 1)):
            torch.set_num_threads(threads)
            together = rasterize(points, depth, mesh, (30, 30), False, backend)
            for t in range(5):
                alone = rasterize(points[t : t + 1], depth[t : t + 1], mesh, (30, 30), False, backend)
                assert all(torch.equal(a[t], b[0]) for a, b in zip(together, alone, strict=True))
    finally:
        torch.set_num_threads(n_threads)


def test_candidates_in_several_shares(monkeypatch):
    soup = random_soup(np.random.default_rng(1), 80, 40, 40, 8)
    at_once = run(*soup, 40, 40, backend="torch")
    monkeypatch.setattr("talking3d.render.rasterize.CANDIDATES_AT_ONCE", 50)
    assert np.array_equal(run(*soup, 40, 40, backend="torch").face_index, at_once.face_index)


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


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n", [8, 60, 300])
def test_shared_edges_leave_no_cracks(n, backend):
    points, faces = grid_mesh(n, 256)
    depth = np.random.default_rng(1).uniform(1, 2, len(points)).astype(np.float32)
    assert (run(points, depth, faces, None, 256, 256, backend=backend).face_index >= 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_perspective_correct_depth_and_barycentrics(backend):
    """A slanted plane z = 2 + x/2 seen through a pinhole: depth and position are known at each pixel."""
    focal, middle = 40.0, 31.5
    verts = np.array([[-8, -9, 0], [9, -8, 0], [-1, 12, 0]], np.float64)
    verts[:, 2] = 12 + verts[:, 0]
    points = (middle + focal * verts[:, :2] * [1, -1] / verts[:, 2:]).astype(np.float32)
    shown = run(points, verts[:, 2].astype(np.float32), np.array([[0, 1, 2]]), None, 64, 64, backend=backend)
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


@pytest.mark.parametrize("backend", BACKENDS)
def test_interior_shows_only_where_nothing_outside_covers_it(backend):
    outer, inner = square(2, 10, 5.0), square(6, 14, 1.0)  # the interior is nearer, and yet behind the stencil
    points, depth = np.concatenate([inner[0], outer[0]]), np.concatenate([inner[1], outer[1]])
    faces = np.concatenate([inner[2], outer[2] + 4])
    interior = np.array([True, True, False, False])
    shown = run(points, depth, faces, interior, 16, 16, backend=backend).face_index
    assert (shown[2:11, 2:11] >= 2).all()
    assert np.isin(shown[11:15, 6:15], (0, 1)).all()
    assert (shown[:2] == -1).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_outer_backs_are_culled_and_interior_ones_are_not(backend):
    points, depth, faces = square(2, 10, 1.0)
    for interior, expected in ((False, 0), (True, 81)):
        shown = run(points, depth, faces[:, ::-1].copy(), np.full(2, interior), 16, 16, backend=backend)
        assert (shown.face_index >= 0).sum() == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_faces_that_are_not_listed_are_not_drawn(backend):
    points, depth, faces = square(2, 10, 1.0)
    mesh = Mesh.of(faces, drawn=np.array([False, True]))
    shown = rasterize(torch.from_numpy(points)[None], torch.from_numpy(depth)[None], mesh, (16, 16), True, backend)
    assert shown.face_index.unique().tolist() == [-1, 1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", ["nan point", "infinite point", "huge point", "nan depth", "behind", "at the camera"])
def test_faces_with_a_bad_corner_are_left_out_and_others_drawn(bad, backend):
    points, depth, faces = square(2, 10, 1.0)
    points, depth = np.concatenate([points, points]), np.concatenate([depth, depth + 1])
    value = {"nan point": np.nan, "infinite point": np.inf, "huge point": 1e30}.get(bad)
    if value is not None:
        points[1] = value
    else:
        depth[1] = {"nan depth": np.nan, "behind": -1.0, "at the camera": 0.0}[bad]
    shown = run(points, depth, np.concatenate([faces, faces + 4]), None, 16, 16, backend=backend).face_index
    expected = np.isin(shown[2:11, 2:11], (1, 2))  # face 1 has good corners; behind face 0 the other square's shows
    assert expected.all() and (shown == 0).sum() == 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("what", ["no faces", "out of frame", "degenerate"])
def test_nothing_to_see(what, backend):
    points, depth, faces = square(2, 10, 1.0)
    points = points + 100 if what == "out of frame" else points
    faces = {"no faces": faces[:0], "degenerate": np.array([[0, 0, 1], [1, 1, 1]])}.get(what, faces)
    points = torch.from_numpy(points)[None].requires_grad_()
    shown = rasterize(points, torch.from_numpy(depth)[None], Mesh.of(faces), (16, 16), False, backend)
    assert (shown.face_index == -1).all() and (shown.barycentrics == 0).all() and (shown.depth == 0).all()
    picture = interpolate(shown, Mesh.of(faces), torch.ones(1, 4, 2), backend) if len(faces) else shown.depth
    (picture.sum() + shown.depth.sum()).backward()
    assert (points.grad == 0).all()


class TestGradients:
    def scene(self, seed=0):
        """Overlapping triangles in float64, with interior ones: points, depth, values, mesh, size."""
        rng = np.random.default_rng(seed)
        points, depth, faces, interior = random_soup(rng, 40, 20, 24, 8)
        points, depth = torch.from_numpy(points).double()[None], torch.from_numpy(np.abs(depth) + 0.5).double()[None]
        values = torch.from_numpy(rng.normal(size=(1, 120, 3)))
        return points, depth, values, Mesh.of(faces, interior), (20, 24)

    def gradients(self, backend, points, depth, values, mesh, size):
        leaves = [leaf.clone().requires_grad_() for leaf in (points, depth, values)]
        fragments = rasterize(*leaves[:2], mesh, size, False, backend)
        picture = interpolate(fragments, mesh, leaves[2], backend)
        weights = torch.from_numpy(np.random.default_rng(1).normal(size=(*picture.shape[:-1], 4)))
        ((picture * weights[..., :3]).sum() + (fragments.depth * weights[..., 3]).sum()).backward()
        return [leaf.grad for leaf in leaves]

    def test_compiled_equals_torch(self):
        scene = self.scene()
        for compiled, twin in zip(self.gradients("cpu", *scene), self.gradients("torch", *scene), strict=True):
            assert twin.abs().max() > 0.1
            assert torch.allclose(compiled, twin, rtol=1e-9, atol=1e-9)

    def test_against_finite_differences(self):
        """With the choice of faces held fixed, as the gradient has it."""
        points, depth, values, mesh, size = self.scene()
        index = rasterize(points, depth, mesh, size, False).face_index

        def picture(points, depth, values):
            fragments = Fragments(index, *locate(points, 1 / depth, mesh.faces, index))
            return interpolate(fragments, mesh, values, "torch"), fragments.depth

        leaves = [leaf.clone().requires_grad_() for leaf in (points, depth, values)]
        assert torch.autograd.gradcheck(picture, leaves, eps=1e-6, atol=1e-4, fast_mode=True)


def test_picture_is_locating_interpolating_and_averaging():
    rng = np.random.default_rng(0)
    points, depth, faces, _ = random_soup(rng, 60, 20, 24, 6)
    depth = np.abs(depth) + 0.5
    shown = run(points, depth, faces, None, 20, 24)
    values, background = rng.random((180, 3)).astype(np.float32), rng.random((10, 12, 3)).astype(np.float32)
    samples = np.repeat(np.repeat(background, 2, 0), 2, 1)
    for i, j in np.argwhere(shown.face_index >= 0):
        samples[i, j] = shown.barycentrics[i, j] @ values[faces[shown.face_index[i, j]]]
    expected = samples.reshape(10, 2, 12, 2, 3).mean(axis=(1, 3))
    got = kernels.picture_frame(points, 1 / depth, faces, shown.face_index, values, background)
    assert np.allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["sphere", "torus", "soup", "ict_mouth"])
def test_agrees_with_pytorch3d(shared, name, backend):
    """Its face indices, depth, barycentrics, HardPhongShader colours and gradients, computed here in double precision.

    Single precision rounds pixel coordinates: one pixel in 18,000 is then off by 1.6e-4 in its barycentrics.
    """
    with np.load(shared / "pytorch3d_golden" / f"{name}.npz") as stored:
        golden = {key: torch.from_numpy(stored[key]) for key in stored.files}
    golden = {key: value.double() if value.is_floating_point() else value for key, value in golden.items()}
    size = (int(golden["image_size"]),) * 2
    camera = Camera.from_pytorch3d(golden["R"], golden["T"], golden["focal"], golden["principal_point"], size)
    verts, mesh = golden["verts"][None].requires_grad_(), Mesh.of(golden["faces"])
    shown = rasterize(*camera.project(verts), mesh, size, cull_backfaces=False, backend=backend)
    same = shown.face_index[0] == golden["pix_to_face"]
    both = same & (golden["pix_to_face"] >= 0)
    assert both.float().mean() > 0.1
    assert same.float().mean() >= 0.999
    assert (shown.depth[0] - golden["zbuf"])[both].abs().max() < 1e-4
    assert (shown.barycentrics[0] - golden["bary"])[both].abs().max() < 1e-4
    values = torch.cat([verts, vertex_normals(verts, mesh.faces), golden["vert_colors"][None]], dim=-1)
    positions, normals, colors = interpolate(shown, mesh, values, backend).split(3, dim=-1)
    light = PointLight(torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64))
    rgb = phong(positions, normals, colors, camera.position_m, light, shininess=32)
    background = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    rgb = torch.where((shown.face_index >= 0)[..., None], rgb, background)[0]
    assert (rgb - golden["rgb"])[same].abs().max() < 1e-3
    (rgb * golden["loss_weight"]).sum().backward()
    ours, theirs = verts.grad.flatten(), golden["grad_verts"].flatten()
    assert torch.cosine_similarity(ours, theirs, dim=0) >= 0.999
    assert (ours - theirs).norm() <= 0.01 * theirs.norm()


def test_unknown_backend():
    with pytest.raises(InputError, match="unknown rasteriser 'gl'; choose one of auto, torch, cpu, pytorch3d"):
        chosen_backend("gl", "cpu")


def test_compiled_kernels_and_another_device():
    with pytest.raises(InputError, match="'cpu' cannot draw tensors on meta"):
        chosen_backend("cpu", "meta")


def test_faces_of_another_topology():
    with pytest.raises(InputError, match="refer to vertices 0 to 7, but there are 4"):
        rasterize(torch.zeros(1, 4, 2), torch.ones(1, 4), Mesh.of(np.array([[0, 1, 7]])), (8, 8))


@pytest.mark.parametrize("points, depth", [((4, 2), (4,)), ((1, 4, 3), (1, 4)), ((1, 4, 2), (1, 5))])
def test_points_of_another_shape(points, depth):
    with pytest.raises(InputError, match=r"expected \(B, V, 2\) and \(B, V\)"):
        rasterize(torch.zeros(points), torch.ones(depth), Mesh.of(np.array([[0, 1, 2]])), (8, 8))
