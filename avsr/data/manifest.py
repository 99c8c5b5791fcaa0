"""Manifests: JSON lines, one utterance a line, validated; and Kaldi/ESPnet data folders.

A row is a plain dict with every key of `FIELDS`; what an utterance lacks is None. In the file paths are relative to
the manifest's folder and absent keys are left out; in memory paths are absolute.
"""

import difflib
import json
import logging
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from avsr.errors import InputError
from avsr.files import write_jsonl, write_text

TEXT_FIELDS = ("utt_id", "speaker", "text", "source", "generator", "language")
PATH_FIELDS = ("audio", "video", "lips", "motion", "template", "landmarks", "alignment")
FIELDS = ("utt_id", "speaker", "text", "audio", "duration_s", "video", "lips", "motion", "template", "landmarks")
FIELDS += ("alignment", "source", "generator", "language")
SOURCES = ("filmed", "rendered")

# Kaldi names its lists by what they point at; lips.scp is ours, and ESPnet reads it like any other scp.
SCP_FIELDS = {"wav.scp": "audio", "video.scp": "video", "lips.scp": "lips"}

logger = logging.getLogger(__name__)


def read_manifest(
    path: str | Path, need: Iterable[str] = ("audio",), use: Iterable[str] = (), check_files: bool = True
) -> list[dict]:
    """Read and validate a manifest.

    Args:
        path: the JSONL file.
        need: fields that every row must have (a text that is needed may not be empty).
        use: fields that the caller will read where a row has them.
        check_files: check that the files named by `need` and `use` exist (turn off for huge manifests on slow disks).

    Returns:
        rows with every key of `FIELDS` (absent: None), paths absolute.

    Raises:
        InputError: naming file, line and utterance: not JSON, unknown key (with the nearest name), wrong type,
            a needed field or file that is missing, duration_s <= 0, a utt_id used twice, no rows at all.
    """
    rows = list(_validated(path, tuple(need), tuple(use), check_files))
    if not rows:
        raise InputError(f"{path} has no utterances: expected one JSON object a line.")
    return rows


def stream_manifest(
    path: str | Path, need: Iterable[str] = ("audio",), use: Iterable[str] = (), check_files: bool = True
):
    """`read_manifest` as a `datasets.IterableDataset`: lines are read and validated when they are reached."""
    from datasets import IterableDataset

    arguments = {"path": str(path), "need": tuple(need), "use": tuple(use), "check_files": check_files}
    return IterableDataset.from_generator(_validated, features=_features(), gen_kwargs=arguments)


def as_dataset(rows: list[dict]):
    """Rows as a `datasets.Dataset` (Arrow) of fixed features, for `map`, `filter` and `num_proc`."""
    from datasets import Dataset

    return Dataset.from_list([{key: row.get(key) for key in FIELDS} for row in rows], features=_features())


def write_manifest(path: str | Path, rows: Iterable[dict]) -> None:
    """Write rows as JSON lines, whole or not at all: paths relative to the manifest's folder, None left out.

    Raises:
        InputError: a row that `read_manifest` would refuse.
    """
    path = Path(path)
    folder = os.path.abspath(path.parent)
    lines: list[dict] = []
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        present = {key: value for key, value in row.items() if value is not None}
        _check_row(present, f"row {number} for {path}", seen, number)
        for key in PATH_FIELDS:
            if key in present:
                present[key] = Path(os.path.relpath(present[key], folder)).as_posix()
        lines.append({key: present[key] for key in FIELDS if key in present})
    write_jsonl(path, lines)


def speaker_of(row: dict) -> str:
    """The speaker that a row's files are named by: without one it is an utterance of its own speaker."""
    return row["utt_id"] if row.get("speaker") is None else row["speaker"]


