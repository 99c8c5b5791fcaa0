"""How fast the kit is, one benchmark at a time.

    python -m benchmarks.speed NAME [its options] [--json OUT]

Every other module of this package is a benchmark. It has `measure(**options)`, which returns figures, `table(figures)`,
which puts them into words, and `add_arguments(parser)` where it has options.
"""

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

from avsr.errors import exit_status
from avsr.files import write_json
from benchmarks import speed


def benchmarks() -> dict[str, ModuleType]:
    """The benchmarks by their names."""
    found = sorted(module.name for module in pkgutil.iter_modules(speed.__path__) if module.name != "__main__")
    return {name: importlib.import_module(f"benchmarks.speed.{name}") for name in found}


def build_parser() -> argparse.ArgumentParser:
    """A subcommand for each benchmark."""
    as_written = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__, **as_written)
    commands = parser.add_subparsers(dest="name", required=True)
    for name, module in benchmarks().items():
        sub = commands.add_parser(name, help=module.__doc__.splitlines()[0], description=module.__doc__, **as_written)
        sub.add_argument("--json", type=Path, help="write the figures here too")
        if hasattr(module, "add_arguments"):
            module.add_arguments(sub)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark that `argv` (default: the process's own) names; 2 on bad input."""
    options = vars(build_parser().parse_args(argv))
    module, out = benchmarks()[options.pop("name")], options.pop("json")

    def run() -> None:
        figures = module.measure(**options)
        print(module.table(figures))
        if out is not None:
            write_json(out, figures)

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
