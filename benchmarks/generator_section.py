"""How true and how readable generated motion was measured to be, as a section of a results page."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks.columns import GEOMETRY, READBACK, Column, columns, readback_key
from benchmarks.content import Block, Cell, Picture, Section, Table, Text, best_marked, with_interval
from benchmarks.plots import CONTROLS, plot_lips, plot_readback, plot_shifts, plot_systems

NO_RIVALS = {"reference", *CONTROLS}  # of generators: the truth, and what must fail
PLOTTED = ("lve_mm", "mtm_ms", "lse_d", "fdd_abs")


def generator_section(name: str, scores: dict) -> Section:
    """Vertex errors and read-back word error of each motion."""
    protocol, motions = scores["protocol"], scores["motions"]
    geometry = [column for column in GEOMETRY if any(column.key in row for row in motions.values())]
    read = [
        (column, reader)
        for reader in scores["readers"]
        for column in READBACK
        if column.key != "cer" and any(column.key in row["readback"].get(reader, {}) for row in motions.values())
    ]
    shown = [_shown(column, motions, motions) for column in geometry]
    shown += [
        _shown(column, motions, {motion: row["readback"].get(reader, {}) for motion, row in motions.items()})
        for column, reader in read
    ]
    titles = [column.title for column in geometry] + [f"{column.title} read by {reader}" for column, reader in read]
    rows = [[motion, *cells] for motion, *cells in zip(motions, *shown, strict=True)]
    said = f"{protocol['utterances']} utterances, {protocol['speakers']} speakers. {protocol['geometry']}"
    blocks: list[Block] = [Text(said), Table(["motion", *titles], rows)]
    if scores["readers"]:
        manifests = {motion: row["manifest"] for motion, row in motions.items()}
        draw, wide = partial(plot_readback, scores), len(scores["readers"]) > 1
        blocks.append(Picture(f"readback_{name}", "Word error of what is read", draw, wide=wide))
        blocks += _lips(name, manifests)
    blocks += _shifts(name, motions)
    return Section(f"Talking face: {name}", [*blocks, _readers(scores)])


def ablation_section(name: str, scores: dict) -> Section:
    """Every measure of each system with its interval and its spread over seeds, then the differences."""
    protocol, systems = scores["protocol"], scores["systems"]
    shown = [
        column
        for column in columns(list(scores["readers"]))
        if any(column.key in system["measures"] for system in systems.values())
    ]
    seeds = ", ".join(f"{system} {len(of['manifests'])}" for system, of in systems.items() if system != "reference")
    said = (
        f"{protocol['utterances']} utterances, {protocol['speakers']} speakers; seeds: {seeds}. {protocol['geometry']} "
        "What an utterance gives is averaged over seeds; [ ]: 95 % bootstrap interval over utterances "
        f"({protocol['draws']:,} draws), ±: standard deviation of the seeds' figures, which the interval leaves out."
    )
    rows = []
    for column in shown:
        figures = {system: of["measures"].get(column.key) for system, of in systems.items()}
        cells = ["" if figure is None else _figure_cell(column, figure) for figure in figures.values()]
        values = [None if s in NO_RIVALS or figure is None else figure["value"] for s, figure in figures.items()]
        rows.append([column.title, column.better, *best_marked(cells, values, column.better)])
    blocks: list[Block] = [Text(said), Table(["measure", "better", *systems], rows)]
    keys = [*PLOTTED, *(readback_key("wer", reader) for reader in scores["readers"])]
    plotted = [column for column in shown if column.key in keys]
    if plotted and systems.keys() - NO_RIVALS:
        title = "Figures with their intervals, seeds as small dots, the reference dashed; arrows point to the better"
        draw = partial(plot_systems, plotted, {s: of["measures"] for s, of in systems.items()})
        blocks.append(Picture(f"systems_{name}", title, draw, wide=True))
    blocks += _shifts(name, systems)
    differences = {(row["a"], row["b"], row["key"]): row for row in scores["comparisons"]}
    pairs = list(dict.fromkeys((a, b) for a, b, _ in differences))
    if pairs:
        said = "Paired bootstrap over utterances: difference, 95 % interval, two-sided p (of one comparison each)."
        rows = [
            [column.title, column.better, *(_difference_cell(column, differences, pair) for pair in pairs)]
            for column in shown
        ]
        titles = ["measure", "better", *(f"{b} − {a}" for a, b in pairs)]
        blocks += [Text(said), Table(titles, rows)]
    if scores["readers"]:
        blocks += _lips(name, {system: of["manifests"][0] for system, of in systems.items()})
    return Section(f"Ablation: {name}", [*blocks, _readers(scores)])


def _shown(column: Column, motions: Mapping[str, dict], figures: Mapping[str, dict]) -> list[Cell | str]:
    """A column's cells, the best motion's marked; word errors have intervals."""
    cells = []
    for figure in figures.values():
        if column.key == "wer" and figure:
            cells.append(with_interval(figure))
        else:
            cells.append(Cell(column.text(figure[column.key])) if column.key in figure else "")
    values = [None if motion in NO_RIVALS else figures[motion].get(column.key) for motion in motions]
    return best_marked(cells, values, column.better)


def _figure_cell(column: Column, figure: dict) -> Cell:
    value, low, high = (column.text(figure[key]) for key in ("value", "low", "high"))
    spread = "" if figure["seed_sd"] is None else f"± {column.text(figure['seed_sd']).lstrip('+')}"
    return Cell(value, f"[{low}, {high}]", spread)


def _difference_cell(column: Column, differences: Mapping, pair: tuple[str, str]) -> Cell | str:
    row = differences.get((*pair, column.key))
    if row is None:
        return ""
    value, low, high = (column.text(row[key], signed=True) for key in ("difference", "low", "high"))
    return Cell(value, f"[{low}, {high}],", f"p {'< 0.001' if row['p'] < 0.001 else format(row['p'], '.3f')}")


def _shifts(name: str, measured: Mapping[str, dict]) -> list[Block]:
    """How the judge's distance grows where motion leaves its sound, of what a judge has measured."""
    curves = {motion: of["shifts"] for motion, of in measured.items() if of.get("shifts")}
    if not curves:
        return []
    title = "Distance of sound and motion, by the judge, against the shift of the motion"
    return [Picture(f"shifts_{name}", title, partial(plot_shifts, curves))]


def _lips(name: str, manifests: Mapping[str, str]) -> list[Block]:
    """The strip of lips, where what was measured still lies where it lay."""
    if not all(Path(path).is_file() for path in manifests.values()):
        return []
    title = "One utterance's lips, at the same times"
    return [Picture(f"lips_{name}", title, partial(plot_lips, manifests), wide=True, photo=True)]


def _readers(scores: dict) -> Text:
    return Text("\n".join(f"- reader {reader}: {facts}" for reader, facts in scores["readers"].items()))
