"""Template and motion to pictures: lip crops for the recogniser, a presentable face for people.

Both views go one road: pose, project, light the vertices, rasterise several samples a pixel, interpolate, average,
encode. The compiled backend walks it here frame by frame; the others walk its differentiable twin, `differentiable.py`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from avsr.errors import InputError
from avsr.media.lips import SIZE, crop_transforms
from avsr.media.video import recompress
from talking3d.face.template import FaceTemplate
from talking3d.render import kernels
from talking3d.render.camera import (
    Camera,
    apply_head_pose,
    check_head_pose,
    compose,
    head_transforms,
    portrait_camera,
)
from talking3d.render.culling import EVERYWHERE, part_in_view
from talking3d.render.film import develop, gray_equivalent, open_shutter
from talking3d.render.look import Look
from talking3d.render.occlusion import light_at_rest
from talking3d.render.rasterize import chosen_backend
from talking3d.render.shade import LAMPS_AND_SKY, Surface, mouth_light, radiance, surface_of, vertex_normals

FILM_SIZE = 512  # px; the picture on which lip landmarks are projected before they are cropped
SAMPLES = 2  # a pixel and axis: smooth edges
FRAMES_AT_ONCE = 50  # drawn by the backends that draw many frames together


class Shot(NamedTuple):
    """What a clip is drawn through: transforms (T, 2, 3) go from the camera's pixels to the pictures'.

    background (H, W, C): linear light behind the head; C is 1 for gray pictures, whose linear grays encode to Rec. 601
    luma, and 3 for RGB.
    """

    camera: Camera
    transforms: np.ndarray
    background: np.ndarray


def render_lips(
    template: FaceTemplate,
    offsets: np.ndarray,
    head_pose: np.ndarray | None = None,
    look: Look | None = None,
    *,
    samples: int = SAMPLES,
    backend: str = "auto",
) -> np.ndarray:
    """Draw a clip's lip crops (T, 96, 96) uint8, cut as filmed ones are: `crop_transforms` on projected landmarks.

    offsets (T, V, 3): vertices minus template, metres; head_pose (T, 6): rotation vector (rad) and translation (m),
    None for none. samples: a pixel and axis. backend: of `rasterize.BACKENDS`. Gray is Rec. 601 luma. Raises InputError
    on another topology, non-finite or empty motion, a template without mouth or eye landmarks, a backend that isn't
    there.
    """
    look = Look() if look is None else look
    check_motion(template, offsets, head_pose)
    rng, head_pose = np.random.default_rng(look.seed), look.stance(head_pose, len(offsets))
    shot = lip_shot(template, offsets, head_pose, look, rng)
    pictures = draw_frames(template, offsets, head_pose, look, shot, rng, samples, backend)
    lips = np.stack([picture[..., 0] for picture in pictures])
    return lips if look.codec_crf is None else recompress(lips, look.codec_crf)


def render_face(
    template: FaceTemplate,
    offsets: np.ndarray,
    head_pose: np.ndarray | None = None,
    look: Look | None = None,
    size: int = 512,
    *,
    backend: str = "auto",
) -> np.ndarray:
    """Draw a clip of the head (T, size, size, 3) uint8 sRGB; arguments and errors as `render_lips`."""
    return np.stack(list(stream_face(template, offsets, head_pose, look, size, backend=backend)))


def stream_face(
    template: FaceTemplate,
    offsets: np.ndarray,
    head_pose: np.ndarray | None = None,
    look: Look | None = None,
    size: int = 512,
    *,
    backend: str = "auto",
) -> Iterator[np.ndarray]:
    """`render_face` one frame (size, size, 3) at a time, for clips whose frames don't fit in memory."""
    look = Look() if look is None else look
    check_motion(template, offsets, head_pose)
    shot, head_pose = face_shot(template, len(offsets), look, size), look.stance(head_pose, len(offsets))
    return draw_frames(template, offsets, head_pose, look, shot, np.random.default_rng(look.seed), SAMPLES, backend)


def lip_shot(template, offsets, head_pose, look: Look, rng: np.random.Generator | None = None) -> Shot:
    """The shot of lip crops, as `render_lips` has it; rng draws the crop's jitter, None keeps it still."""
    camera = portrait_camera(template.verts, FILM_SIZE)
    crops = crop_transforms(_project_landmarks(template, offsets, head_pose, camera))  # (T, 2, 3)
    if rng is not None:
        crops = compose(_crop_jitter(look, len(offsets), rng), crops)
    top, bottom = (gray_equivalent(np.array(color, np.float32)[None]) for color in look.background)
    down = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None]
    background = (top + (bottom - top) * down) * look.texture(SIZE)[..., None]
    return Shot(camera, crops, background)


def face_shot(template: FaceTemplate, n_frames: int, look: Look, size: int) -> Shot:
    """The shot of a head portrait, size x size."""
    still = np.broadcast_to(np.eye(2, 3, dtype=np.float32), (n_frames, 2, 3))
    top, bottom = np.array(look.background, np.float32)
    y, x = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
    distance = np.clip(np.hypot(x, y + 0.3) / 1.5, 0, 1)[..., None]  # a soft glow behind the head
    background = (top + (bottom - top) * distance**2 * (3 - 2 * distance)) * look.texture(size)[..., None]
    return Shot(portrait_camera(template.verts, size), still, background.astype(np.float32))


