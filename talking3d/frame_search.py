"""Filmed frames that follow a motion: near it in what the lips do, joined where motion and pictures go on.

Frames of a talker in a new order are Video Rewrite (Bregler, Covell & Slaney, SIGGRAPH 1997). The order is the path of
least cost, as in unit selection for speech (Hunt & Black, ICASSP 1996): how far each frame lies from its target, and
how badly it joins the one before. It joins as well as it resembles that one's successor, so that movement goes on
through a cut (Video Textures, Schödl et al., SIGGRAPH 2000).

Letters: T frames of a target, N of a source, M clips, C candidates, U vertices of the lips, R axes of their motion,
P pixels of a small picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import KDTree

from avsr.errors import InputError
from avsr.media.timing import FPS
from talking3d.face.motion import Motion
from talking3d.face.regions import lip_aperture_mm
from talking3d.face.template import FaceTemplate

NEAR = 64  # candidates: frames nearest to a target
REACH = 2  # frames: candidates are too what lies this near in time to the candidates of the targets around
SIDE = 16  # px of the small pictures, which joins are judged by
# Costs are squares of mm, root mean square over the lips; what else counts is brought to mm by these.
SPEED_MM = 2.0  # for 1 mm a frame
GAP_MM = 1.0  # for 1 mm between the inner lips: few vertices, and all that closures are
GRAY_MM = 0.5  # for a gray level, root mean square over the picture
CUT_MM2 = 0.3  # for any cut, however well it joins

_MM = 1000.0
_MIDDLE_GRAY = 128  # taken off, which keeps differences of squares exact in float32


@dataclass(frozen=True, eq=False)
class LipSpace:
    """Coordinates of lip motion in which distance is the root mean square over the lips' vertices, in mm.

    axes (3U, R): an orthonormal basis of what the articulation of a template can do to its `lips` (U,).
    """

    topology_hash: str
    lips: np.ndarray
    axes: np.ndarray

    @classmethod
    def of_template(cls, template: FaceTemplate) -> "LipSpace":
        """The space of a template's lips. Raises InputError where it has none, or nothing that moves them."""
        lips = template.region("lips")
        basis = template.articulation_basis[:, lips].reshape(len(template.articulation_names), 3 * len(lips))
        if not basis.any():
            raise InputError(f"face template {template.name!r}: no articulation moves its lips; give a fitted template")
        _, sizes, axes = np.linalg.svd(basis.astype(np.float64), full_matrices=False)
        return cls(template.topology_hash, lips, axes[sizes > 1e-6 * sizes[0]].T.astype(np.float32))

    def track(self, motion: Motion, template: FaceTemplate) -> tuple[np.ndarray, np.ndarray]:
        """What the lips do: positions (T, R), and the gap between them (T,) in mm.

        Raises InputError on another rate than 25 fps, and where motion, template and space differ in topology.
        """
        if motion.fps != FPS:
            raise InputError(f"motion at {motion.fps} fps, expected {FPS}: resample it first")
        if template.topology_hash != self.topology_hash:
            raise InputError(
                f"face template {template.name!r} (topology {template.topology_hash[:12]}) and the filmed frames' "
                f"(topology {self.topology_hash[:12]}) differ: carry the motion over with `talking3d transfer`"
            )
        offsets = motion.offsets_for(template)
        flat = offsets[:, self.lips].reshape(len(offsets), -1)
        return np.float32(_MM / np.sqrt(len(self.lips))) * flat @ self.axes, lip_aperture_mm(template, offsets)


def features(positions: np.ndarray, gap_mm: np.ndarray) -> np.ndarray:
    """(T, 2R + 1) of one clip's positions (T, R) and gap (T,), in mm: a target costs their squared distance."""
    speed = np.gradient(positions, axis=0) if len(positions) > 1 else np.zeros_like(positions)
    return np.concatenate([positions, SPEED_MM * speed, GAP_MM * gap_mm[:, None]], axis=1)


def small_pictures(lips: np.ndarray) -> np.ndarray:
    """(T, P) uint8 of lip crops (T, 96, 96)."""
    small = [cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for picture in lips]
    return np.stack(small).reshape(len(lips), -1)


