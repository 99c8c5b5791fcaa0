"""Word and character error rates by jiwer, with ESPnet's table and what was taken for what.

Rates are percentages of the reference's units over a whole test set, and depend on how both sides' texts are
normalised before (`NORMALIZERS`), which so belongs beside them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np

from avsr.data.text import normalize_text
from avsr.errors import InputError
from avsr.files import read_jsonl

NOTHING = ""  # stands across from a word that was left out or put in


@dataclass(frozen=True)
class Normalizer:
    """What is done to the texts of both sides before they are compared, and how to say so."""

    apply: Callable[[str], str]
    said: str


NORMALIZERS = {
    "lower": Normalizer(normalize_text, "lower case, no punctuation but apostrophes in words, single blanks"),
    "none": Normalizer(lambda text: " ".join(text.split()), "texts as they are, but for single blanks"),
}


@dataclass(frozen=True)
class Counts:
    """Alignment counts of one unit (words or characters) over a test set; ESPnet's columns as properties, in %."""

    sentences: int
    sentences_wrong: int
    units: int  # in the references
    substitutions: int
    deletions: int
    insertions: int

    @property
    def corr(self) -> float:
        return self._percent(self.units - self.substitutions - self.deletions)

    @property
    def sub(self) -> float:
        return self._percent(self.substitutions)

    @property
    def dele(self) -> float:
        return self._percent(self.deletions)

    @property
    def ins(self) -> float:
        return self._percent(self.insertions)

    @property
    def err(self) -> float:
        """The error rate: (substitutions + deletions + insertions) / units of the references."""
        return self._percent(self.substitutions + self.deletions + self.insertions)

    @property
    def sentence_err(self) -> float:
        return 100.0 * self.sentences_wrong / self.sentences

    def _percent(self, count: int) -> float:
        return 100.0 * count / self.units


@dataclass(frozen=True)
class Scores:
    """Scores of one system on one test set."""

    word: Counts
    char: Counts
    normalizer: str  # of NORMALIZERS
    utt_ids: tuple[str, ...]
    word_errors: np.ndarray  # (utterances,) int64, in the order of utt_ids
    word_counts: np.ndarray  # (utterances,) int64: words of the reference
    char_errors: np.ndarray  # the same of characters
    char_counts: np.ndarray
    alignments: str  # one block an utterance: REF and HYP lined up, with S, D and I under the errors
    pairs: Counter[tuple[str, str]]  # how often a word of a reference is aligned with one of a hypothesis, or NOTHING

    @property
    def wer(self) -> float:
        return self.word.err

    @property
    def cer(self) -> float:
        return self.char.err

    def confusions(self) -> list[tuple[str, str, int]]:
        """Words of the references, what they were taken for, and how often: most frequent first, then by alphabet.

        A word left out is taken for `NOTHING`; `NOTHING` is taken for a word that was put in.
        """
        wrong = [(ref, hyp, times) for (ref, hyp), times in self.pairs.items() if ref != hyp]
        return sorted(wrong, key=lambda one: (-one[2], one[:2]))

    def as_dict(self) -> dict:
        """What scores.json holds."""
        return {
            unit: {
                "snt": counts.sentences,
                "units": counts.units,
                "corr": counts.corr,
                "sub": counts.sub,
                "del": counts.dele,
                "ins": counts.ins,
                "err": counts.err,
                "s_err": counts.sentence_err,
            }
            for unit, counts in (("word", self.word), ("char", self.char))
        } | {"normalized": self.normalizer != "none", "normalizer": self.normalizer}


