"""How true, and how readable, generated face motion is.

    python -m benchmarks.generator REFERENCE.jsonl --motion NAME=MANIFEST … --reader NAME=CHECKPOINT … --out DIR
                                   [--judge CHECKPOINT] [--lexicon MANIFEST …]

REFERENCE's rows hold the speech with its true motion (embedded and 3D corpora) or with filmed lips and their landmarks.
Each MANIFEST holds the same utterances with a generated `motion` and its drawn `lips`. Geometry is measured where the
reference has motion; every reader reads the reference's lips and each motion's; the judge, a `SyncNet3D` that was no
motion's loss, tells how well motion fits its sound. Words are pronounced as in the alignments of REFERENCE and of the
`--lexicon` manifests, others as espeak-ng does.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from avsr.errors import InputError, exit_status
from avsr.files import write_json
from avsr.significance import interval, pooled
from benchmarks.columns import GEOMETRY, READBACK, readback_key
from benchmarks.measures import Bench


def evaluate(bench: Bench, motions: dict[str, str]) -> dict:
    """Measure and read the reference and every motion; returns what scores.json holds."""
    manifests = {"reference": bench.reference} | motions
    tallies = {name: bench.measure(name, manifest) for name, manifest in manifests.items()}
    result = {
        name: {
            "manifest": str(manifests[name]),
            **{column.key: float(pooled(of[column.key])) for column in GEOMETRY if column.key in of},
            "readback": {reader: _read(of, reader) for reader in bench.readers},
        }
        for name, of in tallies.items()
    }
    return {
        "protocol": bench.protocol(sorted({key for of in tallies.values() for key in of})),
        "readers": bench.reader_facts(),
        "motions": result,
    }


def _read(tallies: dict[str, np.ndarray], reader: str) -> dict[str, float]:
    """A reader's error rates, with the interval of the word error."""
    low, high = interval(tallies[readback_key("wer", reader)])
    rates = {column.key: float(pooled(tallies[readback_key(column.key, reader)])) for column in READBACK}
    return rates | {"low": float(low), "high": float(high)}


def named(text: str) -> tuple[str, str]:
    """NAME=PATH of a command line."""
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=PATH")
    return name, path


def by_name(option: str, pairs: list[tuple[str, str]]) -> dict[str, str]:
    """An option's (name, path) pairs as {name: path}. Raises InputError: a name twice, or the reference's own."""
    names = [name for name, _ in pairs]
    for name in names:
        if name == "reference" or names.count(name) > 1:
            raise InputError(f"{option} {name}: give each a name of its own, other than 'reference'")
    return dict(pairs)


def add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `bench_of` reads."""
    parser.add_argument("reference")
    parser.add_argument("--reader", type=named, action="append", default=[], metavar="NAME=CHECKPOINT")
    parser.add_argument("--judge", help="checkpoint of a SyncNet3D")
    parser.add_argument("--lexicon", action="append", default=[], metavar="MANIFEST", help="its words are pronounced")
    parser.add_argument("--beam_size", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)


def bench_of(args: argparse.Namespace) -> Bench:
    """The bench that a command line asks for."""
    return Bench(args.reference, args.out, by_name("--reader", args.reader), args.judge, args.lexicon, args.beam_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_bench_arguments(parser)
    parser.add_argument("--motion", type=named, action="append", required=True, metavar="NAME=MANIFEST")
    args = parser.parse_args()
    scores = evaluate(bench_of(args), by_name("--motion", args.motion))
    write_json(args.out / "scores.json", scores)
    for name, row in scores["motions"].items():
        print(name, {key: value for key, value in row.items() if key != "manifest"})


if __name__ == "__main__":
    sys.exit(exit_status(main))
