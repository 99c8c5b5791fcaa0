"""The plan of an experiment with drawn lips: which recognisers are trained, and on what.

Some clips of a corpus are filmed, of the others there is sound alone, and lips can be drawn for it. A system is a share
of filmed clips, an arm (whose lips are drawn for the others, or nobody's) and in how many renditions. Of each there are
recognisers of lips (V) and of both streams (AV); one of sound (A), that learns from all of it, is everybody's start.

What is compared is fair: filmed clips are shown so often that they are a fixed share of what a recogniser sees, with
drawn lips and without, and all recognisers of a modality take as many optimiser steps. That share is
one for lips alone and another, smaller one for both streams, which otherwise rely too much on the few lips they know.
"""

from dataclasses import dataclass, field

from omegaconf import MISSING

from avsr.errors import InputError

NONE = "none"  # no drawn lips
TOGETHER, TUNED = "together", "tuned"  # filmed and drawn mixed; drawn first and filmed after


@dataclass
class Arm:
    """Whose lips are drawn: manifests of the clips of `sound`, one a rendition."""

    manifests: str = MISSING  # with {rendition} (from 0), and {percent} where what draws is learned from filmed clips
    percents: list[int] = MISSING  # shares of filmed clips beside which it is tried
    times: list[int] = field(default_factory=lambda: [1])  # numbers of renditions that are tried
    orders: list[str] = field(default_factory=lambda: [TOGETHER])


@dataclass
class Plan:
    """The schema of an experiment's yaml file; what training is not told here is in `config`."""

    config: str = MISSING  # yaml of a recogniser
    preset: str = "default"  # of that yaml
    sound: str = MISSING  # manifest of all training clips; lips in it are not used
    filmed: str = MISSING  # manifest of those that are filmed, with {percent}
    valid: str = MISSING  # manifest; it is logged and chooses nothing
    tokenizer: str = MISSING
    percents: list[int] = field(default_factory=lambda: [1, 2, 10, 100])  # tried without drawn lips, beside A's 0
    arms: dict[str, Arm] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    filmed_share_v: float = 0.5  # of the clips that training shows, where some are filmed and others are not
    filmed_share_av: float = 0.1
    steps_a: int = MISSING  # optimiser steps
    steps_v: int = MISSING
    steps_av: int = MISSING
    overrides: list[str] = field(default_factory=list)  # key=value of every training
    joint_overrides: list[str] = field(default_factory=list)  # and of those of both streams

    def __post_init__(self):
        for name in ("filmed_share_v", "filmed_share_av"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name} is a share between 0 and 1, got {getattr(self, name)}")
        for name in ("steps_a", "steps_v", "steps_av"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 1")
        if not self.seeds:
            raise InputError("seeds is empty: a recogniser is trained from at least one")
        for percent in self.percents:
            if not 0 < percent <= 100:
                raise InputError(f"percents: {percent} is no share of filmed clips; expected 1 to 100")
        for name, arm in self.arms.items():
            self._check_arm(name, arm)

    def _check_arm(self, name: str, arm: Arm) -> None:
        if name == NONE or "_" in name:
            raise InputError(f"arms: {name!r} cannot be an arm's name: expected one without '_', and not {NONE!r}")
        if unknown := sorted(set(arm.percents) - {0, *self.percents} | ({100} & set(arm.percents))):
            raise InputError(
                f"arms.{name}.percents: {unknown[0]} is neither 0 nor one of percents below 100: there would be "
                "nothing to compare with"
            )
        if min(arm.times, default=0) < 1 or any(self.renditions % times for times in arm.times):
            raise InputError(
                f"arms.{name}.times {arm.times}: each must divide the largest of all arms, {self.renditions}, so that "
                "all systems show as many clips"
            )
        if wrong := [order for order in arm.orders if order not in (TOGETHER, TUNED)]:
            raise InputError(f"arms.{name}.orders: unknown {wrong[0]!r}; expected {TOGETHER} or {TUNED}")

    @property
    def renditions(self) -> int:
        """The most renditions that an arm has of a clip."""
        return max((times for arm in self.arms.values() for times in arm.times), default=1)

    def systems(self) -> list["System"]:
        """All that is compared: sound alone first, then by share of filmed clips, without drawn lips first."""
        bare = [System(0), *(System(percent) for percent in sorted(self.percents))]
        drawn = [
            System(percent, name, times, order)
            for name, arm in self.arms.items()
            for percent in arm.percents
            for times in arm.times
            for order in arm.orders
            if order == TOGETHER or percent > 0  # nothing filmed, nothing to tune with
        ]
        return sorted([*bare, *drawn], key=lambda system: system.percent)


@dataclass(frozen=True)
class System:
    """Per cent of the clips that are filmed, whose lips are drawn for the others, in how many renditions, and how."""

    percent: int
    arm: str = NONE
    times: int = 0
    order: str = TOGETHER

    @property
    def modalities(self) -> tuple[str, ...]:
        return ("v", "av") if self.sees else ("a",)

    @property
    def sees(self) -> bool:
        return self.percent > 0 or self.arm != NONE

    @property
    def bare(self) -> "System":
        """What it is compared with: as many filmed clips, no drawn ones."""
        return System(self.percent)

    def name(self, modality: str) -> str:
        """Of its recogniser of a modality, in files and on command lines."""
        if not self.sees:
            return modality
        drawn = [] if self.arm == NONE else [self.arm, str(self.times)] + [self.order] * (self.order != TOGETHER)
        return "_".join([modality, str(self.percent), *drawn])
