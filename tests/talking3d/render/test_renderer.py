"""Both views on the procedural face: geometry, light in the mouth, invariances, what a user can get wrong."""

from dataclasses import replace

import numpy as np
import pytest

from avsr.errors import InputError
from avsr.media.lips import MOUTH_WIDTH, SIZE
from talking3d.face.procedural import procedural_face
from talking3d.render.look import Look, random_look
from talking3d.render.renderer import render_face, render_lips, stream_face

VISEMES = {
    "rest": {},
    "a": {"jaw_open": 0.9},
    "i": {"jaw_open": 0.16, "lip_spread": 0.85, "lower_depress": 0.3, "upper_raise": 0.2},
    "u": {"jaw_open": 0.1, "lip_round": 1.0},
}


@pytest.fixture(scope="module")
def face():
    return procedural_face()


@pytest.fixture(scope="module")
def offsets(face):
    """The visemes (4, V, 3), in the order of VISEMES."""
    names = list(face.articulation_names)
    coefficients = np.zeros((len(VISEMES), len(names)), np.float32)
    for row, viseme in zip(coefficients, VISEMES.values(), strict=True):
        for name, value in viseme.items():
            row[names.index(name)] = value
    return face.offsets(coefficients)


def painted(face, marks: dict):
    """The face in black, with the regions or landmarks (numbers) of `marks` in white."""
    colors = np.zeros_like(face.colors)
    for key, value in marks.items():
        colors[face.regions[key] if isinstance(key, str) else face.landmarks[key]] = value
    return replace(face, colors=colors)


FLAT = Look(specular=0.0, key=(0, 0, 0), fill=(0, 0, 0), sky=(1, 1, 1), ground=(1, 1, 1), background=((0,) * 3,) * 2)


def test_lip_crops_have_the_contracts_form(face, offsets):
    lips = render_lips(face, offsets, np.zeros((4, 6), np.float32), Look())
    assert lips.shape == (4, SIZE, SIZE) and lips.dtype == np.uint8
    assert 60 < lips.mean() < 200 and lips.std() > 20


def test_the_drawn_mouth_lies_where_filmed_mouths_lie(face, offsets):
    """Its mean width is the share of the crop that crop_transforms gives filmed ones, its middle the crop's."""
    still = np.repeat(offsets[:1], 5, axis=0)
    head_pose = np.zeros((5, 6), np.float32)
    head_pose[:, 2], head_pose[:, 3] = 0.2, 0.03  # a head tilted and off centre comes out upright and centred
    crops = render_lips(painted(face, {"lips": 1.0}), still, head_pose, FLAT)
    weight = crops.astype(float).sum(axis=(0, 1))
    columns = np.flatnonzero(weight > 0.05 * weight.max())
    assert abs((columns[-1] - columns[0]) / SIZE - MOUTH_WIDTH) < 0.06
    y, x = np.mgrid[:SIZE, :SIZE]
    crop = crops[0].astype(float)
    assert abs((crop * x).sum() / crop.sum() - 47.5) < 1.5
    assert abs((crop * y).sum() / crop.sum() - 47.5) < 5
    left, right = ((crop * y)[:, half].sum() / crop[:, half].sum() for half in (slice(0, 48), slice(48, 96)))
    assert abs(left - right) < 1  # level


def test_opening_the_jaw_opens_a_dark_mouth(face, offsets):
    lips = render_lips(face, offsets[:2])
    assert (lips[1] < 30).sum() > (lips[0] < 30).sum() + 100


def test_teeth_shine_in_i_and_not_in_u(face, offsets):
    """The trap of drawn mouths: lips round to /u/ in front of teeth that stay white."""
    white_teeth = painted(face, {"teeth_upper": 1.0, "teeth_lower": 1.0})
    brightest = [
        np.sort(render_lips(white_teeth, offsets[k : k + 1], look=FLAT)[0].ravel())[-40:].mean() for k in (2, 3)
    ]
    assert brightest[0] > 120
    assert brightest[1] < 0.75 * brightest[0]


def test_the_face_is_in_frame_and_lit(face, offsets):
    pictures = render_face(face, offsets[:2], size=256)
    assert pictures.shape == (2, 256, 256, 3) and pictures.dtype == np.uint8
    silhouette = render_face(
        replace(face, colors=np.ones_like(face.colors)),
        offsets[:1],
        look=replace(FLAT, background=((0,) * 3,) * 2),
        size=256,
    )[0].max(axis=2)
    covered = silhouette > 0
    assert not covered[:10].any()  # air above the crown
    assert not covered[:150, :15].any() and not covered[:150, -15:].any()  # and beside the head
    assert 0.2 < covered.mean() < 0.8
    assert covered[128, 128]
    skin = pictures[0, 100:140, 100:156].reshape(-1, 3).mean(axis=0)
    assert skin[0] > skin[1] > skin[2] > 40  # skin is reddish
    assert (pictures[0] >= 254).all(axis=2).mean() < 0.01  # and not burnt out


def test_streamed_frames_are_the_clips_frames(face, offsets):
    look = Look(pixel_noise=0.01, seed=3)
    streamed = list(stream_face(face, offsets[:3], None, look, 96))
    assert np.array_equal(np.stack(streamed), render_face(face, offsets[:3], None, look, 96))


