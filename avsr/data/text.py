"""Text to token ids and back: characters, words, or sentencepiece's unigram and BPE pieces.

Ids follow ESPnet's token lists: 0 is <blank>, 1 is <unk>, the last is <sos/eos>. A tokenizer is one file,
`tokenizer.model`: JSON for characters and words, sentencepiece's own model for pieces.
"""

import io
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from avsr.errors import InputError
from avsr.files import atomic_path

BLANK, UNK, SOS_EOS = "<blank>", "<unk>", "<sos/eos>"
SPACE = "<space>"  # the token of a blank between words, among characters
KINDS = ("char", "word", "unigram", "bpe")


def normalize_text(text: str) -> str:
    """Lower case, no punctuation but the apostrophe inside a word, single spaces (NFC)."""
    text = unicodedata.normalize("NFC", text).lower().replace("’", "'")
    text = "".join(c if c == "'" or unicodedata.category(c)[0] in "LNM" else " " for c in text)
    return " ".join(re.sub(r"(?<!\w)'|'(?!\w)", " ", text).split())


class Tokenizer:
    """Token ids of text; made by `train_tokenizer` or `load_tokenizer`.

    Args:
        kind: "char", "word", "unigram" or "bpe".
        units: the units that text is split into, in the order of their ids, without the three special tokens.
        model: sentencepiece's serialised model, for "unigram" and "bpe".

    Attributes:
        tokens: every token, by id; `len(tokenizer)` of them.
    """

    def __init__(self, kind: str, units: list[str], model: bytes | None = None) -> None:
        self.kind = kind
        self.tokens = [BLANK, UNK, *units, SOS_EOS]
        self._ids = {unit: number for number, unit in enumerate(units, start=2)}
        self._model = model
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
            InputError: empty text, or a character or word that the tokenizer has never seen.
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

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids; <blank> and <sos/eos> are left out."""
        silent = (0, len(self.tokens) - 1)
        units = [self.tokens[i] for i in map(int, ids) if i not in silent]
        if self._pieces is not None:
            return "".join(units).replace("▁", " ").strip()
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

    def _ends_word(self, token: int, following: int) -> bool:
        if self._pieces is not None:
            return self.tokens[following].startswith("▁") and self.tokens[token] != "▁"
        return self.kind == "word" or SPACE in (self.tokens[token], self.tokens[following])

    def save(self, path: str | Path) -> None:
        """Write the tokenizer to one file, whole or not at all."""
        content = self._model
        if content is None:
            listed = {"kind": self.kind, "tokens": self.tokens}
            content = (json.dumps(listed, ensure_ascii=False, indent=1) + "\n").encode()
        with atomic_path(path) as partial:
            partial.write_bytes(content)

    def _split(self, text: str) -> list[str]:
        if self._pieces is not None:
            return self._pieces.encode(text, out_type=str)
        return _split(text, self.kind)


def train_tokenizer(texts: Iterable[str], kind: str, vocab_size: int | None = None) -> Tokenizer:
    """Make a tokenizer of the training transcripts; the same texts give the same tokenizer, byte for byte.

    Args:
        texts: transcripts, normalised as they will be used.
        kind: "char" or "word" (all that occur), "unigram" (Kudo 2018) or "bpe" (Sennrich et al. 2016), both by
            sentencepiece.
        vocab_size: number of tokens, the three special ones included; for "unigram" and "bpe" only.

    Raises:
        InputError: unknown kind, no text, a vocab_size that is missing, out of place, or not reachable.
    """
    if kind not in KINDS:
        raise InputError(f"tokenizer kind {kind!r}: expected one of {', '.join(KINDS)}.")
    texts = [" ".join(text.split()) for text in texts]
    texts = [text for text in texts if text]
    if not texts:
        raise InputError("no text to train a tokenizer on: every transcript is empty.")
    if kind in ("char", "word"):
        if vocab_size is not None:
            raise InputError(f"a {kind} tokenizer takes every {kind} of the text: leave vocab_size out.")
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
        kind, tokens = listed["kind"], listed["tokens"]
    except (ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{path}: neither a JSON token list nor a sentencepiece model ({error}).") from error
    if kind not in ("char", "word") or tokens[:2] != [BLANK, UNK] or tokens[-1] != SOS_EOS:
        raise InputError(f"{path}: expected kind char or word and tokens {BLANK}, {UNK}, ..., {SOS_EOS}.")
    return Tokenizer(kind, tokens[2:-1])


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
