"""avsr.data.corrupt: every kind against a plain loop or a count, and manifests that fix it."""

import json

import numpy as np
import pytest

from avsr.data.corrupt import (
    CORRUPTIONS,
    check_severity,
    corrupt_lips,
    corrupt_sound,
    corruption_hash,
    draw_corruption,
    make_corruption_manifest,
    read_corruption_manifest,
    write_corruption_manifest,
)
from avsr.errors import InputError

LIP_KINDS = [kind for kind, corruption in CORRUPTIONS.items() if corruption.stream == "v"]
T = 20


@pytest.fixture
def lips():
    """Every pixel of every frame is bright and every frame differs from every other, everywhere."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(60, 180, (88, 88))
    return (pictures + 3 * np.arange(T)[:, None, None]).astype(np.uint8)


@pytest.fixture
def speech():
    return (0.1 + 0.1 * np.random.default_rng(1).random(16_001)).astype(np.float32)


def line_of(kind, severity, seed=3):
    return {"utt_id": "u", "kind": kind, "severity": float(severity), "seed": seed}


def changed_frames(before, after):
    return np.flatnonzero((before != after).any(axis=(1, 2)))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_nothing_is_corrupted_at_zero_and_inputs_stay(lips, speech, kind):
    kept = lips.copy(), speech.copy()
    for n_frames in (1, T):
        line = line_of(kind, 0)
        np.testing.assert_array_equal(corrupt_lips(lips[:n_frames], line), lips[:n_frames])
        np.testing.assert_array_equal(corrupt_sound(speech, line), speech)
    for severity in CORRUPTIONS[kind].training:
        clips = [corrupt_lips(lips[:n], line_of(kind, severity)) for n in (1, 2, T)]
        assert [clip.shape for clip in clips] == [(n, 88, 88) for n in (1, 2, T)]
        assert all(clip.dtype == np.uint8 for clip in clips)
        assert corrupt_sound(speech, line_of(kind, severity)).shape == speech.shape
        assert corrupt_sound(speech[:1], line_of(kind, severity)).shape == (1,)
    np.testing.assert_array_equal(lips, kept[0])
    np.testing.assert_array_equal(speech, kept[1])


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_kind_touches_its_own_stream_and_repeats_by_its_seed(lips, speech, kind):
    line = line_of(kind, max(CORRUPTIONS[kind].training))
    seen, heard = corrupt_lips(lips, line), corrupt_sound(speech, line)
    assert np.array_equal(seen, lips) == (kind not in LIP_KINDS)
    assert np.array_equal(heard, speech) == (kind in LIP_KINDS)
    np.testing.assert_array_equal(seen, corrupt_lips(lips, line))
    np.testing.assert_array_equal(heard, corrupt_sound(speech, line))


@pytest.mark.parametrize("kind", ["occluder", "blank", "frozen"])
def test_stretches_last_their_share_and_lie_anywhere(lips, kind):
    starts = set()
    for seed in range(150):
        after = corrupt_lips(lips, line_of(kind, 0.3, seed))
        frames = changed_frames(lips, after)
        first = frames[0]
        if kind == "frozen" and len(frames) == 5:
            first -= 1  # a stretch from the beginning on repeats the first picture, which so stays
        assert len(frames) == 6 or first == 0
        assert frames[-1] == first + 5
        starts.add(int(first))
        if kind == "frozen":
            assert (after[first : first + 6] == lips[max(first - 1, 0)]).all()
        if kind == "blank":
            assert not after[first : first + 6].any()
    assert starts == set(range(T - 5))


def test_whole_clips_can_be_blank_or_frozen(lips):
    assert not corrupt_lips(lips, line_of("blank", 1)).any()
    assert (corrupt_lips(lips, line_of("frozen", 1)) == lips[0]).all()
    assert not corrupt_lips(lips, line_of("lost", 1)).any()
    assert len(changed_frames(lips, corrupt_lips(lips, line_of("blank", 0.001)))) == 1  # a share is at least a frame


def test_an_occluder_is_one_textured_patch_over_the_mouth(lips):
    corners = set()
    for seed in range(40):
        after = corrupt_lips(lips, line_of("occluder", 0.5, seed))
        frames = changed_frames(lips, after)
        where = (after != lips)[frames].any(axis=0)
        rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        height, width = bottom - top, right - left
        assert 20 <= height <= 45 and 24 <= width <= 54
        patch = after[frames[0], top:bottom, left:right].astype(float)
        assert (after[frames, top:bottom, left:right] == patch).all() and patch.std() > 20
        assert 0.3 * 88 - 1 <= (top + bottom) / 2 <= 0.7 * 88 + 1 and 0.2 * 88 - 1 <= (left + right) / 2 <= 0.8 * 88 + 1
        corners.add((top, left))
    assert len(corners) > 30


def test_lost_frames_are_scattered_and_black(lips):
    lost = [changed_frames(lips, corrupt_lips(lips, line_of("lost", 0.25, seed))) for seed in range(30)]
    assert all(len(frames) == 5 for frames in lost)
    assert set(np.concatenate(lost)) == set(range(T)) and any(np.diff(frames).max() > 1 for frames in lost)
    after = corrupt_lips(lips, line_of("lost", 0.25, 0))
    assert not after[lost[0]].any()


@pytest.mark.parametrize("n_frames", [-30, -3, 2, 30])
def test_an_offset_moves_every_picture_by_whole_frames(lips, n_frames):
    after = corrupt_lips(lips, line_of("offset", n_frames))
    for t in range(T):
        np.testing.assert_array_equal(after[t], lips[min(max(t - n_frames, 0), T - 1)])


def test_blur_is_a_gaussian_of_its_pixels():
    point = np.zeros((2, 41, 41), np.uint8)
    point[0, 20, 20] = 255
    after = corrupt_lips(point, line_of("blur", 1.5))
    y, x = np.mgrid[-20:21, -20:21]
    weights = np.exp(-(y**2 + x**2) / (2 * 1.5**2))
    np.testing.assert_allclose(after[0], 255 * weights / weights.sum(), atol=0.6)
    assert not after[1].any()  # not across frames


def test_pixel_noise_has_its_deviation_and_cannot_wrap_around():
    gray = np.full((30, 88, 88), 128, np.uint8)
    after = corrupt_lips(gray, line_of("pixel_noise", 12)).astype(float) - 128
    assert after.std() == pytest.approx(12, rel=0.02) and abs(after.mean()) < 0.2
    assert abs(np.mean(after[0] * after[1])) < 6  # every frame has noise of its own
    bright = corrupt_lips(np.full((4, 88, 88), 250, np.uint8), line_of("pixel_noise", 30))
    assert bright.max() == 255 and bright.min() > 60


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
def test_gaps_are_digital_silence_to_the_sample(speech, share):
    for seed in range(10):
        after = corrupt_sound(speech, line_of("gaps", share, seed))
        silent = after == 0
        assert silent.sum() == round(share * len(speech))
        np.testing.assert_array_equal(after[~silent], speech[~silent])
        runs = np.diff(np.flatnonzero(np.diff(np.concatenate(([0], silent, [0])))))[::2]
        assert runs.min() >= min(round(share * len(speech)), 2_000)  # not single samples


def test_a_line_depends_on_seed_and_utterance_only():
    rows = [{"utt_id": f"u{i}"} for i in range(4)]
    lines = make_corruption_manifest(rows, kind="frozen", severity=1, seed=5)
    assert make_corruption_manifest(rows[2:0:-1], kind="frozen", severity=1, seed=5) == lines[2:0:-1]
    assert len({line["seed"] for line in lines}) == 4 and lines[0]["severity"] == 1.0
    assert corruption_hash(lines) == corruption_hash([{**line, "severity": 1} for line in lines[::-1]])
    other = make_corruption_manifest(rows, kind="frozen", severity=1, seed=6)
    assert all(a["seed"] != b["seed"] for a, b in zip(lines, other, strict=True))
    for change in ({"severity": 0.5}, {"seed": 1}, {"kind": "blank"}, {"utt_id": "x"}):
        assert corruption_hash([{**lines[0], **change}, *lines[1:]]) != corruption_hash(lines)


def test_a_published_corruption_stays_what_it_is(lips):
    """Results name these: draws and hash may never change."""
    lines = make_corruption_manifest([{"utt_id": "a"}], kind="lost", severity=0.2, seed=7)
    assert lines == [{"utt_id": "a", "kind": "lost", "severity": 0.2, "seed": 140393515411199}]
    assert corruption_hash(lines) == "de85b2417ae1394b16c8be35cad6167b3814f99d6475fb4baa0c9d7beb685e9d"
    assert changed_frames(lips, corrupt_lips(lips, lines[0])).tolist() == [12, 14, 15, 16]


def test_manifest_round_trip(tmp_path):
    lines = make_corruption_manifest([{"utt_id": "a"}, {"utt_id": "b"}], kind="offset", severity=-2, seed=0)
    write_corruption_manifest(tmp_path / "c" / "offset.jsonl", lines)
    assert read_corruption_manifest(tmp_path / "c" / "offset.jsonl") == lines


def test_training_draws_every_kind_within_its_range():
    rng = np.random.default_rng(0)
    lines = [draw_corruption(list(CORRUPTIONS), rng) for _ in range(2000)]
    for kind, corruption in CORRUPTIONS.items():
        severities = np.array([line["severity"] for line in lines if line["kind"] == kind])
        low, high = corruption.training
        assert low <= severities.min() < severities.max() <= high
        assert len(severities) == pytest.approx(250, abs=60)
        assert np.mean(severities) == pytest.approx((low + high) / 2, abs=0.06 * (high - low))
        for severity in severities:
            check_severity(kind, severity)
    assert len({line["seed"] for line in lines}) == 2000
    offsets = {line["severity"] for line in lines if line["kind"] == "offset"}
    assert offsets == {-3, -2, -1, 0, 1, 2, 3}


@pytest.mark.parametrize(
    ("kind", "severity", "message"),
    [
        ("fog", 1, "corruption kind 'fog': expected one of occluder, blur"),
        ("blank", 1.1, r"severity 1.1 of blank: expected a number from 0 to 1 \(share of frames\)"),
        ("frozen", -0.1, "severity -0.1 of frozen"),
        ("blur", float("nan"), "severity nan of blur: .* from 0 to 20 .pixels"),
        ("offset", 1.5, r"severity 1.5 of offset: expected a whole number from -50 to 50 \(frames"),
        ("offset", float("inf"), "severity inf of offset"),
    ],
)
def test_what_no_corruption_can_be_made_of(kind, severity, message):
    with pytest.raises(InputError, match=message):
        make_corruption_manifest([{"utt_id": "a"}], kind=kind, severity=severity, seed=0)


GOOD = line_of("blank", 1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not a line of JSON"),
        (GOOD | {"share": 1}, "exactly the keys utt_id, kind, severity, seed"),
        (GOOD, "utt_id 'u' has a corruption already"),
        (GOOD | {"utt_id": "b", "kind": "fog"}, "corruption kind 'fog'"),
        (GOOD | {"utt_id": "b", "kind": ["blank"]}, r"corruption kind \['blank'\]"),
        (GOOD | {"utt_id": "b", "severity": "1"}, "severity '1' of blank"),
        (GOOD | {"utt_id": "b", "seed": 1.5}, "seed must be a count"),
    ],
)
def test_bad_corruption_lines_are_named(tmp_path, line, message):
    path = tmp_path / "corruption.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line if isinstance(line, str) else json.dumps(line)}\n")
    with pytest.raises(InputError, match=rf"corruption\.jsonl:2: .*{message}"):
        read_corruption_manifest(path)


def test_missing_and_empty_corruption_manifests(tmp_path):
    with pytest.raises(InputError, match="no such corruption manifest"):
        read_corruption_manifest(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InputError, match="has no lines; expected one corruption an utterance"):
        read_corruption_manifest(tmp_path / "empty.jsonl")
