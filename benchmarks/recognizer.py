"""Word error of recognisers by modality, noise and SNR.

    python -m benchmarks.recognizer MANIFEST --system NAME=CHECKPOINT:MODALITY … --noise DIR --out DIR

Each system decodes each condition: clean, and every noise manifest in DIR (the same noise for every system). Writes
OUT/<system>_<condition>/{hyp.jsonl,alignments.txt} and OUT/scores.json; decodings already there are kept.
"""

import argparse
import itertools
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from avsr.data.manifest import read_manifest
from avsr.data.noise import noise_hash, read_noise_manifest
from avsr.decode import DecodeConfig, decode_manifest
from avsr.errors import InputError, exit_status
from avsr.files import read_jsonl, write_json, write_text
from avsr.models.recognizer import Recognizer
from avsr.parallel import worker_pool
from avsr.score import espnet_table, score
from avsr.significance import difference, interval, word_tally


@dataclass(frozen=True)
class System:
    """A checkpoint under the name that the tables give it, and the streams it may use: a, v or av."""

    name: str
    checkpoint: str
    modality: str

    @classmethod
    def parse(cls, text: str) -> "System":
        """From NAME=CHECKPOINT:MODALITY."""
        name, separator, rest = text.partition("=")
        checkpoint, colon, modality = rest.rpartition(":")
        if not (name and separator and checkpoint and colon) or modality not in ("a", "v", "av"):
            raise InputError(f"--system {text!r}: expected NAME=CHECKPOINT:MODALITY with modality a, v or av")
        return cls(name, checkpoint, modality)


def conditions_in(folder: str | None) -> dict[str, Path | None]:
    """{condition: noise manifest}: clean (None) first, then DIR's manifests, by kind and falling SNR."""
    if folder is None:
        return {"clean": None}
    paths = sorted(Path(folder).glob("*.jsonl"))
    if not paths:
        raise InputError(f"{folder}: no noise manifest (*.jsonl); make some with `avsr noise`")
    first_lines = {path: read_noise_manifest(path)[0] for path in paths}
    paths.sort(key=lambda path: (first_lines[path]["kind"], -first_lines[path]["snr_db"]))
    return {"clean": None} | {path.stem: path for path in paths}


def _decode(job: tuple[str, System, str, Path | None, DecodeConfig, Path]) -> None:
    manifest, system, _, noise, config, hyp = job
    if hyp.is_file():
        return
    model = Recognizer.from_pretrained(system.checkpoint)
    noise_lines = read_noise_manifest(noise) if noise is not None else None
    decode_manifest(model, read_manifest(manifest), config, noise_lines=noise_lines, out=hyp)


def evaluate(
    manifest: str, systems: list[System], noise_dir: str | None, out: Path, method: str, beam_size: int, n_jobs: int
) -> dict:
    """Decode and score every system under every condition that can change what it perceives; returns scores.json."""
    conditions = conditions_in(noise_dir)
    jobs = []
    for system, (condition, noise) in itertools.product(systems, conditions.items()):
        if system.modality == "v" and noise is not None:
            continue  # a lip reader doesn't hear the noise
        config = DecodeConfig(method=method, beam_size=beam_size, modality=system.modality)
        jobs.append((manifest, system, condition, noise, config, out / f"{system.name}_{condition}" / "hyp.jsonl"))
    with worker_pool(n_jobs) as pool:
        list(pool.map(_decode, jobs))

    rows = read_manifest(manifest)
    refs = {row["utt_id"]: row["text"] for row in rows}
    scored, results = {}, []
    for _, system, condition, noise, _, path in jobs:
        hyps = {line["utt_id"]: line["text"] for line in read_jsonl(path)}
        scores = scored[system.name, condition] = score(refs, hyps)
        write_text(path.with_name("alignments.txt"), scores.alignments)
        first = read_noise_manifest(noise)[0] if noise is not None else {"kind": None, "snr_db": None}
        low, high = map(float, interval(word_tally(scores)))
        results.append(
            {
                "system": system.name,
                "condition": condition,
                "kind": first["kind"],
                "snr_db": first["snr_db"],
                "wer": scores.wer,
                "low": low,
                "high": high,
                "cer": scores.cer,
                **scores.as_dict(),
            }
        )
    paired = []
    for a, b in itertools.combinations([system.name for system in systems if "a" in system.modality], 2):
        for condition in conditions:
            gain = difference(word_tally(scored[a, condition]), word_tally(scored[b, condition]))
            paired.append({"condition": condition, "a": a, "b": b, **asdict(gain)})
    return {
        "protocol": {
            "manifest": str(manifest),
            "utterances": len(rows),
            "words": sum(len(text.split()) for text in refs.values()),
            "speakers": len({row["speaker"] for row in rows}),
            "source": ", ".join(sorted({str(row["source"]) for row in rows})),
            "decoding": (
                "Greedy CTC decoding."
                if method == "greedy"
                else f"ESPnet beam search, beam {beam_size}, CTC and attention, no language model."
            ),
            "noise": {c: noise_hash(read_noise_manifest(path)) for c, path in conditions.items() if path is not None},
        },
        "systems": {s.name: _facts(s) for s in systems},
        "results": results,
        "paired": paired,
        "table": espnet_table({f"{Path(manifest).parent.name}/{s}_{c}": value for (s, c), value in scored.items()}),
    }


def _facts(system: System) -> dict:
    model = Recognizer.from_pretrained(system.checkpoint)
    return {
        "checkpoint": system.checkpoint,
        "modality": system.modality,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training": training_facts(system.checkpoint),
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
    parser.add_argument("--system", action="append", required=True, metavar="NAME=CHECKPOINT:MODALITY")
    parser.add_argument("--noise", help="folder of noise manifests")
    parser.add_argument("--method", choices=("greedy", "beam"), default="beam")
    parser.add_argument("--beam_size", type=int, default=5)
    parser.add_argument("--nj", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    systems = [System.parse(text) for text in args.system]
    scores = evaluate(args.manifest, systems, args.noise, args.out, args.method, args.beam_size, args.nj)
    write_json(args.out / "scores.json", scores)
    print(scores["table"])


if __name__ == "__main__":
    sys.exit(exit_status(main))
