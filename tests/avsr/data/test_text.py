"""avsr.data.text: round trips, ESPnet's ids, determinism, and characters outside the tokenizer."""

import pytest

from avsr.data.text import load_tokenizer, normalize_text, train_tokenizer
from avsr.errors import InputError

TEXTS = [
    f"{verb} {colour} at {letter} {digit} {adverb}"
    for verb in ("bin", "lay", "place", "set")
    for colour in ("blue", "green", "red", "white")
    for letter, digit, adverb in (("f", "two", "please"), ("q", "nine", "again"), ("i'll", "zero", "soon"))
]
SPOKEN = {word: [tuple(word), ("x", *word)] for text in TEXTS for word in text.split()}
KINDS = [("char", None), ("word", None), ("phone", None, SPOKEN), ("unigram", 32), ("bpe", 40)]


@pytest.fixture(scope="module", params=KINDS, ids=lambda p: p[0])
def tokenizer(request):
    return train_tokenizer(TEXTS, *request.param)


def test_decode_undoes_encode(tokenizer):
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert min(ids) > 1 and max(ids) < len(tokenizer) - 1


def test_ids_are_espnets(tokenizer):
    assert tokenizer.tokens[:2] == ["<blank>", "<unk>"] and tokenizer.tokens[-1] == "<sos/eos>"
    assert len(tokenizer) == len(tokenizer.tokens) == len(set(tokenizer.tokens))
    ids = tokenizer.encode(TEXTS[0])
    assert tokenizer.decode([0, *ids, len(tokenizer) - 1, 0]) == TEXTS[0]


def test_one_file_keeps_everything(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.model"
    tokenizer.save(path)
    again = load_tokenizer(path)
    assert (again.kind, again.tokens) == (tokenizer.kind, tokenizer.tokens)
    assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]
    again.save(tmp_path / "copy.model")
    assert (tmp_path / "copy.model").read_bytes() == path.read_bytes()


def test_unseen_is_an_error_that_names_it(tokenizer):
    what = (
        "words without a pronunciation: 'X'"
        if tokenizer.kind == "phone"
        else r"outside the tokenizer: .*'.*X.*' in 'bin X'"
    )
    with pytest.raises(InputError, match=what):
        tokenizer.encode("bin X")


@pytest.mark.parametrize("text", ["", "  "])
def test_empty_transcripts_are_errors(tokenizer, text):
    with pytest.raises(InputError, match="the transcript is empty"):
        tokenizer.encode(text)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_training_pieces_is_deterministic_quiet_and_counts_all_tokens(kind, tmp_path, capfd):
    for name in ("a", "b"):
        train_tokenizer(iter(TEXTS), kind, 32).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert len(load_tokenizer(tmp_path / "a")) == 32
    assert capfd.readouterr() == ("", "")


def test_pieces_agree_with_sentencepieces_own_command_line_form(tmp_path):
    """The file is sentencepiece's: its own processor opens it and cuts text alike."""
    from sentencepiece import SentencePieceProcessor

    tokenizer = train_tokenizer(TEXTS, "unigram", 32)
    tokenizer.save(tmp_path / "tokenizer.model")
    pieces = SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model")).encode(TEXTS[5], out_type=str)
    assert [tokenizer.tokens[i] for i in tokenizer.encode(TEXTS[5])] == pieces


def test_characters_spell_blanks_as_espnet_does():
    tokenizer = train_tokenizer(["a b"], "char")
    assert tokenizer.tokens == ["<blank>", "<unk>", "<space>", "a", "b", "<sos/eos>"]
    assert tokenizer.encode(" a  b ") == [3, 2, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TEXTS, "syllable"), "kind 'syllable': expected one of char, word, phone, unigram, bpe"),
        (([" "], "char"), "every transcript is empty"),
        ((TEXTS, "char", 30), "leave vocab_size out"),
        ((TEXTS, "bpe"), "needs vocab_size"),
        ((TEXTS, "bpe", 100_000), "bpe tokenizer of 100000 tokens can't be made .* must be at most 136"),
        ((TEXTS, "unigram", 5), "unigram tokenizer of 5 tokens can't be made .* must be at least 26"),
        ((TEXTS, "unigram", 1), "unigram tokenizer of 1 tokens can't be made"),
    ],
)
def test_what_cannot_be_trained(arguments, message):
    with pytest.raises(InputError, match=message):
        train_tokenizer(*arguments)