def from_kaldi(data_dir: str | Path) -> list[dict]:
    """Rows from a Kaldi/ESPnet data folder, sorted by utt_id.

    Reads wav.scp, video.scp, lips.scp, text, utt2spk and utt2dur, those that are there; paths in them are relative to
    the current folder, as Kaldi's tools take them. Format: https://kaldi-asr.org/doc/data_prep.html

    Raises:
        InputError: naming file and line: no scp at all, a malformed line, an id twice, a pipe or an archive in an
            scp, a `segments` file, a transcript that is empty, an id in one file and not in another.
    """
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise InputError(f"{data_dir} is not a folder: expected a Kaldi data folder (wav.scp, text, utt2spk, ...).")
    if (data_dir / "segments").exists():
        raise InputError(
            f"{data_dir / 'segments'}: cut recordings aren't read; cut them first "
            "(ESPnet: scripts/audio/format_wav_scp.sh --segments) and give the folder that it writes."
        )
    columns: dict[str, dict[str, str]] = {}
    names: dict[str, str] = {}
    for name, field in [*SCP_FIELDS.items(), ("text", "text"), ("utt2spk", "speaker"), ("utt2dur", "duration_s")]:
        if (data_dir / name).exists():
            columns[field] = _read_kaldi_list(data_dir / name)
            names[field] = name
    if not any(field in columns for field in SCP_FIELDS.values()):
        raise InputError(f"{data_dir} has neither wav.scp nor video.scp: expected a Kaldi data folder.")

    first, *others = columns
    for field in others:
        for have, lack in ((first, field), (field, first)):
            missing = sorted(columns[have].keys() - columns[lack].keys())
            if missing:
                raise InputError(
                    f"{data_dir}: {len(missing)} ids of {names[have]} aren't in {names[lack]} (first: {missing[0]}); "
                    "every file must list the same utterances (utils/fix_data_dir.sh makes them agree)."
                )
    rows = []
    for utt_id in sorted(columns[first]):
        row = dict.fromkeys(FIELDS) | {"utt_id": utt_id}
        row |= {field: column[utt_id] for field, column in columns.items()}
        for field in SCP_FIELDS.values():
            if row[field] is not None:
                row[field] = os.path.abspath(row[field])
        if row["duration_s"] is not None:
            row["duration_s"] = _parse_duration(row["duration_s"], data_dir / "utt2dur", utt_id)
        rows.append(row)
    return rows


def to_kaldi(rows: list[dict], data_dir: str | Path) -> None:
    """Write a Kaldi/ESPnet data folder, sorted by utt_id as Kaldi wants it (LC_ALL=C), paths absolute.

    Writes utt2spk and spk2utt (an utterance without speaker is its own), and wav.scp, video.scp, lips.scp, text and
    utt2dur, those that the rows have.

    Raises:
        InputError: a field that some rows have and others lack, a line break in a text, a row that isn't valid.
    """
    data_dir = Path(data_dir)
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        _check_row({k: v for k, v in row.items() if v is not None}, f"row {number} for {data_dir}", seen, number)
    rows = sorted(rows, key=lambda row: row["utt_id"])
    files: dict[str, dict[str, str]] = {}
    for name, field in [*SCP_FIELDS.items(), ("text", "text"), ("utt2dur", "duration_s")]:
        lacking = [row["utt_id"] for row in rows if row.get(field) in (None, "")]
        if len(lacking) == len(rows):
            continue
        if lacking:
            raise InputError(
                f"{name} for {data_dir}: {len(lacking)} of {len(rows)} utterances have no {field} (first: "
                f"{lacking[0]}); Kaldi's files must list the same utterances: write those apart."
            )
        values = {row["utt_id"]: str(row[field]) for row in rows}
        files[name] = {key: os.path.abspath(v) if field in PATH_FIELDS else v for key, v in values.items()}
    files["utt2spk"] = {row["utt_id"]: row.get("speaker") or row["utt_id"] for row in rows}
    by_speaker: dict[str, list[str]] = {}
    for utt_id, speaker in files["utt2spk"].items():
        by_speaker.setdefault(speaker, []).append(utt_id)
    files["spk2utt"] = {speaker: " ".join(by_speaker[speaker]) for speaker in sorted(by_speaker)}
    if list(files["utt2spk"].values()) != sorted(files["utt2spk"].values()):
        logger.warning("%s: Kaldi's own checks want the speaker at the beginning of each utt_id", data_dir)
    for name, table in files.items():
        for key, value in table.items():
            if "\n" in value or "\r" in value:
                raise InputError(f"{name} for {data_dir}: the {name} of {key} has a line break; Kaldi can't hold it.")
        write_text(data_dir / name, "".join(f"{key} {value}\n" for key, value in table.items()))


def _features():
    from datasets import Features, Value

    return Features({key: Value("float64" if key == "duration_s" else "string") for key in FIELDS})


