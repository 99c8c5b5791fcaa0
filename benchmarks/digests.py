"""What files hold, as hashes: the keys under which benchmarks keep what they found."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path


class Digests:
    """SHA-256 of files, each read once."""

    def __init__(self):
        self._known: dict[str, str] = {}

    def of(self, path: str | Path | None) -> str | None:
        """Of a file's bytes, or of a folder's files; of the text itself where there is no such file; None of None."""
        if path is None:
            return None
        path = Path(path)
        if str(path) not in self._known:
            if path.is_dir():
                files = sorted(file for file in path.rglob("*") if file.is_file())
                digest = digest_of([[str(file.relative_to(path)), self.of(file)] for file in files])
            else:
                digest = hashlib.sha256(path.read_bytes() if path.is_file() else str(path).encode()).hexdigest()
            self._known[str(path)] = digest
        return self._known[str(path)]

    def of_rows(self, rows: Iterable[Mapping], fields: Iterable[str]) -> list[list]:
        """Each row's utt_id and the digests of its files in `fields`, as a value to be hashed."""
        fields = tuple(fields)
        return [[row["utt_id"], *(self.of(row[field]) for field in fields)] for row in rows]

    def of_reference(self, rows: Iterable[Mapping]) -> str:
        """Of a reference: its texts and the bytes of its files, wherever they lie and however the rows are sorted."""
        rows = sorted(rows, key=lambda row: row["utt_id"])
        files = self.of_rows(rows, ("audio", "motion", "template", "lips", "landmarks", "alignment"))
        return digest_of([[row["speaker"], row["text"], *found] for row, found in zip(rows, files, strict=True)])


def digest_of(value) -> str:
    """SHA-256 of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
