"""Pronouncing dictionaries, in Kaldi's form and in CMUdict's."""

import pytest

from avsr.data.pronunciations import read_pronunciations, write_pronunciations
from avsr.errors import InputError


def test_kaldis_form_comes_back_as_it_was_written(tmp_path):
    spoken = {"the": [("ð", "ə"), ("ð", "iː")], "bin": [("b", "ɪ", "n")]}
    write_pronunciations(tmp_path / "lexicon.txt", spoken)
    assert (tmp_path / "lexicon.txt").read_text(encoding="utf-8") == "bin b ɪ n\nthe ð ə\nthe ð iː\n"
    assert read_pronunciations(tmp_path / "lexicon.txt") == spoken


def test_cmudicts_variants_and_comments(tmp_path):
    path = tmp_path / "cmudict"
    path.write_text(";;; comment\nTHE  DH AH0\nTHE(2)  DH IY0\nTHE(3)  DH AH0\n\n'BOUT  B AW1 T\n")
    assert read_pronunciations(path) == {"the": [("DH", "AH0"), ("DH", "IY0")], "'bout": [("B", "AW1", "T")]}


def test_what_is_no_dictionary_is_refused(tmp_path):
    path = tmp_path / "lexicon.txt"
    with pytest.raises(InputError, match="no such pronouncing dictionary"):
        read_pronunciations(path)
    path.write_text("\n")
    with pytest.raises(InputError, match="lexicon.txt: a pronouncing dictionary without words"):
        read_pronunciations(path)
    for line in ("the", "the ▁d a"):
        path.write_text(f"bin b i n\n{line}\n")
        with pytest.raises(InputError, match=f"lexicon.txt, line 2: expected a word and its phones.*found {line!r}"):
            read_pronunciations(path)
