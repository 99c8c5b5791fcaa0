"""Word error of recognisers by modality, noise and SNR, and by what corrupts lips and sound.

    python -m benchmarks.recognizer MANIFEST --system NAME=CHECKPOINT[,CHECKPOINT …]:MODALITY … --out DIR [--noise DIR]
                                    [--corruptions DIR [--cross]] [--train MANIFEST …] [--method beam|lexicon|greedy …]

Each system decodes each condition that it perceives: clean, every noise manifest and every corruption manifest (the
same for every system), with --cross also every corruption in every noise. A system with several checkpoints is one
trained from several seeds: its figures pool them, intervals are over utterances. Writes
OUT/<system>_<condition>/{hyp.jsonl,alignments.txt} (hyp_0.jsonl, hyp_1.jsonl, … of several) and OUT/scores.json;
what was decoded before of the same (`benchmarks.decodings`) is not decoded again.
"""

import argparse
import itertools
import json
import sys
from collections import ChainMap
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from avsr.data.alignment import read_alignment
from avsr.data.corrupt import corruption_hash, read_corruption_manifest
from avsr.data.manifest import read_manifest
from avsr.data.noise import noise_hash, read_noise_manifest
from avsr.data.text import normalize_text
from avsr.decode import DecodeConfig
from avsr.errors import InputError, exit_status
from avsr.files import read_jsonl, write_json, write_text
from avsr.models.recognizer import Recognizer
from avsr.parallel import worker_pool
from avsr.score import NOTHING, Scores, espnet_table, read_texts, score
from avsr.significance import difference, interval, pooled, word_tally
from benchmarks.conditions import Condition, conditions_in
from benchmarks.decodings import Decoding
from benchmarks.digests import Digests


@dataclass(frozen=True)
class System:
    """Checkpoints, one a seed, under the name that the tables give them, and the streams they may use: a, v or av."""

    name: str
    checkpoints: tuple[str, ...]
    modality: str

    @classmethod
    def parse(cls, text: str) -> "System":
        """From NAME=CHECKPOINT[,CHECKPOINT …]:MODALITY."""
        name, separator, rest = text.partition("=")
        listed, colon, modality = rest.rpartition(":")
        checkpoints = tuple(listed.split(","))
        if not (name and separator and colon and all(checkpoints)) or modality not in ("a", "v", "av"):
            raise InputError(
                f"--system {text!r}: expected NAME=CHECKPOINT[,CHECKPOINT …]:MODALITY with modality a, v or av"
            )
        return cls(name, checkpoints, modality)

    def hypotheses(self, condition: "Condition", out: Path) -> list[Path]:
        """Where the texts of each of its checkpoints lie."""
        folder = out / f"{self.name}_{condition.name}"
        if len(self.checkpoints) == 1:
            return [folder / "hyp.jsonl"]
        return [folder / f"hyp_{i}.jsonl" for i in range(len(self.checkpoints))]


def _decode(job: tuple[Decoding, dict[str, str]]) -> None:
    decoding, inputs = job
    decoding.make(Recognizer.from_pretrained(decoding.checkpoint), inputs)


