"""When the words of a text were said, and how sure that is.

Letters: T encoder frames, U tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchaudio.functional import forced_align, merge_tokens

from avsr.data.text import Tokenizer
from avsr.media.timing import FPS
from avsr.models.espnet import BLANK


@dataclass(frozen=True)
class Spelled:
    """A text that was found: its words, the tokens that spell them, and the log score of both."""

    words: list[str]
    tokens: list[int]
    score: float


@dataclass(frozen=True)
class Word:
    """A word of a hypothesis."""

    text: str
    start_s: float
    end_s: float
    confidence: float  # 0 to 1


def align_words(log_probs: Tensor, text: Spelled, tokenizer: Tokenizer) -> list[Word]:
    """Times and confidences of a text's words.

    Times are those of the most probable CTC path that emits the tokens (Kürzinger et al., 2020): the frames where CTC
    says them, often one or two inside the word. An encoder that attends to the whole utterance lets CTC say a word
    elsewhere than it is heard, unless training tied it to alignments (`data.word_slack`). A text that CTC cannot emit
    in so few frames is spread evenly over them, with no confidence. Confidence is the mean CTC posterior on those
    frames, averaged over the word's tokens; it tells right words from wrong ones as well as their share among the n
    best does, and needs no n best.

    Args:
        log_probs: (T, V) of CTC for one utterance, on the CPU.
        text: with U tokens, without <blank> and <sos/eos>.
    """
    tokens, spans = text.tokens, tokenizer.word_spans(text.tokens)
    if not spans:
        return []
    repeats = sum(token == following for token, following in zip(tokens, tokens[1:], strict=False))
    if len(tokens) + repeats > len(log_probs):
        each_s = len(log_probs) / FPS / len(text.words)
        return [Word(word, i * each_s, (i + 1) * each_s, 0.0) for i, word in enumerate(text.words)]
    path, scores = forced_align(log_probs[None], torch.tensor([list(tokens)], dtype=torch.int32), blank=BLANK)
    said = merge_tokens(path[0], scores[0].exp(), blank=BLANK)  # U spans of frames
    return [
        Word(
            word,
            said[span.start].start / FPS,
            said[span.stop - 1].end / FPS,
            sum(said[position].score for position in span) / len(span),
        )
        for word, span in zip(text.words, spans, strict=True)
    ]
