"""How true, and how readable, generated face motion is.

    python -m benchmarks.generator REFERENCE.jsonl --motion NAME=MANIFEST … [--reader NAME=CHECKPOINT …] --out DIR
                                   [--judge CHECKPOINT] [--lexicon MANIFEST …]
    python -m benchmarks.generator REFERENCE.jsonl --motion NAME=FOLDER … --out DIR [--fps 30] [--unit mm]
                                   [--template MESH --lips lve.txt --upper_face fdd.txt] [--truth FOLDER]

REFERENCE's rows hold the speech with its true motion (embedded and 3D corpora) or with filmed lips and their landmarks.
Each MANIFEST holds the same utterances with a generated `motion` and its drawn `lips`; a FOLDER holds vertex sequences
of another system (`benchmarks.sequences` says how), whose lips are drawn where there are readers. Geometry is measured
where the reference has motion; every reader reads the reference's lips and each motion's; the judge, a `SyncNet3D` that
was no motion's loss, tells how well motion fits its sound. Words are pronounced as in the alignments of REFERENCE and
of the `--lexicon` manifests, others as espeak-ng does. Writes OUT/scores.json, and a row for each system, with
intervals, into OUT/leaderboard.json and OUT/leaderboard.md.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from avsr.errors import exit_status
from avsr.files import write_json
from avsr.significance import interval, pooled
from benchmarks.columns import GEOMETRY, READBACK, columns, readback_key
from benchmarks.entrants import add_entrant_arguments, by_name, gather, imported, named
from benchmarks.leaderboard import entries, write_leaderboard
from benchmarks.measures import Bench, shift_curve


def evaluate(bench: Bench, motions: dict[str, str]) -> dict:
    """Measure and read the reference and every motion; returns what scores.json holds."""
    manifests = {"reference": bench.reference} | motions
    tallies = {name: bench.measure(name, manifest) for name, manifest in manifests.items()}
    keys = [column.key for column in columns(list(bench.readers))]
    result = {
        name: {
            "manifest": str(manifests[name]),
            **{column.key: float(pooled(of[column.key])) for column in GEOMETRY if column.key in of},
            "readback": {reader: _read(of, reader) for reader in bench.readers},
            "intervals": {key: [float(end) for end in interval(of[key])] for key in keys if key in of},
            "shifts": shift_curve(of),
        }
        for name, of in tallies.items()
    }
    return {
        "protocol": bench.protocol(sorted({key for of in tallies.values() for key in of}))
        | {"sequences": imported(manifests)},
        "readers": bench.reader_facts(),
        "motions": result,
    }


def _read(tallies: dict[str, np.ndarray], reader: str) -> dict[str, float]:
    """A reader's error rates, with the interval of the word error."""
    low, high = interval(tallies[readback_key("wer", reader)])
    rates = {column.key: float(pooled(tallies[readback_key(column.key, reader)])) for column in READBACK}
    return rates | {"low": float(low), "high": float(high)}


def add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `bench_of` reads."""
    parser.add_argument("--reader", type=named, action="append", default=[], metavar="NAME=CHECKPOINT")
    parser.add_argument("--judge", help="checkpoint of a SyncNet3D")
    parser.add_argument("--lexicon", action="append", default=[], metavar="MANIFEST", help="its words are pronounced")
    parser.add_argument("--beam_size", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)


def bench_of(args: argparse.Namespace, reference: str) -> Bench:
    """The bench that a command line asks for."""
    return Bench(reference, args.out, by_name("--reader", args.reader), args.judge, args.lexicon, args.beam_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_entrant_arguments(parser)
    add_bench_arguments(parser)
    args = parser.parse_args()
    reference, motions = gather(args, lips=bool(args.reader))
    scores = evaluate(bench_of(args, reference), motions)
    write_json(args.out / "scores.json", scores)
    write_leaderboard(args.out, entries(scores))
    for name, row in scores["motions"].items():
        print(name, {key: value for key, value in row.items() if key not in ("manifest", "intervals", "shifts")})


if __name__ == "__main__":
    sys.exit(exit_status(main))
