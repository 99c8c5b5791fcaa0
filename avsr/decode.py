"""From a trained recogniser to text: batches and manifests. Files: `avsr.transcribe`.

Letters: B batch, S samples, T video frames, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
from tqdm import tqdm

from avsr.data.batching import BucketBatchSampler
from avsr.data.dataset import UtteranceDataset, collate
from avsr.errors import InputError
from avsr.files import write_jsonl
from avsr.lm import load_ngram
from avsr.media.timing import SAMPLE_RATE, frames_of
from avsr.models.decoder_steps import DecoderSteps
from avsr.models.recognizer import Recognizer
from avsr.models.transformer_lm import LanguageModelSteps, TransformerLM
from avsr.search.beam import Scorer, beam_search
from avsr.search.ctc import CTCPrefixes
from avsr.search.lexicon import lexicon_search, read_lexicon
from avsr.search.ngram import ngram_scorer
from avsr.search.words import Spelled, Word, align_words

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DecodeConfig:
    """How text is found.

    `beam` is a joint CTC and attention search, `greedy` the best CTC path, `lexicon` a CTC search for words of a list.
    """

    method: str = "beam"  # beam, greedy or lexicon
    beam_size: int = 10
    ctc_weight: float = 0.4  # the attention decoder has the rest
    length_bonus: float = 0.0  # per token
    n_best: int = 1  # texts to list, by beam and lexicon
    lm: str | None = None  # for beam an ARPA file of its tokens or a trained folder; for lexicon one of words
    lm_weight: float = 0.3
    lexicon: str | None = None  # file with one word a line
    word_bonus: float = 0.0  # per word, by lexicon
    modality: str | None = None  # a, v or av; None: all streams that are there
    max_frames_per_batch: int = 1600  # utterances x frames of the longest, in decode_manifest
    max_utts: int = 32

    def __post_init__(self):
        if self.method not in ("beam", "greedy", "lexicon"):
            raise InputError(f"unknown decoding method {self.method!r}; expected beam, greedy or lexicon")
        if (self.method == "lexicon") != (self.lexicon is not None):
            raise InputError(f"method lexicon needs a lexicon, and no other has one: got {self.method}, {self.lexicon}")
        if self.method == "greedy" and self.lm is not None:
            raise InputError("greedy decoding has no use for a language model: leave lm out, or decode by beam")
        if self.beam_size < 1:
            raise InputError(f"beam_size must be 1 or more, got {self.beam_size}")
        if self.n_best < 1:
            raise InputError(f"n_best must be 1 or more, got {self.n_best}")
        if not 0.0 <= self.ctc_weight <= 1.0:
            raise InputError(f"ctc_weight is a share between 0 and 1, got {self.ctc_weight}")

    def describe(self) -> str:
        """A sentence that says how, for a table's protocol."""
        if self.method == "greedy":
            return "Greedy CTC decoding."
        weighed = f"{Path(self.lm).name}, weight {self.lm_weight:g}" if self.lm is not None else "no language model"
        if self.method == "lexicon":
            bonus = f", {self.word_bonus:g} for each word" if self.word_bonus != 0 else ""
            return f"CTC beam search for words of {Path(self.lexicon).name}, beam {self.beam_size}, {weighed}{bonus}."
        streams = "CTC alone" if self.ctc_weight == 1 else "CTC and attention"
        return f"Beam search, beam {self.beam_size}, {streams}, {weighed}."


@dataclass(frozen=True)
class Hypothesis:
    """What was understood of one utterance; `score` is a log score, higher is better, unlike between methods."""

    utt_id: str
    text: str
    score: float
    words: list[Word]  # of the text, in order
    nbest: list[tuple[str, float]]  # different texts and their scores, best first; the first is `text`


@torch.inference_mode()
def decode_batch(model: Recognizer, batch: dict, config: DecodeConfig) -> list[Hypothesis]:
    """Decode a batch of `avsr.data.dataset.collate`; an utterance's text is the same in every batch.

    Raises InputError when an utterance lacks the stream that `config.modality` needs.
    """
    device = next(model.parameters()).device
    batch = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
    model.eval()
    encoded, lengths = model.encode(batch, config.modality)
    log_probs = model.ctc.log_softmax(encoded).float().cpu()
    hypotheses = []
    for index, found in enumerate(search(model, encoded, lengths, config)):
        nbest: dict[str, float] = {}  # unlike tokens may spell the same text
        for one in found:
            nbest.setdefault(" ".join(one.words), one.score)
        (text, score), *_ = nbest.items()
        words = align_words(log_probs[index, : lengths[index]], found[0], model.tokenizer)
        hypotheses.append(Hypothesis(batch["utt_ids"][index], text, score, words, list(nbest.items())))
    return hypotheses


