"""How well a face is understood: by its lips alone, and by its lips with the sound in noise.

    python -m benchmarks.perception REFERENCE.jsonl --motion NAME=MANIFEST|FOLDER … --reader NAME=CHECKPOINT … --out DIR
                                    [--noise DIR] [--lexicon MANIFEST …] [sequences' options of benchmarks.generator]

    avsr noise REFERENCE.jsonl --kind babble --snr_db -7.5 -10 --out DIR    # the noise, the same for every face

Readers are recognisers that were no motion's loss: a loss would praise what it asked for. Each reads the lips alone
and, if it hears too, the lips with the sound in each noise of --noise: audio-visual lip readability, AVLR (MultiTalk,
Sung-Bin et al., Interspeech 2024), at -7.5 and -10 dB there. The reference's own lips are the ceiling. The floor is
what is understood without moving lips: the reference's, standing still at their first picture; in noise also the sound
alone, by the same reader. Writes OUT/scores.json and OUT/table.md; what was read before an interruption is not read
again.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from avsr.data.corrupt import make_corruption_manifest
from avsr.data.manifest import read_manifest
from avsr.data.noise import noise_hash, read_noise_manifest
from avsr.decode import DecodeConfig
from avsr.errors import InputError, exit_status
from avsr.files import write_json, write_text
from avsr.significance import DRAWS, difference, interval, pooled, resampled
from benchmarks.columns import READBACK
from benchmarks.conditions import Noise, conditions_in
from benchmarks.content import markdown_section
from benchmarks.digests import Digests
from benchmarks.entrants import add_entrant_arguments, by_name, gather, imported, named
from benchmarks.perception_section import LIPS_ALONE, perception_section
from benchmarks.readback import Readback
from benchmarks.recognizer import training_facts

CEILING, STATIC, SOUND = "reference", "static", "sound"
TAKEN = (CEILING, STATIC, SOUND)

Tallies = dict[tuple[str, str, str], dict[str, np.ndarray]]  # (reader, condition, face): {rate: tally (U, 2)}


@dataclass(frozen=True)
class Trial:
    """The reference's rows, each face's rows in their order, the noises, and how everything is read."""

    rows: list[dict]
    faces: dict[str, list[dict]]
    readers: dict[str, str]
    noises: list[Noise]
    beam_size: int
    out: Path

    def decoding(self, modality: str) -> DecodeConfig:
        return DecodeConfig(method="beam", beam_size=self.beam_size, modality=modality)


def make_trial(
    reference: str,
    motions: dict[str, str],
    readers: dict[str, str],
    noise_dir: str | None,
    out: Path,
    beam_size: int = 5,
) -> Trial:
    """Read the manifests: the faces of a trial are the reference's, and those of `motions` with the reference's sound.

    Raises InputError: lips or utterances that a manifest lacks, no reader, a folder without noises.
    """
    if not readers:
        raise InputError("give a reader with --reader NAME=CHECKPOINT: a recogniser that sees")
    rows = sorted(read_manifest(reference, need=("audio", "lips", "text")), key=lambda row: row["utt_id"])
    faces = {CEILING: rows}
    for name, manifest in motions.items():
        by_id = {row["utt_id"]: row for row in read_manifest(manifest, need=("lips",))}
        missing = [row["utt_id"] for row in rows if row["utt_id"] not in by_id]
        if missing:
            raise InputError(f"motion {name!r} lacks {len(missing)} utterances of {reference}: {missing[:3]}")
        faces[name] = [row | {"lips": by_id[row["utt_id"]]["lips"]} for row in rows]
    noises = [condition.noise for condition in conditions_in(noise_dir) if condition.noise is not None]
    return Trial(rows, faces, readers, noises, beam_size, out)


def read_all(trial: Trial, reading: Readback) -> Tallies:
    """What every reader makes of every face, lips alone and in every noise. Raises InputError: a blind reader."""
    standing = make_corruption_manifest(trial.rows, kind="frozen", severity=1.0, seed=0)
    tallies: Tallies = {}
    for reader, checkpoint in trial.readers.items():
        streams = reading.model(checkpoint).config.modalities
        if "v" not in streams:
            raise InputError(f"--reader {reader}: {checkpoint} does not see; give a recogniser of lips (v or av)")
        for noise in [None, *trial.noises] if "a" in streams else [None]:
            condition = LIPS_ALONE if noise is None else noise.path.stem
            lines = None if noise is None else read_noise_manifest(noise.path)
            modality = "v" if noise is None else "av"
            asked = {name: (rows, modality, None) for name, rows in trial.faces.items()}
            asked[STATIC] = (trial.rows, modality, standing)
            if noise is not None:
                asked[SOUND] = (trial.rows, "a", None)
            for face, (rows, uses, still) in asked.items():
                folder = trial.out / "read" / reader / condition.replace(" ", "_") / face
                found = reading.tallies(folder, checkpoint, rows, trial.decoding(uses), lines, still)
                tallies[reader, condition, face] = found
    return tallies


def evaluate(trial: Trial, reading: Readback) -> dict:
    """Read everything, score and compare; returns what scores.json holds."""
    tallies = read_all(trial, reading)
    noises = {noise.path.stem: noise for noise in trial.noises}
    results, paired = [], []
    for reader, condition in dict.fromkeys((reader, condition) for reader, condition, _ in tallies):
        of = {face: rates for (who, where, face), rates in tallies.items() if (who, where) == (reader, condition)}
        floor = SOUND if SOUND in of else STATIC
        for face, rates in of.items():
            figures = {column.key: _figure(rates[column.key]) for column in READBACK}
            share = None
            if face in trial.faces and face != CEILING:
                share = share_of_gain(of[floor]["wer"], rates["wer"], of[CEILING]["wer"])
            noise = noises.get(condition)
            facts = {"kind": None, "snr_db": None} if noise is None else {"kind": noise.kind, "snr_db": noise.snr_db}
            results.append({"reader": reader, "condition": condition, **facts, "face": face, **figures, "share": share})
        motions = [face for face in trial.faces if face != CEILING]
        pairs = [(base, face) for face in motions for base in (CEILING, floor, STATIC) if base in of]
        for a, b in dict.fromkeys([*pairs, *combinations(motions, 2)]):
            moved = asdict(difference(of[a]["wer"], of[b]["wer"]))
            paired.append({"reader": reader, "condition": condition, "a": a, "b": b, **moved})
    return {
        "protocol": {
            "utterances": len(trial.rows),
            "words": sum(len(row["text"].split()) for row in trial.rows),
            "speakers": len({row["speaker"] for row in trial.rows}),
            "sha256": reading.digests.of_reference(trial.rows),
            "decoding": trial.decoding("v").describe(),
            "noise": {name: noise_hash(read_noise_manifest(noise.path)) for name, noise in noises.items()},
        },
        "readers": {
            name: {"training": training_facts(path), "sha256": reading.digests.of(path)}
            for name, path in trial.readers.items()
        },
        "results": results,
        "paired": paired,
    }


def share_of_gain(floor: np.ndarray, face: np.ndarray, ceiling: np.ndarray, draws: int = DRAWS) -> dict | None:
    """How much of what the ceiling's lips gain over the floor a face's lips gain, in %, with its 95 % interval.

    Of three tallies (U, 2) of one error rate; the utterances are drawn together. 100: understood like the ceiling; 0:
    no help; below 0: misleading. None where the ceiling's own gain is not above 0 in 95 % of the draws' middle.
    """
    floors, faces, ceilings = (resampled(tally, draws) for tally in (floor, face, ceiling))
    possible = floors - ceilings
    if not np.nanquantile(possible, 0.025) > 0:
        return None
    low, high = 100 * np.nanquantile((floors - faces) / np.where(possible > 0, possible, np.nan), (0.025, 0.975))
    value = 100 * (pooled(floor) - pooled(face)) / (pooled(floor) - pooled(ceiling))
    return {"value": float(value), "low": float(low), "high": float(high)}


def _figure(tally: np.ndarray) -> dict[str, float]:
    low, high = interval(tally)
    return {"value": float(pooled(tally)), "low": float(low), "high": float(high)}


def read_lexicon_rows(paths: Sequence[str]) -> list[dict]:
    """Rows of manifests whose alignments tell how words are pronounced."""
    return [row for path in paths for row in read_manifest(path, need=(), use=("alignment",))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_entrant_arguments(parser)
    parser.add_argument("--reader", type=named, action="append", required=True, metavar="NAME=CHECKPOINT")
    parser.add_argument("--noise", metavar="DIR", help="folder of noise manifests")
    parser.add_argument("--lexicon", action="append", default=[], metavar="MANIFEST", help="its words are pronounced")
    parser.add_argument("--beam_size", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    reference, motions = gather(args, taken=TAKEN)
    trial = make_trial(reference, motions, by_name("--reader", args.reader, ()), args.noise, args.out, args.beam_size)
    scores = evaluate(trial, Readback(trial.rows, read_lexicon_rows(args.lexicon), Digests()))
    scores["protocol"] |= {"reference": reference, "sequences": imported({CEILING: reference} | motions)}
    write_json(args.out / "scores.json", scores)
    table = markdown_section(perception_section(args.out.name, scores))
    write_text(args.out / "table.md", table)
    print(table)


if __name__ == "__main__":
    sys.exit(exit_status(main))
