"""Decodings that are kept under what they were made of, so that a benchmark goes on where it was interrupted.

Beside hyp.jsonl lies hyp.inputs.json with the digest of everything that it comes from: the rows' files, the checkpoint,
the search, the noise and the corruption. What is kept is used again while that is the same, and decoded anew when not.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avsr.data.corrupt import corruption_hash
from avsr.data.noise import noise_hash
from avsr.decode import DecodeConfig, decode_manifest
from avsr.files import write_json
from avsr.models.recognizer import Recognizer
from benchmarks.digests import Digests, digest_of

READ = {"a": ("audio",), "v": ("lips",), "av": ("audio", "lips")}  # files of a row that a modality reads


@dataclass(frozen=True)
class Decoding:
    """One decoding: which rows, by which checkpoint and how, in what noise and corruption; `hyp` keeps the texts."""

    hyp: Path
    checkpoint: str
    rows: Sequence[Mapping]
    config: DecodeConfig
    noise_lines: list[dict] | None = None
    corruption_lines: list[dict] | None = None

    def inputs(self, digests: Digests) -> dict[str, str]:
        """The digest of all that it is made of."""
        files = digests.of_rows(self.rows, READ[self.config.modality])
        told = [files, digests.of(self.checkpoint), repr(self.config)]
        told += [digests.of(path) for path in (self.config.lm, self.config.lexicon) if path is not None]
        told += [] if self.noise_lines is None else [noise_hash(self.noise_lines)]
        told += [] if self.corruption_lines is None else [corruption_hash(self.corruption_lines)]
        return {"inputs": digest_of(told)}

    @property
    def _record(self) -> Path:
        return self.hyp.with_suffix(".inputs.json")

    def kept(self, inputs: Mapping[str, str]) -> bool:
        """Whether its texts are there, made of these inputs."""
        is_there = self.hyp.is_file() and self._record.is_file()
        return is_there and json.loads(self._record.read_text(encoding="utf-8")) == inputs

    def make(self, model: Recognizer, inputs: Mapping[str, str]) -> None:
        """Decode by the checkpoint's model. Raises InputError as `avsr.decode.decode_manifest` does."""
        decode_manifest(
            model,
            self.rows,
            self.config,
            noise_lines=self.noise_lines,
            corruption_lines=self.corruption_lines,
            out=self.hyp,
        )
        write_json(self._record, inputs)