def test_head_pose_none_is_no_pose(face, offsets):
    zero = np.zeros((2, 6), np.float32)
    still, posed = (render_face(face, offsets[:2], pose, size=128).astype(int) for pose in (None, zero))
    assert np.abs(still - posed).max() <= 2


def test_turning_the_head_turns_the_picture(face, offsets):
    pose = np.zeros((1, 6), np.float32)
    pose[0, 3] = 0.03
    moved, still = (render_face(face, offsets[:1], p, FLAT, 128)[0].max(axis=2) for p in (pose, None))
    columns = [np.average(np.arange(128), weights=picture[:70].sum(axis=0)) for picture in (moved, still)]
    assert columns[0] > columns[1] + 5  # +x is right


def test_same_look_same_pictures_other_seed_other_noise(face, offsets):
    look = random_look(np.random.default_rng(0))
    assert look == random_look(np.random.default_rng(0)) != random_look(np.random.default_rng(1))
    first, again = (render_lips(face, offsets, None, look) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, render_lips(face, offsets, None, replace(look, seed=look.seed + 1)))


def test_random_looks_stay_readable(face, offsets):
    rng = np.random.default_rng(0)
    for _ in range(10):
        lips = render_lips(face, offsets[:1], None, random_look(rng))[0]
        assert 35 < lips.mean() < 225 and lips[30:66, 20:76].std() > 8
        assert (lips > 250).mean() < 0.1


def test_crop_zoom_and_jitter(face, offsets):
    still = np.repeat(offsets[:1], 30, axis=0)
    lips = painted(face, {"lips": 1.0})
    areas = [(render_lips(lips, still[:1], look=replace(FLAT, crop_zoom=zoom)) > 100).sum() for zoom in (1.0, 1.2)]
    assert abs(areas[1] / areas[0] - 1.44) < 0.08
    crops = render_lips(lips, still, look=replace(FLAT, crop_jitter_px=1.5)).astype(float)
    y, x = np.mgrid[:SIZE, :SIZE]
    middle = [[(crop * a).sum() / crop.sum() for a in (x, y)] for crop in crops]
    assert np.all(np.abs(np.std(middle, axis=0) - 1.5) < 0.6)


@pytest.mark.parametrize("draw", [render_lips, render_face])
class TestInputErrors:
    def test_motion_of_another_topology(self, face, draw):
        with pytest.raises(InputError, match=r"another topology"):
            draw(face, np.zeros((3, len(face.verts) + 1, 3), np.float32))

    def test_empty_motion(self, face, draw):
        with pytest.raises(InputError, match="is empty"):
            draw(face, np.zeros((0, len(face.verts), 3), np.float32))

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_vertices_that_are_not_finite(self, face, offsets, draw, value):
        broken = offsets.copy()
        broken[2, 5, 1] = value
        with pytest.raises(InputError, match="not finite .* frame 2"):
            draw(face, broken)

    def test_head_pose_of_another_length(self, face, offsets, draw):
        with pytest.raises(InputError, match=r"head pose has shape \(3, 6\), expected \(4, 6\)"):
            draw(face, offsets, np.zeros((3, 6), np.float32))

    def test_template_without_mouth_landmarks(self, face, offsets, draw):
        landmarks = face.landmarks.copy()
        landmarks[60:68] = -1
        with pytest.raises(InputError, match="landmarks"):
            draw(replace(face, landmarks=landmarks), offsets)


def test_lips_need_eye_landmarks_too(face, offsets):
    landmarks = face.landmarks.copy()
    landmarks[36:42] = -1
    with pytest.raises(InputError, match="right eye's landmarks"):
        render_lips(replace(face, landmarks=landmarks), offsets)


def test_landmarks_that_cropping_does_not_use_may_be_absent(face, offsets):
    landmarks = face.landmarks.copy()
    landmarks[:17] = -1
    assert np.array_equal(render_lips(replace(face, landmarks=landmarks), offsets), render_lips(face, offsets))


def test_a_template_without_a_mouth_interior(shared):
    """A scanned topology: no teeth, no colours, no landmarks; its face can be drawn all the same."""
    from talking3d.face.mesh_io import read_mesh
    from talking3d.face.template import FaceTemplate

    folder = shared / "ict_facekit" / "FaceXModel"
    (shut, faces), (opened, _) = (read_mesh(folder / name) for name in ("generic_neutral_mesh.obj", "jawOpen.obj"))
    shut, opened = np.asarray(shut, np.float32) / 100, np.asarray(opened, np.float32) / 100  # centimetres
    a, b, c = (shut[faces[:, k]].astype(float) for k in range(3))
    faces = faces[np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-12]
    offsets = np.stack([np.zeros_like(shut), opened - shut])
    shut, opened = render_face(FaceTemplate("ict", shut, faces), offsets, size=256).astype(int)
    changed = np.argwhere(np.abs(shut - opened).max(axis=2) > 40)
    assert len(changed) > 200
    assert changed[:, 0].min() > 110  # below the nose only
