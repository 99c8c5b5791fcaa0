"""Text to token ids and back: characters, words, phones of a dictionary, or sentencepiece's unigram and BPE pieces.

Ids follow ESPnet's token lists: 0 is <blank>, 1 is <unk>, the last is <sos/eos>. A tokenizer is one file,
`tokenizer.model`: JSON for characters, words and phones, sentencepiece's own model for pieces.
"""

import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from avsr.errors import InputError
from avsr.files import atomic_path

BLANK, UNK, SOS_EOS = "<blank>", "<unk>", "<sos/eos>"
SPACE = "<space>"  # the token of a blank between words, among characters
BEGIN = "▁"  # before the first piece or phone of a word
Pronunciations = dict[str, list[tuple[str, ...]]]  # of each word one or more, each of at least one phone
KINDS = ("char", "word", "phone", "unigram", "bpe")


def normalize_text(text: str) -> str:
    """Lower case, no punctuation but the apostrophe inside a word, single spaces (NFC)."""
    text = unicodedata.normalize("NFC", text).lower().replace("’", "'")
    text = "".join(c if c == "'" or unicodedata.category(c)[0] in "LNM" else " " for c in text)
    return " ".join(re.sub(r"(?<!\w)'|'(?!\w)", " ", text).split())


class Tokenizer:
    """Token ids of text; made by `train_tokenizer` or `load_tokenizer`.

    Args:
        kind: "char", "word", "phone", "unigram" or "bpe".
        units: the units that text is split into, in the order of their ids, without the three special tokens.
        model: sentencepiece's serialised model, for "unigram" and "bpe".
        pronunciations: of every word that can be encoded, for "phone"; a word is encoded by its first one.

    Attributes:
        tokens: every token, by id; `len(tokenizer)` of them.
    """

    def __init__(
        self,
        kind: str,
        units: list[str],
        model: bytes | None = None,
        pronunciations: Pronunciations | None = None,
    ) -> None:
        self.kind = kind
        self.tokens = [BLANK, UNK, *units, SOS_EOS]
        self._ids = {unit: number for number, unit in enumerate(units, start=2)}
        self._model = model
        self._pronunciations = pronunciations
        self._said: dict[tuple[str, ...], str] = {}  # words by their phones; of those that sound alike the first
        for variant in (slice(0, 1), slice(1, None)):  # but what a word sounds like mostly comes before
            for word, spoken in (pronunciations or {}).items():
                for phones in spoken[variant]:
                    self._said.setdefault(phones, word)
        self._pieces = None
        if model is not None:
            from sentencepiece import SentencePieceProcessor

            self._pieces = SentencePieceProcessor(model_proto=model)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def space(self) -> int | None:
        """The token of a blank between words; None where words are told apart without one."""
        return self._ids.get(SPACE) if self.kind == "char" else None

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without <sos/eos>.

        Raises:
            InputError: empty text, or a character or word that the tokenizer has never seen or cannot pronounce.
        """
        units = self._split(text)
        if not units:
            raise InputError("the transcript is empty; expected at least one word.")
        unknown = sorted({unit for unit in units if unit not in self._ids})
        if unknown:
            what = "words" if self.kind == "word" else "characters"
            raise InputError(
                f"{what} outside the tokenizer: {', '.join(map(repr, unknown))} in {text!r}; normalise the text "
                "as that of training, or train the tokenizer on text that has them."
            )
        return [self._ids[unit] for unit in units]

    def spellings(self, word: str) -> list[list[int]]:
        """The ids of each way to spell or, by phones, to pronounce a word. Raises InputError as `encode` does."""
        if self.kind != "phone" or word not in self._pronunciations:
            return [self.encode(word)]
        return [[self._ids[unit] for unit in _begun(phones)] for phones in self._pronunciations[word]]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids; <blank> and <sos/eos> are left out.

        Phones that no word of the dictionary has stand between slashes; of words that sound alike the first is taken.
        """
        silent = (0, len(self.tokens) - 1)
        units = [self.tokens[i] for i in map(int, ids) if i not in silent]
        if self._pieces is not None:
            return "".join(units).replace(BEGIN, " ").strip()
        if self.kind == "phone":
            return " ".join(self._word(tuple(phones.split())) for phones in " ".join(units).split(BEGIN) if phones)
        if self.kind == "char":
            return "".join(units).replace(SPACE, " ").strip()
        return " ".join(units)

    def word_spans(self, ids: Sequence[int]) -> list[range]:
        """Positions in `ids` of the tokens of each word of `decode(ids)`; `ids` without <blank> and <sos/eos>."""
        spans, begins = [], 0
        for position in range(1, len(ids) + 1):
            if position == len(ids) or self._ends_word(ids[position - 1], ids[position]):
                span = range(begins, position)
                if self.decode(ids[begins:position]):  # else a blank between words
                    spans.append(span)
                begins = position
        return spans

    def _word(self, phones: tuple[str, ...]) -> str:
        return self._said.get(phones, f"/{''.join(phones)}/")

    def _ends_word(self, token: int, following: int) -> bool:
        if self.kind in ("phone", "unigram", "bpe"):
            return self.tokens[following].startswith(BEGIN) and self.tokens[token] != BEGIN
        return self.kind == "word" or SPACE in (self.tokens[token], self.tokens[following])

    def save(self, path: str | Path) -> None:
        """Write the tokenizer to one file, whole or not at all."""
        content = self._model
        if content is None:
            listed = {"kind": self.kind, "tokens": self.tokens}
            if self._pronunciations is not None:
                listed["pronunciations"] = self._pronunciations
            content = (json.dumps(listed, ensure_ascii=False, indent=1) + "\n").encode()
        with atomic_path(path) as partial:
            partial.write_bytes(content)

    def _split(self, text: str) -> list[str]:
        if self._pieces is not None:
            return self._pieces.encode(text, out_type=str)
        if self.kind == "phone":
            words = text.split()
            unknown = sorted({word for word in words if word not in self._pronunciations})
            if unknown:
                raise InputError(
                    f"words without a pronunciation: {', '.join(map(repr, unknown))}; normalise the text as that of "
                    "training, or add them to the dictionary and make the tokenizer again."
                )
            return [unit for word in words for unit in _begun(self._pronunciations[word][0])]
        return _split(text, self.kind)


