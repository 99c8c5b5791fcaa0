"""What recognisers were measured to do, as a section of a results page."""

from collections.abc import Mapping
from functools import partial

from avsr.data.corrupt import CORRUPTIONS
from benchmarks.columns import LOWER
from benchmarks.content import Block, Cell, Part, Picture, Section, Table, Text, best_marked, with_interval
from benchmarks.plots import noise_kinds, plot_noise, plot_training, training_curves

SYNTHETIC = (
    "Drawn faces, and in the embedded corpus synthetic speech: these figures rank methods and say nothing of filmed "
    "lips. "
)


def recognizer_section(name: str, scores: dict, visemes: Part | None = None) -> Section:
    """Word error by system: a table for each noise kind, one for corruptions; differences, visemes, ESPnet's table."""
    protocol = scores["protocol"]
    said = (
        f"{protocol['utterances']} utterances, {protocol['words']} words, {protocol['speakers']} speakers, "
        f"{protocol['source']} lips. {SYNTHETIC if 'rendered' in protocol['source'] else ''}{protocol['decoding']} "
        "WER in %, with the 95 % bootstrap interval over utterances; empty where a system doesn't perceive what "
        "befalls the test."
    )
    blocks: list[Block] = [Text(said), *_noise_tables(scores)]
    kinds = noise_kinds(scores)
    if kinds:
        draw = partial(plot_noise, scores)
        blocks.append(Picture(f"wer_snr_{name}", "Word error against SNR", draw, wide=len(kinds) > 1))
    curves = training_curves(scores)
    if curves:
        title = "Validation token error against training time"
        blocks.append(Picture(f"training_{name}", title, partial(plot_training, curves)))
    parts = (
        _corruptions(scores, in_noise=False),
        _corruptions(scores, in_noise=True),
        _apart(scores),
        visemes,
        _word_times(scores),
        _seeds(scores),
        _paired(scores),
        Part("WER", [Text(scores["table"])], folded=True),
        _protocol(scores),
    )
    return Section(f"Recognition: {name}", [*blocks, *(part for part in parts if part is not None)])


def _noise_tables(scores: dict) -> list[Table]:
    """A table for each noise kind: systems by clean and falling SNR, and the mean of the noisy."""
    results = [row for row in scores["results"] if row.get("corruption") is None]  # absent where none was measured
    cells = {(row["system"], row["condition"]): row for row in results}
    tables = []
    for kind in list(dict.fromkeys(row["kind"] for row in results if row["kind"] is not None)) or [None]:
        levels = {row["condition"]: _level(row) for row in results if row["kind"] == kind and kind is not None}
        columns = [_of_systems(scores, cells, condition) for condition in ("clean", *levels)]
        titles = ["clean", *levels.values()]
        if len(levels) > 1:
            titles.append("mean of noisy")
            columns.append(_means([[cells.get((system, at)) for at in levels] for system in scores["systems"]]))
        rows = [[system, *row] for system, *row in zip(scores["systems"], *columns, strict=True)]
        tables.append(Table([kind or "system", *titles], rows))
    return tables


def _compared(figures: list[Mapping | None]) -> list[Cell | str]:
    """WERs of systems that stand with each other, the best marked; empty where one has none."""
    cells = ["" if figure is None else with_interval(figure) for figure in figures]
    return best_marked(cells, [None if figure is None else figure["wer"] for figure in figures], LOWER)


def _means(rows: list[list[Mapping | None]]) -> list[Cell | str]:
    means = [None if None in row else sum(figure["wer"] for figure in row) / len(row) for row in rows]
    return best_marked(["" if mean is None else Cell(f"{mean:.1f}") for mean in means], means, LOWER)


def _corruptions(scores: dict, in_noise: bool) -> Part | None:
    """What befell lips or sound, by systems: clean first and in clean sound, or in every noise."""
    results = [row for row in scores["results"] if row.get("corruption") is not None]
    results = [row for row in results if (row["kind"] is not None) == in_noise]
    if not results:
        return None
    figures = {(row["system"], row["condition"]): row for row in scores["results"]}
    rows = [] if in_noise else [["none", "", *_of_systems(scores, figures, "clean")]]
    for condition, row in {row["condition"]: row for row in results}.items():
        severity = f"{row['severity']:g} {CORRUPTIONS[row['corruption']].unit}"
        noise = [f"{row['kind']} {_level(row)}"] if in_noise else []
        rows.append([row["corruption"], severity, *noise, *_of_systems(scores, figures, condition)])
    titles = ["corruption", "severity", *["noise"] * in_noise, *scores["systems"]]
    return Part("Corruption in noise" if in_noise else "Corruption", [Table(titles, rows)], folded=in_noise)


