"""The sRGB curve, gray, blur and noise."""

import numpy as np

from talking3d.render.film import (
    LUMA_601,
    NOISE_BANK,
    develop,
    gray_equivalent,
    linear_to_srgb,
    open_shutter,
    srgb_to_linear,
)


def test_srgb_at_known_points_and_back():
    linear = np.array([-1, 0, 0.0031308, 0.2140411, 1, 7])
    assert np.allclose(linear_to_srgb(linear), [0, 0, 0.04045, 0.5, 1, 1], atol=1e-5)
    values = np.linspace(0, 1, 101)
    assert np.allclose(srgb_to_linear(linear_to_srgb(values)), values, atol=1e-6)


def test_develop_is_the_srgb_curve_to_one_gray_level():
    linear = np.linspace(-0.1, 1.2, 3000, dtype=np.float32).reshape(50, 20, 3)
    expected = 255 * linear_to_srgb(linear)
    assert np.abs(develop(linear).astype(float) - expected).max() <= 1
    assert develop(linear).dtype == np.uint8


def test_gray_is_luma_of_encoded_colours():
    colors = np.random.default_rng(0).random((500, 3)).astype(np.float32)
    luma = linear_to_srgb(colors) @ LUMA_601
    assert np.allclose(linear_to_srgb(gray_equivalent(colors)[:, 0]), luma, atol=4e-3)


def test_blur_keeps_flat_pictures_and_light_and_spreads_by_sigma():
    flat = np.full((12, 9, 3), 0.3, np.float32)
    assert np.array_equal(develop(flat, blur_px=0.8), develop(flat))
    for n_channels in (1, 3):
        spot = np.zeros((41, 41, n_channels), np.float32)
        spot[20, 20, -1] = 1.0
        seen = srgb_to_linear(develop(spot, blur_px=2.0) / 255.0)[..., -1]
        assert abs(seen.sum() - 1) < 0.03
        offset = np.arange(41) - 20
        for axis in (0, 1):
            assert abs(np.sqrt(seen.sum(axis=axis) @ offset**2) - 2) < 0.15


def test_noise_has_its_strength_and_comes_from_rng():
    gray = np.full((96, 96, 1), 0.2, np.float32)
    one, same, other = (develop(gray, 0, 0.02, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    assert abs(one.astype(float).std() - 0.02 * 255) < 0.2
    assert abs(one.mean() - develop(gray).mean()) < 0.5


def test_noise_is_white_and_new_in_each_picture():
    rng = np.random.default_rng(3)
    gray = np.full((96, 96, 1), 0.2, np.float32)
    noise = np.stack([develop(gray, 0, 0.04, rng)[..., 0] for _ in range(40)]).astype(float)
    noise = (noise - noise.mean()) / noise.std()
    neighbours = [noise[:, :, 1:] * noise[:, :, :-1], noise[:, 1:] * noise[:, :-1], noise[1:] * noise[:-1]]
    assert all(abs(product.mean()) < 0.02 for product in neighbours)
    assert abs((noise**4).mean() - 3) < 0.1  # normal


def test_a_picture_larger_than_the_bank_of_noise():
    side = int(NOISE_BANK**0.5) + 1
    noisy = develop(np.full((side, side, 1), 0.2, np.float32), 0, 0.02, np.random.default_rng(0))
    assert abs(noisy.astype(float).std() - 0.02 * 255) < 0.2


def test_an_open_shutter_mixes_in_the_picture_before():
    light = [np.full((2, 2, 1), value, np.float32) for value in (0.0, 1.0, 1.0, 0.0)]
    mixed = [float(picture[0, 0, 0]) for picture in open_shutter(iter(light), 0.25)]
    assert np.allclose(mixed, [0.0, 0.75, 1.0, 0.25])
    assert all(a is b for a, b in zip(open_shutter(iter(light), 0.0), light, strict=True))
