"""avsr.data.augment: geometry against a plain loop, explicit randomness, shares and levels of what disturbs."""

import dataclasses

import numpy as np
import pytest

from avsr.data.augment import AugmentConfig, CorruptAugment, LipAugment, NoiseAugment, centre_crop
from avsr.data.noise import reverberate
from avsr.errors import InputError

STILL = AugmentConfig(
    random_crop=False, flip_probability=0.0, zoom=0.0, rotation_deg=0.0, brightness=0.0, contrast=0.0,
    time_masks_per_s=0.0,
)  # fmt: skip


def changed(**fields):
    return dataclasses.replace(STILL, **fields)


@pytest.fixture
def lips():
    rng = np.random.default_rng(0)
    coarse = rng.uniform(20, 230, (30, 7, 7))
    ramp = np.linspace(0, 5.999, 96)
    low, part = ramp.astype(int), ramp % 1
    rows = coarse[:, low] * (1 - part)[:, None] + coarse[:, low + 1] * part[:, None]
    return (rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part).round().astype(np.uint8)


def test_without_augmentation_training_sees_what_evaluation_sees(lips):
    out = LipAugment(STILL)(lips, np.random.default_rng(0))
    assert out.shape == (30, 88, 88) and out.dtype == np.uint8
    np.testing.assert_array_equal(out, centre_crop(lips))
    np.testing.assert_array_equal(centre_crop(lips), lips[:, 4:92, 4:92])


def test_same_generator_same_clip_and_the_input_stays(lips):
    kept = lips.copy()
    augment = LipAugment(AugmentConfig())
    first = augment(lips, np.random.default_rng(1))
    np.testing.assert_array_equal(first, augment(lips, np.random.default_rng(1)))
    assert not np.array_equal(first, augment(lips, np.random.default_rng(2)))
    np.testing.assert_array_equal(lips, kept)


def test_random_crops_are_crops_and_reach_every_place(lips):
    crops = {(y, x): lips[:, y : y + 88, x : x + 88].tobytes() for y in range(9) for x in range(9)}
    places = {content: place for place, content in crops.items()}
    rng = np.random.default_rng(0)
    augment = LipAugment(changed(random_crop=True))
    seen = {places[augment(lips, rng).tobytes()] for _ in range(300)}
    assert {y for y, _ in seen} == {x for _, x in seen} == set(range(9))


def test_flip_mirrors_left_and_right(lips):
    out = LipAugment(changed(flip_probability=1.0))(lips, np.random.default_rng(0))
    np.testing.assert_array_equal(out, centre_crop(lips)[:, :, ::-1])


