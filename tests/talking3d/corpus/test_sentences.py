import numpy as np

from talking3d.corpus.sentences import (
    GRID_SLOTS,
    distinct_sentences,
    grid_sentence,
    open_sentence,
    open_vocabulary,
    spoken_grid,
)

# General American; espeak-ng's ɚ, ᵻ and ɾ are its reduced forms
CONSONANTS = {"p", "b", "t", "d", "k", "ɡ", "tʃ", "dʒ", "f", "v", "θ", "ð", "s", "z", "ʃ", "ʒ", "h"}
CONSONANTS |= {"m", "n", "ŋ", "l", "ɹ", "w", "j"}
VOWELS = {"iː", "ɪ", "eɪ", "ɛ", "æ", "ɑː", "ɔː", "oʊ", "ʊ", "uː", "ʌ", "ɜː", "ə", "aɪ", "aʊ", "ɔɪ"}


def test_grid_has_its_51_words():
    words = [word for slot in GRID_SLOTS for word in slot]
    assert len(words) == len(set(words)) == 51
    assert "w" not in words and len(GRID_SLOTS[3]) == 25
    sentence = grid_sentence(np.random.default_rng(0))
    assert all(word in slot for word, slot in zip(sentence, GRID_SLOTS, strict=True))


def test_only_the_letter_a_is_spelled_out():
    assert spoken_grid(("bin", "red", "at", "a", "one", "now")) == "bin red at [['eI]] one now"
    assert spoken_grid(("bin", "red", "at", "i", "one", "now")) == "bin red at i one now"


def test_sentences_are_never_repeated():
    rng = np.random.default_rng(0)
    taken = {("zero",), ("one",)}
    drawn = distinct_sentences(lambda i: (("zero",), ("one",), ("two",), (f"n{i}",))[rng.integers(4)], 6, taken)
    assert len(drawn) == len(set(drawn)) == 6
    assert not {("zero",), ("one",)} & set(drawn) and set(drawn) < taken


def test_open_sentences_are_short_and_plain():
    rng = np.random.default_rng(0)
    for i in range(600):
        words = open_sentence(rng, held_out=i % 2 == 0)
        assert 4 <= len(words) <= 11, words
        assert all(word.isalpha() and word.islower() for word in words), words


def test_held_out_words_are_said_in_the_test_set_only():
    known, held_out = open_vocabulary()
    assert len(known) > 300 and len(held_out) >= 30 and not known & held_out
    rng = np.random.default_rng(0)
    tested = set()
    for _ in range(800):
        assert set(open_sentence(rng)) <= known
        new = set(open_sentence(rng, held_out=True)) & held_out
        assert new
        tested |= new
    assert tested == held_out


def test_the_open_vocabulary_has_all_sounds_of_english(synthesizer):
    known, held_out = open_vocabulary()
    for words, allowed_missing in ((sorted(known), set()), (sorted(held_out), {"ʒ", "ɔɪ", "ð", "ʊ", "ŋ"})):
        sounds = set()
        for i in range(0, len(words), 30):
            sounds |= {p.strip("ˈˌ") for _, _, p in synthesizer.synthesize(" ".join(words[i : i + 30])).phones}
        assert (CONSONANTS | VOWELS) - sounds <= allowed_missing
