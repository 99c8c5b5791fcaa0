"""Looks: what the random ones range over, the head's stance, the background's texture, the codec."""

import numpy as np
import pytest

from avsr.media.timing import FPS
from talking3d.face.procedural import procedural_face
from talking3d.render.look import CODEC_CRF, Look, random_look
from talking3d.render.renderer import render_face, render_lips


@pytest.fixture(scope="module")
def face():
    return procedural_face()


def still(face, n_frames: int) -> np.ndarray:
    return np.zeros((n_frames, len(face.verts), 3), np.float32)


def test_random_looks_range_as_they_say():
    looks = [random_look(np.random.default_rng(seed)) for seed in range(400)]
    turns = np.rad2deg([look.head_turn for look in looks])
    assert np.allclose(turns.std(axis=0), [2.0, 3.0, 1.2], rtol=0.15) and np.abs(turns.mean(axis=0)).max() < 0.5
    coded = [look.codec_crf for look in looks if look.codec_crf is not None]
    assert 0.4 < len(coded) / 400 < 0.6 and (min(coded), max(coded)) == CODEC_CRF
    assert 0.4 < np.mean([look.trail > 0 for look in looks]) < 0.6 and max(look.trail for look in looks) <= 0.3
    assert max(look.head_sway for look in looks) <= np.deg2rad(1.0)
    assert 0 <= min(look.background_texture for look in looks) <= max(look.background_texture for look in looks) <= 0.4


def test_stance_adds_turn_and_sway_to_the_motions_own():
    assert Look().stance(None, 9) is None
    pose = np.random.default_rng(0).normal(0, 0.1, (200, 6)).astype(np.float32)
    assert Look().stance(pose, 200) is pose
    turned = Look(head_turn=(0.1, -0.2, 0.3)).stance(pose, 200)
    assert np.allclose(turned - pose, [0.1, -0.2, 0.3, 0, 0, 0], atol=1e-6)
    sway = Look(head_sway=0.01, seed=5).stance(None, 5000)
    assert np.allclose(sway[:, :3].std(axis=0), [0.01, 0.015, 0.007], rtol=0.05) and not sway[:, 3:].any()
    assert np.abs(np.diff(sway[:, :3], axis=0)).max() < 0.01 * 15 / FPS  # slow
    assert np.array_equal(sway[:50], Look(head_sway=0.01, seed=5).stance(None, 50))
    assert not np.array_equal(sway, Look(head_sway=0.01, seed=6).stance(None, 5000))


def test_a_turned_head_shows_its_side(face):
    eye = face.region("eyes") if "eyes" in face.regions else face.landmarks[36:48]
    assert len(eye)
    front, turned, posed = (
        render_face(face, still(face, 1), pose, look, 96)[0].astype(int)
        for pose, look in (
            (None, Look()),
            (None, Look(head_turn=(0.0, 0.3, 0.0))),
            (np.array([[0, 0.3, 0, 0, 0, 0]], np.float32), Look()),
        )
    )
    assert np.array_equal(turned, posed)
    assert np.abs(front - turned).mean() > 5
    lips = [render_lips(face, still(face, 1), None, Look(head_turn=(0, turn, 0)))[0].astype(int) for turn in (0, 0.3)]
    assert np.abs(lips[0] - lips[1]).mean() > 3


def test_texture_is_soft_positive_and_seeded():
    assert np.array_equal(Look().texture(8), np.ones((8, 8)))
    fields = np.stack([Look(background_texture=0.3, seed=seed).texture(96) for seed in range(60)])
    assert abs(fields.std() - 0.3) < 0.05 and fields.min() > 0
    assert np.abs(np.diff(fields, axis=1)).max() < 0.1
    assert np.array_equal(fields[4], Look(background_texture=0.3, seed=4).texture(96))


def test_texture_shows_behind_the_head_only(face):
    plain, blobs = (
        render_face(face, still(face, 1), None, Look(background_texture=strength, seed=2), 96)[0].astype(int)
        for strength in (0.0, 0.4)
    )
    changed = np.abs(plain - blobs).max(axis=2)
    assert changed[:8].mean() > 2 and changed[44:60, 40:56].max() == 0


def test_the_codec_leaves_its_marks_on_lip_crops(face):
    offsets = still(face, 6)
    rng = np.random.default_rng(0)
    offsets[:, face.region("lips"), 1] = 0.004 * rng.standard_normal((6, 1))
    clean, good, bad = (
        render_lips(face, offsets, None, Look(codec_crf=crf, pixel_noise=0.01)).astype(int) for crf in (None, 20, 36)
    )
    assert 0.1 < np.abs(good - clean).mean() < np.abs(bad - clean).mean() < 8
    assert np.array_equal(bad, render_lips(face, offsets, None, Look(codec_crf=36, pixel_noise=0.01)))


def test_a_trail_lags_behind_a_moving_mouth(face):
    offsets = still(face, 4)
    offsets[2:, face.region("lips"), 1] = 0.006
    sharp, trailing = (render_lips(face, offsets, None, Look(trail=trail)).astype(int) for trail in (0.0, 0.3))
    difference = np.abs(sharp - trailing).reshape(4, -1).max(axis=1)
    assert difference[2] > 10 and difference[0] == difference[1] == difference[3] == 0
