"""What recognisers were measured to do, as a section of a results page in Markdown."""

from avsr.data.corrupt import CORRUPTIONS

SYNTHETIC = "Synthetic speech and faces: these figures rank methods and say nothing about real corpora. "


def with_interval(cell: dict) -> str:
    return f"{cell['wer']:.1f} [{cell['low']:.1f}, {cell['high']:.1f}]"


def recognizer_section(name: str, scores: dict) -> str:
    """Word error by system: a table for each noise kind, one for corruptions; differences, ESPnet's; in Markdown."""
    protocol = scores["protocol"]
    text = [
        f"## Recognition: {name}\n",
        f"{protocol['utterances']} utterances, {protocol['words']} words, {protocol['speakers']} speakers, "
        f"{protocol['source']} lips. {SYNTHETIC if 'rendered' in protocol['source'] else ''}{protocol['decoding']} "
        "WER in %, with the 95 % bootstrap interval over utterances; empty where a system doesn't perceive what "
        "befalls the test.",
        *_noise_tables(scores),
        *_corruption_table(scores),
        *_seed_table(scores),
        *_apart_table(scores),
    ]
    if scores["paired"]:
        text += ["", "Paired bootstrap, WER points:\n", "| condition | difference | 95 % interval |", "|---|---|---|"]
        for pair in scores["paired"]:
            text.append(
                f"| {pair['condition']} | {pair['b']} − {pair['a']} = {pair['difference']:+.1f} "
                f"| [{pair['low']:+.1f}, {pair['high']:+.1f}] |"
            )
    text += ["", "### WER", "", scores["table"]]
    for what, digests in (("Noise", protocol["noise"]), ("Corruption", protocol.get("corruptions", {}))):
        if digests:
            named = "; ".join(f"{manifest} `{digest[:16]}`" for manifest, digest in digests.items())
            text += ["", f"{what} manifests (sha256): {named}."]
    text += _word_times(scores)
    text.append("")
    for system, facts in scores["systems"].items():
        text.append(f"- {system}: {facts['parameters'] / 1e6:.2f} M parameters, {facts['training']}")
    return "\n".join(text) + "\n"


def _noise_tables(scores: dict) -> list[str]:
    """Lines of a table for each noise kind: systems by clean and falling SNR, and the mean of the noisy."""
    results = [row for row in scores["results"] if row.get("corruption") is None]  # absent where none was measured
    cells = {(row["system"], row["condition"]): row for row in results}
    lines = []
    for kind in list(dict.fromkeys(row["kind"] for row in results if row["kind"] is not None)) or [None]:
        levels = {row["condition"]: _level(row) for row in results if row["kind"] == kind and kind is not None}
        titles = ["clean", *levels.values(), *["mean of noisy"] * (len(levels) > 1)]
        lines += ["", f"| {kind or 'system'} | " + " | ".join(titles) + " |", "|---|" + "---|" * len(titles)]
        for system in scores["systems"]:
            measured = [cells.get((system, condition)) for condition in ("clean", *levels)]
            row = ["" if cell is None else with_interval(cell) for cell in measured]
            if len(levels) > 1:
                noisy = [cell["wer"] for cell in measured[1:] if cell is not None]
                row.append(f"{sum(noisy) / len(noisy):.1f}" if len(noisy) == len(levels) else "")
            lines.append(f"| {system} | " + " | ".join(row) + " |")
    return lines


def _corruption_table(scores: dict) -> list[str]:
    """Lines of one table: what befell lips or sound, clean first, by systems."""
    results = [row for row in scores["results"] if row.get("corruption") is not None]
    if not results:
        return []
    systems = list(scores["systems"])
    lines = [
        "",
        "| corruption | severity | noise | " + " | ".join(systems) + " |",
        "|---|---|---|" + "---|" * len(systems),
    ]
    cells = {(row["system"], row["condition"]): with_interval(row) for row in scores["results"]}
    around = [{"condition": "clean", "corruption": "none", "kind": None}, *results]
    for row in {row["condition"]: row for row in around}.values():
        unit = CORRUPTIONS[row["corruption"]].unit if "severity" in row else ""
        severity = f"{row['severity']:g} {unit}" if "severity" in row else ""
        noise = "" if row["kind"] is None else f"{row['kind']} {_level(row)}"
        values = " | ".join(cells.get((system, row["condition"]), "") for system in systems)
        lines.append(f"| {row['corruption']} | {severity} | {noise} | {values} |")
    return lines


def _word_times(scores: dict) -> list[str]:
    """A line: how far the words' times are off in clean sound."""
    clean = [row for row in scores["results"] if row["condition"] == "clean" and "word_times" in row]
    said = [
        f"{row['system']} {1000 * row['word_times']['median_s']:.0f} and {1000 * row['word_times']['p90_s']:.0f} ms"
        for row in clean
    ]
    what = "Middles of words from the alignments', median and 90 %, clean, where an utterance is read without an error"
    return ["", f"{what}: {'; '.join(said)}."] if said else []


def _seed_table(scores: dict) -> list[str]:
    """Lines of a table: each condition's WER of each seed, of systems trained from several."""
    rows = [row for row in scores["results"] if len(row.get("each", ())) > 1]
    if not rows:
        return []
    lines = [
        "",
        "Figures above pool the seeds' trainings. Each seed's WER:\n",
        "| system | condition | seeds |",
        "|---|---|---|",
    ]
    for row in rows:
        lines.append(f"| {row['system']} | {row['condition']} | {', '.join(f'{wer:.1f}' for wer in row['each'])} |")
    return lines


def _apart_table(scores: dict) -> list[str]:
    """Lines of a table: speakers and words that training lacked, where the test has some."""
    rows = [row for row in scores["results"] if "new_speakers" in row or "new_words" in row]
    if not rows:
        return []
    speakers = next((row["new_speakers"]["utterances"] for row in rows if "new_speakers" in row), 0)
    words = next((row["new_words"]["said"] // len(row["each"]) for row in rows if "new_words" in row), 0)
    lines = [
        "",
        f"Apart: the {speakers} utterances of speakers who are not in training, and the {words} words said in the test "
        "that no training sentence has (missed: left out or taken for others, in %).\n",
        "| system | condition | WER, new speakers | new words missed | other words missed |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = ["" if "new_speakers" not in row else with_interval(row["new_speakers"])]
        cells += ["" if key not in row else f"{row[key]['missed']:.1f}" for key in ("new_words", "known_words")]
        lines.append(f"| {row['system']} | {row['condition']} | " + " | ".join(cells) + " |")
    return lines


def _level(row: dict) -> str:
    return "no noise" if row["snr_db"] is None else f"{row['snr_db']:g} dB"