def check_motion(template: FaceTemplate, offsets: np.ndarray, head_pose: np.ndarray | None) -> None:
    """Raise InputError unless offsets (T, V, 3) and head_pose (T, 6) can move this template."""
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


def reaching_light(template: FaceTemplate, surface: Surface, offsets: np.ndarray, look: Look):
    """Which light gets where: shares (V, 3) of key, fill and sky at rest, and (T, I, 3) at the interior vertices."""
    at_rest = light_at_rest(template, tuple(look.lights().directions[0].tolist()))
    if len(surface.interior_verts) == 0:
        return at_rest, np.zeros((len(offsets), 0, 3), np.float32)
    share = mouth_light(template, offsets, surface.interior_verts)[..., None]
    return at_rest, share ** np.array(LAMPS_AND_SKY, np.float32)


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
    verts = template.verts[template.landmarks] + offsets[:, template.landmarks]
    points, _ = camera.project(verts if head_pose is None else apply_head_pose(verts, head_pose))
    points[:, template.landmarks < 0] = np.nan
    return points


def _crop_jitter(look: Look, n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Transforms (T, 2, 3) of the crop about its centre: real landmarks tremble too."""
    centre = (SIZE - 1) / 2
    transforms = np.zeros((n_frames, 2, 3), np.float32)
    transforms[:, 0, 0] = transforms[:, 1, 1] = look.crop_zoom
    transforms[:, :, 2] = (1 - look.crop_zoom) * centre + look.crop_jitter_px * rng.standard_normal((n_frames, 2))
    return transforms


def draw_frames(
    template: FaceTemplate,
    offsets: np.ndarray,
    head_pose: np.ndarray | None,
    look: Look,
    shot: Shot,
    rng: np.random.Generator,
    samples: int,
    backend: str,
) -> Iterator[np.ndarray]:
    """Yield pictures (H, W, C) uint8 of the template posed as head_pose (T, 6) says; the look's stance is left out."""
    if chosen_backend(backend, "cpu") == "cpu":
        linear = _draw_compiled(template, offsets, head_pose, look, shot, samples)
    else:
        linear = _draw_by_twin(template, offsets, head_pose, look, shot, samples, backend)
    for picture in open_shutter(linear, look.trail):
        yield develop(picture, look.blur_px, look.pixel_noise, rng)


def _draw_by_twin(template, offsets, head_pose, look, shot, samples, backend) -> Iterator[np.ndarray]:
    import torch

    from talking3d.render.differentiable import Painter

    painter = Painter(template, look, samples=samples, backend=backend)
    painter = painter.to("cuda" if torch.cuda.is_available() else "cpu")
    for start in range(0, len(offsets), FRAMES_AT_ONCE):
        frames = slice(start, start + FRAMES_AT_ONCE)
        with torch.no_grad():
            pose = None if head_pose is None else head_pose[frames]
            part = shot._replace(transforms=shot.transforms[frames])
            yield from painter.linear(painter.tensor(offsets[frames]), pose, part).cpu().numpy()


def _draw_compiled(template, offsets, head_pose, look, shot: Shot, samples: int) -> Iterator[np.ndarray]:
    """Yield linear pictures (H, W, C), drawn by the compiled kernels; parts that never come into view are left out."""
    height, width, n_channels = shot.background.shape
    size = (samples * height, samples * width)
    transforms = compose(to_samples(samples), shot.transforms).astype(np.float32)
    if head_pose is None:
        head_pose = np.zeros((len(offsets), 6), np.float32)
    matrices, shifts = head_transforms(head_pose)
    eye, lens = np.array(shot.camera.position_m, np.float32), np.array(shot.camera.lens, np.float32)
    surface, lights = surface_of(template), look.lights()
    at_rest, inside = reaching_light(template, surface, offsets, look)

    def placed(t: int) -> tuple:
        return template.verts, offsets[t], matrices[t], shifts[t], eye, lens, transforms[t]

    outside = np.full(len(template.verts), EVERYWHERE, np.uint8)
    for t in range(len(offsets)):
        kernels.note_outside(outside, *size, *placed(t))
    mesh = part_in_view(template.faces, surface.interior_faces, outside)
    kept_inside = np.flatnonzero(np.isin(surface.interior_verts, mesh.kept))
    surface, light, inside = surface.of_verts(mesh.kept), at_rest[mesh.kept], inside[:, kept_inside]
    face_index, scratch = np.empty(size, np.int32), np.empty(size, np.float32)
    for t in range(len(offsets)):
        verts, points, inverse_depth = kernels.project_frame(mesh.kept, *placed(t))
        kernels.rasterize_frame(points, inverse_depth, mesh.faces, mesh.outer, mesh.inner, False, face_index, scratch)
        light[surface.interior_verts] = inside[t]
        colors = radiance(verts, vertex_normals(verts, mesh.around), eye, surface, light, lights)
        values = gray_equivalent(colors) if n_channels == 1 else colors
        yield kernels.picture_frame(points, inverse_depth, mesh.faces, face_index, values, shot.background)


def to_samples(samples: int) -> np.ndarray:
    """The transform (2, 3) from a picture's pixels to those of its samples, `samples` a pixel and axis."""
    shift = (samples - 1) / 2
    return np.array([[samples, 0, shift], [0, samples, shift]], np.float32)
