"""What noise manifests and corruption manifests share: a line an utterance, a seed a line, a hash of them all."""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

from avsr.errors import InputError


def utterance_seed(seed: int, utt_id: str) -> int:
    """The seed of one utterance's draws: of `seed` and utt_id only, whatever else is in the manifest."""
    return int.from_bytes(hashlib.sha256(f"{seed} {utt_id}".encode()).digest()[:6], "big")


def lines_hash(lines: list[dict]) -> str:
    """SHA-256 of lines that are alike wherever their files lie; how they are sorted doesn't matter."""
    canonical = sorted(lines, key=lambda line: line["utt_id"])
    return hashlib.sha256(json.dumps(canonical, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_lines(path: str | Path, what: str, parse: Callable[[bytes, str], dict]) -> list[dict]:
    """Read a manifest of conditions, `what` by name; `parse` makes a line of its bytes and its place, or refuses it.

    Raises InputError, naming file and line: a missing file, a utt_id twice, no lines at all.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such {what} manifest.")
    lines: dict[str, dict] = {}
    with open(path, "rb") as content:
        for number, text in enumerate(content, start=1):
            if not text.strip():
                continue
            where = f"{path}:{number}"
            line = parse(text, where)
            if line["utt_id"] in lines:
                raise InputError(f"{where}: utt_id {line['utt_id']!r} has a {what} already.")
            lines[line["utt_id"]] = line
    if not lines:
        raise InputError(f"{path} has no lines; expected one {what} an utterance.")
    return list(lines.values())


def parse_object(text: bytes, where: str, fields: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict:
    """One line's object; InputError, naming `where`, unless it has exactly `fields`, and of `optional` any."""
    try:
        line = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where}: not a line of JSON ({error}).") from error
    if not isinstance(line, dict) or set(line) - set(optional) != set(fields):
        raise InputError(f"{where}: expected an object with exactly the keys {', '.join(fields)}.")
    return line


def is_number(value) -> bool:
    """Whether a value read from JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value) -> bool:
    """Whether a value read from JSON is a whole number of 0 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
