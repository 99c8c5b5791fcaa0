"""Utterances a second of a recogniser's ways of decoding, on one core.

    python -m benchmarks.speed avsr --checkpoint DIR --manifest M [--utterances 64] [--batches 1 16 32] [--json OUT]

Utterances are encoded in batches of like length; then each way makes text of what was encoded: the best CTC path, the
beam search over utterances at each batch size, and ESPnet's, which takes one utterance at a time and lets CTC score
only the decoder's best tokens. Seconds are of the processor, the median of several runs in turn.
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from avsr.data.dataset import UtteranceDataset, collate
from avsr.data.manifest import read_manifest
from avsr.decode import DecodeConfig, search
from avsr.errors import InputError
from avsr.models.espnet import espnet_beam_search
from avsr.models.recognizer import Recognizer
from benchmarks.report import hardware

ESPNET = "ESPnet's beam search"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `measure`."""
    parser.add_argument("--checkpoint", required=True, help="of a recogniser: folder or hub id")
    parser.add_argument("--manifest", type=Path, required=True, help="whose first utterances are decoded")
    parser.add_argument("--utterances", type=int, default=64)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 32], help="utterances a batch")
    parser.add_argument("--beam_size", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)


@torch.inference_mode()
def measure(
    checkpoint: str | Path,
    manifest: str | Path,
    utterances: int = 64,
    batches: list[int] | tuple[int, ...] = (1, 16, 32),
    beam_size: int = 10,
    repeats: int = 3,
) -> dict:
    """Rows of way, batch, seconds (for all utterances), same (share of texts that are ESPnet's)."""
    if min(utterances, repeats, *batches) < 1:
        raise InputError("--utterances, --batches and --repeats must be above 0")
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    model = Recognizer.from_pretrained(checkpoint)
    config = DecodeConfig(beam_size=beam_size)
    rows = sorted(read_manifest(manifest)[:utterances], key=lambda row: row["duration_s"])
    dataset = UtteranceDataset(rows, None, modalities=model.config.modalities)
    items = [dataset[index] for index in range(len(rows))]
    cut = {size: [collate(items[at : at + size]) for at in range(0, len(items), size)] for size in {1, *batches}}
    encoded = {size: [model.encode(batch) for batch in cut[size]] for size in cut}

    def decode(size: int, config: DecodeConfig) -> list[list[int]]:
        return [found[0].tokens for batch in encoded[size] for found in search(model, *batch, config)]

    most = max(batches)
    ways: dict[tuple[str, int], Callable[[], list]] = {
        (ESPNET, 1): lambda: [_espnet(model, utterance[0], config) for utterance, _ in encoded[1]],
        **{("beam search", size): partial(decode, size, config) for size in batches},
        ("greedy", most): partial(decode, most, DecodeConfig("greedy")),
        ("encoder", most): lambda: [model.encode(batch) for batch in cut[most]],
    }
    seconds, texts = {way: [] for way in ways}, {}
    for _ in range(repeats):  # in turn: other work on the computer falls on all alike
        for way, run in ways.items():
            began = time.process_time()
            texts[way] = run()
            seconds[way].append(time.process_time() - began)
    wanted = texts[ESPNET, 1]
    same = {
        way: np.mean([one == other for one, other in zip(found, wanted, strict=True)])
        for way, found in texts.items()
        if way[0] != "encoder"
    }
    return {
        "rows": [
            {"way": way, "batch": size, "seconds": float(np.median(seconds[way, size])), "same": same.get((way, size))}
            for way, size in ways
        ],
        "utterances": len(rows),
        "speech_s": sum(row["duration_s"] for row in rows),
        "beam_size": beam_size,
        "hardware": hardware(),
        "load_before": load,  # other work on the computer makes all of it slower
    }


def _espnet(model: Recognizer, encoded: torch.Tensor, config: DecodeConfig) -> list[int]:
    """Tokens of one encoded utterance (T, D)."""
    found = espnet_beam_search(
        encoded,
        ctc=model.ctc,
        decoder=model.decoder,
        vocab_size=model.config.vocab_size,
        beam_size=config.beam_size,
        ctc_weight=config.ctc_weight,
        length_bonus=config.length_bonus,
    )
    return found[0][0]


def table(figures: dict) -> str:
    """The figures as a Markdown table."""
    baseline = next(row["seconds"] for row in figures["rows"] if row["way"] == ESPNET)
    lines = [
        "| | utterances a batch | utterances/s | x real time | of ESPnet's | text as ESPnet's |",
        "|---|---|---|---|---|---|",
    ]
    for row in figures["rows"]:
        took_s = row["seconds"]
        same = "" if row["same"] is None else f"{row['same']:.1%}"
        lines.append(
            f"| {row['way']} | {row['batch']} | {figures['utterances'] / took_s:,.0f} "
            f"| {figures['speech_s'] / took_s:,.0f} | {baseline / took_s:.1f} | {same} |"
        )
    lines.append(
        f"\n{figures['utterances']} utterances, beam {figures['beam_size']}; load before: {figures['load_before']:.1f}"
    )
    return "\n".join(lines)
