"""What a recipe measured, as one page: RESULTS.md, report/index.html and the plots in report/*.png.

    python -m benchmarks.report EXP [EXP …] --title TITLE --command COMMAND --recipe RECIPE_DIR [--lexicon MANIFEST …]

The page is written to the first folder and has what was measured in all of them. The HTML page shows the plots beside
the tables, and the clips that lie in EXP/report. Words are pronounced, for the confusions of visemes, as in the
alignments of the tests and of the `--lexicon` manifests, others as espeak-ng does.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from avsr.errors import InputError, exit_status
from avsr.files import read_jsonl, write_text
from benchmarks.augmentation_section import augmentation_section
from benchmarks.content import Cell, Clip, Page, Picture, Section, Table, blocks_of, markdown_page
from benchmarks.generator_section import ablation_section, generator_section
from benchmarks.page import write_page
from benchmarks.perception_section import perception_section
from benchmarks.plots import Palette
from benchmarks.recognizer_section import recognizer_section
from benchmarks.viseme_section import viseme_part
from talking3d.runtime import processor_name

# kind of benchmark, and folder of EXP: its section, and what its protocol calls the manifest that was measured
SECTIONS = {
    "recognizer": (recognizer_section, "manifest"),
    "generator": (generator_section, "reference"),
    "ablation": (ablation_section, "reference"),
    "perception": (perception_section, "reference"),
    "augmentation": (augmentation_section, "manifest"),
}


def hardware() -> str:
    """Processor, cores used and GPU, in words."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{processor_name()}, {os.cpu_count()} cores, {'no GPU' if not gpus else ', '.join(gpus)}"


def commit_of(folder: Path) -> str:
    """The commit checked out at `folder`, marked where tracked files differ from it."""
    git = ["git", "-C", str(folder)]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    if head.returncode != 0:
        return "not a git checkout"
    changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True)
    return head.stdout.strip() + (" with local changes" if changed.stdout.strip() else "")


def environment(recipe: Path, command: str) -> dict[str, str]:
    """Everything a reader needs to run it again, in Markdown."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("liploop", "torch", "espnet"))
    return {
        "command": f"`{command}`",
        "commit": f"`{commit_of(recipe)}`",
        "hardware": hardware(),
        "software": f"Python {platform.python_version()}, {versions}",
    }


def results_page(
    exp: Path, title: str, facts: dict[str, str], lexicon: Sequence[str] = (), others: Sequence[Path] = ()
) -> Page:
    """The page of all that was measured in `exp` and in other folders. Raises InputError where nothing was."""
    page, manifests = Page(f"RESULTS: {title}", facts), []
    for kind, (section, reference) in SECTIONS.items():
        for path in (path for folder in (exp, *others) for path in sorted(folder.glob(f"{kind}/*/scores.json"))):
            scores = json.loads(path.read_text(encoding="utf-8"))
            visemes = [viseme_part(path.parent, scores, lexicon)] if kind == "recognizer" else []
            page.sections.append(section(path.parent.name, scores, *visemes))
            manifests.append(scores["protocol"][reference])
    if not page.sections:
        raise InputError(f"{exp}: nothing measured yet (no {{{','.join(SECTIONS)}}}/*/scores.json)")
    sections = (clip_section(exp / "report"), manifest_section(manifests), stage_section(exp))
    page.sections.extend(section for section in sections if section is not None)
    return page


def clip_section(report: Path) -> Section | None:
    """The clips in `report`, under their files' names."""
    clips = [Clip(path.name, path.stem.replace("_", " ")) for path in sorted(report.glob("*.mp4"))]
    return Section("Clips", clips) if clips else None


def manifest_section(manifests: Iterable[str]) -> Section | None:
    """Hashes of the tests' manifests, of those that still lie where they lay."""
    found = sorted({Path(manifest) for manifest in manifests if Path(manifest).is_file()})
    rows = [[f"{path.parent.name}/{path.name}", hashlib.sha256(path.read_bytes()).hexdigest()[:16]] for path in found]
    return Section("Manifests", [Table(["manifest", "sha256"], rows)]) if rows else None


def stage_section(exp: Path) -> Section | None:
    """Seconds of each stage's longest run (a stage run again reuses what is finished)."""
    log = exp / "stages.jsonl"
    if not log.is_file():
        return None
    seconds = {}
    for row in read_jsonl(log):
        seconds[row["stage"]] = max(row["seconds"], seconds.get(row["stage"], 0))
    rows = [[stage, Cell(str(took))] for stage, took in [*seconds.items(), ("together", sum(seconds.values()))]]
    return Section("Time", [Table(["stage", "seconds"], rows)])


def write_report(page: Page, exp: Path) -> None:
    """Write RESULTS.md, the plots, and the page that shows them."""
    write_text(exp / "RESULTS.md", markdown_page(page))
    colors = Palette()
    for block in blocks_of(page):
        if isinstance(block, Picture):
            block.draw(exp / "report" / block.file, colors)
    write_page(page, exp / "report" / "index.html")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path, nargs="+")
    parser.add_argument("--title", required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--lexicon", action="append", default=[], metavar="MANIFEST", help="its words are pronounced")
    args = parser.parse_args()
    exp, *others = args.exp
    page = results_page(exp, args.title, environment(args.recipe, args.command), args.lexicon, others)
    write_report(page, exp)
    print(markdown_page(page))


if __name__ == "__main__":
    sys.exit(exit_status(main))
