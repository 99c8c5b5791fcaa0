"""What befalls a test: noise in its sound, corruption of its lips or its sound, both, or nothing."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from avsr.data.corrupt import CORRUPTIONS, read_corruption_manifest
from avsr.data.noise import ROOM_ONLY, read_noise_manifest
from avsr.errors import InputError


@dataclass(frozen=True)
class Noise:
    """A noise manifest; kind and SNR are those of its first line, the SNR None where there are only rooms."""

    path: Path
    kind: str
    snr_db: float | None

    @classmethod
    def read(cls, path: Path) -> "Noise":
        line = read_noise_manifest(path)[0]
        parts = [line["kind"]] * (line["kind"] != ROOM_ONLY) + ["reverb"] * ("rir" in line)
        return cls(path, " + ".join(parts), line["snr_db"])


@dataclass(frozen=True)
class Corruption:
    """A corruption manifest; kind and severity are those of its first line."""

    path: Path
    kind: str
    severity: float

    @classmethod
    def read(cls, path: Path) -> "Corruption":
        line = read_corruption_manifest(path)[0]
        return cls(path, line["kind"], line["severity"])


@dataclass(frozen=True)
class Condition:
    """What befalls the utterances of a test; with neither noise nor corruption they are clean."""

    noise: Noise | None = None
    corruption: Corruption | None = None

    @property
    def name(self) -> str:
        return "_".join(part.path.stem for part in (self.noise, self.corruption) if part is not None) or "clean"

    def perceived(self, modality: str) -> "Condition":
        """What is left of it for a system that uses the streams of `modality`."""
        touched = self.corruption is not None and CORRUPTIONS[self.corruption.kind].stream in modality
        return Condition(self.noise if "a" in modality else None, self.corruption if touched else None)

    def lines(self) -> tuple[list[dict] | None, list[dict] | None]:
        """The lines of its noise manifest and of its corruption manifest, None of what it lacks."""
        return (
            None if self.noise is None else read_noise_manifest(self.noise.path),
            None if self.corruption is None else read_corruption_manifest(self.corruption.path),
        )

    def facts(self) -> dict:
        """The keys that a result in scores.json has of it."""
        return {
            "condition": self.name,
            "kind": None if self.noise is None else self.noise.kind,
            "snr_db": None if self.noise is None else self.noise.snr_db,
            "corruption": None if self.corruption is None else self.corruption.kind,
            "severity": None if self.corruption is None else self.corruption.severity,
        }


def conditions_in(noise_dir: str | None, corruption_dir: str | None = None, cross: bool = False) -> list[Condition]:
    """Clean first, then noises by kind and falling SNR, then corruptions by kind and severity; crossed: in each noise.

    Raises InputError: a folder without manifests, two conditions of one name.
    """
    noises = [Noise.read(path) for path in _manifests_in(noise_dir, "noise")]
    noises.sort(key=lambda noise: (noise.kind, -math.inf if noise.snr_db is None else -noise.snr_db))
    corruptions = [Corruption.read(path) for path in _manifests_in(corruption_dir, "corrupt")]
    corruptions.sort(key=lambda corruption: (list(CORRUPTIONS).index(corruption.kind), corruption.severity))
    conditions = [Condition(), *map(Condition, noises)]
    around = conditions if cross else conditions[:1]
    conditions = [*conditions, *(Condition(one.noise, other) for one in around for other in corruptions)]
    twice = [name for name, times in Counter(condition.name for condition in conditions).items() if times > 1]
    if twice:
        raise InputError(f"two conditions have the name {twice[0]!r}: rename one of the manifests")
    return conditions


def _manifests_in(folder: str | None, command: str) -> list[Path]:
    if folder is None:
        return []
    paths = sorted(Path(folder).glob("*.jsonl"))
    if not paths:
        what = {"noise": "noise", "corrupt": "corruption"}[command]
        raise InputError(f"{folder}: no {what} manifest (*.jsonl); make some with `avsr {command}`")
    return paths
