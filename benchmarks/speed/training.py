"""Utterances a second that a recogniser trains on, beside ESPnet's own model of the same parts, on one core.

    python -m benchmarks.speed training --checkpoint DIR --manifest M [--batches 8 16] [--json OUT]

Both have the checkpoint's front ends, fusion, encoder, decoder and CTC. In ESPnet's everything after the fusion is its
unmodified `ESPnetASRModel`. A step is forward and backward through all of it, with modality dropout and masks, without
the optimiser. Seconds are of the processor, the median of several runs in turn.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from avsr.data.dataset import UtteranceDataset, collate
from avsr.data.manifest import read_manifest
from avsr.errors import InputError
from avsr.models.espnet import espnet_asr_model, padding_mask
from avsr.models.recognizer import Recognizer
from benchmarks.report import hardware

OURS, ESPNET = "Recognizer", "ESPnetASRModel"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `measure`."""
    parser.add_argument("--checkpoint", required=True, help="of a recogniser with a decoder: folder or hub id")
    parser.add_argument("--manifest", type=Path, required=True, help="whose first utterances are trained on")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16], help="utterances a batch")
    parser.add_argument("--repeats", type=int, default=5)


def measure(
    checkpoint: str | Path, manifest: str | Path, batches: list[int] | tuple[int, ...] = (8, 16), repeats: int = 5
) -> dict:
    """Rows of way, batch and seconds a step; and CTC's loss of one utterance by both."""
    if min(repeats, *batches) < 1:
        raise InputError("--batches and --repeats must be above 0")
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    model = Recognizer.from_pretrained(checkpoint)
    if model.decoder is None:
        raise InputError(
            f"{checkpoint}: this recogniser has no attention decoder, which ESPnet's model is compared with"
        )
    model.frame_head = None  # ESPnet's has no frame-level targets
    config = model.config
    twin = espnet_asr_model(model.encoder, model.decoder, model.ctc, config.ctc_weight, config.label_smoothing)
    rows = read_manifest(manifest, need=("text",))[: max(batches)]
    dataset = UtteranceDataset(rows, model.tokenizer, modalities=config.modalities)
    items = [dataset[index] for index in range(len(rows))]

    def ours(batch: dict) -> torch.Tensor:
        return model(batch)["loss"]

    def espnets(batch: dict) -> torch.Tensor:
        return twin(_features(model, batch), batch["lengths"], batch["tokens"], batch["token_lengths"])[0]

    losses = _losses(model, twin, collate(items[:1]))
    ways: dict[str, Callable[[dict], torch.Tensor]] = {OURS: ours, ESPNET: espnets}
    model.train(), twin.train()
    found = []
    for size in batches:
        batch = collate(items[:size])
        seconds = {way: [] for way in ways}
        for _ in range(repeats + 1):  # in turn: other work on the computer falls on all alike; the first warms up
            for way, run in ways.items():
                model.zero_grad(), twin.zero_grad()
                began = time.process_time()
                run(batch).backward()
                seconds[way].append(time.process_time() - began)
        found += [{"way": way, "batch": size, "seconds": float(np.median(took[1:]))} for way, took in seconds.items()]
    return {
        "rows": found,
        "losses": losses,
        "hardware": hardware(),
        "load_before": load,
    }


def _features(model: Recognizer, batch: dict) -> torch.Tensor:
    """What the encoder gets (B, T, D)."""
    streams = model._streams(batch)
    if model.fusion is None:
        return next(iter(streams.values()))[0]
    (audio, has_audio), (video, has_video) = streams["a"], streams["v"]
    return model.fusion(audio, video, has_audio, has_video, padding_mask(batch["lengths"], audio.shape[1]))


@torch.no_grad()
def _losses(model: Recognizer, twin: torch.nn.Module, batch: dict) -> dict[str, dict[str, float]]:
    """CTC's loss of one utterance, in nats a token, by both: that they are the same model."""
    model.eval(), twin.eval()
    own = model(batch)
    _, stats, _ = twin(_features(model, batch), batch["lengths"], batch["tokens"], batch["token_lengths"])
    tokens = int(batch["token_lengths"][0])
    return {
        OURS: {"ctc": float(own["ctc"])},
        ESPNET: {"ctc": float(stats["loss_ctc"]) / tokens},
    }


def table(figures: dict) -> str:
    """The figures as a Markdown table."""
    seconds = {(row["way"], row["batch"]): row["seconds"] for row in figures["rows"]}
    lines = ["| | utterances a batch | utterances/s | of ESPnet's |", "|---|---|---|---|"]
    for (way, batch), took_s in seconds.items():
        ratio = seconds[ESPNET, batch] / took_s
        lines.append(f"| {way} | {batch} | {batch / took_s:.1f} | {ratio:.2f} |")
    losses = ", ".join(f"{way} {loss['ctc']:.4f}" for way, loss in figures["losses"].items())
    lines.append(f"\nCTC loss of one utterance: {losses}; load before: {figures['load_before']:.1f}")
    return "\n".join(lines)
