"""How well faces were understood, as a section of a results page in Markdown."""

from benchmarks.columns import READBACK

LIPS_ALONE = "lips alone"  # the condition without sound


def perception_section(name: str, scores: dict) -> str:
    """For each reader its errors by the lips alone and in noise, the share of the ceiling's gain, and differences."""
    protocol = scores["protocol"]
    text = [
        f"## How well a face is understood: {name}\n",
        f"{protocol['utterances']} utterances, {protocol['words']} words, {protocol['speakers']} speakers (reference "
        f"`{protocol['sha256'][:16]}`). {protocol['decoding']} WER, CER and VER (visemes, Amazon Polly's) in %, with "
        "the 95 % bootstrap interval over utterances. reference: its own lips, the ceiling; static: its lips standing "
        "still; sound: no lips. Gain: how much of what the reference's lips gain a face's lips gain, over static lips "
        "or, in noise, over the sound alone, in %; empty where the reference's gain is not sure.",
    ]
    for reader, facts in scores["readers"].items():
        results = [row for row in scores["results"] if row["reader"] == reader]
        text += _errors(reader, results)
        text += _differences([row for row in scores["paired"] if row["reader"] == reader])
        trained = f", {facts['training']}" if facts["training"] else ""
        text.append(f"\nReader {reader}: `{facts['sha256'][:16]}`{trained}.")
    if protocol["noise"]:
        named = "; ".join(f"{noise} `{digest[:16]}`" for noise, digest in protocol["noise"].items())
        text.append(f"\nNoise manifests (sha256): {named}.")
    return "\n".join(text) + "\n"


def _errors(reader: str, results: list[dict]) -> list[str]:
    """A table for each condition."""
    lines = []
    for condition in dict.fromkeys(row["condition"] for row in results):
        of = [row for row in results if row["condition"] == condition]
        where = LIPS_ALONE if of[0]["kind"] is None else f"lips and sound in {of[0]['kind']}{_level(of[0]['snr_db'])}"
        lines += [
            f"\n### Reader {reader}, {where}\n",
            "| face | " + " | ".join(column.title for column in READBACK) + " | gain |",
            "|---|" + "---|" * (len(READBACK) + 1),
        ]
        for row in of:
            cells = [_cell(row[column.key], ".1f") for column in READBACK]
            gain = "" if row["share"] is None else _cell(row["share"], ".0f")
            lines.append(f"| {row['face']} | " + " | ".join([*cells, gain]) + " |")
    return lines


def _differences(paired: list[dict]) -> list[str]:
    if not paired:
        return []
    lines = ["\nPaired bootstrap, WER points:\n", "| condition | difference | 95 % interval | p |", "|---|---|---|---|"]
    for row in paired:
        p = "< 0.01" if row["p"] < 0.01 else format(row["p"], ".2f")
        lines.append(
            f"| {row['condition']} | {row['b']} − {row['a']} = {row['difference']:+.1f} "
            f"| [{row['low']:+.1f}, {row['high']:+.1f}] | {p} |"
        )
    return lines


def _cell(figure: dict, spec: str) -> str:
    return "{} [{}, {}]".format(*(format(figure[key], spec) for key in ("value", "low", "high")))


def _level(snr_db: float | None) -> str:
    return "" if snr_db is None else f", {snr_db:g} dB"
