"""Template and motion to pictures: lip crops for the recogniser, a presentable face for people.

Both views go one road: pose, project, rasterise at twice the size, light the vertices, interpolate, average 2x2,
encode.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from avsr.errors import InputError
from avsr.media.lips import SIZE, crop_transforms
from talking3d.face.template import FaceTemplate
from talking3d.render.camera import (
    Camera,
    apply_head_pose,
    check_head_pose,
    compose,
    head_transforms,
    portrait_camera,
    transform_points,
)
from talking3d.render.film import develop, gray_equivalent
from talking3d.render.occlusion import ambient_share, key_share
from talking3d.render.rasterize import new_fragments, rasterize, resolve, shown_vertices
from talking3d.render.shade import (
    Lights,
    mouth_light,
    radiance,
    surface_of,
    vertex_normals,
)

FILM_SIZE = 512  # px; the picture on which lip landmarks are projected before they are cropped
TO_SAMPLES = np.array([[2, 0, 0.5], [0, 2, 0.5]], np.float32)  # pixel centres of a picture to those of its 2x samples


@dataclass(frozen=True)
class Look:
    """Light, background and lens of a clip. Colours are linear RGB; directions have x right, y up, z to the viewer.

    key, fill: radiance of a white matt surface facing that light. sky, ground: ambient light from above and below.
    specular: scale of all highlights. background: colours at the top and at the bottom. pixel_noise: standard deviation
    as a share of full scale, new in each frame. blur_px: standard deviation in the output's pixels. crop_zoom,
    crop_jitter_px: of lip crops only, constant zoom and standard deviation of each frame's shift. seed: of noise and
    jitter.
    """

    key_direction: tuple[float, float, float] = (-0.55, 0.75, 0.9)
    key: tuple[float, float, float] = (0.98, 0.94, 0.88)
    fill_direction: tuple[float, float, float] = (0.8, 0.1, 0.7)
    fill: tuple[float, float, float] = (0.15, 0.17, 0.20)
    sky: tuple[float, float, float] = (0.27, 0.28, 0.31)
    ground: tuple[float, float, float] = (0.10, 0.09, 0.08)
    specular: float = 1.0
    exposure: float = 1.0
    background: tuple[tuple[float, float, float], tuple[float, float, float]] = ((0.17, 0.20, 0.24), (0.04, 0.05, 0.06))
    pixel_noise: float = 0.0
    blur_px: float = 0.0
    crop_zoom: float = 1.0
    crop_jitter_px: float = 0.0
    seed: int = 0

    def lights(self) -> Lights:
        """The lights, with exposure in them."""
        directions = np.array([self.key_direction, self.fill_direction], np.float32)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        colors = np.array([self.key, self.fill], np.float32) * np.float32(self.exposure)
        ambient = np.array([self.sky, self.ground], np.float32) * np.float32(self.exposure)
        return Lights(directions, colors, ambient, self.specular)


def random_look(rng: np.random.Generator) -> Look:
    """A look within what rooms, lamps and webcams do; deterministic in rng.

    The ranges are moderate: wider ones cost readers of real lips accuracy.
    """
    azimuth, height = rng.uniform(-1.0, 1.0), rng.uniform(0.0, 0.9)
    tint = 1 + 0.06 * rng.standard_normal(3)
    key = rng.uniform(0.7, 1.1)
    ambient = rng.uniform(0.18, 0.42)
    grays = rng.uniform(0.02, 0.6, size=2)[:, None] * (1 + 0.1 * rng.standard_normal((2, 3)))
    return replace(
        Look(),
        key_direction=(float(np.sin(azimuth)), float(height), float(np.cos(azimuth))),
        key=tuple((key * tint).tolist()),
        fill_direction=(float(-np.sin(azimuth)) + 0.3, 0.1, 0.7),
        fill=tuple((key * rng.uniform(0.1, 0.5) / tint).tolist()),
        sky=(ambient,) * 3,
        ground=(ambient * rng.uniform(0.3, 0.8),) * 3,
        specular=float(rng.uniform(0.5, 1.3)),
        exposure=float(np.exp(rng.normal(-0.05, 0.15))),
        background=tuple(tuple(np.clip(gray, 0, 1).tolist()) for gray in grays),
        pixel_noise=float(rng.uniform(0.003, 0.012)),
        blur_px=float(rng.uniform(0.3, 0.8)),
        crop_zoom=float(np.exp(rng.normal(0, 0.04))),
        crop_jitter_px=float(rng.uniform(0.1, 0.5)),
        seed=int(rng.integers(2**31)),
    )


def render_lips(
    template: FaceTemplate, offsets: np.ndarray, head_pose: np.ndarray | None = None, look: Look | None = None
) -> np.ndarray:
    """Draw a clip's lip crops (T, 96, 96) uint8, cut as filmed ones are: `crop_transforms` on projected landmarks.

    offsets (T, V, 3): vertices minus template, metres; head_pose (T, 6): rotation vector (rad) and translation (m),
    None for none. Gray is Rec. 601 luma. Raises InputError on another topology, non-finite or empty motion, or a
    template without mouth or eye landmarks.
    """
    look = Look() if look is None else look
    _check_motion(template, offsets, head_pose)
    rng = np.random.default_rng(look.seed)
    camera = portrait_camera(template.verts, FILM_SIZE)
    crops = crop_transforms(_project_landmarks(template, offsets, head_pose, camera))  # (T, 2, 3)
    crops = compose(_crop_jitter(look, len(offsets), rng), crops)
    top, bottom = (gray_equivalent(np.array(color, np.float32)[None]) for color in look.background)
    down = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None]
    background = np.broadcast_to(top + (bottom - top) * down, (SIZE, SIZE, 1))
    pictures = _draw(template, offsets, head_pose, look, camera, crops, background, rng)
    return np.stack([picture[..., 0] for picture in pictures])


def render_face(
    template: FaceTemplate,
    offsets: np.ndarray,
    head_pose: np.ndarray | None = None,
    look: Look | None = None,
    size: int = 512,
) -> np.ndarray:
    """Draw a clip of the head (T, size, size, 3) uint8 sRGB; arguments and errors as `render_lips`."""
    return np.stack(list(stream_face(template, offsets, head_pose, look, size)))


def stream_face(
    template: FaceTemplate,
    offsets: np.ndarray,
    head_pose: np.ndarray | None = None,
    look: Look | None = None,
    size: int = 512,
) -> Iterator[np.ndarray]:
    """`render_face` one frame (size, size, 3) at a time, for clips whose frames don't fit in memory."""
    look = Look() if look is None else look
    _check_motion(template, offsets, head_pose)
    camera = portrait_camera(template.verts, size)
    still = np.broadcast_to(np.eye(2, 3, dtype=np.float32), (len(offsets), 2, 3))
    top, bottom = np.array(look.background, np.float32)
    y, x = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
    distance = np.clip(np.hypot(x, y + 0.3) / 1.5, 0, 1)[..., None]  # a soft glow behind the head
    background = (top + (bottom - top) * distance**2 * (3 - 2 * distance)).astype(np.float32)
    return _draw(template, offsets, head_pose, look, camera, still, background, np.random.default_rng(look.seed))


