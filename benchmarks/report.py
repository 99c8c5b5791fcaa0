"""One page and its plots from what a recipe measured: RESULTS.md and report/*.png.

python -m benchmarks.report EXP --title TITLE --command COMMAND --recipe RECIPE_DIR
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from avsr.errors import InputError, exit_status
from avsr.files import write_text
from benchmarks.columns import GEOMETRY, READBACK, Column, columns
from benchmarks.plots import plot_generator, plot_lips, plot_recognizer, plot_training
from benchmarks.recognizer_section import recognizer_section, with_interval


def hardware() -> str:
    """Processor, cores used and GPU, in words."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        model = next((li.split(":")[1].strip() for li in cpuinfo.read_text().splitlines() if "model name" in li), model)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{model}, {os.cpu_count()} cores, {'no GPU' if not gpus else ', '.join(gpus)}"


def commit_of(folder: Path) -> str:
    """The commit checked out at `folder`, marked where tracked files differ from it."""
    git = ["git", "-C", str(folder)]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    if head.returncode != 0:
        return "not a git checkout"
    changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True)
    return head.stdout.strip() + (" with local changes" if changed.stdout.strip() else "")


def environment(recipe: Path, command: str) -> str:
    """Everything a reader needs to run it again, as a Markdown list."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("liploop", "torch", "espnet"))
    lines = [
        f"command: `{command}`",
        f"commit: `{commit_of(recipe)}`",
        f"hardware: {hardware()}",
        f"software: Python {platform.python_version()}, {versions}",
    ]
    return "".join(f"- {line}\n" for line in lines)


def generator_section(name: str, scores: dict) -> str:
    """Vertex errors and read-back word error of each motion, in Markdown."""
    protocol = scores["protocol"]
    readers = list(scores["readers"])
    measured = list(scores["motions"].values())
    geometry = [column for column in GEOMETRY if any(column.key in row for row in measured)]
    read = [
        (column, reader)
        for reader in readers
        for column in READBACK
        if column.key != "cer" and any(column.key in row["readback"].get(reader, {}) for row in measured)
    ]
    titles = [column.title for column in geometry] + [f"{column.title} read by {reader}" for column, reader in read]
    text = [
        f"## Talking face: {name}\n",
        f"{protocol['utterances']} utterances, {protocol['speakers']} speakers. {protocol['geometry']}\n",
        "| motion | " + " | ".join(titles) + " |",
        "|---|" + "---|" * len(titles),
    ]
    for motion, row in scores["motions"].items():
        values = [column.text(row[column.key]) if column.key in row else "" for column in geometry]
        for column, reader in read:
            cell = row["readback"].get(reader, {})
            if column.key == "wer" and cell:
                values.append(with_interval(cell))
            else:
                values.append(column.text(cell[column.key]) if column.key in cell else "")
        text.append(f"| {motion} | " + " | ".join(values) + " |")
    text += ["", *(f"- reader {reader}: {facts}" for reader, facts in scores["readers"].items())]
    return "\n".join(text) + "\n"


def ablation_section(name: str, scores: dict) -> str:
    """Every measure of each system with its interval and its spread over seeds, then the differences, in Markdown."""
    protocol, systems = scores["protocol"], scores["systems"]
    shown = [
        column
        for column in columns(list(scores["readers"]))
        if any(column.key in system["measures"] for system in systems.values())
    ]
    seeds = ", ".join(f"{system} {len(of['manifests'])}" for system, of in systems.items() if system != "reference")
    text = [
        f"## Ablation: {name}\n",
        f"{protocol['utterances']} utterances, {protocol['speakers']} speakers; seeds: {seeds}. {protocol['geometry']} "
        "What an utterance gives is averaged over seeds; [ ]: 95 % bootstrap interval over utterances "
        f"({protocol['draws']:,} draws), ±: standard deviation of the seeds' figures, which the interval leaves out.\n",
        "| measure | better | " + " | ".join(systems) + " |",
        "|---|---|" + "---|" * len(systems),
    ]
    for column in shown:
        cells = [_figure_cell(column, system["measures"].get(column.key)) for system in systems.values()]
        text.append(f"| {column.title} | {column.better} | " + " | ".join(cells) + " |")
    differences = {(row["a"], row["b"], row["key"]): row for row in scores["comparisons"]}
    pairs = list(dict.fromkeys((a, b) for a, b, _ in differences))
    if pairs:
        text += [
            "\nPaired bootstrap over utterances: difference, 95 % interval, two-sided p (of one comparison each).\n",
            "| measure | better | " + " | ".join(f"{b} − {a}" for a, b in pairs) + " |",
            "|---|---|" + "---|" * len(pairs),
        ]
        for column in shown:
            cells = [_difference_cell(column, differences.get((*pair, column.key))) for pair in pairs]
            text.append(f"| {column.title} | {column.better} | " + " | ".join(cells) + " |")
    text += ["", *(f"- reader {reader}: {facts}" for reader, facts in scores["readers"].items())]
    return "\n".join(text) + "\n"


def _figure_cell(column: Column, figure: dict | None) -> str:
    if figure is None:
        return ""
    spread = "" if figure["seed_sd"] is None else f" ± {column.text(figure['seed_sd']).lstrip('+')}"
    return "{} [{}, {}]".format(*(column.text(figure[key]) for key in ("value", "low", "high"))) + spread


def _difference_cell(column: Column, row: dict | None) -> str:
    if row is None:
        return ""
    ends = "{} [{}, {}]".format(*(column.text(row[key], signed=True) for key in ("difference", "low", "high")))
    return f"{ends}, p {'< 0.001' if row['p'] < 0.001 else format(row['p'], '.3f')}"


def stage_table(exp: Path) -> str:
    """Seconds of each stage's longest run (a stage run again reuses what is finished), in Markdown."""
    log = exp / "stages.jsonl"
    if not log.is_file():
        return ""
    seconds = {}
    for row in map(json.loads, log.read_text().splitlines()):
        seconds[row["stage"]] = max(row["seconds"], seconds.get(row["stage"], 0))
    body = "".join(f"| {stage} | {took} |\n" for stage, took in seconds.items())
    return f"## Time\n\n| stage | seconds |\n|---|---|\n{body}| together | {sum(seconds.values())} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("exp", type=Path)
    parser.add_argument("--title", required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--recipe", type=Path, required=True)
    args = parser.parse_args()
    sections = [f"# RESULTS: {args.title}\n\n{environment(args.recipe, args.command)}"]
    for path in sorted(args.exp.glob("recognizer/*/scores.json")):
        name, scores = path.parent.name, json.loads(path.read_text())
        sections.append(recognizer_section(name, scores))
        plot_recognizer(name, scores, args.exp / "report" / f"wer_snr_{name}.png")
        plot_training(scores, args.exp / "report" / f"training_{name}.png")
    for path in sorted(args.exp.glob("generator/*/scores.json")):
        name, scores = path.parent.name, json.loads(path.read_text())
        sections.append(generator_section(name, scores))
        plot_generator(name, scores, args.exp / "report" / f"readback_{name}.png")
        plot_lips(scores, args.exp / "report" / f"lips_{name}.png")
    for path in sorted(args.exp.glob("ablation/*/scores.json")):
        sections.append(ablation_section(path.parent.name, json.loads(path.read_text())))
    if len(sections) == 1:
        raise InputError(f"{args.exp}: nothing measured yet (no {{recognizer,generator,ablation}}/*/scores.json)")
    sections.append(stage_table(args.exp))
    write_text(args.exp / "RESULTS.md", "\n".join(filter(None, sections)))
    print("\n".join(sections))


if __name__ == "__main__":
    sys.exit(exit_status(main))
