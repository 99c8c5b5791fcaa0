"""The search through filmed frames against all paths tried one by one, and what its costs and candidates are."""

import itertools

import numpy as np
import pytest

from avsr.errors import InputError
from avsr.media.timing import FPS
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate
from talking3d.frame_search import (
    CUT_MM2,
    GRAY_MM,
    SIDE,
    FilmedFrames,
    FrameSearch,
    LipSpace,
    features,
    join_costs,
    target_costs,
)


def film(rng: np.random.Generator, lengths: tuple[int, ...], axes: int = 2) -> FilmedFrames:
    """Clips in which lips wander, and pictures that follow them."""
    clips = []
    for length in lengths:
        positions = rng.standard_normal((length, axes)).cumsum(axis=0)
        gap_mm = np.abs(positions[:, 0])
        pictures = np.clip(120 + 5 * gap_mm[:, None] + rng.normal(0, 2, (length, SIDE * SIDE)), 0, 255)
        clips.append((positions, gap_mm, pictures.astype(np.uint8)))
    return FilmedFrames.of_clips(clips)


def naive_join(frames: FilmedFrames, i: int, j: int) -> float:
    last = i == len(frames.clip) - 1 or frames.clip[i + 1] != frames.clip[i]
    if not last and j == i + 1:
        return 0.0
    successor = i if last else i + 1
    moved = sum((a - b) ** 2 for a, b in zip(frames.positions[successor], frames.positions[j], strict=True))
    grays = [float(a) - float(b) for a, b in zip(frames.pictures[successor], frames.pictures[j], strict=True)]
    return CUT_MM2 + moved + GRAY_MM**2 * sum(gray**2 for gray in grays) / len(grays)


def path_cost(frames: FilmedFrames, targets: np.ndarray, path: tuple[int, ...]) -> float:
    cost = sum(((frames.features[i] - target) ** 2).sum() for i, target in zip(path, targets, strict=True))
    return cost + sum(naive_join(frames, i, j) for i, j in itertools.pairwise(path))


@pytest.mark.parametrize("seed", range(3))
def test_the_path_is_the_cheapest_of_all(seed):
    rng = np.random.default_rng(seed)
    frames = film(rng, (2, 4, 1))
    targets = frames.features[rng.integers(0, 7, 4)] + rng.normal(0, 0.7, (4, frames.features.shape[1]))
    every = {path: path_cost(frames, targets, path) for path in itertools.product(range(7), repeat=4)}
    cheapest = min(every, key=every.get)
    assert FrameSearch(frames, near=7).path(targets).tolist() == list(cheapest)
    elsewhere = min((path for path in every if 0 not in path and 1 not in path), key=every.get)
    assert FrameSearch(frames, near=7).path(targets, without=0).tolist() == list(elsewhere)


def test_few_candidates_cost_little_more_than_all():
    rng = np.random.default_rng(0)
    frames = film(rng, (60,) * 5)
    targets = frames.features[100:140] + rng.normal(0, 0.5, (40, frames.features.shape[1]))
    costs = [
        path_cost(frames, targets, FrameSearch(frames, near).path(targets, without=1))
        for near in (len(targets), 8, 300)
    ]
    assert costs[2] <= costs[0] <= 1.05 * costs[2]
    assert costs[2] <= costs[1] <= 1.3 * costs[2]


def test_the_very_motion_gets_the_very_frames():
    frames = film(np.random.default_rng(0), (30, 40, 30))
    search = FrameSearch(frames, near=4)
    np.testing.assert_array_equal(search.path(frames.features[30:70]), np.arange(30, 70))
    others = search.path(frames.features[30:70], without=1)
    assert set(frames.clip[others]) <= {0, 2}


def test_joins_are_free_where_frames_follow_and_cheap_where_they_might():
    frames = film(np.random.default_rng(0), (5, 4))
    costs = join_costs(frames, np.arange(9), np.arange(9))
    for i, j in itertools.product(range(9), repeat=2):
        np.testing.assert_allclose(costs[i, j], naive_join(frames, i, j), rtol=1e-3, atol=1e-3)
    follows = np.eye(9, k=1, dtype=bool)
    follows[4, 5] = False  # the next clip's first frame follows nothing
    assert (costs[follows] == 0).all()
    assert (costs[~follows] >= CUT_MM2).all()
    twin = FilmedFrames.of_clips([(frames.positions[:5], np.zeros(5), frames.pictures[:5])] * 2)
    np.testing.assert_allclose(join_costs(twin, np.array([1]), np.array([7, 8])), [[CUT_MM2, naive_join(twin, 1, 8)]])


def test_speed_tells_opening_from_closing_lips():
    positions = np.concatenate([np.linspace(0, 4, 9), np.linspace(4, 0, 9)[1:]])[:, None]
    gap_mm = positions[:, 0]
    frames = FilmedFrames.of_clips([(positions, gap_mm, np.full((17, SIDE * SIDE), 100, np.uint8))])
    opening = features(positions, gap_mm)[4]
    assert target_costs(frames, opening, np.array([4, 12]))[0] < target_costs(frames, opening, np.array([4, 12]))[1]


def test_no_frames_but_its_own_is_an_error():
    frames = film(np.random.default_rng(0), (5,))
    with pytest.raises(InputError, match="all filmed frames of its speaker are its own: give other utterances"):
        FrameSearch(frames).path(frames.features, without=0)


def test_distance_in_lip_space_is_the_lips_root_mean_square(tiny_face):
    space = LipSpace.of_template(tiny_face)
    coefficients = np.random.default_rng(0).uniform(0, 1, (2, 3)).astype(np.float32)
    offsets = tiny_face.offsets(coefficients)[:, tiny_face.region("lips")]
    expected = 1e3 * np.sqrt(np.square(offsets[0] - offsets[1]).sum(-1).mean())
    for arrays in ({"coefficients": coefficients}, {"offsets": tiny_face.offsets(coefficients)}):
        positions, gap_mm = space.track(Motion.of_template(tiny_face, FPS, **arrays), tiny_face)
        np.testing.assert_allclose(np.linalg.norm(positions[0] - positions[1]), expected, rtol=1e-4)
        assert positions.shape == (2, 2)  # blinks do nothing to the lips
        assert gap_mm.shape == (2,)


def test_lip_space_refuses_what_does_not_fit(tiny_face):
    space = LipSpace.of_template(tiny_face)
    still = np.zeros((2, 3), np.float32)
    with pytest.raises(InputError, match="motion at 30.0 fps, expected 25"):
        space.track(Motion.of_template(tiny_face, 30.0, coefficients=still), tiny_face)
    smaller = FaceTemplate("half", tiny_face.verts, tiny_face.faces[:50], tiny_face.regions)
    with pytest.raises(InputError, match="face template 'half' .* and the filmed frames' .* differ: carry the motion"):
        space.track(Motion.of_template(tiny_face, FPS, coefficients=still), smaller)
    with pytest.raises(InputError, match="'half': no articulation moves its lips"):
        LipSpace.of_template(smaller)
