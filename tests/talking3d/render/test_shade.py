"""Normals and light against closed forms and a per-vertex loop."""

from dataclasses import replace

import numpy as np
import pytest

from avsr.errors import InputError
from talking3d.face.template import FaceTemplate
from talking3d.render.shade import Lights, Surface, mouth_light, radiance, surface_of, vertex_normals


def sphere(n=40, radius=0.1):
    """Verts (V, 3) and outward, counterclockwise faces of a sphere without its poles."""
    theta, phi = np.linspace(0.05, np.pi - 0.05, n), np.linspace(0, 2 * np.pi, n, endpoint=False)
    ring = np.sin(theta)[:, None]
    verts = radius * np.stack([ring * np.sin(phi), np.cos(theta)[:, None] + 0 * phi, ring * np.cos(phi)], -1)
    i, j = (a.ravel() for a in np.meshgrid(np.arange(n - 1), np.arange(n), indexing="ij"))
    k = (j + 1) % n
    lower, upper = (i + 1) * n, i * n
    faces = np.concatenate(
        [np.stack([upper + j, lower + j, lower + k], 1), np.stack([upper + j, lower + k, upper + k], 1)]
    )
    return verts.reshape(-1, 3).astype(np.float32), faces.astype(np.int32)


def plain_surface(n, **changes) -> Surface:
    arrays = {
        "albedo": np.full((n, 3), 0.5, np.float32),
        "wrap": np.zeros((n, 3), np.float32),
        "specular": np.zeros(n, np.float32),
        "shininess": np.full(n, 20, np.float32),
        "interior_verts": np.zeros(0, int),
        "interior_faces": np.zeros(0, bool),
        "two_sided": np.zeros(n, bool),
    }
    return Surface(**{**arrays, **changes})


def lights(directions=((0, 0, 1), (0, 1, 0)), colors=((1, 1, 1), (0, 0, 0)), ambient=((0, 0, 0), (0, 0, 0))):
    return Lights(*(np.array(a, np.float32) for a in (directions, colors, ambient)), 1.0)


EYE = np.array([0, 0, 2], np.float32)


def test_normals_of_a_sphere_point_outwards():
    verts, faces = sphere()
    normals = vertex_normals(verts, faces)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    inner_rings = slice(40, -40)
    assert np.min((normals * verts / 0.1).sum(axis=1)[inner_rings]) > 0.995


def test_normals_weigh_faces_by_area_and_leave_loose_vertices_alone():
    verts = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 1], [9, 9, 9]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)  # areas 2 towards +z and 1 towards +x
    normals = vertex_normals(verts, faces)
    assert np.allclose(normals[0], np.array([1, 0, 2]) / np.sqrt(5), atol=1e-6)
    assert np.allclose(normals[4], 0)


def test_a_matt_surface_follows_lamberts_law():
    angle = np.linspace(0, np.pi, 7)
    normals = np.stack([np.sin(angle), 0 * angle, np.cos(angle)], axis=1).astype(np.float32)
    got = radiance(
        np.zeros((7, 3), np.float32),
        normals,
        EYE,
        plain_surface(7),
        np.ones((7, 3), np.float32),
        lights(),
    )
    assert np.allclose(got, 0.5 * np.maximum(np.cos(angle), 0)[:, None], atol=1e-6)


def test_sky_and_ground():
    normals = np.array([[0, 1, 0], [0, -1, 0], [1, 0, 0]], np.float32)
    dark = lights(colors=((0, 0, 0), (0, 0, 0)), ambient=((1, 2, 3), (0, 0, 1)))
    got = radiance(
        np.zeros((3, 3), np.float32),
        normals,
        EYE,
        plain_surface(3),
        np.ones((3, 3), np.float32),
        dark,
    )
    assert np.allclose(got, [[0.5, 1, 1.5], [0, 0, 0.5], [0.25, 0.5, 1]])