def _check_motion(template: FaceTemplate, offsets: np.ndarray, head_pose: np.ndarray | None) -> None:
    n_verts = len(template.verts)
    if offsets.ndim != 3 or offsets.shape[1:] != (n_verts, 3):
        raise InputError(
            f"motion has shape {offsets.shape}, but template {template.name!r} needs (frames, {n_verts}, 3): "
            "it belongs to another topology; render it with the template that it was made for"
        )
    if len(offsets) == 0:
        raise InputError(f"motion for template {template.name!r} is empty: it needs at least one frame")
    bad = ~np.isfinite(offsets).all(axis=(1, 2))
    if bad.any():
        raise InputError(f"motion is not finite (NaN or infinite vertices) from frame {int(np.argmax(bad))} on")
    if head_pose is not None:
        check_head_pose(head_pose, len(offsets))


def _posed(verts: np.ndarray, head_pose: np.ndarray | None) -> np.ndarray:
    return verts if head_pose is None else apply_head_pose(verts, head_pose)


def _project_landmarks(template, offsets, head_pose, camera: Camera) -> np.ndarray:
    """The 68 landmarks (T, 68, 2) in the camera's pixels; those that the template lacks are NaN."""
    needed = {"mouth": range(48, 68), "right eye": range(36, 42), "left eye": range(42, 48)}
    for part, numbers in needed.items():
        absent = [n for n in numbers if template.landmarks[n] < 0]
        if absent:
            raise InputError(
                f"template {template.name!r} has no vertices for the {part}'s landmarks {absent} (iBUG 68): "
                "lip crops are cut by mouth and eyes; set them in the template"
            )
    points, _ = camera.project(_posed(template.verts[template.landmarks] + offsets[:, template.landmarks], head_pose))
    points[:, template.landmarks < 0] = np.nan
    return points


def _crop_jitter(look: Look, n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Transforms (T, 2, 3) of the crop about its centre: real landmarks tremble too."""
    centre = (SIZE - 1) / 2
    transforms = np.zeros((n_frames, 2, 3), np.float32)
    transforms[:, 0, 0] = transforms[:, 1, 1] = look.crop_zoom
    transforms[:, :, 2] = (1 - look.crop_zoom) * centre + look.crop_jitter_px * rng.standard_normal((n_frames, 2))
    return transforms


def _draw(template, offsets, head_pose, look, camera, transforms, background, rng) -> Iterator[np.ndarray]:
    """Yield pictures (H, W, C) uint8 of the posed template before background (H, W, C linear): gray if C is 1.

    transforms (T, 2, 3) go from the camera's pixels to the pictures'.
    """
    surface, lights = surface_of(template), look.lights()
    inside = surface.interior_verts
    open_sky = ambient_share(template)
    light = np.stack([key_share(template, lights.directions[0]), open_sky, open_sky], axis=1)  # (V, 3)
    eye = np.array(camera.position_m, np.float32)
    faces = np.ascontiguousarray(template.faces, np.int32)
    background = np.ascontiguousarray(background)
    transforms = compose(TO_SAMPLES, transforms).astype(np.float32)
    height, width, n_channels = background.shape
    if head_pose is not None:
        matrices, shifts = head_transforms(head_pose)
    fragments = new_fragments(2 * height, 2 * width)
    for t in range(len(offsets)):
        verts = (template.verts + offsets[t]).astype(np.float32)
        if len(inside) > 0:
            share = mouth_light(verts, template, inside)[:, None]
            light[inside] = share ** (1.5, 1.5, 1)  # lamps shine aslant: a small opening shuts them out before the sky
        if head_pose is not None:
            verts = verts @ matrices[t].T + shifts[t]
        points, depth = camera.project(verts)
        rasterize(transform_points(transforms[t], points), depth, faces, surface.interior_faces, fragments)
        shown = shown_vertices(fragments.face_index, faces, len(verts))
        colors = radiance(verts, vertex_normals(verts, faces), eye, surface, light, lights, shown)
        values = gray_equivalent(colors) if n_channels == 1 else colors
        linear = resolve(fragments.face_index, fragments.barycentrics, faces, values, background)
        yield develop(linear, look.blur_px, look.pixel_noise, rng)
