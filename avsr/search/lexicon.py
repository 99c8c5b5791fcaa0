"""CTC prefix beam search over the words of a list (Hannun et al., 2014), with a language model of words where given.

Letters: T encoder frames, V tokens, K hypotheses.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from avsr.data.text import Tokenizer
from avsr.errors import InputError
from avsr.lm import NgramModel
from avsr.models.espnet import BLANK
from avsr.search.words import Spelled


class Lexicon:
    """A tree of the tokens that spell words, each in all its spellings.

    From every node lead arcs, each a token, to the nodes after it. Where a word may end, the next one begins with the
    arcs of the node `again`: those of the root, or a blank between words, and then those of the root.

    Attributes:
        first: where the arcs of each node begin; those of node n are first[n] to first[n + 1].
        token, target: of each arc, the token and the node that it leads to.
        words: those that are whole at each node; several where they are spelled, or sound, alike.

    Raises InputError for a word that the tokenizer cannot spell.
    """

    def __init__(self, words: Iterable[str], tokenizer: Tokenizer):
        children: list[dict[int, int]] = [{}]
        self.words: list[tuple[str, ...]] = [()]

        def grow(node: int, token: int) -> int:
            if token not in children[node]:
                children[node][token] = len(children)
                children.append({})
                self.words.append(())
            return children[node][token]

        for word in dict.fromkeys(words):
            for spelling in tokenizer.spellings(word):
                node = 0
                for token in spelling:
                    node = grow(node, token)
                self.words[node] += (word,)
        if len(children) == 1:
            raise InputError("a lexicon needs at least one word")
        self.again = 0
        if tokenizer.space is not None:
            self.again = len(children)
            children.append({tokenizer.space: 0})
            self.words.append(())
        self.first = np.cumsum([0, *(len(arcs) for arcs in children)])
        self.token = np.array([token for arcs in children for token in arcs])
        self.target = np.array([node for arcs in children for node in arcs.values()])


def read_lexicon(path: str | Path, tokenizer: Tokenizer) -> Lexicon:
    """Read a word list, one word a line. InputError: no such file, no words, or one that cannot be spelled or said."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such lexicon; expected a text file with one word a line")
    words = [line.strip() for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    for word in words:
        if len(word.split()) > 1:
            raise InputError(
                f"{path}: expected one word a line, found {word!r}; how words are pronounced is said to the tokenizer"
            )
    try:
        return Lexicon(words, tokenizer)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


class _Prefix:
    """A token sequence of the search: a node of the tree of all that were looked at."""

    __slots__ = ("parent", "token", "slot", "again", "node", "words", "added", "last", "ending", "children")

    def __init__(self, parent: _Prefix | None, token: int, slot: int, again: bool, node: int):
        self.parent = parent
        self.token = token
        self.slot, self.again = slot, again  # its arc, among those of the parent's node, or of the node `again`
        self.node = node
        self.words: tuple[str, ...] = ()  # whole ones before this node
        self.added = 0.0  # what they have got from the language model and the bonus
        self.last: str | None = None  # the word that is whole here; None: none is
        self.ending: float | None = None  # what it will get
        self.children: dict[int, _Prefix] = {}

    def tokens(self) -> list[int]:
        found, prefix = [], self
        while prefix.parent is not None:
            found.append(prefix.token)
            prefix = prefix.parent
        return found[::-1]

    def before_word(self) -> list[int]:
        """The tokens of the whole words before the one that it is in."""
        prefix = self
        while prefix.parent is not None and not prefix.again:
            prefix = prefix.parent
        return [] if prefix.parent is None else prefix.parent.tokens()


def lexicon_search(
    log_probs: np.ndarray,
    lexicon: Lexicon,
    *,
    beam_size: int,
    lm: NgramModel | None = None,
    lm_weight: float = 0.0,
    word_bonus: float = 0.0,
    n_best: int = 1,
) -> list[Spelled]:
    """Find the spellings of the highest score: log of the sum over all CTC paths of their tokens, and additions.

    Of words that are spelled alike the likeliest after those before is taken; without a language model the first of
    the list.

    Args:
        log_probs: (T, V) of one utterance.
        lm: its log probability of the words and of the sentence's end is added, times lm_weight.
        word_bonus: added for each word.

    Returns:
        Best first, each text once, in its best spelling. Where a narrow beam ends inside a word, that word is left out.
    """
    log_probs = np.asarray(log_probs, dtype=np.float64)

    def of_word(history: tuple[str, ...], word: str) -> float:
        return word_bonus + (0.0 if lm is None else lm_weight * lm.log_prob(word, history))

    def child(parent: _Prefix, arc: int, again: bool) -> _Prefix:
        token = int(lexicon.token[arc])
        prefix = parent.children.get(token)
        if prefix is None:
            node = int(lexicon.target[arc])
            slot = arc - int(lexicon.first[lexicon.again if again else parent.node])
            prefix = parent.children[token] = _Prefix(parent, token, slot, again, node)
            prefix.words, prefix.added = parent.words, parent.added
            if again:
                prefix.words += (parent.last,)
                prefix.added += parent.ending
            if lexicon.words[node]:
                scores = [of_word(prefix.words, word) for word in lexicon.words[node]]
                prefix.ending = max(scores)
                prefix.last = lexicon.words[node][scores.index(prefix.ending)]
        return prefix

    beam = [_Prefix(None, BLANK, 0, False, 0)]
    blank, token = (
        np.zeros(1),
        np.full(1, -np.inf),
    )  # log probabilities of the paths that end in blank, in the last token
    for frame in log_probs:
        last = np.array([prefix.token for prefix in beam])
        added = np.array([prefix.added for prefix in beam])
        whole = [index for index, prefix in enumerate(beam) if prefix.ending is not None]
        both = np.logaddexp(blank, token)
        stays_blank, stays_token = both + frame[BLANK], token + frame[last]

        # every arc out of every prefix: first those of its own node, then those to a next word
        nodes = np.array([prefix.node for prefix in beam] + [lexicon.again] * len(whole))
        sources = np.array([*range(len(beam)), *whole])
        counts = lexicon.first[nodes + 1] - lexicon.first[nodes]
        begins = np.cumsum(counts) - counts
        row = np.repeat(np.arange(len(nodes)), counts)
        arcs = np.arange(len(row)) - begins[row] + lexicon.first[nodes][row]
        source, said = sources[row], lexicon.token[arcs]
        enters = np.where(said == last[source], blank[source], both[source]) + frame[said]
        gains = np.array([0.0] * len(beam) + [beam[index].ending for index in whole])[row] + added[source]

        place = {prefix: index for index, prefix in enumerate(beam)}
        place_again = {beam[index]: len(beam) + number for number, index in enumerate(whole)}
        for index, prefix in enumerate(beam):
            parent = (place_again if prefix.again else place).get(prefix.parent)
            if parent is not None:  # the same tokens in two ways: one hypothesis
                position = begins[parent] + prefix.slot
                stays_token[index] = np.logaddexp(stays_token[index], enters[position])
                enters[position] = -np.inf

        ranks = np.concatenate([np.logaddexp(stays_blank, stays_token) + added, enters + gains])
        best = np.argpartition(-ranks, beam_size - 1)[:beam_size] if len(ranks) > beam_size else np.arange(len(ranks))
        best = best[ranks[best] > -np.inf]
        kept, fresh = best[best < len(beam)], best[best >= len(beam)] - len(beam)
        blank = np.concatenate([stays_blank[kept], np.full(len(fresh), -np.inf)])
        token = np.concatenate([stays_token[kept], enters[fresh]])
        beam = [beam[index] for index in kept] + [
            child(beam[source[position]], int(arcs[position]), bool(row[position] >= len(place))) for position in fresh
        ]

    found: list[Spelled] = []
    for prefix, score in zip(beam, np.logaddexp(blank, token) + [prefix.added for prefix in beam], strict=True):
        if prefix.parent is None or prefix.ending is not None:
            words = list(prefix.words) + ([] if prefix.parent is None else [prefix.last])
            end = 0.0 if lm is None else lm_weight * lm.log_prob(lm.END, tuple(words))
            found.append(Spelled(words, prefix.tokens(), float(score + (prefix.ending or 0.0) + end)))
    if not found:
        best = int(np.argmax(np.logaddexp(blank, token)))
        words, score = list(beam[best].words), float(np.logaddexp(blank, token)[best] + beam[best].added)
        found = [Spelled(words, beam[best].before_word(), score)]
    texts: dict[tuple[str, ...], Spelled] = {}
    for one in sorted(found, key=lambda one: -one.score):
        texts.setdefault(tuple(one.words), one)
    return list(texts.values())[:n_best]
