"""How well people understand a face in noise.

    python -m benchmarks.listening make REFERENCE.jsonl --motion NAME=MANIFEST|FOLDER … --noise NOISE.jsonl --out DIR
                                        [--listeners 4] [--utterances 30] [--view face|lips] [--seed 0] [--key KEY.json]
    python -m benchmarks.listening score ANSWERS.csv … --key KEY.json [--out DIR]

`make` writes a folder for each listener: clips in which nothing tells the systems apart but the face, a page with
instructions, and an answer sheet. What each clip is lies in KEY.json, beside the folder DIR and not in it. A listener
hears an utterance once, by one of the systems; with as many listeners as systems, or a multiple, each utterance is
heard by every system equally often (a Latin square). The systems are the motions, "reference" (its own face) and
"sound" (no face). `score` gives the word error of each system, with intervals.
"""

import argparse
import sys
from pathlib import Path

from avsr.data.manifest import read_manifest
from avsr.errors import exit_status
from avsr.files import write_json, write_text
from benchmarks.entrants import add_entrant_arguments, gather
from benchmarks.listening.answers import answers_section, read_key, score_answers
from benchmarks.listening.pack import SOUND, VIEWS, Pack, make_pack


def _make(args: argparse.Namespace) -> None:
    reference, motions = gather(args, taken=("reference", SOUND), lips=args.view == "lips")
    use = ("lips",) if args.view == "lips" else ("motion", "template", "video")
    faces = {name: read_manifest(path, use=use) for name, path in ({"reference": reference} | motions).items()}
    pack = Pack(args.listeners, args.utterances, args.view, args.size, args.seed)
    key = args.out.with_name(f"{args.out.name}_key.json") if args.key is None else args.key
    make_pack(faces, args.noise, args.out, key, pack)
    print(f"{args.out}: a folder for each listener; {key}: what the clips are, not for listeners")


def _score(args: argparse.Namespace) -> None:
    scores = score_answers(args.answers, read_key(args.key))
    table = answers_section(scores)
    if args.out is not None:
        write_json(args.out / "scores.json", scores)
        write_text(args.out / "table.md", table)
    print(table)


def build_parser() -> argparse.ArgumentParser:
    as_written = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.listening", description=__doc__, **as_written)
    commands = parser.add_subparsers(required=True)
    sub = commands.add_parser("make", help="clips, answer sheets and their key")
    add_entrant_arguments(sub)
    sub.add_argument("--noise", required=True, metavar="NOISE.jsonl", help="one noise manifest, of `avsr noise`")
    sub.add_argument("--out", type=Path, required=True, help="a new folder")
    sub.add_argument("--key", type=Path, metavar="KEY.json", help="default: beside the folder, DIR_key.json")
    sub.add_argument("--listeners", type=int, default=1)
    sub.add_argument("--utterances", type=int, help="so many of them, drawn by the seed; default: all")
    sub.add_argument("--view", choices=VIEWS, default="face", help="the whole face, or the lip crop of readers")
    sub.add_argument("--size", type=int, default=384, help="of the pictures, pixels a side, even")
    sub.add_argument("--seed", type=int, default=0)
    sub.set_defaults(run=_make)
    sub = commands.add_parser("score", help="word error of each system, of what listeners wrote")
    sub.add_argument("answers", nargs="+", metavar="ANSWERS.csv", help="with the columns clip and heard")
    sub.add_argument("--key", required=True, metavar="KEY.json")
    sub.add_argument("--out", type=Path, help="folder for scores.json and table.md")
    sub.set_defaults(run=_score)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command; 2 on bad input, after one line on stderr."""
    args = build_parser().parse_args(argv)
    return exit_status(lambda: args.run(args))


if __name__ == "__main__":
    sys.exit(main())
