"""Speech and rest, frame by frame: a naive twin, parts that join, and how far a judgement looks."""

import numpy as np
import pytest

from avsr.media.audio import read_audio
from talking3d.activity import VIEW_FRAMES, activity_of, frame_powers, speech_activity


def _naive(powers):
    """The definition, word by word."""
    n_frames = len(powers)
    speaks = np.zeros(n_frames, bool)
    for t in range(n_frames):
        heard = np.sort(powers[max(0, t - 750) : t + 6])
        floor, loud = heard[len(heard) // 10], (heard**2).sum() / heard.sum()
        loud_db = max(10 * np.log10(loud), -30)
        threshold_db = max(loud_db - 45, min(10 * np.log10(floor) + 12, loud_db - 28))
        speaks[t] = 10 * np.log10(powers[t]) > threshold_db
    runs = np.split(np.arange(n_frames), np.flatnonzero(np.diff(speaks)) + 1)
    for run in runs:
        at_an_edge = run[0] == 0 or run[-1] == n_frames - 1
        if not speaks[run[0]] and len(run) < 10 and not at_an_edge:
            speaks[run] = True
    wide = [speaks[max(0, t - 4) : t + 5].any() for t in range(n_frames)]
    ramp = [0.25, 0.75, 1, 0.75, 0.25]
    return [
        sum(r * wide[min(max(t + i - 2, 0), n_frames - 1)] for i, r in enumerate(ramp)) / 3 for t in range(n_frames)
    ]


@pytest.fixture(scope="module")
def powers(shared):
    """40 s of sentences at several levels with pauses of 0.2 to 2 s between them."""
    rng = np.random.default_rng(0)
    parts = []
    for i in range(12):
        waveform = read_audio(shared / "speech" / "utterances" / f"spk{1 + i % 2}_snt{1 + i % 6}.wav")
        parts += [10 ** -rng.uniform(0, 1) * waveform, 1e-3 * rng.standard_normal(int(16_000 * rng.uniform(0.2, 2)))]
    return frame_powers(np.concatenate(parts))


def test_activity_is_its_definition(powers):
    assert len(powers) > 750
    activity = activity_of(powers, 0, len(powers))
    np.testing.assert_allclose(activity, _naive(powers), atol=1e-6)
    assert 0.1 < (activity == 0).mean() < 0.6


@pytest.mark.parametrize("start, stop", [(0, 1), (0, 5), (3, 40), (700, 800), (830, 840)])
def test_parts_are_parts_of_the_whole(powers, start, stop):
    """Also where only what the view reaches is given."""
    whole = activity_of(powers, 0, len(powers))[start:stop]
    np.testing.assert_array_equal(activity_of(powers, start, stop), whole)
    first = max(0, start - VIEW_FRAMES[0])
    near = powers[first : stop + VIEW_FRAMES[1]]
    np.testing.assert_array_equal(activity_of(near, start - first, stop - first), whole)


def test_a_judgement_waits_for_little_more_than_half_a_second():
    assert VIEW_FRAMES == (759, 14)


def test_steady_noise_alone_is_no_speech():
    noise = 1e-3 * np.random.default_rng(0).standard_normal(160_000)
    assert not speech_activity(noise).any()


def test_silence_of_a_minute_after_loud_speech_stays_silent():
    rng = np.random.default_rng(0)
    waveform = 1e-3 * rng.standard_normal(70 * 16_000)
    waveform[:48_000] += 0.3 * np.sin(0.3 * np.arange(48_000))
    activity = speech_activity(waveform)
    assert (activity[:75] == 1).all() and not activity[85:].any()
