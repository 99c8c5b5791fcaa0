"""Words of a hypothesis: when and how surely they were said, for every kind of tokenizer."""

import pytest
import torch

from avsr.data.text import KINDS, Tokenizer, train_tokenizer
from avsr.search.words import Spelled, Word, align_words

TEXTS = ["set red now", "set blue", "bin red soon now", "now bin", "sober bluebin"]


PRONUNCIATIONS = {word: [tuple(word), ("x",)] for text in TEXTS for word in text.split()}


def tokenizer_of(kind: str) -> Tokenizer:
    vocab_size = 20 if kind in ("unigram", "bpe") else None
    return train_tokenizer(TEXTS, kind, vocab_size, PRONUNCIATIONS if kind == "phone" else None)


def aligned(log_probs: torch.Tensor, tokens: list[int], tokenizer: Tokenizer) -> list[Word]:
    return align_words(log_probs, Spelled(tokenizer.decode(tokens).split(), tokens, 0.0), tokenizer)


def said(tokens: list[int], vocab_size: int, probability: float) -> torch.Tensor:
    """(T, V) log probabilities: each token for two frames after two blank ones, with that probability."""
    probs = torch.full((4 * len(tokens), vocab_size), 0.0)
    for index, token in enumerate(tokens):
        probs[4 * index : 4 * index + 2, 0] = probability
        probs[4 * index + 2 : 4 * index + 4, token] = probability
    return (probs + (1 - probability) / vocab_size).log()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_words_lie_where_their_tokens_were_said(kind, text):
    tokenizer = tokenizer_of(kind)
    tokens = tokenizer.encode(text)
    spans = tokenizer.word_spans(tokens)
    words = aligned(said(tokens, len(tokenizer), 0.9), tokens, tokenizer)
    assert [word.text for word in words] == text.split()
    for word, span in zip(words, spans, strict=True):
        assert tokenizer.decode(tokens[span.start : span.stop]) == word.text
        assert word.start_s == pytest.approx((4 * span.start + 2) / 25)
        assert word.end_s == pytest.approx(4 * span.stop / 25)
        assert word.confidence == pytest.approx(0.9 + 0.1 / len(tokenizer), abs=1e-5)
    assert all(first.end_s <= second.start_s for first, second in zip(words, words[1:], strict=False))


def test_what_is_hard_to_hear_is_less_sure():
    tokenizer = tokenizer_of("word")
    tokens = tokenizer.encode("set red now")
    log_probs = said(tokens, len(tokenizer), 0.9)
    log_probs[6:8] = said(tokens, len(tokenizer), 0.5)[6:8]
    sure, unsure, sure_too = (word.confidence for word in aligned(log_probs, tokens, tokenizer))
    assert unsure < 0.6 < 0.9 < min(sure, sure_too)


def test_a_text_that_ctc_cannot_emit_is_spread_evenly_and_not_trusted():
    tokenizer = tokenizer_of("word")
    tokens = tokenizer.encode("set set red")  # needs a blank between the first two: four frames
    uniform = torch.zeros(4, len(tokenizer)).log_softmax(-1)
    spread = [Word("set", 0.0, 0.04, 0.0), Word("set", 0.04, 0.08, 0.0), Word("red", 0.08, pytest.approx(0.12), 0.0)]
    assert aligned(uniform[:3], tokens, tokenizer) == spread
    assert [word.start_s for word in aligned(uniform, tokens, tokenizer)] == [0.0, 2 / 25, 3 / 25]
    assert aligned(uniform, [], tokenizer) == []


def test_a_word_that_sounds_like_another_keeps_its_name():
    tokenizer = train_tokenizer(["their", "there"], "phone", None, {"their": [("ð", "ɛɹ")], "there": [("ð", "ɛɹ")]})
    tokens = tokenizer.encode("there")
    (word,) = align_words(said(tokens, len(tokenizer), 0.9), Spelled(["there"], tokens, 0.0), tokenizer)
    assert word.text == "there" and tokenizer.decode(tokens) == "their"
