"""Pronouncing dictionaries, in Kaldi's form and in CMUdict's."""

import pytest

from avsr.data.pronunciations import read_pronunciations, spread_phones, write_pronunciations
from avsr.errors import InputError


def test_kaldis_form_comes_back_as_it_was_written(tmp_path):
    spoken = {"the": [("ð", "ə"), ("ð", "iː")], "bin": [("b", "ɪ", "n")]}
    write_pronunciations(tmp_path / "lexicon.txt", spoken)
    assert (tmp_path / "lexicon.txt").read_text(encoding="utf-8") == "bin b ɪ n\nthe ð ə\nthe ð iː\n"
    assert read_pronunciations(tmp_path / "lexicon.txt") == spoken


def test_cmudicts_variants_and_comments(tmp_path):
    path = tmp_path / "cmudict"
    entries = [";;; comment", "THE  DH AH0", "THE(2)  DH IY0", "THE(3)  DH AH0", "", "DON’T  D OW1 N T"]
    entries += ["(PAREN  P ER EH N", "!EXCLAMATION-POINT  EH K S", "D'ART  D AA R T # foreign french", "# a comment"]
    path.write_text("\n".join(entries), encoding="utf-8-sig")
    assert read_pronunciations(path) == {
        "the": [("DH", "AH0"), ("DH", "IY0")],
        "don't": [("D", "OW1", "N", "T")],
        "paren": [("P", "ER", "EH", "N")],
        "d'art": [("D", "AA", "R", "T")],
    }


def test_what_is_no_dictionary_is_refused(tmp_path):
    path = tmp_path / "lexicon.txt"
    with pytest.raises(InputError, match="no such pronouncing dictionary"):
        read_pronunciations(path)
    path.write_bytes("café k".encode("latin-1"))
    with pytest.raises(InputError, match="lexicon.txt: not UTF-8"):
        read_pronunciations(path)
    path.write_text("\n")
    with pytest.raises(InputError, match="lexicon.txt: a pronouncing dictionary without words"):
        read_pronunciations(path)
    for line in ("the", "the ▁d a"):
        path.write_text(f"bin b i n\n{line}\n")
        with pytest.raises(InputError, match=f"lexicon.txt, line 2: expected a word and its phones.*found {line!r}"):
            read_pronunciations(path)


def test_phones_are_spread_over_their_word_and_vowels_are_longer():
    spoken = {"bin": [("b", "ɪ", "n"), ("x",)], "SO": [("S", "OW1")]}
    phones = spread_phones([(1.0, 1.7, "bin"), (2.0, 2.5, "SO")], spoken)
    times = [(1.0, 1.2), (1.2, 1.5), (1.5, 1.7), (2.0, 2.2), (2.2, 2.5)]
    assert [label for *_, label in phones] == ["b", "ɪ", "n", "S", "OW1"]
    assert [edge for *interval, _ in phones for edge in interval] == pytest.approx(
        [edge for pair in times for edge in pair]
    )
    with pytest.raises(InputError, match="no pronunciation of 'red': add it"):
        spread_phones([(0.0, 1.0, "red")], spoken)
