"""A look comes back from pictures that were drawn in it."""

from dataclasses import replace

import numpy as np
import pytest

from avsr.errors import InputError
from avsr.media.timing import FPS
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face
from talking3d.render.film import gray_equivalent
from talking3d.render.look import Look, look_about
from talking3d.render.look_fit import LEAST_ALBEDO, FilmedLips, agreement, choose_frames, fit_look
from talking3d.render.renderer import render_lips
from talking3d.render.speaker_look import SpeakerLook

KEY = np.array([0.55, 0.3, 0.78])
LIPS, FRECKLE = 0.5, 0.6  # tones of the lips and of a patch at one side of the chin


@pytest.fixture(scope="module")
def face():
    return procedural_face()


def talk(face, seed: int, n_frames: int = 30) -> Motion:
    rng = np.random.default_rng(seed)
    time = np.arange(n_frames) / FPS
    coefficients = np.zeros((n_frames, len(face.articulation_names)), np.float32)
    for name, size in (("jaw_open", 0.7), ("lip_spread", 0.5), ("lip_round", 0.4)):
        wave = np.sin(2 * np.pi * (rng.uniform(0.8, 2) * time + rng.uniform()))
        coefficients[:, face.articulation_names.index(name)] = size * np.clip(wave, 0, 1)
    return Motion.of_template(face, FPS, coefficients=coefficients, head_pose=np.zeros((n_frames, 6)))


@pytest.fixture(scope="module")
def known(face):
    """A look unlike the default: light low from the left, dark lips, a patch on the chin, blurred, noisy."""
    gray = face.colors.mean(axis=1, keepdims=True).repeat(3, axis=1)
    gray[face.region("lips")] *= LIPS
    gray[patch(face)] *= FRECKLE
    light = {
        "key_direction": tuple(KEY),
        "key": (0.6,) * 3,
        "fill": (0.1,) * 3,
        "sky": (0.2,) * 3,
        "ground": (0.1,) * 3,
    }
    look = Look(**light, specular=0.4, fill_direction=(-0.6, 0.1, 0.7), blur_px=0.9, pixel_noise=0.01, seed=3)
    return SpeakerLook(look, gray, face.topology_hash)


def patch(face):
    x, y, z = 1e3 * face.verts.T
    return (np.hypot(x - 12, y + 26) < 8) & (z > -40)


