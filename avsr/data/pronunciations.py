"""Pronouncing dictionaries: Kaldi's `lexicon.txt` and CMUdict's form of it, one pronunciation a line.

bin  b ɪ n
the  ð ə
the  ð iː
"""

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np

from avsr.data.alignment import Interval
from avsr.data.text import Pronunciations, normalize_text
from avsr.errors import InputError
from avsr.files import write_text

VOWELS = frozenset("aeiouyæøœɐɑɒɔɘəɚɛɜɝɞɤɨɪɯɵɶʉʊʌʏᵻAEIOU")  # that a vowel's label begins with: IPA, ARPAbet
VOWEL_LENGTH = 1.5  # of a consonant; on the embedded corpus phones' borders are 21 ms off so, 27 ms with equal lengths


def read_pronunciations(path: str | Path) -> Pronunciations:
    """Read a dictionary.

    Words are normalised as texts are; those that are not one word then are left out. Of CMUdict the numbers of variants
    (`THE(2)`) and comments (`;;;`, ` # …`) go.

    Raises InputError: no such file, no UTF-8, no words, a line without phones, or a phone that begins with ▁ (a mark of
    ours).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such pronouncing dictionary; expected a text file, `word phone phone ...` a line")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error}); convert the pronouncing dictionary") from error
    found: Pronunciations = {}
    for number, line in enumerate(lines, start=1):
        said = re.sub(r"(^|\s)#.*|^;;;.*", "", line).split()
        if not said:
            continue
        word, *phones = said
        if not phones or any(phone.startswith("▁") for phone in phones):
            raise InputError(f"{path}, line {number}: expected a word and its phones, none with ▁, found {line!r}")
        word = normalize_text(re.sub(r"\(\d+\)$", "", word))
        if not word or " " in word:  # CMUdict says punctuation too
            continue
        variants = found.setdefault(word, [])
        if tuple(phones) not in variants:
            variants.append(tuple(phones))
    if not found:
        raise InputError(f"{path}: a pronouncing dictionary without words")
    return found


def write_pronunciations(path: str | Path, pronunciations: Pronunciations) -> None:
    """Write a dictionary, whole or not at all, words in the order of the alphabet."""
    lines = [" ".join((word, *phones)) for word in sorted(pronunciations) for phones in pronunciations[word]]
    write_text(path, "\n".join([*lines, ""]))


def spread_phones(words: Iterable[Interval], pronunciations: Pronunciations) -> list[Interval]:
    """Intervals of phones for an alignment that has words only: each word's first pronunciation, spread over it.

    Raises InputError: a word without a pronunciation.
    """
    phones = []
    for start_s, end_s, word in words:
        if word not in pronunciations:
            raise InputError(f"no pronunciation of {word!r}: add it to the pronouncing dictionary")
        spoken = pronunciations[word][0]
        lengths = [VOWEL_LENGTH if phone[0] in VOWELS else 1.0 for phone in spoken]
        edges = start_s + (end_s - start_s) * np.cumsum([0.0, *lengths]) / sum(lengths)
        phones += [(*edge, phone) for edge, phone in zip(pairwise(edges.round(4).tolist()), spoken, strict=True)]
    return phones
