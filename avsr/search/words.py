"""When the words of a text were said, and how sure that is.

Letters: T encoder frames, U tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchaudio.functional import forced_align, merge_tokens

from avsr.data.text import Tokenizer
from avsr.media.timing import FPS
from avsr.models.espnet import BLANK


@dataclass(frozen=True)
class Word:
    """A word of a hypothesis."""

    text: str
    start_s: float
    end_s: float
    confidence: float  # 0 to 1


def align_words(log_probs: Tensor, tokens: Sequence[int], tokenizer: Tokenizer) -> list[Word]:
    """Times and confidences of the words that `tokens` spell.

    Times are those of the most probable CTC path that emits the tokens (Kürzinger et al., 2020): the frames where CTC
    says them, often one or two inside the word. An encoder that attends to the whole utterance lets CTC say a word
    elsewhere than it is heard, unless training tied it to alignments (`data.word_slack`). A text that CTC cannot emit
    in so few frames is spread evenly over them, with no confidence. Confidence is the mean CTC posterior on those
    frames, averaged over the word's tokens; it tells right words from wrong ones as well as their share among the n
    best does, and needs no n best.

    Args:
        log_probs: (T, V) of CTC for one utterance, on the CPU.
        tokens: U ids, without <blank> and <sos/eos>.
    """
    spans = tokenizer.word_spans(tokens)
    texts = [tokenizer.decode(tokens[span.start : span.stop]) for span in spans]
    if not spans:
        return []
    repeats = sum(token == following for token, following in zip(tokens, tokens[1:], strict=False))
    if len(tokens) + repeats > len(log_probs):
        each_s = len(log_probs) / FPS / len(texts)
        return [Word(text, i * each_s, (i + 1) * each_s, 0.0) for i, text in enumerate(texts)]
    path, scores = forced_align(log_probs[None], torch.tensor([list(tokens)], dtype=torch.int32), blank=BLANK)
    said = merge_tokens(path[0], scores[0].exp(), blank=BLANK)  # U spans of frames
    return [
        Word(
            text,
            said[span.start].start / FPS,
            said[span.stop - 1].end / FPS,
            sum(said[position].score for position in span) / len(span),
        )
        for text, span in zip(texts, spans, strict=True)
    ]