@pytest.fixture(scope="module")
def clips(face, known):
    def film(seed):
        motion = talk(face, seed)
        drawn = render_lips(known.dress(face), motion.offsets_for(face), motion.head_pose, known.look)
        return FilmedLips(face, motion, drawn)

    return [film(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def found(clips):
    return fit_look(clips[:4])


def test_pictures_of_another_clip_come_back(face, known, clips, found):
    frames = choose_frames(clips[4:])
    before = agreement(frames.drawn(face, Look()), frames.film)
    after = agreement(frames.drawn(found.dress(face), found.look), frames.film)
    assert after["difference"] < 4 < 15 < before["difference"]
    assert after["correlation"] > 0.98 > 0.9 > before["correlation"]
    assert after["motion_correlation"] > max(0.9, before["motion_correlation"])
    assert after["mean_difference"] < 2.5 and after["histogram_distance"] < 3


def test_light_tones_blur_and_noise_come_back(face, known, found):
    direction = np.array(found.look.key_direction)
    cosine = direction @ KEY / np.linalg.norm(direction) / np.linalg.norm(KEY)
    assert np.rad2deg(np.arccos(cosine)) < 30  # the default's light comes from 71 degrees away
    assert abs(found.look.blur_px - known.look.blur_px) <= 0.3
    assert abs(found.look.pixel_noise - known.look.pixel_noise) < 0.004

    x, y, _ = 1e3 * face.verts.T
    cheeks = (np.abs(x) > 14) & (np.abs(x) < 24) & (np.abs(y) < 12) & np.isin(np.arange(len(x)), face.region("skin"))
    freckle = patch(face)
    opposite = (np.hypot(x + 12, y + 26) < 8) & np.isin(np.arange(len(x)), face.region("skin"))
    outer_lips = np.setdiff1d(face.region("lips"), face.region("lips_inner"))

    def shares(colors):
        """Of lips to skin, of the patch to its mirror image."""
        return colors[outer_lips].mean() / colors[cheeks].mean(), colors[freckle].mean() / colors[opposite].mean()

    np.testing.assert_allclose(shares(found.colors), shares(known.colors), rtol=0.25)


def test_what_is_never_seen_keeps_its_gray(face, found):
    assert np.ptp(found.colors, axis=1).max() == 0 and (found.colors > 0).all() and (found.colors < 1).all()
    unseen = face.region("hair")
    gray = np.maximum(gray_equivalent(face.colors[unseen])[:, 0], LEAST_ALBEDO)
    np.testing.assert_allclose(found.colors[unseen, 0], gray, rtol=1e-4)


def test_agreement_is_what_it_says():
    rng = np.random.default_rng(0)
    film = rng.uniform(0, 0.5, (3, 96, 96))
    same = agreement(film, film)
    assert same["correlation"] == pytest.approx(1) and same["motion_correlation"] == pytest.approx(1)
    assert same["difference"] == same["mean_difference"] == same["histogram_distance"] == 0
    brighter = agreement(film + 0.1, film)
    assert brighter["correlation"] == pytest.approx(1) and brighter["difference"] == pytest.approx(25.5)
    assert brighter["mean_difference"] == pytest.approx(25.5) == pytest.approx(brighter["histogram_distance"])
    shuffled = agreement(rng.permuted(film, axis=2), film)
    assert shuffled["histogram_distance"] < 1e-9 and abs(shuffled["correlation"]) < 0.05
    still = agreement(np.repeat(film[:1], 3, axis=0) + 1e-6 * rng.random(film.shape), film)
    assert abs(still["motion_correlation"]) < 0.05


def test_a_speakers_look_is_saved_and_read(found, face, tmp_path):
    found.save(tmp_path / "ann.npz")
    again = SpeakerLook.load(tmp_path / "ann.npz")
    assert again.look == found.look and again.topology_hash == found.topology_hash
    np.testing.assert_array_equal(again.colors, found.colors)
    np.testing.assert_array_equal(again.dress(face).colors, found.colors)
    (tmp_path / "bad.npz").write_bytes(b"no")
    for name in ("bad", "absent"):
        with pytest.raises(InputError, match=f"{name}.npz: not a speaker's look .*`talking3d look`"):
            SpeakerLook.load(tmp_path / f"{name}.npz")


def test_looks_about_a_look_vary_moderately(found):
    looks = [look_about(found.look, np.random.default_rng(seed)) for seed in range(300)]
    assert looks[0] == look_about(found.look, np.random.default_rng(0)) != looks[1]
    base = np.array(found.look.key_direction) / np.linalg.norm(found.look.key_direction)
    directions = np.array([look.key_direction for look in looks])
    away = np.rad2deg(np.arccos(directions @ base / np.linalg.norm(directions, axis=1)))
    assert 7 < np.sqrt((away**2).mean() / 2) < 9.5
    ratios = np.log([look.key[0] / found.look.key[0] for look in looks])
    assert abs(ratios.mean()) < 0.02 and 0.085 < ratios.std() < 0.115
    assert 0.025 < np.std([look.crop_zoom for look in looks]) < 0.035
    assert np.allclose(np.rad2deg([look.head_turn for look in looks]).std(axis=0), [1.0, 1.5, 0.6], rtol=0.15)


def test_what_no_look_can_be_found_from_is_said(face, clips, found):
    with pytest.raises(InputError, match="no filmed clips"):
        fit_look([])
    with pytest.raises(InputError, match="29 filmed crops but motion of 30 frames"):
        FilmedLips(face, clips[0].motion, clips[0].lips[1:])
    turned = replace(face, faces=face.faces[:, [1, 2, 0]])
    motion = Motion.of_template(turned, FPS, coefficients=clips[0].motion.coefficients)
    with pytest.raises(InputError, match="fitted with different templates"):
        fit_look([clips[0], FilmedLips(turned, motion, clips[0].lips)])
    with pytest.raises(InputError, match="found on another face than 'procedural'"):
        found.dress(turned)
