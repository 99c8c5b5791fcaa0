import dataclasses

import numpy as np
import pytest

from avsr.errors import InputError
from avsr.media.timing import FPS, frames_of
from talking3d.corpus.articulation import (
    EARLY,
    LATE,
    PLATEAU,
    SLOW_SHAPES,
    LipAperture,
    Style,
    _blend,
    articulate,
    head_motion,
    random_style,
)
from talking3d.corpus.visemes import ARTICULATORS, COLUMN, CONSONANTS, VOWELS, segments_of, viseme_classes
from talking3d.face.procedural import random_identity
from talking3d.face.regions import lip_aperture_mm

MM_PER_UNIT = {"jaw_open": 16.4, "lip_funnel": 7.6, "lower_depress": 6.0, "upper_raise": 5.2, "lip_round": 3.1}
APERTURE = LipAperture(0.0, np.array([MM_PER_UNIT.get(name, 0.0) for name in ARTICULATORS]))


def spread_out(*ipas, start_s=0.2, each_s=0.12):
    return [(start_s + i * each_s, start_s + (i + 1) * each_s, ipa) for i, ipa in enumerate(ipas)]


def move(phones, style=None, duration_s=None, seed=0, **more):
    duration_s = phones[-1][1] + 0.3 if duration_s is None else duration_s
    return articulate(phones, duration_s, style or Style(), APERTURE, np.random.default_rng(seed), **more)


def during(motion, phone, name, margin_s=0.0):
    centres_s = (np.arange(len(motion)) + 0.5) / FPS
    return motion[(centres_s >= phone[0] - margin_s) & (centres_s < phone[1] + margin_s), COLUMN[name]]


def random_phones(rng, n=24):
    symbols = [s for c in CONSONANTS.values() for s in c.ipa.split()] + [f"ˈ{v}" for v in VOWELS] + list(VOWELS)
    edges_s = 0.2 + np.cumsum(rng.uniform(0.05, 0.2, n + 1))
    return [(float(a), float(b), str(rng.choice(symbols))) for a, b in zip(edges_s[:-1], edges_s[1:], strict=True)]


