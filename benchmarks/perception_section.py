"""How well faces were understood, as a section of a results page."""

from benchmarks.columns import LOWER, READBACK
from benchmarks.content import Block, Cell, Part, Section, Table, Text, best_marked

LIPS_ALONE = "lips alone"  # the condition without sound
CONTROLS = ("reference", "static", "sound")  # ceiling and floors: they don't compete


def perception_section(name: str, scores: dict) -> Section:
    """For each reader its errors by the lips alone and in noise, the share of the ceiling's gain, and differences."""
    protocol = scores["protocol"]
    said = (
        f"{protocol['utterances']} utterances, {protocol['words']} words, {protocol['speakers']} speakers (reference "
        f"`{protocol['sha256'][:16]}`). {protocol['decoding']} WER, CER and VER (visemes, Amazon Polly's) in %, with "
        "the 95 % bootstrap interval over utterances. reference: its own lips, the ceiling; static: its lips standing "
        "still; sound: no lips. Gain: how much of what the reference's lips gain a face's lips gain, over static lips "
        "or, in noise, over the sound alone, in %; empty where the reference's gain is not sure."
    )
    blocks: list[Block] = [Text(said)]
    for reader, facts in scores["readers"].items():
        results = [row for row in scores["results"] if row["reader"] == reader]
        blocks += _errors(reader, results)
        blocks += _differences(reader, [row for row in scores["paired"] if row["reader"] == reader])
        trained = f", {facts['training']}" if facts["training"] else ""
        blocks.append(Text(f"Reader {reader}: `{facts['sha256'][:16]}`{trained}."))
    if protocol["noise"]:
        named = "; ".join(f"{noise} `{digest[:16]}`" for noise, digest in protocol["noise"].items())
        blocks.append(Text(f"Noise manifests (sha256): {named}."))
    return Section(f"How well a face is understood: {name}", blocks)


def _errors(reader: str, results: list[dict]) -> list[Part]:
    """A table for each condition."""
    parts = []
    for condition in dict.fromkeys(row["condition"] for row in results):
        of = [row for row in results if row["condition"] == condition]
        where = LIPS_ALONE if of[0]["kind"] is None else f"lips and sound in {of[0]['kind']}{_level(of[0]['snr_db'])}"
        figures = []
        for column in READBACK:
            values = [None if row["face"] in CONTROLS else row[column.key]["value"] for row in of]
            figures.append(best_marked([_cell(row[column.key], ".1f") for row in of], values, LOWER))
        gains = ["" if row["share"] is None else _cell(row["share"], ".0f") for row in of]
        rows = [[row["face"], *cells] for row, *cells in zip(of, *figures, gains, strict=True)]
        table = Table(["face", *(column.title for column in READBACK), "gain"], rows)
        parts.append(Part(f"Reader {reader}, {where}", [table]))
    return parts


def _differences(reader: str, paired: list[dict]) -> list[Part]:
    if not paired:
        return []
    rows = []
    for row in paired:
        p = "< 0.01" if row["p"] < 0.01 else format(row["p"], ".2f")
        moved = Cell(f"{row['difference']:+.1f}", f"[{row['low']:+.1f}, {row['high']:+.1f}]")
        rows.append([row["condition"], f"{row['b']} − {row['a']}", moved, Cell(p)])
    table = Table(["condition", "difference", "WER points", "p"], rows)
    return [Part(f"Reader {reader}, differences", [Text("Paired bootstrap over utterances."), table], folded=True)]


def _cell(figure: dict, spec: str) -> Cell:
    value, low, high = (format(figure[key], spec) for key in ("value", "low", "high"))
    return Cell(value, f"[{low}, {high}]")


def _level(snr_db: float | None) -> str:
    return "" if snr_db is None else f", {snr_db:g} dB"
