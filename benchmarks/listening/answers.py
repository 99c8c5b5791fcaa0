"""What listeners wrote, scored: word error by system, with intervals over utterances."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import numpy as np

from avsr.errors import InputError
from avsr.score import NORMALIZERS, score
from avsr.significance import difference, interval, pooled, word_tally


def read_key(path: str | Path) -> dict:
    """The key of a pack; InputError where the file is none."""
    try:
        key = json.loads(Path(path).read_text(encoding="utf-8"))
        whole = all({"listener", "utt_id", "system", "text"} <= clip.keys() for clip in key["clips"].values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: no key of a pack ({error!r}); `benchmarks.listening make` writes it") from error
    if not whole:
        raise InputError(
            f"{path}: its clips need listener, utt_id, system and text, as `benchmarks.listening make` writes"
        )
    return key


def read_answers(paths: Sequence[str | Path], key: dict) -> dict[str, str]:
    """{clip: what was heard} of answer sheets: CSV with the columns clip and heard, by commas or semicolons.

    Raises InputError: other columns, a clip that the key does not know or that is answered twice, a listener's sheet
    from which clips are missing (one where nothing was understood stays in it, empty).
    """
    heard: dict[str, str] = {}
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a readable answer sheet ({error}); save it as CSV in UTF-8") from error
        header = text.split("\n", 1)[0]
        table = csv.DictReader(text.splitlines(), delimiter=";" if ";" in header else ",")
        if table.fieldnames is None or not {"clip", "heard"} <= set(table.fieldnames):
            raise InputError(
                f"{path}: columns {table.fieldnames}; expected clip and heard, as in the sheet of the pack"
            )
        for row in table:
            clip = (row["clip"] or "").strip()
            if clip not in key["clips"]:
                raise InputError(f"{path}: the key knows no clip {clip!r}: is it of this pack, and kept as text?")
            if clip in heard:
                raise InputError(f"{path}: clip {clip!r} is answered already: give each listener's sheet once")
            heard[clip] = row["heard"] or ""
    listeners = {key["clips"][clip]["listener"] for clip in heard}
    missing = [name for name, clip in key["clips"].items() if clip["listener"] in listeners and name not in heard]
    if missing or not heard:
        raise InputError(
            f"{len(missing)} clips are not in the sheets {missing[:3]}; leave them in, empty if not understood"
        )
    return heard


def score_answers(paths: Sequence[str | Path], key: dict) -> dict:
    """Word error of each system, pooled over listeners; returns what scores.json holds."""
    heard = read_answers(paths, key)
    of = {name: key["clips"][name] for name in sorted(heard)}
    scores = score({name: clip["text"] for name, clip in of.items()}, heard)
    per_clip = dict(zip(scores.utt_ids, word_tally(scores), strict=True))
    utt_ids = sorted({clip["utt_id"] for clip in of.values()})
    tallies = {}
    for system in key["systems"]:
        tally = np.zeros((len(utt_ids), 2))
        for name, clip in of.items():
            if clip["system"] == system:
                tally[utt_ids.index(clip["utt_id"])] += per_clip[name]
        if tally[:, 1].sum() > 0:
            tallies[system] = tally
    listeners = sorted({clip["listener"] for clip in of.values()})
    return {
        "protocol": {
            **{name: key[name] for name in ("reference", "noise", "view", "seed")},
            "utterances": len(utt_ids),
            "listeners": len(listeners),
            "normalizer": NORMALIZERS[scores.normalizer].said,
        },
        "systems": {system: _figure(tally) for system, tally in tallies.items()},
        "listeners": {
            str(listener): float(pooled([per_clip[n] for n, clip in of.items() if clip["listener"] == listener]))
            for listener in listeners
        },
        "paired": [{"a": a, "b": b, **asdict(difference(tallies[a], tallies[b]))} for a, b in combinations(tallies, 2)],
    }


def _figure(tally: np.ndarray) -> dict:
    low, high = interval(tally)
    heard = {"utterances": int((tally[:, 1] > 0).sum()), "words": int(tally[:, 1].sum())}
    return {"wer": float(pooled(tally)), "low": float(low), "high": float(high), **heard}


def answers_section(scores: dict) -> str:
    """The word error of each system and their differences, in Markdown."""
    protocol = scores["protocol"]
    noise = "; ".join(f"{name} `{digest[:16]}`" for name, digest in protocol["noise"].items())
    text = [
        "## What people understood\n",
        f"{protocol['listeners']} listeners, {protocol['utterances']} utterances (reference "
        f"`{protocol['reference'][:16]}`), {protocol['view']} in view, noise {noise}. Texts: {protocol['normalizer']}. "
        "WER in %, with the 95 % bootstrap interval over utterances, which leaves out how listeners differ.\n",
        "| system | words | WER |",
        "|---|---|---|",
    ]
    for system, row in scores["systems"].items():
        text.append(f"| {system} | {row['words']} | {row['wer']:.1f} [{row['low']:.1f}, {row['high']:.1f}] |")
    text += ["\n| difference | 95 % interval | p |", "|---|---|---|"]
    for row in scores["paired"]:
        p = "< 0.01" if row["p"] < 0.01 else format(row["p"], ".2f")
        ends = f"[{row['low']:+.1f}, {row['high']:+.1f}]"
        text.append(f"| {row['b']} − {row['a']} = {row['difference']:+.1f} | {ends} | {p} |")
    each = ", ".join(f"{listener}: {wer:.1f}" for listener, wer in scores["listeners"].items())
    text.append(f"\nWER of each listener: {each}.")
    return "\n".join(text) + "\n"
