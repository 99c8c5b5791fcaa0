"""Folders of what is made for the rows of a manifest: one way of making each, and every failure named."""

import json
from pathlib import Path

from avsr.errors import InputError
from avsr.files import write_json, write_jsonl

NAMED = 3  # failures in the error's message; failed.jsonl has them all


def claim(folder: Path, settings: dict, holds: str, file: str = "settings.json") -> None:
    """Write down in `file` how the folder's contents are made; InputError where they were made otherwise.

    holds: what is in it, for the error: "clips drawn with".
    """
    path = folder / file
    if not path.is_file():
        write_json(path, settings)
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    if found != settings:
        raise InputError(f"{folder} holds {holds} {found}, not {settings}: choose another folder")


def report_failures(folder: Path, failed: list[dict], n_rows: int, what: str) -> None:
    """Leave failed.jsonl, of {utt_id, reason}, and raise InputError; nothing and no such file where none failed.

    what: happened to them, for the error: "could not be drawn, the others are".
    """
    path = folder / "failed.jsonl"
    if not failed:
        path.unlink(missing_ok=True)
        return
    failed = sorted(failed, key=lambda failure: failure["utt_id"])
    write_jsonl(path, failed)
    reasons = "; ".join(f"utterance {failure['utt_id']!r}: {failure['reason']}" for failure in failed[:NAMED])
    more = f"; and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
    raise InputError(
        f"{len(failed)} of {n_rows} utterances {what}: {reasons}{more}. All are in {path}; mend or remove these rows "
        "and start again"
    )