@pytest.mark.parametrize("content", [b"{}", b"{", b"\x00\x01garbage", b"", b'{"kind": "char", "tokens": ["a", "b"]}'])
def test_files_that_are_no_tokenizer(tmp_path, content):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"tokenizer\.model: "):
        load_tokenizer(path)


def test_missing_tokenizer(tmp_path):
    with pytest.raises(InputError, match="no such tokenizer"):
        load_tokenizer(tmp_path / "none.model")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Bin  BLUE, at F-two: NOW!", "bin blue at f two now"),
        ("Don’t  'quote' rock 'n' roll", "don't quote rock n roll"),
        ("  ", ""),
        ("Cafe\u0301 №5 ÉTÉ", "café 5 été"),
    ],
)
def test_normalize_text(text, expected):
    assert normalize_text(text) == expected
    assert normalize_text(expected) == expected


def test_phones_mark_where_a_word_begins_and_come_back_as_words():
    spoken = {"no": [("n", "oʊ")], "know": [("n", "oʊ")], "the": [("ð", "ə"), ("ð", "i")]}
    tokenizer = train_tokenizer(["the know no"], "phone", pronunciations=spoken)
    assert tokenizer.tokens[2:-1] == ["i", "oʊ", "ə", "▁n", "▁ð"]
    assert [tokenizer.tokens[token] for token in tokenizer.encode("the know")] == ["▁ð", "ə", "▁n", "oʊ"]
    assert tokenizer.spellings("the") == [[6, 4], [6, 2]]
    assert tokenizer.decode([6, 2, 5, 3]) == "the know"  # of those that sound alike and are as common the first
    assert train_tokenizer(["no"], "phone", pronunciations=spoken).decode([5, 3]) == "no"  # the commonest
    assert tokenizer.decode([2, 5, 4, 6, 2]) == "/i/ /nə/ the"  # what no word sounds like
    assert tokenizer.word_spans([2, 5, 4, 6, 2]) == [range(0, 1), range(1, 3), range(3, 5)]


def test_a_dictionary_is_for_phones_and_has_all_words():
    with pytest.raises(InputError, match="a phone tokenizer needs a pron.*--lexicon.*got kind phone, no"):
        train_tokenizer(TEXTS, "phone")
    with pytest.raises(InputError, match="no other has one: got kind word, a dictionary"):
        train_tokenizer(TEXTS, "word", pronunciations=SPOKEN)
    with pytest.raises(InputError, match="words without a pronunciation: 'sun'; .*add them to the dict"):
        train_tokenizer([*TEXTS, "sun"], "phone", pronunciations=SPOKEN)


def test_a_phone_tokenizer_without_pronunciations_is_refused(tmp_path):
    path = tmp_path / "tokenizer.model"
    path.write_text('{"kind": "phone", "tokens": ["<blank>", "<unk>", "▁a", "<sos/eos>"]}')
    with pytest.raises(InputError, match="tokenizer.model: a tokenizer of phones has pronunciations"):
        load_tokenizer(path)


@pytest.mark.parametrize("spoken", ['["a"]', '{"a": []}', '{"a": [[]]}', '{"a": [["b"]]}', '{"a": 1}'])
def test_pronunciations_that_do_not_fit_are_refused(spoken, tmp_path):
    path = tmp_path / "tokenizer.model"
    tokens = '["<blank>", "<unk>", "▁a", "<sos/eos>"]'
    path.write_text(f'{{"kind": "phone", "tokens": {tokens}, "pronunciations": {spoken}}}')
    with pytest.raises(InputError, match="tokenizer.model: expected pronunciations .word: .* of its tokens"):
        load_tokenizer(path)
