"""N-gram models: probabilities worked out by hand, ARPA files, tokens in the beam search."""

import math

import numpy as np
import pytest
import torch

from avsr.data.text import train_tokenizer
from avsr.errors import InputError
from avsr.lm import NgramModel, load_ngram, train_ngram
from avsr.search.ngram import NgramScorer

# the three sentences of Jurafsky and Martin, Speech and Language Processing, chapter 3
SENTENCES = [text.split() for text in ("I am Sam", "Sam I am", "I do not like green eggs and ham")]


def test_a_small_model_worked_out_by_hand():
    model = train_ngram(SENTENCES, 2)
    # 13 bigrams are seen once and two twice (<s> I, I am); of 11 unigrams, 8 have one context and two have two
    bigram, unigram = 13 / 17, 8 / 12
    words_and_unknown = 12
    continued = {"I": 2, "am": 1, "Sam": 2, "</s>": 3, "green": 1}  # contexts, of 15

    def below(word):
        return max(continued.get(word, 0) - unigram, 0) / 15 + unigram * 11 / 15 / words_and_unknown

    for word, history, count, total, kinds in [
        ("I", [], 2, 3, 2),
        ("Sam", [], 1, 3, 2),
        ("green", [], 0, 3, 2),
        ("am", ["Sam", "I"], 2, 3, 2),
        ("</s>", ["I", "am"], 1, 2, 2),
        ("who", ["I"], 0, 3, 2),
    ]:
        prob = max(count - bigram, 0) / total + bigram * kinds / total * below(word)
        assert model.log_prob(word, history) == pytest.approx(math.log(prob))
    assert model.log_prob("green", ["who"]) == pytest.approx(math.log(below("green")))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_sum_to_one_after_any_history(order):
    model = train_ngram(SENTENCES, order)
    words = [*model.words, "</s>", "<unk>"]
    assert len(words) == 12
    for history in ([], ["I"], ["I", "am"], ["Sam", "I", "am"], ["who"], ["green", "who", "I"]):
        assert sum(math.exp(model.log_prob(word, history)) for word in words) == pytest.approx(1.0)


def test_more_context_fits_the_text_better():
    perplexities = [train_ngram(SENTENCES, order).perplexity(SENTENCES) for order in (1, 2, 3)]
    assert perplexities == sorted(perplexities, reverse=True) and 1 < perplexities[-1] < perplexities[0] < 12
    model = train_ngram(SENTENCES, 2)
    logs = [model.log_prob("Sam", []), model.log_prob("am", ["Sam"]), model.log_prob("</s>", ["Sam", "am"])]
    assert model.perplexity([["Sam", "am"]]) == pytest.approx(math.exp(-np.mean(logs)))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_an_arpa_file_says_the_same(order, tmp_path):
    model = train_ngram(SENTENCES, order)
    model.save(tmp_path / "lm.arpa")
    loaded = load_ngram(tmp_path / "lm.arpa")
    assert loaded.order == order and loaded.words == model.words
    for history in ([], ["I"], ["I", "am"], ["who", "do"]):
        for word in [*model.words, "</s>", "who"]:
            assert loaded.log_prob(word, history) == pytest.approx(model.log_prob(word, history), abs=1e-6)


def test_an_arpa_file_from_elsewhere(tmp_path):
    """Tabs or blanks, n-grams of the highest order without weight, fields that this kit does not write."""
    (tmp_path / "lm.arpa").write_text(
        "made elsewhere\n\n\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-1.0 <unk>\n-99 <s> -0.5\n-0.5\t</s>\n"
        "-0.25\tyes\t-0.125\n\n\\2-grams:\n-0.0625\t<s> yes\n\n\\end\\\n"
    )
    model = load_ngram(tmp_path / "lm.arpa")
    for word, history, log10 in [
        ("yes", [], -0.0625),
        ("</s>", [], -1.0),
        ("yes", ["yes"], -0.375),
        ("no", ["yes"], -1.125),
        ("yes", ["no"], -0.25),
    ]:
        assert model.log_prob(word, history) == pytest.approx(log10 * math.log(10))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no model", "not an ARPA file"),
        ("\\1-grams:\n-1 a\n", "not an ARPA file"),
        ("\\1-grams:\n-1 a b c\n\\end\\\n", "line 2: '-1 a b c' is not a 1-gram"),
        ("\\1-grams:\nmuch a\n\\end\\\n", "line 2: 'much a' is not a 1-gram"),
        ("\\1-grams:\n-1 </s>\n\\end\\\n", "the language model has no <unk>"),
    ],
)
def test_files_that_are_no_models_are_refused(content, message, tmp_path):
    with pytest.raises(InputError, match="no such language model"):
        load_ngram(tmp_path / "lm.arpa")
    (tmp_path / "lm.arpa").write_text(content)
    with pytest.raises(InputError, match=message):
        load_ngram(tmp_path / "lm.arpa")


def test_texts_that_make_no_model_are_refused():
    with pytest.raises(InputError, match="order of 1 or more"):
        train_ngram(SENTENCES, 0)
    with pytest.raises(InputError, match="every line is empty"):
        train_ngram([[], []], 2)
    with pytest.raises(InputError, match="'a <s>' has one of"):
        train_ngram([["a", "<s>"]], 2)
    with pytest.raises(InputError, match="no text to measure"):
        train_ngram(SENTENCES, 2).perplexity([])


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_the_scorer_gives_the_models_log_probabilities(kind):
    tokenizer = train_tokenizer([" ".join(words) for words in SENTENCES], kind, 24 if kind == "bpe" else None)
    units = [[tokenizer.tokens[token] for token in tokenizer.encode(" ".join(words))] for words in SENTENCES]
    model = train_ngram(units, 3)
    scorer = NgramScorer(model, tokenizer, "lm.arpa")
    eos = len(tokenizer) - 1
    tokens = torch.tensor([[[eos, 2, 3, 4], [eos, 5, 2, 2]], [[eos, 3, 3, 1], [eos, 4, 6, 7]]])
    for length in range(1, 5):
        scores, _ = scorer(tokens[:, :, :length], scorer.start())
        for row, hypothesis in zip(scores.flatten(0, 1), tokens[:, :, 1:length].flatten(0, 1).tolist(), strict=True):
            history = [tokenizer.tokens[token] for token in hypothesis]
            wanted = [model.log_prob(unit, history) for unit in [*tokenizer.tokens[1:-1], NgramModel.END]]
            assert row[1:].tolist() == pytest.approx(wanted)


def test_a_model_of_other_tokens_is_refused():
    with pytest.raises(InputError, match=r"lm.arpa: the language model knows 1 of the 16 tokens"):
        NgramScorer(train_ngram(SENTENCES, 2), train_tokenizer([" ".join(SENTENCES[2]) + " am"], "char"), "lm.arpa")
