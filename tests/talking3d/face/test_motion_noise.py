from dataclasses import replace

import numpy as np
import pytest

from avsr.errors import InputError
from avsr.media.timing import FPS
from talking3d.face.blendshape_fit import bounds
from talking3d.face.motion import Motion
from talking3d.face.motion_noise import CORRELATION_S, ornstein_uhlenbeck, with_noise
from talking3d.face.procedural import procedural_face


@pytest.fixture(scope="module")
def face():
    return procedural_face()


def spoken(face, n_frames=4000):
    """Coefficients of several sizes about the middle of their range, one that stands still."""
    rng = np.random.default_rng(0)
    sizes = np.linspace(0, 0.08, len(face.articulation_names))
    return Motion.of_template(face, FPS, coefficients=0.45 + sizes * rng.standard_normal((n_frames, len(sizes))))


def test_the_process_has_its_variance_and_correlation():
    noise = ornstein_uhlenbeck(20000, 3, CORRELATION_S, np.random.default_rng(1))
    assert np.allclose(noise.mean(axis=0), 0, atol=0.1) and np.allclose(noise.std(axis=0), 1, rtol=0.05)
    for lag in (1, round(FPS * CORRELATION_S), 10):
        found = (noise[lag:] * noise[:-lag]).mean(axis=0)
        assert np.allclose(found, np.exp(-lag / (FPS * CORRELATION_S)), atol=0.06)
    starts = np.array(
        [ornstein_uhlenbeck(2, 1, CORRELATION_S, np.random.default_rng(seed))[0, 0] for seed in range(2000)]
    )
    assert abs(starts.std() - 1) < 0.05  # from the first frame on
    cross = np.corrcoef(noise.T)[np.triu_indices(3, 1)]
    assert np.abs(cross).max() < 0.1


def test_noise_is_a_share_of_each_coefficients_own_deviation(face):
    motion = spoken(face)
    noisy = with_noise(motion, face, 0.5, np.random.default_rng(2))
    away = (noisy.coefficients - motion.coefficients).std(axis=0)
    assert away[0] < 1e-6  # what stands still stays still
    np.testing.assert_allclose(away[1:], 0.5 * motion.coefficients.std(axis=0)[1:], rtol=0.12)
    again = with_noise(motion, face, 0.5, np.random.default_rng(2))
    np.testing.assert_array_equal(again.coefficients, noisy.coefficients)
    np.testing.assert_array_equal(
        with_noise(motion, face, 0.0, np.random.default_rng(2)).coefficients, motion.coefficients
    )


def test_noise_stays_within_what_the_articulation_allows(face):
    motion = spoken(face, 500)
    low, high = bounds(face)
    wild = with_noise(motion, face, 50.0, np.random.default_rng(3)).coefficients
    assert (wild >= low - 1e-6).all() and (wild <= high + 1e-6).all()
    assert np.isclose(wild[:, 1:].min(), low.min()) and np.isclose(wild[:, 1:].max(), high.max())


def test_what_cannot_be_shaken_is_said(face):
    with pytest.raises(InputError, match="share of at least 0 .* got -0.1"):
        with_noise(spoken(face, 5), face, -0.1, np.random.default_rng(0))
    bare = replace(face, articulation_basis=face.articulation_basis[:0], articulation_names=())
    plain = Motion.of_template(bare, FPS, offsets=np.zeros((3, len(face.verts), 3)))
    with pytest.raises(InputError, match="has no articulation to put noise on"):
        with_noise(plain, bare, 0.2, np.random.default_rng(0))


def test_offsets_are_shaken_as_their_articulations_are(face):
    motion = spoken(face, 40)
    plain = Motion.of_template(face, FPS, offsets=motion.offsets_for(face))
    noisy, shaken = (with_noise(one, face, 0.5, np.random.default_rng(2)).offsets_for(face) for one in (motion, plain))
    np.testing.assert_allclose(shaken, noisy, atol=1e-5)
    assert np.abs(noisy - plain.offsets).max() > 1e-4
