"""Word error of recognisers by modality, noise and SNR, and by what corrupts lips and sound.

    python -m benchmarks.recognizer MANIFEST --system NAME=CHECKPOINT:MODALITY … --out DIR [--noise DIR]
                                    [--corruptions DIR [--cross]]

Each system decodes each condition that it perceives: clean, every noise manifest and every corruption manifest (the
same for every system), with --cross also every corruption in every noise. Writes
OUT/<system>_<condition>/{hyp.jsonl,alignments.txt} and OUT/scores.json; decodings already there are kept.
"""

import argparse
import itertools
import json
import math
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from avsr.data.corrupt import CORRUPTIONS, corruption_hash, read_corruption_manifest
from avsr.data.manifest import read_manifest
from avsr.data.noise import ROOM_ONLY, noise_hash, read_noise_manifest
from avsr.decode import DecodeConfig, decode_manifest
from avsr.errors import InputError, exit_status
from avsr.files import read_jsonl, write_json, write_text
from avsr.models.recognizer import Recognizer
from avsr.parallel import worker_pool
from avsr.score import espnet_table, score
from avsr.significance import difference, interval, word_tally


@dataclass(frozen=True)
class System:
    """A checkpoint under the name that the tables give it, and the streams it may use: a, v or av."""

    name: str
    checkpoint: str
    modality: str

    @classmethod
    def parse(cls, text: str) -> "System":
        """From NAME=CHECKPOINT:MODALITY."""
        name, separator, rest = text.partition("=")
        checkpoint, colon, modality = rest.rpartition(":")
        if not (name and separator and checkpoint and colon) or modality not in ("a", "v", "av"):
            raise InputError(f"--system {text!r}: expected NAME=CHECKPOINT:MODALITY with modality a, v or av")
        return cls(name, checkpoint, modality)


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


def _decode(job: tuple[str, System, Condition, DecodeConfig, Path]) -> None:
    manifest, system, condition, config, hyp = job
    if hyp.is_file():
        return
    model = Recognizer.from_pretrained(system.checkpoint)
    noise, corruption = condition.noise, condition.corruption
    decode_manifest(
        model,
        read_manifest(manifest),
        config,
        noise_lines=None if noise is None else read_noise_manifest(noise.path),
        corruption_lines=None if corruption is None else read_corruption_manifest(corruption.path),
        out=hyp,
    )


def evaluate(
    manifest: str,
    systems: list[System],
    conditions: list[Condition],
    out: Path,
    method: str,
    beam_size: int,
    n_jobs: int,
) -> dict:
    """Decode and score every system under every condition that can change what it perceives; returns scores.json."""
    jobs = []
    for system, condition in itertools.product(systems, conditions):
        if condition.perceived(system.modality) != condition:
            continue  # a lip reader doesn't hear noise, and who only listens doesn't see what befalls the lips
        config = DecodeConfig(method=method, beam_size=beam_size, modality=system.modality)
        jobs.append((manifest, system, condition, config, out / f"{system.name}_{condition.name}" / "hyp.jsonl"))
    with worker_pool(n_jobs) as pool:
        list(pool.map(_decode, jobs))

    rows = read_manifest(manifest)
    refs = {row["utt_id"]: row["text"] for row in rows}
    scored, results = {}, []
    for _, system, condition, _, path in jobs:
        hyps = {line["utt_id"]: line["text"] for line in read_jsonl(path)}
        scores = scored[system.name, condition] = score(refs, hyps)
        write_text(path.with_name("alignments.txt"), scores.alignments)
        low, high = map(float, interval(word_tally(scores)))
        results.append(
            {
                "system": system.name,
                **condition.facts(),
                "wer": scores.wer,
                "low": low,
                "high": high,
                "cer": scores.cer,
                **scores.as_dict(),
            }
        )
    paired = []
    for a, b in itertools.combinations([system for system in systems if "a" in system.modality], 2):
        for condition in conditions:
            if not any((system.name, condition) in scored for system in (a, b)):
                continue
            # what one of them doesn't perceive leaves it with the scores of what it does
            tallies = [word_tally(scored[system.name, condition.perceived(system.modality)]) for system in (a, b)]
            paired.append({"condition": condition.name, "a": a.name, "b": b.name, **asdict(difference(*tallies))})
    noises = {one.noise.path for one in conditions if one.noise is not None}
    corruptions = {one.corruption.path for one in conditions if one.corruption is not None}
    return {
        "protocol": {
            "manifest": str(manifest),
            "utterances": len(rows),
            "words": sum(len(text.split()) for text in refs.values()),
            "speakers": len({row["speaker"] for row in rows}),
            "source": ", ".join(sorted({str(row["source"]) for row in rows})),
            "decoding": (
                "Greedy CTC decoding."
                if method == "greedy"
                else f"Beam search, beam {beam_size}, CTC and attention, no language model."
            ),
            "noise": {path.stem: noise_hash(read_noise_manifest(path)) for path in sorted(noises)},
            "corruptions": {path.stem: corruption_hash(read_corruption_manifest(path)) for path in sorted(corruptions)},
        },
        "systems": {s.name: _facts(s) for s in systems},
        "results": results,
        "paired": paired,
        "table": espnet_table(
            {f"{Path(manifest).parent.name}/{s}_{c.name}": value for (s, c), value in scored.items()}
        ),
    }


def _facts(system: System) -> dict:
    model = Recognizer.from_pretrained(system.checkpoint)
    return {
        "checkpoint": system.checkpoint,
        "modality": system.modality,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training": training_facts(system.checkpoint),
    }


def training_facts(checkpoint: str) -> str:
    """Steps, epochs and wall time of the training that made `checkpoint`, in words; empty where it isn't recorded."""
    record = Path(checkpoint).parent / "done.json"
    if not record.is_file():
        return ""
    done = json.loads(record.read_text())
    return f"{done['steps']} steps in {done['epochs']} epochs, {done['seconds']:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("--system", action="append", required=True, metavar="NAME=CHECKPOINT:MODALITY")
    parser.add_argument("--noise", metavar="DIR", help="folder of noise manifests")
    parser.add_argument("--corruptions", metavar="DIR", help="folder of corruption manifests")
    parser.add_argument("--cross", action="store_true", help="every corruption also in every noise")
    parser.add_argument("--method", choices=("greedy", "beam"), default="beam")
    parser.add_argument("--beam_size", type=int, default=5)
    parser.add_argument("--nj", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    systems = [System.parse(text) for text in args.system]
    conditions = conditions_in(args.noise, args.corruptions, args.cross)
    scores = evaluate(args.manifest, systems, conditions, args.out, args.method, args.beam_size, args.nj)
    write_json(args.out / "scores.json", scores)
    print(scores["table"])


if __name__ == "__main__":
    sys.exit(exit_status(main))
