"""Lexicon decoding against the sum over all paths of all word sequences."""

import itertools
import math

import numpy as np
import pytest
import torch
from brute_force import all_texts

from avsr.data.text import KINDS, train_tokenizer
from avsr.errors import InputError
from avsr.lm import train_ngram
from avsr.search.lexicon import Lexicon, lexicon_search, read_lexicon

WORDS = ["a", "ab", "ba", "abb"]
LM = train_ngram([["a", "ab"], ["ba"], ["ab", "a", "a"], ["abb", "ba"]], 3)


PRONUNCIATIONS = {"a": [("x",)], "ab": [("x", "y")], "ba": [("y", "x")], "abb": [("x", "y", "y")]}


def tokenizer_of(kind: str):
    vocab_size = 7 if kind in ("unigram", "bpe") else None
    return train_tokenizer(["a ab ba abb", "ba ab"], kind, vocab_size, PRONUNCIATIONS if kind == "phone" else None)


def exact_scores(log_probs, tokenizer, most_words: int, extra) -> dict[tuple[str, ...], float]:
    """Scores of all sequences of up to `most_words` words that the frames can emit."""
    texts, scores = all_texts(torch.from_numpy(log_probs)), {}
    for count in range(most_words + 1):
        for words in itertools.product(WORDS, repeat=count):
            tokens = tuple(tokenizer.encode(" ".join(words))) if words else ()
            if tokens in texts:
                scores[words] = math.log(texts[tokens]) + extra(words)
    return scores


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_lm", [False, True])
def test_a_wide_beam_finds_the_best_of_all_word_sequences(kind, with_lm):
    tokenizer = tokenizer_of(kind)
    settings = {"lm": LM, "lm_weight": 0.8, "word_bonus": 0.7} if with_lm else {}

    def extra(words):
        if not with_lm:
            return 0.0
        logs = [LM.log_prob(word, words[:position]) for position, word in enumerate([*words, "</s>"])]
        return 0.8 * sum(logs) + 0.7 * len(words)

    for seed in range(3):
        logits = 2 * np.random.default_rng(seed).normal(size=(5, len(tokenizer)))
        log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        wanted = exact_scores(log_probs, tokenizer, 5, extra)
        found = lexicon_search(log_probs, Lexicon(WORDS, tokenizer), beam_size=3000, n_best=2000, **settings)
        assert {tuple(one.words): one.score for one in found} == pytest.approx(wanted, abs=1e-6)
        assert all(one.tokens == tokenizer.encode(" ".join(one.words)) for one in found if one.words)
        assert len(found) > 3 and [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        narrow = lexicon_search(log_probs, Lexicon(WORDS, tokenizer), beam_size=12, **settings)
        assert narrow[0].score <= found[0].score + 1e-9


def test_only_words_of_the_list_come_out_and_a_model_of_words_chooses():
    tokenizer = train_tokenizer(["set red now bin rod"], "char")
    tokens = tokenizer.encode("set rxd now".replace("x", "o"))
    probs = np.full((3 * len(tokens), len(tokenizer)), 1e-4)
    for index, token in enumerate(tokens):
        probs[3 * index : 3 * index + 2, token] = 0.9
        probs[3 * index + 2, 0] = 0.9
    log_probs = np.log(probs / probs.sum(1, keepdims=True))

    def best(words, **settings):
        return lexicon_search(log_probs, Lexicon(words, tokenizer), beam_size=24, **settings)[0].words

    assert best(["set", "rod", "now", "red"]) == ["set", "rod", "now"]
    assert best(["set", "now", "red"]) == ["set", "red", "now"]
    lm = train_ngram([["set", "red", "now"]] * 5 + [["rod"]], 2)
    assert best(["set", "rod", "now", "red"], lm=lm, lm_weight=20.0) == ["set", "red", "now"]


def test_a_beam_that_ends_inside_a_word_leaves_it_out():
    tokenizer = train_tokenizer(["ab"], "char")
    probs = np.full((2, len(tokenizer)), 1e-6)
    probs[0, tokenizer.encode("a")], probs[1, 0] = 1.0, 1.0
    (found,) = lexicon_search(np.log(probs), Lexicon(["ab"], tokenizer), beam_size=1)
    assert found.words == found.tokens == [] and found.score == pytest.approx(0.0, abs=1e-4)


def test_the_n_best_are_different_texts_each_in_its_best_spelling():
    spoken = {"the": [("ð", "ə"), ("ð", "i"), ("ð", "e")], "a": [("ə",)]}
    tokenizer = train_tokenizer(["the a"], "phone", None, spoken)
    probs = np.full((4, len(tokenizer)), 1e-3)
    probs[0, tokenizer.tokens.index("▁ð")] = probs[1, 0] = probs[3, 0] = 0.9
    for share, phone in enumerate("ieə", start=1):
        probs[2, tokenizer.tokens.index(phone)] = 0.1 * share
    log_probs = np.log(probs / probs.sum(1, keepdims=True))
    found = lexicon_search(log_probs, Lexicon(spoken, tokenizer), beam_size=60, n_best=3)
    assert len({tuple(one.words) for one in found}) == 3
    assert found[0].words == ["the"] and found[0].tokens == tokenizer.spellings("the")[0]


def test_every_pronunciation_counts_and_the_model_of_words_tells_those_apart_that_sound_alike():
    spoken = {"the": [("ð", "ə"), ("ð", "i")], "their": [("ð", "e")], "there": [("ð", "e")]}
    tokenizer = train_tokenizer(["the there their"], "phone", None, spoken)

    def heard(*words_phones, **settings):
        units = [unit for phones in words_phones for unit in ("▁" + phones[0], *phones[1:])]
        probs = np.full((2 * len(units), len(tokenizer)), 1e-4)
        for index, unit in enumerate(units):
            probs[2 * index, tokenizer.tokens.index(unit)] = probs[2 * index + 1, 0] = 0.9
        log_probs = np.log(probs / probs.sum(1, keepdims=True))
        return lexicon_search(log_probs, Lexicon(["their", "there", "the"], tokenizer), beam_size=24, **settings)[0]

    assert heard("ðə").words == heard("ði").words == ["the"]
    assert heard("ði").tokens == tokenizer.spellings("the")[1]
    assert heard("ði", "ðe").words == ["the", "their"]
    lm = train_ngram([["the", "there"], ["their"]], 2)
    assert heard("ði", "ðe", lm=lm, lm_weight=1.0).words == ["the", "there"]
    assert heard("ðe", lm=lm, lm_weight=1.0).words == ["their"]


def test_lists_that_cannot_be_used_are_refused(tmp_path):
    tokenizer = tokenizer_of("char")
    with pytest.raises(InputError, match="no such lexicon"):
        read_lexicon(tmp_path / "absent.txt", tokenizer)
    path = tmp_path / "words.txt"
    path.write_text("\n\n")
    with pytest.raises(InputError, match=r"words.txt: a lexicon needs at least one word"):
        read_lexicon(path, tokenizer)
    path.write_text("ab\nac\n")
    with pytest.raises(InputError, match=r"words.txt: characters outside the tokenizer: 'c' in 'ac'"):
        read_lexicon(path, tokenizer)
    path.write_text("ab\nab a b\n")
    with pytest.raises(InputError, match="words.txt: expected one word a line, found 'ab a b'; how words are pron"):
        read_lexicon(path, tokenizer)
    path.write_text("ab\n\nba\n")
    assert [words for words in read_lexicon(path, tokenizer).words if words] == [("ab",), ("ba",)]
