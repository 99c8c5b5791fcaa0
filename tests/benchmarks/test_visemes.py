"""Viseme error by hand-worked values: the map, the lexicon of alignments, words that it lacks."""

import json

import pytest

from avsr.data.alignment import words_as_phones, write_alignment
from avsr.data.manifest import write_manifest
from avsr.errors import InputError
from benchmarks import visemes
from benchmarks.visemes import VISEME_OF, VisemeLexicon, confusion_matrix, viseme_score, visemes_of
from talking3d.corpus.tts import Synthesizer
from talking3d.corpus.visemes import CONSONANTS, VOWELS


@pytest.fixture
def rows(tmp_path):
    """Three utterances; "at" is said with a flap twice and with an unrounded vowel once."""
    spoken = (
        [("bin", "b ɪ n"), ("at", "æ ɾ")],
        [("pin", "p ɪ n"), ("at", "æ ɾ"), ("five", "f aɪ v")],
        [("at", "ɔ t"), ("with", "w ɪ ð"), ("four", "f ɔːɹ"), ("fan", "f æ n")],
    )
    found = []
    for i, utterance in enumerate(spoken):
        words, phones, now_s = [], [], 0.0
        for word, ipa in utterance:
            begin_s = now_s
            for phone in ipa.split():
                phones.append((now_s, now_s + 0.1, phone))
                now_s += 0.1
            words.append((begin_s, now_s, word))
            now_s += 0.05
        write_alignment(tmp_path / f"{i}.json", words, phones)
        found.append({"utt_id": str(i), "alignment": tmp_path / f"{i}.json"})
    return [*found, {"utt_id": "none", "alignment": None}]


@pytest.fixture
def no_engine(monkeypatch):
    def missing():
        raise InputError("speech synthesis needs espeak-ng")

    monkeypatch.setattr(visemes, "Synthesizer", missing)


def test_every_look_of_a_phone_has_a_viseme():
    assert set(VISEME_OF) == set(CONSONANTS) | set(VOWELS)


@pytest.mark.parametrize(
    "phones, expected",
    [
        ("p b m", "p p p"),
        ("t d n l ɾ", "t t t t t"),
        ("tʃ dʒ ʒ", "S S S"),
        ("ˈaɪ eɪ oʊ ɔɪ aʊ", "a e o O a"),  # a diphthong is its first vowel
        ("ɔːɹ ɑːɹ ɛɹ", "O r a r E r"),  # vowel and r under one name
        ("əl n̩ iə", "@ t t i"),
        ("w ɪ ð", "u i T"),
        ("j uː", "i u"),
        ("i ɪ", "i i"),  # of two phones: two
    ],
)
def test_phones_look_as_in_pollys_table(phones, expected):
    assert " ".join(visemes_of(phones.split())) == expected


def test_phones_belong_to_the_word_around_their_middle():
    alignment = {"words": [(0.0, 0.2, "a"), (0.21, 0.4, "be")], "phones": [(0.0, 0.22, "ɐ"), (0.22, 0.4, "b")]}
    assert words_as_phones(alignment) == [("a", ("ɐ",)), ("be", ("b",))]
    assert words_as_phones({"words": [(0.0, 0.2, "a")]}) == [("a", ())]


def test_a_word_has_its_most_frequent_pronunciation(rows, no_engine):
    lexicon = VisemeLexicon(rows)
    assert lexicon.spell("Bin at FIVE, four!") == "p i t a t f a f f O r"
    assert VisemeLexicon(reversed(rows)).spell("at") == "a t"
    # said once each way: the first by the alphabet, in either order
    once = [rows[0], rows[2]]
    assert VisemeLexicon(once).spell("at") == VisemeLexicon(once[::-1]).spell("at") == "O t"


def test_phones_that_spell_no_word_are_taken_as_they_are(rows, no_engine):
    assert VisemeLexicon(rows).spell("bin /fʌp/ at") == "p i t f E p a t"
    with pytest.raises(InputError, match="no pronunciation of 'b1hn'"):  # no IPA: as a word
        VisemeLexicon(rows).spell("bin /B1HN/")


def test_viseme_error_counts_what_can_be_seen(rows, no_engine):
    lexicon = VisemeLexicon(rows)
    # 3 + 3 visemes; "pin" for "bin" looks the same
    same = viseme_score({"u": "bin five"}, {"u": "pin five"}, lexicon)
    assert same.wer == 0 and same.word.units == 6
    # p i t -> f a t: 2 substitutions of 3; "at" left out: 2 deletions of 5 in another utterance
    scores = viseme_score({"u": "bin", "v": "five at"}, {"u": "fan", "v": "five"}, lexicon)
    assert scores.word_errors.tolist() == [2, 2] and scores.word_counts.tolist() == [3, 5]
    assert scores.wer == pytest.approx(50.0)
    assert viseme_score({"u": "bin"}, {"u": ""}, lexicon).wer == 100


def test_a_word_without_pronunciation_is_named(rows, no_engine):
    with pytest.raises(InputError, match="no pronunciation of 'green' for the viseme error rate: name a manifest with"):
        VisemeLexicon(rows).spell("bin green")


def test_espeak_pronounces_what_the_alignments_lack(rows):
    try:
        Synthesizer().close()
    except InputError as error:
        pytest.skip(str(error))
    lexicon = VisemeLexicon(rows)
    assert lexicon.spell("bin ship") == "p i t S i p"
    assert lexicon.spell("ship") == "S i p"
    with pytest.raises(InputError, match="no pronunciation of 'ship' .* By espeak-ng: .*xx"):
        VisemeLexicon(rows, language="xx").spell("ship")


def test_the_matrix_has_each_visemes_shares(rows, no_engine):
    # p i t twice and f a f: "pin" is left out once, and read as "fan" once
    scores = viseme_score({"u": "pin bin five", "v": "pin"}, {"u": "bin five", "v": "fan"}, VisemeLexicon(rows))
    lines = confusion_matrix(scores).splitlines()
    assert lines[0] == "| viseme | times | i | p | t | f | a | left out |"
    table = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in (li.split("|") for li in lines[2:])}
    assert table["p"] == ["3", "", "33", "", "33", "", "33"] and table["i"] == ["3", "33", "", "", "", "33", "33"]
    assert table["f"] == ["2", "", "", "", "100", "", ""]


def test_the_command_reads_hypotheses_of_a_manifest(rows, tmp_path, monkeypatch, capsys):
    spoken = [{"utt_id": "0", "text": "bin at", "alignment": str(rows[0]["alignment"])}]
    write_manifest(tmp_path / "m.jsonl", spoken)
    write_manifest(tmp_path / "l.jsonl", [{**row, "alignment": row["alignment"]} for row in rows[:3]])
    (tmp_path / "hyp.jsonl").write_text(json.dumps({"utt_id": "0", "text": "pin five"}))
    paths = [str(tmp_path / name) for name in ("hyp.jsonl", "m.jsonl")]
    options = ["--lexicon", str(tmp_path / "l.jsonl"), "--json", str(tmp_path / "out.json")]
    monkeypatch.setattr("sys.argv", ["visemes", *paths, *options])
    visemes.main()
    assert "|visemes|1|5|" in capsys.readouterr().out
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["viseme"]["units"] == 5 and sum(times for *_, times in out["confusions"]) == 2
