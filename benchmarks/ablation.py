"""What each part of a method is worth: systems trained from several seeds, on one reference, with intervals.

    python -m benchmarks.ablation REFERENCE.jsonl --system NAME=MANIFEST[,MANIFEST …] … --reader NAME=CHECKPOINT …
                                  --out DIR [--judge CHECKPOINT] [--compare A:B …] [--lexicon MANIFEST …]

A system has a MANIFEST for each of its seeds, as `benchmarks.generator` takes them; the reference is measured beside
them. What an utterance gives is averaged over its system's seeds; 95 % intervals and two-sided p are bootstraps over
utterances, paired where systems are compared (--compare A:B is B minus A). They say how sure a figure is of these
seeds; how far seeds lie apart is a figure of its own, the standard deviation of the seeds' figures. Writes
OUT/scores.json and OUT/table.md; what was measured before an interruption is not measured again.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from avsr.errors import InputError, exit_status
from avsr.files import write_json, write_text
from avsr.significance import difference, interval, pooled
from benchmarks.columns import columns
from benchmarks.content import markdown_section
from benchmarks.entrants import by_name, named
from benchmarks.generator import add_bench_arguments, bench_of
from benchmarks.generator_section import ablation_section
from benchmarks.measures import Bench, shift_curve

DRAWS = 10_000


def evaluate(bench: Bench, systems: dict[str, list[str]], pairs: Sequence[tuple[str, str]], draws: int = DRAWS) -> dict:
    """Measure every seed of every system, and compare; returns what scores.json holds."""
    for name in {name for pair in pairs for name in pair} - {"reference", *systems}:
        raise InputError(f"--compare names {name!r}, which is no --system: {', '.join(systems)}")
    manifests = {"reference": [bench.reference]} | systems
    seeds = {
        name: [bench.measure(name if len(paths) == 1 else f"{name}_{i}", path) for i, path in enumerate(paths)]
        for name, paths in manifests.items()
    }
    averaged = {name: over_seeds(tallies) for name, tallies in seeds.items()}
    keys = [column.key for column in columns(list(bench.readers))]
    return {
        "protocol": bench.protocol(sorted({key for tally in averaged.values() for key in tally})) | {"draws": draws},
        "readers": bench.reader_facts(),
        "systems": {
            name: {
                "manifests": [str(path) for path in manifests[name]],
                "measures": {k: _figure(tally[k], seeds[name], k, draws) for k in keys if k in tally},
                "shifts": shift_curve(tally, draws),
            }
            for name, tally in averaged.items()
        },
        "comparisons": [
            {"a": a, "b": b, "key": key, **asdict(difference(averaged[a][key], averaged[b][key], draws))}
            for a, b in pairs
            for key in keys
            if key in averaged[a] and key in averaged[b]
        ],
    }


def over_seeds(tallies: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """{key: tally (U, 2)} of each seed -> their mean; a seed without a measure gives it no weight."""
    keys = dict.fromkeys(key for tally in tallies for key in tally)
    return {key: sum(tally[key] for tally in tallies if key in tally) / len(tallies) for key in keys}


def _figure(tally: np.ndarray, seeds: Sequence[dict[str, np.ndarray]], key: str, draws: int) -> dict:
    """A system's figure with its interval, and the standard deviation over its seeds (None of one)."""
    low, high = interval(tally, draws)
    each = [float(pooled(seed[key])) for seed in seeds if key in seed]
    deviation = float(np.std(each, ddof=1)) if len(each) > 1 else None
    return {"value": float(pooled(tally)), "low": float(low), "high": float(high), "seeds": each, "seed_sd": deviation}


def compared(text: str) -> tuple[str, str]:
    """A:B of a command line."""
    a, separator, b = text.partition(":")
    if not (a and separator and b) or a == b:
        raise argparse.ArgumentTypeError(f"{text!r}: expected A:B, two systems")
    return a, b


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference")
    add_bench_arguments(parser)
    parser.add_argument("--system", type=named, action="append", required=True, metavar="NAME=MANIFEST[,MANIFEST]")
    parser.add_argument("--compare", type=compared, action="append", default=[], metavar="A:B")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of the bootstrap")
    args = parser.parse_args()
    systems = {name: paths.split(",") for name, paths in by_name("--system", args.system).items()}
    scores = evaluate(bench_of(args, args.reference), systems, args.compare, args.draws)
    write_json(args.out / "scores.json", scores)
    table = markdown_section(ablation_section(args.out.name, scores))
    write_text(args.out / "table.md", table)
    print(table)


if __name__ == "__main__":
    sys.exit(exit_status(main))