def test_zoom_and_rotation_against_a_loop_over_pixels(lips):
    config = changed(zoom=0.1, rotation_deg=8.0)
    out = LipAugment(config)(lips, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    rng.integers(9), rng.integers(9), rng.random()
    scale = 1 + 0.1 * rng.uniform(-1, 1)
    angle = np.deg2rad(8.0 * rng.uniform(-1, 1))
    picture = lips[7].astype(np.float64)
    for i, j in [(0, 0), (0, 87), (40, 3), (43, 44), (87, 87), (60, 20)]:
        y, x = (i - 43.5) / scale, (j - 43.5) / scale
        source_x = np.clip(np.cos(angle) * x - np.sin(angle) * y + 47.5, 0, 95)
        source_y = np.clip(np.sin(angle) * x + np.cos(angle) * y + 47.5, 0, 95)
        top, left = min(int(source_y), 94), min(int(source_x), 94)
        dy, dx = source_y - top, source_x - left
        expected = (
            picture[top, left] * (1 - dy) * (1 - dx)
            + picture[top, left + 1] * (1 - dy) * dx
            + picture[top + 1, left] * dy * (1 - dx)
            + picture[top + 1, left + 1] * dy * dx
        )
        assert out[7, i, j] == pytest.approx(expected, abs=0.51)
    assert not np.array_equal(out, centre_crop(lips))


def test_light_changes_gain_and_level_of_the_whole_clip(lips):
    out = LipAugment(changed(brightness=0.05, contrast=0.2))(lips, np.random.default_rng(5)).astype(np.float64)
    before = centre_crop(lips).astype(np.float64)
    gain, level = np.polyfit(before.ravel(), out.ravel(), 1)
    assert abs(gain - 1) > 0.01 and abs(gain - 1) < 0.2
    assert abs(out.mean() - before.mean()) < 0.05 * 255 + 0.5
    assert np.abs(out - (gain * before + level)).max() < 1.1


def test_light_cannot_wrap_around():
    white = np.full((5, 96, 96), 250, np.uint8)
    rng = np.random.default_rng(0)
    augment = LipAugment(changed(brightness=0.4))
    assert all(augment(white, rng).min() > 100 for _ in range(20))


def test_masked_stretches_show_the_mean_picture(lips):
    lips = np.concatenate([lips, lips[::-1], lips])[:75]
    rng = np.random.default_rng(0)
    mean_picture = centre_crop(lips).mean(axis=0).round()
    masked = []
    for _ in range(40):
        out = LipAugment(changed(time_masks_per_s=1 / 3, time_mask_s=0.4))(lips, rng)
        is_mean = (np.abs(out - mean_picture) <= 1).all(axis=(1, 2))
        np.testing.assert_array_equal(out[~is_mean], centre_crop(lips)[~is_mean])
        where = np.flatnonzero(is_mean)
        assert len(where) == 0 or where[-1] - where[0] + 1 == len(where)
        masked.append(len(where))
    assert max(masked) == 10 and min(masked) < 3


def test_a_clip_of_one_frame(lips):
    assert LipAugment(AugmentConfig(time_masks_per_s=25.0))(lips[:1], np.random.default_rng(0)).shape == (1, 88, 88)


def speech(n_samples=8000):
    return (0.1 * np.random.default_rng(9).standard_normal(n_samples)).astype(np.float32)


def snr_of(mixed, waveform):
    return 10 * np.log10(np.sum(waveform.astype(np.float64) ** 2) / np.sum((mixed - waveform).astype(np.float64) ** 2))


@pytest.mark.parametrize("kind", ["babble", "white", "pink", "recorded", "talker"])
def test_snr_is_uniform_in_the_range_and_a_share_is_clean(kind):
    config = AugmentConfig(noise_kinds=[kind], noise_weights=[1.0], noise_files=["n.wav"], snr_min_db=-5, snr_max_db=15)
    waveform = 0.1 * speech()  # low enough that no mixture clips
    talkers = [np.roll(speech(5000), i) * (i + 1) / 9 for i in range(8)]
    augment = NoiseAugment(config, talkers, read=lambda path: talkers[0], voices=list("abcdefgh"))
    rng = np.random.default_rng(0)
    outs = [augment(waveform, rng) for _ in range(400)]
    clean = [out is waveform for out in outs]
    assert np.mean(clean) == pytest.approx(0.25, abs=0.07)
    ratios = np.array([snr_of(out, waveform) for out, is_clean in zip(outs, clean, strict=True) if not is_clean])
    assert ratios.min() > -5.01 and ratios.max() < 15.01
    np.testing.assert_allclose(np.quantile(ratios, [0.1, 0.5, 0.9]), [-3, 5, 13], atol=1.8)


def test_zero_decibels_are_a_ratio_not_a_switch():
    config = AugmentConfig(clean_probability=0.0, snr_min_db=0.0, snr_max_db=0.0)
    augment = NoiseAugment(config, [speech(5000)], read=None)
    waveform = 0.1 * speech()
    for seed in range(8):
        assert snr_of(augment(waveform, np.random.default_rng(seed)), waveform) == pytest.approx(0, abs=0.01)


def test_a_competing_talker_never_has_the_voice_it_competes_with():
    talkers = [np.full(100, level, np.float32) for level in (1, 2, 3, 4)]
    config = AugmentConfig(noise_kinds=["talker"], noise_weights=[1.0])
    rng = np.random.default_rng(0)
    asked = []
    augment = NoiseAugment(config, Asked(asked, talkers), read=None, voices=["s1", "s2", "s1", "u4"])
    for voice, others in (("s1", {1, 3}), ("u4", {0, 1, 2}), (None, {0, 1, 2, 3})):
        asked.clear()
        for _ in range(60):
            augment._noise("talker", 10, rng, voice)
        assert set(asked) == others


class Asked:
    """A sequence that notes which of its items were asked for."""

    def __init__(self, asked, items):
        self.asked, self.items = asked, items

    def __getitem__(self, index):
        self.asked.append(int(index))
        return self.items[index]


def test_a_share_is_heard_in_rooms_noisy_or_not():
    rir = np.zeros(300, np.float32)
    rir[[40, 200]] = 1.0, 0.7
    waveform = 0.1 * speech()
    config = AugmentConfig(reverb_share=0.4, rir_files=["rir.wav"], clean_probability=1.0)
    augment = NoiseAugment(config, [], read=lambda path: {"rir.wav": rir}[path])
    rng = np.random.default_rng(0)
    outs = [augment(waveform, rng) for _ in range(400)]
    dry = [out is waveform for out in outs]
    assert np.mean(dry) == pytest.approx(0.6, abs=0.06)
    heard = reverberate(waveform, rir)
    assert all(np.array_equal(out, heard) for out, is_dry in zip(outs, dry, strict=True) if not is_dry)
    noisy = dataclasses.replace(config, reverb_share=1.0, clean_probability=0.0, snr_min_db=0.0, snr_max_db=0.0)
    mixed = NoiseAugment(noisy, [speech(5000)], read=lambda path: rir)(waveform, rng)
    assert snr_of(mixed, heard) == pytest.approx(0, abs=0.01)


def test_noise_repeats_with_its_generator():
    augment = NoiseAugment(AugmentConfig(clean_probability=0.0), [speech(5000), speech(6000)], read=None)
    for seed in range(4):
        first, again = (augment(speech(), np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"noise_kinds": ["brown"], "noise_weights": [1.0]}, "unknown 'brown'; expected some of babble"),
        ({"noise_weights": [1.0]}, r"noise_weights \[1.0\] must give a weight"),
        ({"noise_weights": [0.0, 0.0, 0.0]}, "must give a weight"),
        ({"noise_weights": [1.0, -1.0, 1.0]}, "must give a weight"),
        ({"noise_kinds": ["recorded"], "noise_weights": [1.0]}, "list its sound files in noise_files"),
        ({"noise_kinds": ["talker"], "noise_weights": [1.0]}, "noise_kinds has 'talker', but .* one speaker only"),
        ({"reverb_share": 0.2}, "reverb_share is 0.2: list impulse responses in rir_files"),
        ({"reverb_share": -0.2}, "reverb_share is a share between 0 and 1, got -0.2"),
        ({"snr_min_db": 3.0, "snr_max_db": -3.0}, "snr_min_db 3.0 is above snr_max_db -3.0"),
    ],
)
def test_bad_noise_settings_are_named(fields, message):
    with pytest.raises(InputError, match=message):
        NoiseAugment(AugmentConfig(**fields), [speech()], read=None)


def test_a_share_of_clips_is_corrupted_by_the_kinds_named():
    rng = np.random.default_rng(0)
    augment = CorruptAugment(AugmentConfig(corrupt_share=0.3, corruptions=["frozen", "gaps"]))
    lines = [augment(rng) for _ in range(1000)]
    assert np.mean([line is not None for line in lines]) == pytest.approx(0.3, abs=0.04)
    assert {line["kind"] for line in lines if line is not None} == {"frozen", "gaps"}
    assert all(CorruptAugment(AugmentConfig())(rng) is None for _ in range(100))
    assert all(CorruptAugment(AugmentConfig(corrupt_share=1.0))(rng) is not None for _ in range(100))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"corruptions": ["fog"]}, "corruptions: unknown 'fog'; expected some of occluder"),
        ({"corrupt_share": 1.5}, "corrupt_share is a share between 0 and 1, got 1.5"),
        ({"corrupt_share": 0.5, "corruptions": []}, "corrupt_share is 0.5: list in corruptions"),
    ],
)
def test_bad_corruption_settings_are_named(fields, message):
    with pytest.raises(InputError, match=message):
        CorruptAugment(AugmentConfig(**fields))
