"""Viseme error rate: what of a read-back's errors can be seen on the lips ("bin" read as "pin" is none).

    python -m benchmarks.visemes HYP.jsonl MANIFEST [--lexicon MANIFEST …] [--json OUT]

    text -> phones, one pronunciation a word -> visemes -> error rate over the visemes of a test set

Amazon Polly's visemes, as in SPECTRE (Filntisis et al., CVPRW 2023), which takes the error over characters, blanks
between words among them; here the units are the visemes alone. A diphthong shows as its first vowel. Polly's table is
for American English; what it lacks is with its nearest neighbour.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from avsr.data.alignment import read_alignment, words_as_phones
from avsr.data.manifest import read_manifest
from avsr.data.text import normalize_text
from avsr.errors import InputError, exit_status
from avsr.files import write_json
from avsr.score import NOTHING, Scores, espnet_table, read_texts, score
from talking3d.corpus.tts import Synthesizer
from talking3d.corpus.visemes import VOWELS, viseme_classes

# Polly's viseme: the classes of consonants and the vowels that look like it, as `viseme_classes` names them.
POLLY = {
    **{"p": "BMP", "f": "FV", "T": "TH", "t": "TDN L", "s": "SZ", "S": "SH", "k": "KG H", "r": "R"},
    **{"u": "W u ʊ ʉ y ʏ", "i": "J i ɪ ᵻ ɨ ɯ", "e": "e", "E": "ɛ ʌ ɜ œ", "a": "æ a ä ɑ ɐ", "@": "ə ɚ ɤ"},
    **{"o": "o ø ɵ", "O": "ɔ ɒ"},
}
VISEME_OF = {look: viseme for viseme, looks in POLLY.items() for look in looks.split()}


def visemes_of(phones: Iterable[str]) -> tuple[str, ...]:
    """Visemes of IPA phones: one for each consonant in them and one for each run of vowels in a phone."""
    found: list[str] = []
    for phone in phones:
        after_vowel = False
        for look in viseme_classes(phone):
            if look not in VOWELS or not after_vowel:
                found.append(VISEME_OF[look])
            after_vowel = look in VOWELS
    return tuple(found)


class VisemeLexicon:
    """Words as visemes. Each word has one pronunciation: the most frequent in the alignments of `rows`.

    Words that no alignment has are asked of espeak-ng, where it is installed. rows: of `read_manifest`; alignments
    without phones teach nothing. Phones are the same for all speakers of a corpus, so the same words are always the
    same visemes, in the reference and in what is read.
    """

    def __init__(self, rows: Iterable[Mapping], language: str = "en-us"):
        self.language = language
        heard: dict[str, Counter] = {}
        for row in rows:
            if row["alignment"] is not None:
                for word, phones in words_as_phones(read_alignment(row["alignment"])):
                    if phones:
                        heard.setdefault(normalize_text(word), Counter())[visemes_of(phones)] += 1
        # Of equally frequent ones the first by the alphabet, whatever the order of the rows.
        self._visemes = {
            word: min(counts, key=lambda visemes: (-counts[visemes], visemes)) for word, counts in heard.items()
        }

    def spell(self, text: str) -> str:
        """Visemes of `text`, normalised as for word error, with blanks between.

        IPA between slashes, which a recogniser of phones puts where they spell no word, is taken as it is.

        Raises InputError: a word without a pronunciation.
        """
        words = []
        for word in text.split():
            if re.fullmatch("/.+/", word):
                with contextlib.suppress(InputError):  # phones of another alphabet are letters like others
                    self._visemes[word] = visemes_of([word])
            words += [word] if word in self._visemes else normalize_text(word).split()
        self._pronounce({word for word in words if word not in self._visemes})
        return " ".join(viseme for word in words for viseme in self._visemes[word])

    def _pronounce(self, words: set[str]) -> None:
        if not words:
            return
        try:
            with Synthesizer() as engine:
                for word in sorted(words):
                    said = engine.synthesize(word, language=self.language)
                    self._visemes[word] = visemes_of(phone for _, _, phone in said.phones)
        except InputError as error:
            raise InputError(
                f"no pronunciation of {', '.join(map(repr, sorted(words)[:5]))} for the viseme error rate: name a "
                f"manifest with --lexicon whose alignments have its phones. By espeak-ng: {error}"
            ) from error


def viseme_score(refs: Mapping[str, str], hyps: Mapping[str, str], lexicon: VisemeLexicon) -> Scores:
    """Score texts by utt_id as visemes: the result's words are visemes, so its `wer` is the viseme error rate in %.

    Raises InputError: a word without a pronunciation, and what `score` refuses.
    """
    spelt = [{utt_id: lexicon.spell(text) for utt_id, text in texts.items()} for texts in (refs, hyps)]
    return score(*spelt, normalizer="none")


def confusion_shares(pairs: Mapping[tuple[str, str], int]) -> tuple[list[str], list[str], np.ndarray]:
    """Visemes of the references, what they were read as, and the shares (references, read) in % of a row.

    Most frequent visemes come first, in both; the last column, `NOTHING`, is what was left out. What was put in is in
    no row. pairs: of `Scores`.
    """
    seen = Counter()
    for (ref, _), times in pairs.items():
        seen[ref] += times
    visemes = sorted(seen.keys() - {NOTHING}, key=lambda viseme: (-seen[viseme], viseme))
    columns = [*visemes, *sorted({hyp for _, hyp in pairs} - {NOTHING, *visemes}), NOTHING]
    shares = [[100 * pairs.get((ref, hyp), 0) / seen[ref] for hyp in columns] for ref in visemes]
    return visemes, columns, np.array(shares)


def confusion_matrix(scores: Scores) -> str:
    """What each viseme was read as, in % of its row, in Markdown, as `confusion_shares` has it."""
    visemes, columns, shares = confusion_shares(scores.pairs)
    lines = [
        "| viseme | times | " + " | ".join(column or "left out" for column in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for ref, row in zip(visemes, shares, strict=True):
        times = sum(scores.pairs[ref, hyp] for hyp in columns)
        lines.append(f"| {ref} | {times} | " + " | ".join(f"{share:.0f}" if share else "" for share in row) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hyp")
    parser.add_argument("manifest")
    parser.add_argument("--lexicon", action="append", default=[], metavar="MANIFEST", help="its words are pronounced")
    parser.add_argument("--json", metavar="OUT", help="also write the figures and confusions there")
    args = parser.parse_args()
    rows = read_manifest(args.manifest, need=("text",), use=("alignment",))
    spoken = [row for path in args.lexicon for row in read_manifest(path, need=(), use=("alignment",))]
    refs = {row["utt_id"]: row["text"] for row in rows}
    scores = viseme_score(refs, read_texts(args.hyp), VisemeLexicon([*rows, *spoken]))
    print(f"{espnet_table({'visemes': scores})}\n{confusion_matrix(scores)}")
    if args.json is not None:
        write_json(args.json, {"viseme": scores.as_dict()["word"], "confusions": scores.confusions()})


if __name__ == "__main__":
    sys.exit(exit_status(main))
