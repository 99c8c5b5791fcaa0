"""What the recognisers of a plan make of filmed lips, and what drawn lips gained."""

import json
import logging
from pathlib import Path

from avsr.data.manifest import read_manifest
from avsr.decode import DecodeConfig
from avsr.errors import InputError
from benchmarks import recognizer
from benchmarks.augmentation.plan import Plan, System
from benchmarks.augmentation.trainings import Training, checkpoint_of, read_trainings, seeded
from benchmarks.conditions import Condition

logger = logging.getLogger(__name__)


def measure(plan: Plan, out: Path, test: str, conditions: list[Condition], decoding: DecodeConfig, n_jobs: int) -> dict:
    """Decode and compare all that is trained from every seed; returns what scores.json holds.

    It is what `benchmarks.recognizer` gives, with "augmentation": of each system its share of filmed clips, its arm,
    and the steps that its recognisers took, in all and on filmed clips. Compared are a system with drawn lips and the
    one with as many filmed clips and none drawn, and everything that sees with sound alone.

    Raises InputError where nothing is trained.
    """
    trained = {t.name: t for t in read_trainings(out) if (out / t.folder / "done.json").is_file()}
    systems: list[recognizer.System] = []
    cells: dict[str, dict] = {}
    pairs: list[tuple[str, str]] = []
    for system in plan.systems():
        for modality in system.modalities:
            name = system.name(modality)
            of_seeds = [trained.get(seeded(name, seed)) for seed in plan.seeds]
            if None in of_seeds:
                logger.warning("%s is not trained from every seed yet: left out", name)
                continue
            checkpoints = tuple(checkpoint_of(out, training.folder) for training in of_seeds)
            systems.append(recognizer.System(name, checkpoints, modality))
            cells[name] = _cell(plan, out, system, modality, of_seeds[0], trained)
            pairs += [(base, name) for base in _compared_with(system, modality) if base in cells]
    if not systems:
        raise InputError(f"{out}: none of the plan's recognisers is trained from every seed yet")
    scores = recognizer.evaluate(test, systems, conditions, out / "read", decoding, n_jobs, pairs=pairs)
    return scores | {"augmentation": cells}


def _compared_with(system: System, modality: str) -> list[str]:
    """The same without drawn lips, where that is something, and sound alone."""
    with_as_many = [system.bare.name(modality)] if system.bare.sees and system != system.bare else []
    return with_as_many + (["a"] if modality == "av" else [])


def _cell(
    plan: Plan, out: Path, system: System, modality: str, training: Training, trained: dict[str, Training]
) -> dict:
    steps = filmed_steps = 0.0
    by_folder = {one.folder: one for one in trained.values()}
    # what a recogniser was before it was tuned is part of its training, those of other streams are not
    pending = [training]
    while pending:
        one = pending.pop()
        taken = json.loads((out / one.folder / "done.json").read_text(encoding="utf-8"))["steps"]
        steps, filmed_steps = steps + taken, filmed_steps + taken * one.filmed_share
        pending += [by_folder[start] for start in one.init if by_folder[start].modality == modality]
    n_filmed = 0
    if system.percent > 0:
        n_filmed = len(read_manifest(plan.filmed.format(percent=system.percent), check_files=False))
    return {
        "percent": system.percent,
        "filmed_clips": n_filmed,
        "arm": system.arm,
        "times": system.times,
        "order": system.order,
        "modality": modality,
        "steps": round(steps),
        "filmed_steps": round(filmed_steps),
    }