@torch.inference_mode()
def search(
    model: Recognizer, encoded: torch.Tensor, lengths: torch.Tensor, config: DecodeConfig
) -> list[list[Spelled]]:
    """What was said in encoded utterances (B, T, D) of `lengths` (B,) frames, best first."""
    if config.method == "lexicon":
        return _lexicon_search(model, encoded, lengths, config)
    if config.method == "greedy":
        found = [[best] for best in model.greedy(encoded, lengths)]
    else:
        found = _beam_search(model, encoded, lengths, config)
    decode = model.tokenizer.decode
    return [[Spelled(decode(tokens).split(), tokens, score) for tokens, score in texts] for texts in found]


def _beam_search(
    model: Recognizer, encoded: torch.Tensor, lengths: torch.Tensor, config: DecodeConfig
) -> list[list[tuple[list[int], float]]]:
    ctc_weight = 1.0 if model.decoder is None else config.ctc_weight
    scorers = []
    if config.lm is not None:
        scorers.append((config.lm_weight, _language_model(model, encoded, config.lm)))
    if ctc_weight < 1.0:
        scorers.append((1.0 - ctc_weight, DecoderSteps(model.decoder, encoded, lengths)))
    return beam_search(
        scorers,
        CTCPrefixes(model.ctc.log_softmax(encoded), lengths) if ctc_weight > 0.0 else None,
        lengths,
        vocab_size=model.config.vocab_size,
        beam_size=config.beam_size,
        ctc_weight=ctc_weight,
        length_bonus=config.length_bonus,
        n_best=config.n_best,
    )


def _lexicon_search(
    model: Recognizer, encoded: torch.Tensor, lengths: torch.Tensor, config: DecodeConfig
) -> list[list[Spelled]]:
    lexicon = _read_once(read_lexicon, config.lexicon, model.tokenizer)
    lm = None if config.lm is None else _read_once(load_ngram, config.lm)
    log_probs = model.ctc.log_softmax(encoded).double().cpu().numpy()
    return [
        lexicon_search(
            frames[:length],
            lexicon,
            beam_size=config.beam_size,
            lm=lm,
            lm_weight=config.lm_weight,
            word_bonus=config.word_bonus,
            n_best=config.n_best,
        )
        for frames, length in zip(log_probs, lengths.tolist(), strict=True)
    ]


def _language_model(model: Recognizer, encoded: torch.Tensor, path: str) -> Scorer:
    if not Path(path).is_dir():
        return _read_once(ngram_scorer, path, model.tokenizer)
    lm = _read_once(TransformerLM.from_pretrained, path).to(encoded.device)
    if lm.tokenizer.tokens != model.tokenizer.tokens:
        raise InputError(
            f"{path}: the language model has other tokens than the recogniser; train both with one tokenizer"
        )
    return LanguageModelSteps(lm, len(encoded))


def _read_once(read: Callable, path: str, *given):
    """What `read` makes of a path: batches share it until what is there changes."""
    return _kept(read, path, Path(path).stat().st_mtime_ns if Path(path).exists() else None, *given)


@lru_cache(maxsize=4)
def _kept(read: Callable, path: str, _changed_ns: int | None, *given):
    return read(path, *given)


def decode_manifest(
    model: Recognizer,
    rows: Sequence[Mapping],
    config: DecodeConfig,
    *,
    noise_lines: list[dict] | None = None,
    corruption_lines: list[dict] | None = None,
    out: str | Path | None = None,
) -> dict[str, Hypothesis]:
    """Decode manifest rows, in the noise and corrupted by the lines of manifests, where given; texts aren't looked at.

    Returns:
        Hypotheses by utt_id, in the rows' order. `out` (hyp.jsonl) gets them a line each, as dictionaries.
    """
    dataset = UtteranceDataset(
        list(rows),
        None,
        noise_lines=noise_lines,
        corruption_lines=corruption_lines,
        modalities=model.usable(config.modality),
    )
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