def evaluate(
    manifest: str,
    systems: list[System],
    conditions: list[Condition],
    out: Path,
    decoding: DecodeConfig,
    n_jobs: int,
    train: list[str] | None = None,
    pairs: list[tuple[str, str]] | None = None,
) -> dict:
    """Decode and score every system under every condition that can change what it perceives; returns scores.json.

    `decoding` holds for all systems, but for the streams they use. Speakers and words that the manifests `train` lack
    are counted apart.

    pairs: names of systems that are compared, the second with the first; None: all that hear.
    """
    # a lip reader doesn't hear noise, and who only listens doesn't see what befalls the lips
    measured = [(s, c) for s, c in itertools.product(systems, conditions) if c.perceived(s.modality) == c]
    rows = read_manifest(manifest, use=("lips", "alignment"))
    decodings = [
        Decoding(path, checkpoint, rows, replace(decoding, modality=system.modality), *condition.lines())
        for system, condition in measured
        for checkpoint, path in zip(system.checkpoints, system.hypotheses(condition, out), strict=True)
    ]
    digests = Digests()
    jobs = [(one, inputs) for one in decodings if not one.kept(inputs := one.inputs(digests))]
    with worker_pool(n_jobs) as pool:
        list(pool.map(_decode, jobs))

    refs = {row["utt_id"]: row["text"] for row in rows}
    new = None if train is None else _new_to(train, rows)
    tallies, scored, results = {}, {}, []
    for system, condition in measured:
        tables = [read_texts(path) for path in system.hypotheses(condition, out)]
        scores = _score_all(refs, tables)
        scored[f"{Path(manifest).parent.name}/{system.name}_{condition.name}"] = scores
        write_text(system.hypotheses(condition, out)[0].with_name("alignments.txt"), scores.alignments)
        # (seeds, utterances, 2): a seed's utterances follow each other
        each = word_tally(scores).reshape(len(tables), len(rows), 2)
        tally = tallies[system.name, condition] = each.sum(axis=0)
        low, high = map(float, interval(tally))
        results.append(
            {
                "system": system.name,
                **condition.facts(),
                "wer": scores.wer,
                "low": low,
                "high": high,
                "each": [float(pooled(one)) for one in each],
                "cer": scores.cer,
                **scores.as_dict(),
                **_word_times(rows, system.hypotheses(condition, out)),
                **({} if new is None else _apart(scores, tally, rows, *new)),
            }
        )
    paired = []
    by_name = {system.name: system for system in systems}
    if pairs is None:
        pairs = list(itertools.combinations([system.name for system in systems if "a" in system.modality], 2))
    for a, b in ((by_name[first], by_name[second]) for first, second in pairs):
        for condition in conditions:
            if not any((system.name, condition) in tallies for system in (a, b)):
                continue
            # what one of them doesn't perceive leaves it with the scores of what it does
            of_both = [tallies[system.name, condition.perceived(system.modality)] for system in (a, b)]
            paired.append({"condition": condition.name, "a": a.name, "b": b.name, **asdict(difference(*of_both))})
    noises = {one.noise.path for one in conditions if one.noise is not None}
    corruptions = {one.corruption.path for one in conditions if one.corruption is not None}
    return {
        "protocol": {
            "manifest": str(manifest),
            "utterances": len(rows),
            "words": sum(len(text.split()) for text in refs.values()),
            "speakers": len({row["speaker"] for row in rows}),
            "source": ", ".join(sorted({str(row["source"]) for row in rows})),
            "decoding": decoding.describe(),
            "noise": {path.stem: noise_hash(read_noise_manifest(path)) for path in sorted(noises)},
            "corruptions": {path.stem: corruption_hash(read_corruption_manifest(path)) for path in sorted(corruptions)},
        },
        "systems": {s.name: _facts(s) for s in systems},
        "results": results,
        "paired": paired,
        "table": espnet_table(scored),
    }


def _score_all(refs: dict[str, str], tables: list[dict[str, str]]) -> Scores:
    """Scores of several hypotheses of each utterance."""
    numbered = [{f"{i:02d}/{utt_id}": text for utt_id, text in texts.items()} for i, texts in enumerate(tables)]
    copies = [{f"{i:02d}/{utt_id}": text for utt_id, text in refs.items()} for i in range(len(tables))]
    return score(dict(ChainMap(*copies)), dict(ChainMap(*numbered)))


def _new_to(train: list[str], rows: list[dict]) -> tuple[set[str], set[str]]:
    """Speakers and words of `rows` that the manifests of the training lack."""
    known = [row for path in train for row in read_manifest(path)]
    speakers = {row["speaker"] for row in rows} - {row["speaker"] for row in known}
    words = [{word for row in of for word in normalize_text(row["text"]).split()} for of in (rows, known)]
    return speakers, words[0] - words[1]


