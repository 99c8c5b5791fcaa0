"""How much drawn lips help a recogniser of filmed ones.

    python -m benchmarks.augmentation plan PLAN.yaml [key=value …] --out OUT [--preset default]
    python -m benchmarks.augmentation list OUT [--wave N]
    python -m benchmarks.augmentation train OUT NAME
    python -m benchmarks.augmentation measure OUT TEST.jsonl [--noise DIR] [--corruptions DIR] [--nj N]

`plan` writes OUT/plan.yaml, the manifests of all mixtures and OUT/trainings.jsonl (`benchmarks.augmentation.plan` has
the yaml's schema and what is fair about it); `list` prints the trainings' names, a line each; `train` trains one of
them, or goes on (through `accelerate launch -m` on many GPUs); trainings of one wave can run side by side. `measure`
decodes filmed clips by all that is trained from every seed and writes OUT/scores.json and OUT/table.md. What was
trained and decoded of the same data and settings is kept.
"""

import argparse
import sys
from pathlib import Path

from avsr.decode import DecodeConfig
from avsr.errors import InputError, exit_status
from avsr.files import write_json, write_text
from avsr.training.config import from_dict, load_config, read_yaml, save_config
from benchmarks.augmentation.figures import measure
from benchmarks.augmentation.plan import Plan
from benchmarks.augmentation.trainings import plan_trainings, read_trainings, train_one
from benchmarks.augmentation_section import augmentation_section
from benchmarks.conditions import conditions_in
from benchmarks.content import markdown_section


def _plan(args: argparse.Namespace) -> None:
    plan = load_config(args.plan, [f"preset={args.preset}", *args.overrides], Plan, preset=args.preset)
    trainings = plan_trainings(plan, args.out)
    save_config(args.out / "plan.yaml", plan)
    waves = max(training.wave for training in trainings)
    print(f"{args.out / 'trainings.jsonl'}: {len(trainings)} trainings in {waves} waves")


def _list(args: argparse.Namespace) -> None:
    for training in read_trainings(args.out):
        if args.wave in (None, training.wave):
            print(training.name)


def _train(args: argparse.Namespace) -> None:
    named = {training.name: training for training in read_trainings(args.out)}
    if args.name not in named:
        raise InputError(f"{args.out} plans no training {args.name!r}; its trainings: {', '.join(named)}")
    train_one(_read_plan(args.out), named[args.name], args.out)


def _measure(args: argparse.Namespace) -> None:
    conditions = conditions_in(args.noise, args.corruptions)
    decoding = DecodeConfig(beam_size=args.beam_size)
    scores = measure(_read_plan(args.out), args.out, args.test, conditions, decoding, args.nj)
    write_json(args.out / "scores.json", scores)
    table = markdown_section(augmentation_section(args.out.name, scores))
    write_text(args.out / "table.md", table)
    print(table)


def _read_plan(out: Path) -> Plan:
    path = out / "plan.yaml"
    return from_dict(Plan, read_yaml(path), str(path))


def build_parser() -> argparse.ArgumentParser:
    as_written = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augmentation", description=__doc__, **as_written)
    commands = parser.add_subparsers(required=True)
    sub = commands.add_parser("plan", help="manifests and trainings of an experiment")
    sub.add_argument("plan", metavar="PLAN.yaml")
    sub.add_argument("overrides", nargs="*", metavar="key=value")
    sub.add_argument("--preset", default="default", help="of PLAN.yaml and of the recogniser's yaml")
    sub.add_argument("--out", type=Path, required=True)
    sub.set_defaults(run=_plan)
    sub = commands.add_parser("list", help="names of the trainings")
    sub.add_argument("out", type=Path)
    sub.add_argument("--wave", type=int, help="those of one wave, from 1")
    sub.set_defaults(run=_list)
    sub = commands.add_parser("train", help="one training")
    sub.add_argument("out", type=Path)
    sub.add_argument("name")
    sub.set_defaults(run=_train)
    sub = commands.add_parser("measure", help="word errors on filmed lips, and what drawn ones gained")
    sub.add_argument("out", type=Path)
    sub.add_argument("test", metavar="TEST.jsonl")
    sub.add_argument("--noise", metavar="DIR", help="folder of noise manifests")
    sub.add_argument("--corruptions", metavar="DIR", help="folder of corruption manifests")
    sub.add_argument("--beam_size", type=int, default=5)
    sub.add_argument("--nj", type=int, default=1)
    sub.set_defaults(run=_measure)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command; 2 on bad input, after one line on stderr."""
    args = build_parser().parse_args(argv)
    return exit_status(lambda: args.run(args))


if __name__ == "__main__":
    sys.exit(main())
