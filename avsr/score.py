"""Word and character error rates by jiwer, with ESPnet's table.

Rates are percentages of the reference's units over a whole test set. `normalized` scores are taken after
`avsr.data.text.normalize_text` of both sides: lower case, no punctuation but the apostrophe, single spaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jiwer
import numpy as np

from avsr.data.text import normalize_text
from avsr.errors import InputError


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
    normalized: bool
    utt_ids: tuple[str, ...]
    word_errors: np.ndarray  # (utterances,) int64, in the order of utt_ids
    word_counts: np.ndarray  # (utterances,) int64: words of the reference
    char_errors: np.ndarray  # the same of characters
    char_counts: np.ndarray
    alignments: str  # one block an utterance: REF and HYP lined up, with S, D and I under the errors

    @property
    def wer(self) -> float:
        return self.word.err

    @property
    def cer(self) -> float:
        return self.char.err

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
        } | {"normalized": self.normalized}


def score(refs: Mapping[str, str], hyps: Mapping[str, str], normalize: bool = True) -> Scores:
    """Score hypotheses against references, both by utt_id.

    Raises:
        InputError: the two hold different utterances, there are none, or a reference has no words.
    """
    _check_ids(refs, hyps)
    utt_ids = sorted(refs)
    prepare = normalize_text if normalize else lambda text: " ".join(text.split())
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
        normalized=normalize,
        utt_ids=tuple(utt_ids),
        word_errors=np.array([_errors(output) for output in words]),
        word_counts=np.array([len(output.references[0]) for output in words]),
        char_errors=np.array([_errors(output) for output in chars]),
        char_counts=np.array([len(output.references[0]) for output in chars]),
        alignments="\n".join(f"{utt_id}\n{_picture(output)}\n" for utt_id, output in zip(utt_ids, words, strict=True)),
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
