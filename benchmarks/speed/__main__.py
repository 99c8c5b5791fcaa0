"""How fast the kit is: one module of this package for each benchmark.

python -m benchmarks.speed NAME [--json OUT] […]
"""

import argparse
import importlib
import pkgutil
import sys

from avsr.errors import exit_status
from benchmarks import speed


def names() -> list[str]:
    """The benchmarks there are: every module of this package but this one has a `main(argv)`."""
    return sorted(module.name for module in pkgutil.iter_modules(speed.__path__) if module.name != "__main__")


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark that `argv` (default: the process's own) names; 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=names(), help="the benchmark; NAME --help says what it measures")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its own arguments")
    args = parser.parse_args(argv)
    benchmark = importlib.import_module(f"benchmarks.speed.{args.name}")
    return exit_status(lambda: benchmark.main(args.arguments))


if __name__ == "__main__":
    sys.exit(main())
