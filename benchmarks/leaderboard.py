"""Systems that were measured on one reference, a row each, wherever they were measured.

    python -m benchmarks.leaderboard LEADERBOARD.json … --out DIR

`benchmarks.generator` writes leaderboard.json for what it measured. This joins several: those of other people too, if
they measured on the same reference. What lies behind a row goes with it: the protocol, the hash of the reference (its
texts and the bytes of its files), those of readers and judge, the commit.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from avsr.errors import InputError, exit_status
from avsr.files import write_json, write_text
from benchmarks.columns import GEOMETRY, READBACK, columns, readback_key
from benchmarks.report import commit_of

KEYS = ("system", "reference", "protocol", "judges", "hardware", "sequences", "commit", "measures")


def entries(scores: dict) -> list[dict]:
    """Leaderboard entries of what scores.json of `benchmarks.generator` holds; the reference is one of them."""
    protocol, commit = scores["protocol"], commit_of(Path(__file__).parent)
    found = []
    for name, row in scores["motions"].items():
        values = {column.key: row[column.key] for column in GEOMETRY if column.key in row}
        for reader, rates in row["readback"].items():
            values |= {readback_key(column.key, reader): rates[column.key] for column in READBACK}
        measures = {}
        for key, value in values.items():
            low, high = row["intervals"][key]
            measures[key] = {"value": value, "low": low, "high": high}
        entry = {
            "system": name,
            "reference": {key: protocol[key] for key in ("sha256", "utterances", "speakers")},
            "protocol": protocol["geometry"],
            "judges": protocol["judges"],
            "hardware": protocol["hardware"].get(name),
            "sequences": protocol["sequences"].get(name),
            "commit": commit,
            "measures": measures,
        }
        found.append(entry)
    return found


def joined(boards: Sequence[tuple[str, list[dict]]]) -> list[dict]:
    """The entries of several leaderboards (file, entries); the same system measured alike is there once.

    Raises InputError: other references, a reader of one name or a judge that is not the same, two systems of one name.
    """
    first_file, first = boards[0]
    known: dict[str, dict] = {}
    readers: dict[str, str] = {}
    judge = None
    for file, board in boards:
        for entry in board:
            if entry["reference"]["sha256"] != first[0]["reference"]["sha256"]:
                raise InputError(f"{file}: {entry['system']!r} was measured on another reference than {first_file}'s")
            judge = judge or entry["judges"]["judge"]
            if entry["judges"]["judge"] not in (None, judge):
                raise InputError(f"{file}: {entry['system']!r} was judged by another SyncNet3D: judge all by one")
            for reader, digest in entry["judges"]["readers"].items():
                if readers.setdefault(reader, digest) != digest:
                    raise InputError(f"{file}: the reader {reader!r} is another checkpoint than before: rename one")
            same = known.setdefault(entry["system"], entry)
            if same["measures"] != entry["measures"]:
                raise InputError(f"{file}: a second {entry['system']!r} with other figures: rename one")
    return list(known.values())


def write_leaderboard(out: Path, found: Sequence[dict]) -> None:
    """Write out/leaderboard.json and out/leaderboard.md."""
    write_json(out / "leaderboard.json", list(found))
    write_text(out / "leaderboard.md", leaderboard_section(found))


def leaderboard_section(found: Sequence[dict]) -> str:
    """A row a system, a column a figure with its interval, and what lies behind them, in Markdown."""
    readers = {reader: digest for entry in found for reader, digest in entry["judges"]["readers"].items()}
    shown = [column for column in columns(list(readers)) if any(column.key in entry["measures"] for entry in found)]
    reference = found[0]["reference"]
    lines = [
        "# Leaderboard\n",
        f"Reference `{reference['sha256'][:16]}`: {reference['utterances']} utterances, {reference['speakers']} "
        "speakers. [ ]: 95 % bootstrap interval over utterances.\n",
        "| system | " + " | ".join(f"{column.title} ({column.better})" for column in shown) + " |",
        "|---|" + "---|" * len(shown),
    ]
    for entry in found:
        cells = []
        for column in shown:
            figure = entry["measures"].get(column.key)
            ends = None if figure is None else [column.text(figure[key]) for key in ("value", "low", "high")]
            cells.append("" if ends is None else "{} [{}, {}]".format(*ends))
        lines.append(f"| {entry['system']} | " + " | ".join(cells) + " |")
    lines += ["", *dict.fromkeys(entry["protocol"] for entry in found), ""]
    lines += [f"- reader {reader}: `{digest[:16]}`" for reader, digest in readers.items()]
    lines += [f"- read by: {how}" for how in dict.fromkeys(entry["judges"]["decoding"] for entry in found) if readers]
    for entry in found:
        told = entry["sequences"]
        of = "" if told is None else f", from sequences at {told['fps']:g} fps, 1 unit {told['metres_per_unit']:.4g} m"
        computed = "" if entry["hardware"] is None else f", computed by {entry['hardware']}"
        lines.append(f"- {entry['system']}: measured at commit `{entry['commit']}`{of}{computed}")
    return "\n".join(lines) + "\n"


def read_leaderboard(path: str) -> list[dict]:
    """The entries of a leaderboard.json; InputError where it is none."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        whole = isinstance(found, list) and found and all(set(KEYS) <= set(entry) for entry in found)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: no leaderboard ({error}); `benchmarks.generator` writes leaderboard.json") from error
    if not whole:
        raise InputError(f"{path}: expected a list of entries with {', '.join(KEYS)}, as `benchmarks.generator` writes")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("boards", nargs="+", metavar="LEADERBOARD.json")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    args = parser.parse_args()
    found = joined([(path, read_leaderboard(path)) for path in args.boards])
    write_leaderboard(args.out, found)
    print(leaderboard_section(found))


if __name__ == "__main__":
    sys.exit(exit_status(main))