def _validated(path: str | Path, need: tuple[str, ...], use: tuple[str, ...], check_files: bool) -> Iterator[dict]:
    """Yield validated rows; a generator, so that streaming reads no further than it is asked to."""
    path = Path(path)
    for key in (*need, *use):
        if key not in FIELDS:
            raise ValueError(f"need/use: {key!r} is no manifest field")
    if not path.is_file():
        raise InputError(f"{path}: no such manifest; expected a JSONL file, one utterance a line.")
    folder = os.path.abspath(path.parent)
    files = [key for key in dict.fromkeys((*need, *use)) if key in PATH_FIELDS] if check_files else []
    seen: dict[str, int] = {}
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            present = _parse_line(line, where)
            _check_row(present, where, seen, number)
            where = f"{where}: {present['utt_id']}"
            row: dict = dict.fromkeys(FIELDS) | present
            for key in PATH_FIELDS:
                if row[key] is not None:
                    row[key] = os.path.normpath(os.path.join(folder, row[key]))
            for key in need:
                if row[key] is None:
                    raise InputError(f"{where}: needs {key!r}, which this line lacks.")
            if "text" in need and not row["text"].strip():
                raise InputError(f"{where}: the transcript is empty; give its text or take the line out.")
            for key in files:
                if row[key] is not None and not os.path.exists(row[key]):
                    raise InputError(f"{where}: {key} {row[key]} doesn't exist (paths are relative to {folder}).")
            yield row


def _parse_line(line: bytes, where: str) -> dict:
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not a line of JSON ({error}); expected one object a line.") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(value).__name__}.")
    return {key: item for key, item in value.items() if item is not None}


def _check_row(present: dict, where: str, seen: dict[str, int], number: int) -> None:
    """Check the keys that a row has, their types and its id; note the id in `seen`."""
    for key in present:
        if key not in FIELDS:
            nearest = difflib.get_close_matches(str(key), FIELDS, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(FIELDS)}."
            raise InputError(f"{where}: unknown key {key!r}; {hint}")
    utt_id = present.get("utt_id")
    if not isinstance(utt_id, str) or not utt_id or any(letter.isspace() for letter in utt_id):
        raise InputError(f"{where}: utt_id must be a string without spaces, found {utt_id!r}.")
    if utt_id in seen:
        raise InputError(f"{where}: utt_id {utt_id!r} is already on line {seen[utt_id]}; each must be unique.")
    seen[utt_id] = number
    for key in (*TEXT_FIELDS, *PATH_FIELDS):
        value = present.get(key)
        allowed = (str, os.PathLike) if key in PATH_FIELDS else str
        if value is not None and not isinstance(value, allowed):
            raise InputError(f"{where}: {utt_id}: {key} must be a string, found {value!r}.")
    source = present.get("source")
    if source is not None and source not in SOURCES:
        raise InputError(f"{where}: {utt_id}: source must be one of {', '.join(SOURCES)}, found {source!r}.")
    duration_s = present.get("duration_s")
    if duration_s is not None:
        is_number = isinstance(duration_s, int | float) and not isinstance(duration_s, bool)
        if not is_number or not math.isfinite(duration_s) or duration_s <= 0:
            raise InputError(f"{where}: {utt_id}: duration_s must be a number of seconds > 0, found {duration_s!r}.")


def _read_kaldi_list(path: Path) -> dict[str, str]:
    """One Kaldi list, `id value` a line, as {id: value}."""
    table: dict[str, str] = {}
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}:{number}"
            key, *value = line.strip().split(maxsplit=1) or [""]
            if not key:
                raise InputError(f"{where}: an empty line; expected 'utt_id value'.")
            if not value:
                what = "an empty transcript" if path.name == "text" else "no value after the id"
                raise InputError(f"{where}: {what} in {line.strip()!r}; expected 'utt_id value'.")
            if key in table:
                raise InputError(f"{where}: id {key!r} appears twice in {path.name}.")
            if path.suffix == ".scp":
                _check_scp_value(value[0], where)
            table[key] = value[0]
    return table


def _check_scp_value(value: str, where: str) -> None:
    if value.endswith("|"):
        raise InputError(f"{where}: pipes aren't run; write the sound to a file and name it (found {value!r}).")
    if ".ark:" in value:
        raise InputError(f"{where}: archives aren't read; name a media file (found {value!r}).")


def _parse_duration(value: str, path: Path, utt_id: str) -> float:
    try:
        duration_s = float(value)
    except ValueError:
        duration_s = math.nan
    if not math.isfinite(duration_s) or duration_s <= 0:
        raise InputError(f"{path}: the duration of {utt_id} must be a number of seconds > 0, found {value!r}.")
    return duration_s