def _apart(scores: Scores, tally: np.ndarray, rows: list[dict], speakers: set[str], words: set[str]) -> dict:
    """WER of new speakers; how many of the new words, and of the others, are missed (left out or taken for others)."""
    apart = {}
    theirs = np.array([row["speaker"] in speakers for row in sorted(rows, key=lambda row: row["utt_id"])])
    if theirs.any() and not theirs.all():
        low, high = map(float, interval(tally[theirs]))
        apart["new_speakers"] = {
            "utterances": int(theirs.sum()), "wer": float(pooled(tally[theirs])), "low": low, "high": high
        }  # fmt: skip
    if words:
        for key, counted in (
            ("new_words", words),
            ("known_words", {ref for ref, _ in scores.pairs} - words - {NOTHING}),
        ):
            said = sum(times for (ref, _), times in scores.pairs.items() if ref in counted)
            right = sum(times for (ref, hyp), times in scores.pairs.items() if ref in counted and ref == hyp)
            apart[key] = {"said": said, "missed": 100.0 * (1 - right / said)}
    return apart


def _word_times(rows: list[dict], paths: list[Path]) -> dict:
    """How far the middles of words lie from the alignments', in s, over utterances that are read without an error."""
    errors_s = []
    for path in paths:
        read = {line["utt_id"]: line.get("words", []) for line in read_jsonl(path)}
        for row in rows:
            if row["alignment"] is None:
                continue
            true = read_alignment(row["alignment"])["words"]
            if [word["text"] for word in read[row["utt_id"]]] == [text for _, _, text in true]:
                errors_s += [
                    abs(word["start_s"] + word["end_s"] - start_s - end_s) / 2
                    for word, (start_s, end_s, _) in zip(read[row["utt_id"]], true, strict=True)
                ]
    if not errors_s:
        return {}
    median, most = np.quantile(errors_s, [0.5, 0.9])
    return {"word_times": {"words": len(errors_s), "median_s": float(median), "p90_s": float(most)}}


def _facts(system: System) -> dict:
    model = Recognizer.from_pretrained(system.checkpoints[0])
    return {
        "checkpoints": list(system.checkpoints),
        "modality": system.modality,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training": "; ".join(filter(None, map(training_facts, system.checkpoints))),
    }


def training_facts(checkpoint: str) -> str:
    """Steps, epochs and wall time of the training that made `checkpoint`, in words; empty where it isn't recorded."""
    record = Path(checkpoint).parent / "done.json"
    if not record.is_file():
        return ""
    done = json.loads(record.read_text())
    return f"{done['steps']} steps in {done['epochs']} epochs, {done['seconds']:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("--system", action="append", required=True, metavar="NAME=CHECKPOINT[,…]:MODALITY")
    parser.add_argument("--noise", metavar="DIR", help="folder of noise manifests")
    parser.add_argument("--corruptions", metavar="DIR", help="folder of corruption manifests")
    parser.add_argument("--cross", action="store_true", help="every corruption also in every noise")
    parser.add_argument("--train", nargs="+", metavar="MANIFEST", help="count speakers and words new to these apart")
    parser.add_argument("--method", choices=("greedy", "beam", "lexicon"), default="beam")
    parser.add_argument("--beam_size", type=int, default=5)
    parser.add_argument("--lexicon", help="for the method of that name: a file with one word a line")
    parser.add_argument("--lm", help="ARPA file (of words for the lexicon, of tokens for the beam) or trained folder")
    parser.add_argument("--lm_weight", type=float, default=0.3)
    parser.add_argument("--word_bonus", type=float, default=0.0, help="for each word, by lexicon")
    parser.add_argument("--nj", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    systems = [System.parse(text) for text in args.system]
    conditions = conditions_in(args.noise, args.corruptions, args.cross)
    decoding = DecodeConfig(
        method=args.method,
        beam_size=args.beam_size,
        lm=args.lm,
        lm_weight=args.lm_weight,
        lexicon=args.lexicon,
        word_bonus=args.word_bonus,
    )
    scores = evaluate(args.manifest, systems, conditions, args.out, decoding, args.nj, args.train)
    write_json(args.out / "scores.json", scores)
    print(scores["table"])


if __name__ == "__main__":
    sys.exit(exit_status(main))