def test_blend_is_cohen_massaro_term_by_term():
    segments = segments_of(spread_out("b", "ˈuː", "s", "aɪ"), 1.2)
    times_s = np.linspace(0, 1.2, 23)
    blended = _blend(segments, times_s, theta_scale=1.1, lips_theta_scale=1.3)
    for t, time_s in enumerate(times_s):
        for k, name in enumerate(ARTICULATORS):
            above = below = 0.0
            for s in segments:
                tau = time_s - (s.start_s + s.end_s) / 2
                distance = max(0.0, abs(tau) - PLATEAU.get(s.kind, PLATEAU["consonant"]) * (s.end_s - s.start_s))
                theta = 1.1 * s.theta * (1.3 * (EARLY if tau < 0 else LATE) if name in SLOW_SHAPES else 1.0)
                dominance = s.alpha[k] * np.exp(-theta * distance)
                above, below = above + dominance * s.target[k], below + dominance
            assert blended[t, k] == pytest.approx(above / below, abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_bilabials_close_whatever_surrounds_them(seed):
    """Every speaker, every neighbour, even in the 40 ms of a fast b: at least one frame shows the lips together."""
    rng = np.random.default_rng(seed)
    style = random_style(rng)
    phones = [
        (a, b, str(rng.choice(list("pbm"))) if i % 3 == 1 else p) for i, (a, b, p) in enumerate(random_phones(rng))
    ]
    motion = move(phones, style, seed=seed)
    centres_s = (np.arange(len(motion)) + 0.5) / FPS + style.visual_lead_s
    gap_mm = APERTURE.gap_mm(motion)
    for start_s, end_s, ipa in phones:
        if viseme_classes(ipa) == ["BMP"]:
            assert gap_mm[(centres_s > start_s - 0.025) & (centres_s < end_s)].min() < 0
    assert gap_mm.min() >= -0.81


def test_closure_is_exact_on_a_real_template():
    face = random_identity(np.random.default_rng(3))
    aperture = LipAperture.of_template(face)
    rng = np.random.default_rng(0)
    coefficients = rng.uniform(0, 1, (5, len(ARTICULATORS))).astype(np.float32)
    np.testing.assert_allclose(
        aperture.gap_mm(coefficients), lip_aperture_mm(face, face.offsets(coefficients)), atol=1e-3
    )
    motion = articulate(spread_out("ˈɑː", "m", "ˈæ", "ʃ", "p", "uː"), 1.2, random_style(rng), aperture, rng)
    gap_mm = lip_aperture_mm(face, face.offsets(motion))
    assert gap_mm[[0, 1, -1]].max() < 0  # silence
    assert gap_mm[8:11].min() < 0 and gap_mm[16:20].min() < 0  # m, p
    assert gap_mm[4:8].max() > 5  # ɑ


def test_contacts_of_other_consonants():
    phones = spread_out("ʃ", "f", "ˈɑː", "s", "ˈɑː", "v", "ˈɑː", "θ")
    motion = move(phones, random_style(np.random.default_rng(1)))
    for f in (phones[1], phones[5]):
        assert during(motion, f, "lower_tuck").max() >= 0.95
        assert during(motion, f, "lip_press").min() < 0.01
        assert during(motion, f, "lip_funnel").min() <= 0.101
    assert during(motion, phones[3], "jaw_open").min() <= 0.121 < 0.5 < during(motion, phones[2], "jaw_open").max()
    assert during(motion, phones[7], "tongue_out").max() >= 0.8


def test_the_mouth_rests_in_silence_and_opens_before_speech():
    motion = move(spread_out("ˈɑː", "ˈɑː", start_s=0.6), random_style(np.random.default_rng(2)), duration_s=1.6)
    gap_mm = APERTURE.gap_mm(motion)
    assert gap_mm[:12].max() < 0.3 and gap_mm[-10:].max() < 0.3
    assert gap_mm[14] > gap_mm[12] and gap_mm[15:20].max() > 6


def test_rounding_starts_earlier_than_the_jaw():
    phones = spread_out("s", "t", "n", "ˈuː", each_s=0.1)
    plain = move(spread_out("s", "t", "n", "ˈɪ", each_s=0.1))
    rounding = move(phones)[:, COLUMN["lip_round"]] - plain[:, COLUMN["lip_round"]]
    during_n = during(rounding[:, None] * np.ones(len(ARTICULATORS)), phones[2], "lip_round")
    assert during_n.min() > 0.25 * rounding.max()


def test_neighbours_shape_a_consonant():
    """Tongue-made consonants leave the lips to the vowels: t in "oot" is round, in "eat" spread."""
    round_t, spread_t = (spread_out("ˈuː", "t", "uː"), spread_out("ˈiː", "t", "iː"))
    assert during(move(round_t), round_t[1], "lip_round").min() > 0.5
    assert during(move(spread_t), spread_t[1], "lip_spread").min() > 0.4
    assert during(move(spread_t), spread_t[1], "lip_round").max() < 0.05


def test_stress_opens_the_jaw_and_raises_the_brow():
    stressed, plain = (move(spread_out("b", ipa, "d")) for ipa in ("ˈæ", "æ"))
    assert stressed[:, COLUMN["jaw_open"]].max() > 1.1 * plain[:, COLUMN["jaw_open"]].max()
    assert stressed[:, COLUMN["brow_raise"]].max() > 0.3 > plain[:, COLUMN["brow_raise"]].max() + 0.29


def test_frames_are_samples_of_one_curve():
    phones = random_phones(np.random.default_rng(5))
    slow, fast = move(phones), move(phones, fps=3 * FPS)
    n = min(len(slow), len(fast[1::3]))
    np.testing.assert_allclose(slow[:n], fast[1::3][:n], atol=1e-6)
    assert len(slow) == frames_of(round((phones[-1][1] + 0.3) * 16000))


def test_visual_lead_moves_the_mouth_ahead_of_the_sound():
    phones = random_phones(np.random.default_rng(6))
    led = move(phones, Style(visual_lead_s=1 / FPS))
    np.testing.assert_allclose(led[:-1], move(phones)[1:], atol=1e-6)


def test_motion_noise_is_drawn_from_the_rng_alone():
    phones, style = random_phones(np.random.default_rng(7)), random_style(np.random.default_rng(7))
    one, same, other = (move(phones, style, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert 0.01 < np.abs(one - other)[:, COLUMN["jaw_open"]].mean() < 0.05
    still = move(phones, dataclasses.replace(style, noise=0.0, blinks_hz=0.0), seed=1)
    np.testing.assert_array_equal(still, move(phones, dataclasses.replace(style, noise=0.0, blinks_hz=0.0), seed=2))


def test_heads_move_slowly_and_a_little():
    style = random_style(np.random.default_rng(0))
    poses = [head_motion(100, style, np.random.default_rng(seed)) for seed in range(40)]
    assert poses[0].shape == (100, 6) and poses[0].dtype == np.float32
    turned_deg = np.rad2deg(np.concatenate(poses)[:, :3])
    assert turned_deg.std(axis=0).min() > 1 and turned_deg.std(axis=0).max() < 8
    assert max(np.abs(np.diff(np.rad2deg(p[:, :3]), axis=0)).max() for p in poses) < 2.5  # degrees a frame
    assert not head_motion(10, Style(), np.random.default_rng(0)).any()


def test_phones_are_parsed_into_their_parts():
    assert viseme_classes("ˈɑːɹ") == ["ɑ", "R"]
    assert viseme_classes("tʃ") == ["SH"] and viseme_classes("ts") == ["SZ"]
    assert viseme_classes("ɔ̃") == ["ɔ"] and viseme_classes("n̩") == ["TDN"]
    whole = segments_of([(0.0, 0.2, "aɪ")], 0.2)
    assert [(s.start_s, s.end_s) for s in whole] == [(0.0, 0.1), (0.1, 0.2)]


def test_unknown_sounds_and_faces_are_refused():
    with pytest.raises(InputError, match="no lip shape is known for 'ǃ'"):
        move([(0.1, 0.2, "ǃ")])
    with pytest.raises(InputError, match="names no vowel and no consonant"):
        move([(0.1, 0.2, "ˈ")])
    face = random_identity(np.random.default_rng(0))
    other = dataclasses.replace(face, articulation_names=("jaw", *face.articulation_names[1:]))
    with pytest.raises(InputError, match="the articulation rules move jaw_open"):
        LipAperture.of_template(other)