def test_radiance_equals_a_loop():
    rng = np.random.default_rng(0)
    n = 200
    verts = rng.normal(0, 0.1, (n, 3)).astype(np.float32)
    normals = rng.normal(size=(n, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    surface = plain_surface(
        n,
        albedo=rng.random((n, 3)).astype(np.float32),
        wrap=rng.uniform(0, 0.5, (n, 3)).astype(np.float32),
        specular=rng.random(n).astype(np.float32),
        shininess=rng.uniform(5, 100, n).astype(np.float32),
        two_sided=rng.random(n) < 0.5,
    )
    directions = rng.normal(size=(2, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    given = Lights(directions.astype(np.float32), *(rng.random((2, 2, 3)).astype(np.float32)), 0.7)
    reach = rng.random((n, 3)).astype(np.float32)
    expected = np.zeros((n, 3))
    for v in range(n):
        to_eye = (EYE - verts[v]) / np.linalg.norm(EYE - verts[v])
        normal = normals[v]
        if surface.two_sided[v] and normal @ to_eye < 0:
            normal = -normal
        up = 0.5 + 0.5 * normal[1]
        diffuse = reach[v, 2] * (up * given.sky_ground[0] + (1 - up) * given.sky_ground[1])
        shine = 0.0
        for k in range(2):
            facing = normal @ given.directions[k]
            wrapped = np.maximum((facing + surface.wrap[v]) / (1 + surface.wrap[v]), 0)
            diffuse = diffuse + reach[v, k] * given.colors[k] * wrapped
            half = given.directions[k] + to_eye
            cosine = normal @ half / np.linalg.norm(half)
            if facing > 0 and cosine > 0.5:
                shine += reach[v, k] * given.colors[k, 1] * cosine ** surface.shininess[v]
        expected[v] = surface.albedo[v] * diffuse + 0.7 * surface.specular[v] * shine
    got = radiance(verts, normals, EYE, surface, reach, given)
    assert np.allclose(got, expected, rtol=1e-3, atol=1e-5)


def mouth_template(depth_m: float) -> FaceTemplate:
    """Eight inner-lip points on a 40 x 10 mm ellipse at z = 0 and a triangle of teeth behind them."""
    angle = np.arange(8) * np.pi / 4
    contour = np.stack([0.02 * np.cos(angle), 0.005 * np.sin(angle), 0 * angle], axis=1)
    teeth = np.array([[-0.01, 0, -depth_m], [0.01, 0, -depth_m], [0, 0.005, -depth_m]])
    landmarks = np.full(68, -1)
    landmarks[60:68] = np.arange(8)
    faces = np.array([[8, 9, 10], [0, 1, 2]])
    regions = {"teeth_upper": np.arange(8, 11), "lips": np.arange(8)}
    return FaceTemplate("mouth", np.concatenate([contour, teeth]), faces, regions, landmarks)


def still(template) -> np.ndarray:
    return np.zeros((1, *template.verts.shape), np.float32)


def test_mouth_light_is_the_form_factor_of_the_opening():
    template = mouth_template(0.01)
    inside = surface_of(template).interior_verts
    assert inside.tolist() == [8, 9, 10]
    polygon = 2 * np.sqrt(2) * 0.02 * 0.005  # area of the octagon in the ellipse
    expected = polygon / (polygon + np.pi * 0.01**2)
    assert np.allclose(mouth_light(template, still(template), inside), expected, rtol=1e-3)


def test_teeth_are_dark_behind_a_small_opening_and_behind_protruding_lips():
    template = mouth_template(0.006)
    inside = surface_of(template).interior_verts
    verts = np.repeat(template.verts[None], 4, axis=0)  # wide, narrow, protruded and shut
    verts[1:3, :8, 0] *= 0.3
    verts[2, :8, 2] += 0.006
    verts[3, :8, 1] = 0
    wide, *light = mouth_light(template, verts - template.verts, inside).mean(axis=1)
    assert wide > 0.7 > light[0] > 2 * light[1] > 0
    assert light[2] < 0.02


def test_mouth_interior_without_inner_lip_landmarks():
    template = mouth_template(0.01)
    template = replace(template, landmarks=np.full(68, -1))
    with pytest.raises(InputError, match="'mouth' has a mouth interior but lacks inner-lip landmarks"):
        mouth_light(template, still(template), surface_of(template).interior_verts)


def test_surface_tells_the_inside_and_its_materials():
    surface = surface_of(mouth_template(0.01))
    assert surface.interior_faces.tolist() == [True, False]
    assert surface.two_sided.sum() == 3
    part = surface.of_verts(np.array([0, 7, 9]))
    assert part.interior_verts.tolist() == [2] and part.two_sided.tolist() == [False, False, True]
    assert np.array_equal(part.albedo, surface.albedo[[0, 7, 9]])
    assert surface.specular[8] > surface.specular[0] > 0  # teeth are moister than lips
    assert surface.shininess[8] > surface.shininess[0]


def test_gloss_lies_on_the_vermilion_where_the_lip_region_is_wider():
    template = mouth_template(0.01)
    wide, narrow = surface_of(template), surface_of(replace(template, regions=template.regions | {"vermilion": [0, 1]}))
    assert narrow.specular[0] == wide.specular[0] > narrow.specular[2]
