"""From a trained recogniser to text: batches and manifests. Files: `avsr.transcribe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from avsr.data.batching import BucketBatchSampler
from avsr.data.dataset import UtteranceDataset, collate
from avsr.errors import InputError
from avsr.files import write_jsonl
from avsr.media.timing import SAMPLE_RATE, frames_of
from avsr.models.espnet import beam_search
from avsr.models.recognizer import Recognizer


@dataclass(frozen=True)
class DecodeConfig:
    """How text is found; `beam` is ESPnet's joint CTC and attention search, `greedy` the best CTC path."""

    method: str = "beam"  # beam or greedy
    beam_size: int = 10
    ctc_weight: float = 0.4  # the attention decoder has the rest
    length_bonus: float = 0.0  # per token
    n_best: int = 1  # hypotheses that are kept of each utterance
    modality: str | None = None  # a, v or av; None: all streams that are there
    max_frames_per_batch: int = 1600  # utterances x frames of the longest, in decode_manifest
    max_utts: int = 32

    def __post_init__(self):
        if self.method not in ("beam", "greedy"):
            raise InputError(f"unknown decoding method {self.method!r}; expected beam or greedy")
        if self.beam_size < 1:
            raise InputError(f"beam_size must be 1 or more, got {self.beam_size}")
        if not 0.0 <= self.ctc_weight <= 1.0:
            raise InputError(f"ctc_weight is a share between 0 and 1, got {self.ctc_weight}")


@dataclass(frozen=True)
class Word:
    """A word that was understood, from and to when it is said, and how sure of it the recogniser is, 0 to 1."""

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class Hypothesis:
    """What was understood of one utterance; `score` is a log score, higher is better, unlike between methods."""

    utt_id: str
    text: str
    score: float
    words: list[Word] = field(default_factory=list)
    nbest: list[tuple[str, float]] = field(default_factory=list)  # texts and scores, best first


@torch.inference_mode()
def decode_batch(model: Recognizer, batch: dict, config: DecodeConfig) -> list[Hypothesis]:
    """Decode a batch of `avsr.data.dataset.collate`; an utterance's text is the same in every batch.

    Raises InputError when an utterance lacks the stream that `config.modality` needs.
    """
    device = next(model.parameters()).device
    batch = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
    model.eval()
    encoded, lengths = model.encode(batch, config.modality)
    if config.method == "greedy":
        found = model.greedy(encoded, lengths)
    else:
        found = [
            beam_search(
                one[:length],
                ctc=model.ctc,
                decoder=model.decoder,
                vocab_size=model.config.vocab_size,
                beam_size=config.beam_size,
                ctc_weight=config.ctc_weight,
                length_bonus=config.length_bonus,
            )
            for one, length in zip(encoded, lengths.tolist(), strict=True)
        ]
    return [
        Hypothesis(utt_id, model.tokenizer.decode(tokens), score)
        for utt_id, (tokens, score) in zip(batch["utt_ids"], found, strict=True)
    ]


def decode_manifest(
    model: Recognizer,
    rows: Sequence[Mapping],
    config: DecodeConfig,
    *,
    noise_lines: list[dict] | None = None,
    out: str | Path | None = None,
) -> dict[str, Hypothesis]:
    """Decode manifest rows, in the noise of a noise manifest where one is given; texts in the rows are not looked at.

    Returns:
        Hypotheses by utt_id, in the rows' order. `out` (hyp.jsonl) gets them a line each: utt_id, text, score.
    """
    dataset = UtteranceDataset(list(rows), None, noise_lines=noise_lines, modalities=model.usable(config.modality))
    lengths = [frames_of(round(row["duration_s"] * SAMPLE_RATE)) for row in rows]
    sampler = BucketBatchSampler(
        lengths,
        max_frames=max(config.max_frames_per_batch, *lengths),
        max_utts=config.max_utts,
        shuffle=False,
        seed=0,
    )
    found: dict[str, Hypothesis] = {}
    for indices in tqdm(sampler, desc="decoding", unit="batch", disable=None):
        for hypothesis in decode_batch(model, collate([dataset[index] for index in indices]), config):
            found[hypothesis.utt_id] = hypothesis
    found = {row["utt_id"]: found[row["utt_id"]] for row in rows}
    if out is not None:
        write_jsonl(out, (asdict(hypothesis) for hypothesis in found.values()))
    return found