@dataclass(frozen=True, eq=False)
class FilmedFrames:
    """All filmed frames of a speaker, N of them, clip after clip.

    positions (N, R), features (N, 2R + 1), pictures (N, P) uint8; clip (N,): the number of each one's clip.
    """

    positions: np.ndarray
    features: np.ndarray
    pictures: np.ndarray
    clip: np.ndarray

    @classmethod
    def of_clips(cls, clips: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> "FilmedFrames":
        """Of clips' (positions (T, R), gap_mm (T,), pictures (T, P))."""
        positions, gaps, pictures = zip(*clips, strict=True)
        return cls(
            positions=np.concatenate(positions),
            features=np.concatenate([features(*pair) for pair in zip(positions, gaps, strict=True)]),
            pictures=np.concatenate(pictures),
            clip=np.repeat(np.arange(len(clips)), [len(gap) for gap in gaps]),
        )

    def shifted(self, frames: np.ndarray, by: int) -> np.ndarray:
        """The frames that lie `by` later in the same clips, (C,); what lies outside its clip is left out."""
        moved = frames + by
        moved, home = np.clip(moved, 0, len(self.clip) - 1), self.clip[frames]
        return moved[(moved == frames + by) & (self.clip[moved] == home)]

    def successors(self, frames: np.ndarray) -> np.ndarray:
        """The frame after each, (C,); a clip's last frame succeeds itself."""
        after = np.minimum(frames + 1, len(self.clip) - 1)
        return np.where(self.clip[after] == self.clip[frames], after, frames)


def target_costs(frames: FilmedFrames, target: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """(C,) mm^2: what candidates (C,) cost for a target's features (2R + 1,)."""
    return np.square(frames.features[candidates] - target).sum(axis=1)


def join_costs(frames: FilmedFrames, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(B, C) mm^2: what it costs to go from frames `before` (B,) to frames `after` (C,); nothing to the very next."""
    successors = frames.successors(before)
    a, b = _looks(frames, successors), _looks(frames, after)
    costs = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T
    costs = np.maximum(costs, 0) + CUT_MM2
    costs[after == np.where(successors > before, successors, -1)[:, None]] = 0
    return costs


class FrameSearch:
    """The cheapest path through a speaker's frames.

    A target's candidates are the `near` frames nearest to it, and what runs up to them and on from them for `reach`
    frames, so that the runs of the source are there to follow. With near >= N the path is the cheapest of all.
    """

    def __init__(self, frames: FilmedFrames, near: int = NEAR, reach: int = REACH):
        self.frames = frames
        self.near = near
        self.reach = reach
        self._tree = KDTree(frames.features)

    def path(self, targets: np.ndarray, without: int | None = None) -> np.ndarray:
        """The frames (T,) for a target's features (T, 2R + 1); none of them of the clip number `without`.

        Raises InputError where that leaves no frames.
        """
        candidates = self._candidates(targets, without)
        costs, best = target_costs(self.frames, targets[0], candidates[0]), []
        for t in range(1, len(targets)):
            steps = costs[:, None] + join_costs(self.frames, candidates[t - 1], candidates[t])
            best.append(steps.argmin(axis=0))
            costs = steps.min(axis=0) + target_costs(self.frames, targets[t], candidates[t])
        chosen = [int(costs.argmin())]
        for back in reversed(best):
            chosen.append(int(back[chosen[-1]]))
        return np.array([at[i] for at, i in zip(candidates, reversed(chosen), strict=True)])

    def _candidates(self, targets: np.ndarray, without: int | None) -> list[np.ndarray]:
        shut = np.zeros(len(self.frames.clip), bool) if without is None else self.frames.clip == without
        n_shut = int(shut.sum())
        near = min(self.near, len(shut) - n_shut)
        if near == 0:
            raise InputError("all filmed frames of its speaker are its own: give other utterances, or allow its own")
        found = self._tree.query(targets, k=near + n_shut)[1].reshape(len(targets), -1)
        open_first = np.argsort(shut[found], axis=1, kind="stable")[:, :near]
        nearest = np.take_along_axis(found, open_first, axis=1)
        return [
            np.unique(
                np.concatenate(
                    [
                        self.frames.shifted(nearest[t - by], by)
                        for by in range(-self.reach, self.reach + 1)
                        if 0 <= t - by < len(targets)
                    ]
                )
            )
            for t in range(len(targets))
        ]


def _looks(frames: FilmedFrames, chosen: np.ndarray) -> np.ndarray:
    """(C, R + P): what frames must have in common to be joined."""
    pictures = (frames.pictures[chosen] - np.float32(_MIDDLE_GRAY)) * np.float32(GRAY_MM / SIDE)
    return np.concatenate([frames.positions[chosen], pictures], axis=1)