def read_texts(path: str | Path) -> dict[str, str]:
    """The texts of a hyp.jsonl by utt_id; InputError, naming the file, unless every line has both, once."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file of hypotheses; `hyp.jsonl` is what decoding a manifest leaves")
    try:
        lines = [(line["utt_id"], line["text"].strip()) for line in read_jsonl(path)]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: expected a JSON object with utt_id and text on every line ({error!r})") from error
    twice = [utt_id for utt_id, times in Counter(utt_id for utt_id, _ in lines).items() if times > 1]
    if twice:
        raise InputError(f"{path}: {twice[0]!r} has more than one hypothesis; leave one")
    return dict(lines)


def score(refs: Mapping[str, str], hyps: Mapping[str, str], normalizer: str = "lower") -> Scores:
    """Score hypotheses against references, both by utt_id; `normalizer` is one of `NORMALIZERS`.

    Raises:
        InputError: the two hold different utterances, there are none, or a reference has no words; an unknown
            normaliser.
    """
    if normalizer not in NORMALIZERS:
        raise InputError(f"text normaliser {normalizer!r}: expected one of {', '.join(NORMALIZERS)}")
    _check_ids(refs, hyps)
    utt_ids = sorted(refs)
    prepare = NORMALIZERS[normalizer].apply
    ref_texts = [prepare(refs[utt_id]) for utt_id in utt_ids]
    hyp_texts = [prepare(hyps[utt_id]) for utt_id in utt_ids]
    for utt_id, text in zip(utt_ids, ref_texts, strict=True):
        if not text:
            raise InputError(f"{utt_id}: the reference {refs[utt_id]!r} has no words; an error rate needs some")
    pairs = list(zip(ref_texts, hyp_texts, strict=True))
    words = [jiwer.process_words(ref, hyp) for ref, hyp in pairs]
    chars = [jiwer.process_characters(ref, hyp) for ref, hyp in pairs]
    return Scores(
        word=_counts(words),
        char=_counts(chars),
        normalizer=normalizer,
        utt_ids=tuple(utt_ids),
        word_errors=np.array([_errors(output) for output in words]),
        word_counts=np.array([len(output.references[0]) for output in words]),
        char_errors=np.array([_errors(output) for output in chars]),
        char_counts=np.array([len(output.references[0]) for output in chars]),
        alignments="\n".join(f"{utt_id}\n{_picture(output)}\n" for utt_id, output in zip(utt_ids, words, strict=True)),
        pairs=sum((_pairs(output) for output in words), Counter()),
    )


def _check_ids(refs: Mapping[str, str], hyps: Mapping[str, str]) -> None:
    if not refs:
        raise InputError("there is no reference to score against")
    missing, unknown = sorted(refs.keys() - hyps.keys()), sorted(hyps.keys() - refs.keys())
    if missing or unknown:
        raise InputError(
            "references and hypotheses hold different utterances: "
            f"{len(missing)} without hypothesis {missing[:3]}, {len(unknown)} without reference {unknown[:3]}; "
            "decode the manifest that you score against"
        )


def _errors(output: jiwer.WordOutput | jiwer.CharacterOutput) -> int:
    return output.substitutions + output.deletions + output.insertions


def _pairs(output: jiwer.WordOutput) -> Counter[tuple[str, str]]:
    """Words across from each other; of jiwer's stretches only substituted and equal ones have words on both sides."""
    pairs: Counter[tuple[str, str]] = Counter()
    for stretch in output.alignments[0]:
        ref = output.references[0][stretch.ref_start_idx : stretch.ref_end_idx]
        hyp = output.hypotheses[0][stretch.hyp_start_idx : stretch.hyp_end_idx]
        pairs.update(zip(ref or [NOTHING] * len(hyp), hyp or [NOTHING] * len(ref), strict=True))
    return pairs


def _counts(outputs: list[jiwer.WordOutput] | list[jiwer.CharacterOutput]) -> Counts:
    return Counts(
        sentences=len(outputs),
        sentences_wrong=sum(_errors(output) > 0 for output in outputs),
        units=sum(output.hits + output.substitutions + output.deletions for output in outputs),
        substitutions=sum(output.substitutions for output in outputs),
        deletions=sum(output.deletions for output in outputs),
        insertions=sum(output.insertions for output in outputs),
    )


def _picture(output: jiwer.WordOutput) -> str:
    text = jiwer.visualize_alignment(output, show_measures=False, skip_correct=False)
    return text.split("\n\n", 1)[1].rstrip()  # without its "SENTENCE 1" heading


def espnet_table(scores: Mapping[str, Scores], unit: str = "word") -> str:
    """ESPnet's result table in markdown, one row a test set; `unit` is "word" or "char"."""
    lines = ["|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|", "|---|---|---|---|---|---|---|---|---|"]
    for name, one in scores.items():
        counts: Counts = getattr(one, unit)
        rates = (counts.corr, counts.sub, counts.dele, counts.ins, counts.err, counts.sentence_err)
        lines.append(f"|{name}|{counts.sentences}|{counts.units}|" + "|".join(f"{rate:.1f}" for rate in rates) + "|")
    return "\n".join(lines) + "\n"


def confusion_table(scores: Scores, n_shown: int) -> str:
    """The `n_shown` most frequent confusions in markdown."""
    lines = ["|reference|taken for|times|", "|---|---|---|"]
    for ref, hyp, times in scores.confusions()[:n_shown]:
        lines.append(f"|{ref or '(nothing)'}|{hyp or '(nothing)'}|{times}|")
    return "\n".join(lines) + "\n"
