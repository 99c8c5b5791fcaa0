"""Light on skin: from surface to radiance, at vertices, in linear light.

Lambert with a wrapped terminator (light bleeds around the edge of shadow, the red furthest, as under skin), Blinn-Phong
highlights that differ by region, a key light, a weaker fill from the other side and a hemispheric sky. The mouth's
inside gets only the light that its opening lets in.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from avsr.errors import InputError
from talking3d.face.template import FaceTemplate

INTERIOR_REGIONS = ("mouth_interior", "teeth_upper", "teeth_lower", "tongue")
INNER_LIP_LANDMARKS = slice(60, 68)  # iBUG 68: the inner lip contour, once round
CONTOUR_ROUND = [0, 1, 2, 3, 4, 5, 6, 7, 0]
SEEP_M2 = 1e-7  # a tenth of a square millimetre: even a shut mouth has a share to give
LAMPS_AND_SKY = (1.5, 1.5, 1.0)  # powers of that share: lamps shine aslant, a small opening shuts them out first

# region: (wrap of red, green, blue; specular strength; shininess). Later rows win where regions overlap.
SKIN = (0.45, 0.28, 0.20, 0.10, 14.0)
MATERIALS = {
    "hair": (0.15, 0.15, 0.15, 0.05, 10.0),
    "shirt": (0.25, 0.25, 0.25, 0.03, 8.0),
    "lips": (0.35, 0.18, 0.15, 0.26, 42.0),
    "eyes": (0.20, 0.20, 0.20, 0.85, 110.0),
    "mouth_interior": (0.35, 0.20, 0.18, 0.05, 20.0),
    "tongue": (0.40, 0.22, 0.18, 0.25, 26.0),
    "teeth_upper": (0.35, 0.33, 0.30, 0.40, 60.0),
    "teeth_lower": (0.35, 0.33, 0.30, 0.40, 60.0),
}


class Surface(NamedTuple):
    """What a template's vertices are made of: albedo (V, 3) linear, wrap (V, 3), specular (V,), shininess (V,).

    interior_verts (I,) indices and interior_faces (F,) bool: the mouth's inside; a face is inside when all its
    vertices are. two_sided (V,) bool: lit on the side that faces the viewer.
    """

    albedo: np.ndarray
    wrap: np.ndarray
    specular: np.ndarray
    shininess: np.ndarray
    interior_verts: np.ndarray
    interior_faces: np.ndarray
    two_sided: np.ndarray

    def of_verts(self, kept: np.ndarray) -> "Surface":
        """The surface of these vertices (V',), numbered anew; interior_faces is left empty."""
        arrays = {name: getattr(self, name)[kept] for name in ("albedo", "wrap", "specular", "shininess", "two_sided")}
        inside = np.flatnonzero(np.isin(kept, self.interior_verts))
        return self._replace(**arrays, interior_verts=inside, interior_faces=np.zeros(0, bool))


def surface_of(template: FaceTemplate) -> Surface:
    """The surface of a template, by its regions and colours."""
    n_verts = len(template.verts)
    material = np.tile(np.array(SKIN, np.float32), (n_verts, 1))
    for region, values in MATERIALS.items():
        if region == "lips" and "vermilion" in template.regions:
            region = "vermilion"  # a published lip mask takes in skin around the lips, which isn't as moist
        material[template.regions.get(region, [])] = values
    interior = np.zeros(n_verts, bool)
    for region in INTERIOR_REGIONS:
        interior[template.regions.get(region, [])] = True
    return Surface(
        np.ascontiguousarray(template.colors, np.float32),
        np.ascontiguousarray(material[:, :3]),
        np.ascontiguousarray(material[:, 3]),
        np.ascontiguousarray(material[:, 4]),
        np.flatnonzero(interior),
        interior[template.faces].all(axis=1),
        interior,
    )


def mouth_light(template: FaceTemplate, offsets: np.ndarray, interior_verts: np.ndarray) -> np.ndarray:
    """The share (T, I) in [0, 1] of outside light that reaches interior vertices (I,); offsets (T, V, 3) metres.

    The opening between the lips is taken as a disc of its area A, and a point at depth d behind it
    sees it under the form factor A / (A + pi d^2). So protruded, nearly closed lips (/u/) darken the teeth behind them,
    and a wide /a/ shows them, with the throat dark in both. Raises InputError for a template that has a mouth interior
    but no inner-lip landmarks.
    """
    contour_index = template.landmarks[INNER_LIP_LANDMARKS]
    if (contour_index < 0).any():
        raise InputError(
            f"template {template.name!r} has a mouth interior but lacks inner-lip landmarks (60-67 of the iBUG 68): "
            "they tell how far the mouth is open"
        )
    contour = template.verts[contour_index] + offsets[:, contour_index]  # (T, 8, 3)
    x, y = contour[:, CONTOUR_ROUND, 0], contour[:, CONTOUR_ROUND, 1]
    area = np.abs((x[:, :-1] * y[:, 1:] - y[:, :-1] * x[:, 1:]).sum(axis=1)) / 2  # shoelace formula
    height = template.verts[interior_verts, 2] + offsets[:, interior_verts, 2]
    depth = np.maximum(contour[..., 2].mean(axis=1)[:, None] - height, 0)
    area = area[:, None] + np.float32(SEEP_M2)
    return (area / (area + np.float32(np.pi) * depth**2)).astype(np.float32)


@njit(cache=True, nogil=True)
def vertex_normals(verts, faces):
    """Unit normals (V, 3) of verts (V, 3): the mean of the faces' (F, 3) normals, weighted by their areas."""
    normals = np.zeros_like(verts)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        px, py, pz = verts[b, 0] - verts[a, 0], verts[b, 1] - verts[a, 1], verts[b, 2] - verts[a, 2]
        qx, qy, qz = verts[c, 0] - verts[a, 0], verts[c, 1] - verts[a, 1], verts[c, 2] - verts[a, 2]
        nx, ny, nz = py * qz - pz * qy, pz * qx - px * qz, px * qy - py * qx
        for v in (a, b, c):
            normals[v, 0] += nx
            normals[v, 1] += ny
            normals[v, 2] += nz
    for v in range(normals.shape[0]):
        nx, ny, nz = normals[v, 0], normals[v, 1], normals[v, 2]
        length = np.sqrt(nx * nx + ny * ny + nz * nz)
        if length > 0:
            normals[v, 0], normals[v, 1], normals[v, 2] = nx / length, ny / length, nz / length
    return normals


class Lights(NamedTuple):
    """Directions (2, 3) towards the key and fill lights, unit; their colours (2, 3); sky and ground (2, 3).

    A white, matt surface that faces a light of colour c has the radiance c.
    """

    directions: np.ndarray
    colors: np.ndarray
    sky_ground: np.ndarray
    specular: float


@njit(cache=True, nogil=True, fastmath=True)
def _radiance(verts, normals, eye, albedo, wrap, specular, shininess, two_sided, light, directions, colors, sky_ground):
    out = np.zeros_like(verts)
    for v in range(verts.shape[0]):
        ex, ey, ez = eye[0] - verts[v, 0], eye[1] - verts[v, 1], eye[2] - verts[v, 2]
        scale = np.float32(1) / np.sqrt(ex * ex + ey * ey + ez * ez)
        ex, ey, ez = ex * scale, ey * scale, ez * scale
        nx, ny, nz = normals[v, 0], normals[v, 1], normals[v, 2]
        if two_sided[v] and nx * ex + ny * ey + nz * ez < 0:
            nx, ny, nz = -nx, -ny, -nz
        up = np.float32(0.5) + np.float32(0.5) * ny
        shine = np.float32(0)
        for c in range(3):
            out[v, c] = light[v, 2] * (sky_ground[1, c] + up * (sky_ground[0, c] - sky_ground[1, c]))
        for k in range(2):
            lx, ly, lz = directions[k, 0], directions[k, 1], directions[k, 2]
            facing = nx * lx + ny * ly + nz * lz
            for c in range(3):
                wrapped = (facing + wrap[v, c]) / (1 + wrap[v, c])
                if wrapped > 0:
                    out[v, c] += light[v, k] * colors[k, c] * wrapped
            if facing > 0:
                hx, hy, hz = lx + ex, ly + ey, lz + ez
                half = (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz)
                if half > np.float32(0.5):
                    shine += light[v, k] * colors[k, 1] * half ** shininess[v]
        for c in range(3):
            out[v, c] = out[v, c] * albedo[v, c] + specular[v] * shine
    return out


def radiance(
    verts: np.ndarray,
    normals: np.ndarray,
    eye: np.ndarray,
    surface: Surface,
    light: np.ndarray,
    lights: Lights,
) -> np.ndarray:
    """Linear radiance (V, 3) of verts (V, 3) with unit normals (V, 3), as seen from eye (3,).

    light (V, 3): the shares of the key light, the fill light and the sky that get there.
    """
    return _radiance(
        verts,
        normals,
        eye,
        surface.albedo,
        surface.wrap,
        surface.specular * np.float32(lights.specular),
        surface.shininess,
        surface.two_sided,
        light,
        lights.directions,
        lights.colors,
        lights.sky_ground,
    )
