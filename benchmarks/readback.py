"""What readers make of a face, kept so that an interrupted benchmark goes on, and its errors by utterance."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from avsr.decode import DecodeConfig
from avsr.files import read_jsonl
from avsr.models.recognizer import Recognizer
from avsr.score import score
from avsr.significance import char_tally, word_tally
from benchmarks.decodings import Decoding
from benchmarks.digests import Digests
from benchmarks.visemes import VisemeLexicon, viseme_score


class Readback:
    """Recognisers that read rows, and the errors that they make against the texts of `rows`.

    What a folder holds is used again where it was made of the same (`benchmarks.decodings`).

    Args:
        rows: the reference's rows, in the order in which utterances shall be tallied.
        lexicon_rows: rows whose alignments tell how words are pronounced, besides the reference's own.
    """

    def __init__(self, rows: Sequence[Mapping], lexicon_rows: Sequence[Mapping], digests: Digests):
        self.rows = rows
        self.digests = digests
        self._lexicon_rows = [*rows, *lexicon_rows]
        self._lexicon: VisemeLexicon | None = None
        self._models: dict[str, Recognizer] = {}

    def tallies(
        self,
        folder: Path,
        checkpoint: str,
        rows: Sequence[Mapping],
        decoding: DecodeConfig,
        noise_lines: list[dict] | None = None,
        corruption_lines: list[dict] | None = None,
    ) -> dict[str, np.ndarray]:
        """{wer, cer, ver: tally (U, 2)} of what a recogniser reads of `rows`, which are the reference's utterances.

        folder: keeps hyp.jsonl. Raises InputError as `avsr.decode.decode_manifest` and `avsr.score.score` do.
        """
        made = Decoding(folder / "hyp.jsonl", checkpoint, rows, decoding, noise_lines, corruption_lines)
        inputs = made.inputs(self.digests)
        if not made.kept(inputs):
            made.make(self.model(checkpoint), inputs)
        hyps = {line["utt_id"]: line["text"] for line in read_jsonl(made.hyp)}
        refs = {row["utt_id"]: row["text"] for row in self.rows}
        if self._lexicon is None:
            self._lexicon = VisemeLexicon(self._lexicon_rows)
        scores, seen = score(refs, hyps), viseme_score(refs, hyps, self._lexicon)
        return {"wer": word_tally(scores), "cer": char_tally(scores), "ver": word_tally(seen)}

    def model(self, checkpoint: str) -> Recognizer:
        """The recogniser of a checkpoint, loaded once."""
        if checkpoint not in self._models:
            self._models[checkpoint] = Recognizer.from_pretrained(checkpoint)
        return self._models[checkpoint]
