"""N-gram language models: made of texts, kept as ARPA files, for the searches of `avsr.search`.

A model is one of words, or of a tokenizer's tokens; for whatever they are, it says "word".
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from avsr.errors import InputError
from avsr.files import write_text

Context = tuple[str, ...]


class NgramModel:
    """Probabilities of a word after the words before it, by backing off to shorter contexts (Katz, 1987).

    Attributes:
        order: words of the longest n-gram.
        followers: for each context, the natural log probabilities of the words seen after it; of the empty context,
            those of all words.
        backoffs: for each context, the log weight of the next shorter one where a word was not seen; absent: 0.
    """

    START, END, UNKNOWN = "<s>", "</s>", "<unk>"

    def __init__(self, order: int, followers: dict[Context, dict[str, float]], backoffs: dict[Context, float]):
        self.order = order
        self.followers = followers
        self.backoffs = backoffs

    @property
    def words(self) -> set[str]:
        """All words, without the three that stand for start, end and unknown."""
        return set(self.followers[()]) - {self.START, self.END, self.UNKNOWN}

    def log_prob(self, word: str, history: Sequence[str]) -> float:
        """Natural log probability of a word, or END, after all the words of its sentence so far."""
        known = self.followers[()]
        if word not in known:
            word = self.UNKNOWN
        return self._log_prob(word, self.context(history))

    def context(self, history: Sequence[str]) -> Context:
        """What of a sentence so far the next word depends on."""
        if self.order == 1:
            return ()
        known = self.followers[()]
        reached = [word if word in known else self.UNKNOWN for word in history[-(self.order - 1) :]]
        return tuple([self.START, *reached] if len(history) < self.order - 1 else reached)

    def _log_prob(self, word: str, context: Context) -> float:
        weight = 0.0
        while context:
            seen = self.followers.get(context)
            if seen is not None and word in seen:
                break
            weight += self.backoffs.get(context, 0.0)
            context = context[1:]
        return weight + self.followers[context].get(word, -math.inf)

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> float:
        """exp of the mean negative log probability of words and sentence ends; unknown words count as <unk>."""
        total, count = 0.0, 0
        for words in sentences:
            for position, word in enumerate([*words, self.END]):
                total += self.log_prob(word, words[:position])
                count += 1
        if count == 0:
            raise InputError("no text to measure perplexity on")
        return math.exp(-total / count)

    def save(self, path: str | Path) -> None:
        """Write an ARPA file, whole or not at all."""
        by_order: list[list[tuple[Context, float]]] = [[] for _ in range(self.order)]
        for context, seen in self.followers.items():
            by_order[len(context)] += [((*context, word), log_prob) for word, log_prob in seen.items()]
        lines = ["\\data\\", *(f"ngram {n}={len(found)}" for n, found in enumerate(by_order, start=1))]
        for n, found in enumerate(by_order, start=1):
            lines += ["", f"\\{n}-grams:"]
            for ngram, log_prob in sorted(found):
                shown = "-99" if ngram == (self.START,) else f"{log_prob / math.log(10):.8f}"
                backoff = f"\t{self.backoffs[ngram] / math.log(10):.8f}" if ngram in self.backoffs else ""
                lines.append(f"{shown}\t{' '.join(ngram)}{backoff}")
        write_text(path, "\n".join([*lines, "", "\\end\\", ""]))


def train_ngram(sentences: Iterable[Sequence[str]], order: int) -> NgramModel:
    """Make an n-gram model by interpolated Kneser-Ney smoothing (Chen and Goodman, 1998, one discount an order).

    The discount is n1 / (n1 + 2 n2) of the n-grams counted once and twice, 0.5 where either is missing. Orders below
    the highest count in how many contexts a word was seen, save after the sentence's start. The unigrams share what
    discounting leaves with <unk>.

    Raises InputError: no text, an order below 1, or a text that has <s>, </s> or <unk> in it.
    """
    if order < 1:
        raise InputError(f"an n-gram model needs an order of 1 or more, got {order}")
    start, end, unknown = NgramModel.START, NgramModel.END, NgramModel.UNKNOWN
    counts: dict[Context, Counter] = defaultdict(Counter)  # of words by context, of all orders
    for words in sentences:
        if not {start, end, unknown}.isdisjoint(words):
            raise InputError(
                f"{' '.join(words)!r} has one of {start}, {end}, {unknown} in it; these are the model's own"
            )
        if not words:
            continue
        padded = (start, *words, end)
        for position in range(1, len(padded)):
            for first in range(max(0, position - order + 1), position + 1):
                counts[padded[first:position]][padded[position]] += 1
    if not counts:
        raise InputError("no text to make a language model of: every line is empty")

    longest_first = sorted(counts, key=len, reverse=True)
    for context in longest_first:
        if len(context) < order - 1 and context[:1] != (start,):
            counts[context] = Counter()
    for context in longest_first[:-1]:  # the last one is empty
        counts[context[1:]].update(dict.fromkeys(counts[context], 1))

    discounts = []
    for n in range(order):
        of_counts = Counter(count for context, seen in counts.items() if len(context) == n for count in seen.values())
        n1, n2 = of_counts[1], of_counts[2]
        discounts.append(n1 / (n1 + 2 * n2) if n1 and n2 else 0.5)

    uniform = 1.0 / (len(counts[()]) + 1)
    followers: dict[Context, dict[str, float]] = {}
    backoffs: dict[Context, float] = {}
    probs: dict[Context, dict[str, float]] = {}
    for context in sorted(counts, key=len):
        seen, discount = counts[context], discounts[len(context)]
        total = sum(seen.values())
        left = discount * len(seen) / total
        below = probs[context[1:]] if context else defaultdict(lambda: uniform)
        probs[context] = {word: (count - discount) / total + left * below[word] for word, count in seen.items()}
        if context:
            backoffs[context] = math.log(left)
        else:
            probs[context][unknown] = left * uniform
        followers[context] = {word: math.log(prob) for word, prob in probs[context].items()}
    if order > 1:
        followers[()][start] = -math.inf
    return NgramModel(order, followers, backoffs)


def load_ngram(path: str | Path) -> NgramModel:
    """Read an ARPA file. InputError: no such file, or one that is not ARPA or has no <unk>."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such language model; make one with: avsr lm TEXTS --out {path}")
    followers: dict[Context, dict[str, float]] = defaultdict(dict)
    backoffs: dict[Context, float] = {}
    n = ended = 0
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        line = line.strip()
        section = re.fullmatch(r"\\(\d+)-grams:", line)
        if section is not None:
            n = int(section[1])
        elif line == "\\end\\":
            ended = 1
        elif line and n > 0:
            try:
                log_prob, *ngram = line.split()
                if len(ngram) == n + 1:
                    backoffs[tuple(ngram[:n])] = float(ngram[n]) * math.log(10)
                elif len(ngram) != n:
                    raise ValueError
                followers[tuple(ngram[: n - 1])][ngram[n - 1]] = float(log_prob) * math.log(10)
            except ValueError:
                raise InputError(
                    f"{path}, line {number}: {line!r} is not a {n}-gram of an ARPA file: expected a log10 probability, "
                    f"{n} words, and perhaps a back-off weight"
                ) from None
    if not n or not ended:
        raise InputError(f"{path}: not an ARPA file: expected \\1-grams: to \\end\\")
    for needed in (NgramModel.END, NgramModel.UNKNOWN):
        if needed not in followers[()]:
            raise InputError(
                f"{path}: the language model has no {needed}; make it with unknown words (open vocabulary)"
            )
    return NgramModel(n, dict(followers), backoffs)
