"""How much drawn lips helped, as a section of a results page."""

from collections.abc import Sequence
from functools import partial

from benchmarks.augmentation.plan import NONE, TUNED
from benchmarks.columns import LOWER
from benchmarks.content import Cell, Part, Picture, Section, Table, Text, best_marked, with_interval
from benchmarks.plots import plot_shares
from benchmarks.recognizer_section import SYNTHETIC

SAID = (
    "{utterances} utterances with {source} lips, {words} words. Of the training clips a share is filmed; the others "
    "have sound alone, or lips are drawn for them, in so many renditions (x). V: recognisers of lips; AV: of both "
    "streams, which start from V and from A, a recogniser of sound alone that learns from all of it. With drawn "
    "lips and without, all take as many optimiser steps, and filmed clips are as large a part of what AV is shown; "
    "without drawn lips V is shown filmed clips only. Steps on filmed clips in brackets. {decoding} WER in %, with "
    "the 95 % bootstrap interval over utterances{seeds}."
)


def augmentation_section(name: str, scores: dict) -> Section:
    """Word error by share of filmed clips and drawn lips, what drawn lips gained, and what seeing gained."""
    protocol, cells = scores["protocol"], scores["augmentation"]
    seeds = max(len(row["each"]) for row in scores["results"])
    pooled = "" if seeds == 1 else f", which pool {seeds} seeds"
    synthetic = SYNTHETIC if "rendered" in protocol["source"] else ""
    blocks = [Text(synthetic + SAID.format(**protocol, seeds=pooled)), _word_errors(scores)]
    if len({cell["percent"] for cell in cells.values()}) > 2:
        title = "Word error against filmed share"
        blocks.append(Picture(f"shares_{name}", title, partial(plot_shares, scores), wide=True))
    parts = (_gained(scores), _against_sound(scores), _seeds(scores))
    return Section(f"Augmentation: {name}", [*blocks, *(part for part in parts if part is not None)])


def label(cell: dict) -> str:
    """A system in words: filmed share and drawn lips."""
    if cell["modality"] == "a":
        return "sound alone"
    drawn = "" if cell["arm"] == NONE else f" + {cell['arm']} x{cell['times']}"
    return f"{cell['percent']} %{drawn}{', tuned' if cell['order'] == TUNED else ''}"


def _word_errors(scores: dict) -> Table:
    """A row for each system: V clean and AV in each condition; the best of each column marked."""
    cells = scores["augmentation"]
    figures = {(row["system"], row["condition"]): row for row in scores["results"]}
    conditions = [c for c in dict.fromkeys(row["condition"] for row in scores["results"])]
    by_label: dict[str, dict[str, str]] = {}
    for name, cell in cells.items():
        by_label.setdefault(label(cell), {})[cell["modality"]] = name
    columns = [_figures([figures.get((of.get("v"), "clean")) for of in by_label.values()])]
    for condition in conditions:
        heard = [figures.get((of.get("av", of.get("a")), condition)) for of in by_label.values()]
        columns.append(_figures(heard))
    rows = []
    for (said, of), *row in zip(by_label.items(), *columns, strict=True):
        clips = next(iter(cells[name]["filmed_clips"] for name in of.values()))
        steps = [_steps(cells.get(of.get(modality))) for modality in ("v", "av")]
        rows.append([said, Cell(str(clips)), *steps, *row])
    titles = ["filmed + drawn", "filmed clips", "steps V", "steps AV", "V clean"]
    return Table([*titles, *(f"AV {condition.replace('_', ' ')}" for condition in conditions)], rows)


def _steps(cell: dict | None) -> Cell | str:
    return "" if cell is None else Cell(str(cell["steps"]), f"({cell['filmed_steps']})")


def _figures(rows: Sequence[dict | None]) -> list[Cell | str]:
    cells = ["" if row is None else with_interval(row) for row in rows]
    return best_marked(cells, [None if row is None else row["wer"] for row in rows], LOWER)


def _gained(scores: dict) -> Part | None:
    pairs = [row for row in scores["paired"] if row["a"] != "a"]
    return _differences("What drawn lips gain", "without drawn lips, all else equal", scores, pairs)


def _against_sound(scores: dict) -> Part | None:
    pairs = [row for row in scores["paired"] if row["a"] == "a"]
    return _differences("Against sound alone", "for the recogniser of sound alone", scores, pairs)


def _differences(title: str, than: str, scores: dict, pairs: Sequence[dict]) -> Part | None:
    """Differences of WER, a row for each pair and a column for each condition."""
    if not pairs:
        return None
    cells = scores["augmentation"]
    wers = {(row["system"], row["condition"]): row["wer"] for row in scores["results"]}
    table: dict[str, dict[str, Cell]] = {}
    for row in pairs:
        before = wers.get((row["a"], row["condition"]), wers[row["a"], "clean"])
        relative = f"{100 * row['difference'] / before:+.0f} %, " if before > 0 else ""
        moved = Cell(
            f"{row['difference']:+.1f}", f"[{row['low']:+.1f}, {row['high']:+.1f}]", f"{relative}p {row['p']:.2g}"
        )
        table.setdefault(row["b"], {})[row["condition"]] = moved
    conditions = list(dict.fromkeys(row["condition"] for row in pairs))
    rows = [
        [f"{cells[name]['modality'].upper()}: {label(cells[name])}", *(moved.get(c, "") for c in conditions)]
        for name, moved in table.items()
    ]
    said = f"WER points more (+) or less (-) than {than}: paired bootstrap over utterances with its 95 % interval."
    return Part(title, [Text(said), Table(["", *(c.replace("_", " ") for c in conditions)], rows)])


def _seeds(scores: dict) -> Part | None:
    several = [row for row in scores["results"] if len(row["each"]) > 1]
    if not several:
        return None
    cells = scores["augmentation"]
    rows = []
    for row in several:
        said = f"{cells[row['system']]['modality'].upper()}: {label(cells[row['system']])}"
        rows.append([said, row["condition"], ", ".join(f"{wer:.1f}" for wer in row["each"])])
    return Part("Seeds", [Table(["system", "condition", "WER of each seed"], rows)], folded=True)