def train_tokenizer(
    texts: Iterable[str],
    kind: str,
    vocab_size: int | None = None,
    pronunciations: Pronunciations | None = None,
) -> Tokenizer:
    """Make a tokenizer of the training transcripts; the same texts give the same tokenizer, byte for byte.

    Args:
        texts: transcripts, normalised as they will be used.
        kind: "char" or "word" (all that occur), "phone" (all of the dictionary), "unigram" (Kudo 2018) or "bpe"
            (Sennrich et al. 2016), both by sentencepiece.
        vocab_size: number of tokens, the three special ones included; for "unigram" and "bpe" only.
        pronunciations: a dictionary that has all words of the texts, and perhaps more; for "phone" only.

    Raises:
        InputError: unknown kind, no text, a vocab_size or a dictionary that is missing or out of place, a vocab_size
            that can't be reached, or a word without a pronunciation.
    """
    if kind not in KINDS:
        raise InputError(f"tokenizer kind {kind!r}: expected one of {', '.join(KINDS)}.")
    texts = [" ".join(text.split()) for text in texts]
    texts = [text for text in texts if text]
    if not texts:
        raise InputError("no text to train a tokenizer on: every transcript is empty.")
    if (kind == "phone") != (pronunciations is not None):
        raise InputError(
            "a phone tokenizer needs a pronouncing dictionary (--lexicon), and no other has one: "
            f"got kind {kind}, {'a' if pronunciations is not None else 'no'} dictionary."
        )
    if kind in ("char", "word", "phone"):
        if vocab_size is not None:
            where = "dictionary" if kind == "phone" else "text"
            raise InputError(f"a {kind} tokenizer takes every {kind} of the {where}: leave vocab_size out.")
        if pronunciations is not None:
            units = {unit for spoken in pronunciations.values() for phones in spoken for unit in _begun(phones)}
            times = Counter(word for text in texts for word in text.split())  # of those that sound alike the commonest
            words = sorted(pronunciations, key=lambda word: (-times[word], word))
            tokenizer = Tokenizer(kind, sorted(units), pronunciations={word: pronunciations[word] for word in words})
            tokenizer.encode(" ".join(texts))  # every word has a pronunciation
            return tokenizer
        return Tokenizer(kind, sorted({unit for text in texts for unit in _split(text, kind)}))
    if vocab_size is None:
        raise InputError(f"a {kind} tokenizer needs vocab_size, the number of its tokens.")
    return _piece_tokenizer(_train_pieces(texts, kind, vocab_size))


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read a tokenizer file of either form.

    Raises:
        InputError: missing file, or a file that is neither of the two.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such tokenizer; train one on the training manifest first.")
    content = path.read_bytes()
    try:
        if not content.startswith(b"{"):
            return _piece_tokenizer(content)
        listed = json.loads(content)
        kind, tokens, spoken = listed["kind"], listed["tokens"], listed.get("pronunciations")
    except (ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{path}: neither a JSON token list nor a sentencepiece model ({error}).") from error
    if kind not in ("char", "word", "phone") or tokens[:2] != [BLANK, UNK] or tokens[-1] != SOS_EOS:
        raise InputError(f"{path}: expected kind char, word or phone and tokens {BLANK}, {UNK}, ..., {SOS_EOS}.")
    if (kind == "phone") != (spoken is not None):
        raise InputError(f"{path}: a tokenizer of phones has pronunciations, and no other has.")
    if spoken is None:
        return Tokenizer(kind, tokens[2:-1])
    try:
        spoken = {word: [tuple(phones) for phones in each] for word, each in spoken.items()}
        tokenizer = Tokenizer(kind, tokens[2:-1], pronunciations=spoken)
        for word in spoken:
            tokenizer.spellings(word)
            tokenizer.encode(word)
    except (AttributeError, TypeError, IndexError, KeyError, InputError) as error:
        raise InputError(f"{path}: expected pronunciations {{word: [[phone, ...], ...]}} of its tokens.") from error
    return tokenizer


def _begun(phones: Sequence[str]) -> list[str]:
    """A word's phones as units: the first is marked."""
    return [BEGIN + phones[0], *phones[1:]]


def _split(text: str, kind: str) -> list[str]:
    words = text.split()
    if kind == "word":
        return words
    return [SPACE if letter == " " else letter for letter in " ".join(words)]


def _train_pieces(texts: list[str], kind: str, vocab_size: int) -> bytes:
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type=kind,
            vocab_size=vocab_size - 2,  # sentencepiece counts <unk>; <blank> and <sos/eos> are ours
            character_coverage=1.0,
            normalization_rule_name="identity",
            bos_id=-1,
            eos_id=-1,
            unk_id=0,
            num_threads=1,  # sums in another order would move the scores
            max_sentence_length=1 << 20,  # bytes; longer texts would be dropped
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error)
        limit = re.search(r"(<=|vs) (\d+)", reason)  # "... to a value <= 32", "required_chars. 3 vs 24"
        if limit is not None:
            reason = f"vocab_size must be at {'most' if limit[1] == '<=' else 'least'} {int(limit[2]) + 2}."
        raise InputError(f"a {kind} tokenizer of {vocab_size} tokens can't be made of this text: {reason}") from error
    return model.getvalue()


def _piece_tokenizer(model: bytes) -> Tokenizer:
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(model)
    except DecodeError as error:
        raise ValueError("not a sentencepiece model") from error
    kind = {1: "unigram", 2: "bpe"}.get(proto.trainer_spec.model_type)
    normal = [piece.piece for piece in proto.pieces if piece.type not in (2, 3)]  # 2 unknown, 3 control
    if kind is None or not normal:
        raise ValueError("not a sentencepiece model of unigram or BPE pieces")
    return Tokenizer(kind, normal, model)