def _of_systems(scores: dict, figures: Mapping[tuple[str, str], Mapping], condition: str) -> list[Cell | str]:
    return _compared([figures.get((system, condition)) for system in scores["systems"]])


def _word_times(scores: dict) -> Part | None:
    """How far the words' times are off in clean sound."""
    clean = [row for row in scores["results"] if row["condition"] == "clean" and "word_times" in row]
    if not clean:
        return None
    rows = []
    for row in clean:
        times = row["word_times"]
        rows.append([row["system"], *(Cell(f"{1000 * times[key]:.0f}") for key in ("median_s", "p90_s"))])
        rows[-1].append(Cell(f"{times['words']}"))
    said = "How far the middles of words lie from the alignments', clean, where an utterance is read without an error."
    return Part("Word times", [Text(said), Table(["system", "median ms", "90 % within ms", "words"], rows)])


def _seeds(scores: dict) -> Part | None:
    """The WER of each seed, clean and in noise, of systems trained from several."""
    results = [row for row in scores["results"] if row.get("corruption") is None]
    measured = [row for row in results if len(row.get("each", ())) > 1]
    if not measured:
        return None
    rows = [[row["system"], row["condition"], ", ".join(f"{wer:.1f}" for wer in row["each"])] for row in measured]
    said = Text("Figures above pool the seeds' trainings. Each seed's WER:")
    return Part("Seeds", [said, Table(["system", "condition", "seeds"], rows)], folded=True)


def _apart(scores: dict) -> Part | None:
    """Speakers and words that training lacked, where the test has some."""
    measured = [row for row in scores["results"] if "new_speakers" in row or "new_words" in row]
    if not measured:
        return None
    speakers = next((row["new_speakers"]["utterances"] for row in measured if "new_speakers" in row), 0)
    words = next((row["new_words"]["said"] // len(row["each"]) for row in measured if "new_words" in row), 0)
    said = (
        f"The {speakers} utterances of speakers who are not in training, and the {words} words said in the test "
        "that no training sentence has (missed: left out or taken for others, in %)."
    )
    rows = []
    for row in measured:
        cells = ["" if "new_speakers" not in row else with_interval(row["new_speakers"])]
        cells += ["" if key not in row else Cell(f"{row[key]['missed']:.1f}") for key in ("new_words", "known_words")]
        rows.append([row["system"], row["condition"], *cells])
    titles = ["system", "condition", "WER, new speakers", "new words missed", "other words missed"]
    return Part("New to training", [Text(said), Table(titles, rows)])


def _paired(scores: dict) -> Part | None:
    """Differences of systems, a column a pair."""
    if not scores["paired"]:
        return None
    by_condition: dict[str, dict[str, Cell]] = {}
    for row in scores["paired"]:
        cell = Cell(f"{row['difference']:+.1f}", f"[{row['low']:+.1f}, {row['high']:+.1f}]")
        by_condition.setdefault(row["condition"], {})[f"{row['b']} − {row['a']}"] = cell
    pairs = list(dict.fromkeys(pair for row in by_condition.values() for pair in row))
    rows = [[condition, *(row.get(pair, "") for pair in pairs)] for condition, row in by_condition.items()]
    said = Text("Paired bootstrap over utterances: WER points with their 95 % interval.")
    return Part("Differences", [said, Table(["condition", *pairs], rows)], folded=True)


def _protocol(scores: dict) -> Part:
    """Hashes of what the tests were made worse by, and what the systems are."""
    protocol, blocks = scores["protocol"], []
    systems = [
        f"- {system}: {facts['parameters'] / 1e6:.2f} M parameters, {facts['training']}"
        for system, facts in scores["systems"].items()
    ]
    blocks.append(Text("\n".join(systems)))
    for what, digests in (("Noise", protocol["noise"]), ("Corruption", protocol.get("corruptions", {}))):
        if digests:
            named = "; ".join(f"{manifest} `{digest[:16]}`" for manifest, digest in digests.items())
            blocks.append(Text(f"{what} manifests (sha256): {named}."))
    return Part("Systems and conditions", blocks)


def _level(row: dict) -> str:
    return "no noise" if row["snr_db"] is None else f"{row['snr_db']:g} dB"
