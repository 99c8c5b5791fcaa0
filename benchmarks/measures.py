"""What is measured of generated motion, utterance by utterance, and kept, so that an interrupted benchmark goes on.

A measure of an utterance is a total and a weight, which pool as `avsr.significance` says: LVE has the frames'
errors and their number, closures have those made and those due, word error has errors and words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import talking3d.metrics
from avsr.data.alignment import read_alignment
from avsr.data.manifest import read_manifest
from avsr.decode import DecodeConfig
from avsr.errors import InputError
from avsr.files import write_json
from avsr.media.audio import read_audio
from avsr.media.landmarks import Landmarks
from avsr.media.timing import FPS
from avsr.significance import DRAWS, interval, pooled
from benchmarks.columns import definitions, readback_key
from benchmarks.digests import Digests, digest_of
from benchmarks.readback import Readback
from benchmarks.recognizer import training_facts
from talking3d.face import face_frame
from talking3d.face.face_frame import MouthTraces, filmed_mouth, modelled_mouth
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate
from talking3d.metrics import (
    closures,
    correlation,
    fdd,
    ldtw_mm,
    lip_errors,
    lip_intensity_mm,
    misalignments,
    mve_mm,
    slcc_terms,
)
from talking3d.models.syncnet3d import SyncNet3D
from talking3d.runtime import Runtime
from talking3d.sync import sync_score

SEEN = ("motion", "template", "landmarks", "alignment", "audio")  # the files of a row that `measure_utterance` reads

DISTANCE_AT = "distance_at_"  # and the frames by which motion is taken later than its sound: what the judge finds
INTENSITIES = ("speech_rms", "lip_intensity_mm")  # of an utterance; those of all utterances give SLCC

Measures = dict[str, tuple[float, float]]  # key of `benchmarks.columns`: total, weight


def mouth_of(row: Mapping) -> MouthTraces | None:
    """The mouth of a row by its motion, else by its filmed landmarks; None without either."""
    if row["motion"] is not None:
        template = FaceTemplate.load(row["template"])
        return modelled_mouth(template, Motion.load(row["motion"]).offsets_for(template))
    return None if row["landmarks"] is None else filmed_mouth(Landmarks.load(row["landmarks"]))


def measure_utterance(row: Mapping, other: Mapping, judge: SyncNet3D | None = None) -> Measures:
    """Geometry of the motion of `other` against `row`'s and against the film, where `row` has them, and how well it
    fits the sound."""
    found: Measures = {}
    mouth, true_mouth = mouth_of(other), mouth_of(row)
    if mouth is not None and true_mouth is not None:
        r = correlation(mouth.opening, true_mouth.opening)
        if r is not None:
            found["lip_correlation"] = r, 1
            n = min(len(mouth.opening), len(true_mouth.opening))
            gaps, _ = misalignments(mouth.opening[:n], true_mouth.opening[:n])
            found["mtm_ms"] = 1000 / FPS * sum(gaps), len(gaps)
    if other["motion"] is None:
        return found
    moved, face, waveform = Motion.load(other["motion"]), FaceTemplate.load(other["template"]), read_audio(row["audio"])
    offsets = moved.offsets_for(face)
    found["speech_rms"] = float(np.sqrt(np.square(waveform, dtype=np.float64).mean())), 1
    found["lip_intensity_mm"] = lip_intensity_mm(offsets, face.region("lips")), 1
    if judge is not None:
        judged = sync_score(judge, waveform, offsets)
        found |= {"lse_d": (judged.lse_d, 1), "lse_c": (judged.lse_c, 1)}
        shifts = np.arange(len(judged.distances)) - len(judged.distances) // 2
        found |= {f"{DISTANCE_AT}{shift}": (d, 1) for shift, d in zip(shifts, judged.distances, strict=True)}
    phones = read_alignment(row["alignment"]).get("phones") if row["alignment"] is not None else None
    if phones:
        closed = closures(mouth.opening, phones)
        found["closure_rate"] = sum(closed), len(closed)
    if row["landmarks"] is not None:
        landmarks = Landmarks.load(row["landmarks"])
        found |= _followed("filmed_", mouth, filmed_mouth(landmarks), landmarks.found)
    if row["motion"] is None:
        return found
    found |= _followed("", mouth, true_mouth)
    template = FaceTemplate.load(row["template"])
    pred, true = moved.offsets_for(template), Motion.load(row["motion"]).offsets_for(template)
    lips, n_frames = template.region("lips"), len(true)
    squared = lip_errors(pred, true, lips)
    signed, absolute = fdd([(pred, true)], template.region("upper_face"))
    return found | {
        "lve_m2": (squared.sum(), n_frames),
        "lve_mm": (1e3 * np.sqrt(squared).sum(), n_frames),
        "mve_mm": (mve_mm([(pred, true)]) * n_frames, n_frames),
        "ldtw_mm": (ldtw_mm([(pred, true)], lips), 1),
        "fdd": (signed, 1),
        "fdd_abs": (absolute, 1),
    }


def _followed(prefix: str, mouth: MouthTraces, true: MouthTraces, seen: np.ndarray | None = None) -> Measures:
    """How well the lower lip and the width of a mouth follow the true one's, over the frames `seen` (T,), None: all."""
    n = min(len(mouth.lower), len(true.lower))
    frames = slice(n) if seen is None else np.flatnonzero(seen[:n])
    rs = {part: correlation(getattr(mouth, part)[frames], getattr(true, part)[frames]) for part in ("lower", "width")}
    return {f"{prefix}{part}_correlation": (r, 1) for part, r in rs.items() if r is not None}


def shift_curve(tallies: Mapping[str, np.ndarray], draws: int = DRAWS) -> list[dict]:
    """The judge's distance of sound and motion at every shift of the motion, with its interval; empty without a judge.

    LSE-D is the mean over utterances of each one's least distance, so never above the curve.
    """
    shifts = sorted(int(key.removeprefix(DISTANCE_AT)) for key in tallies if key.startswith(DISTANCE_AT))
    if not shifts:
        return []
    tally = np.stack([tallies[f"{DISTANCE_AT}{shift}"] for shift in shifts], axis=1)  # (U, shifts, 2)
    curve = zip(shifts, pooled(tally), *interval(tally, draws), strict=True)
    return [
        {"shift_ms": 1000 / FPS * shift, "distance": float(distance), "low": float(low), "high": float(high)}
        for shift, distance, low, high in curve
    ]


def _runtime_of(row: Mapping, runtime: Runtime) -> tuple[float, float]:
    """Seconds of computing and of speech of one utterance; no weight where its time was not taken."""
    if row["utt_id"] not in runtime.seconds:
        return 0.0, 0.0
    return runtime.seconds[row["utt_id"]], Motion.load(row["motion"]).n_frames / FPS


class Bench:
    """One reference, the judge and the readers that measure every motion, and the folder that keeps what they found.

    What is in the folder is used again where the files that it was made from, the reader and the judge still have the
    same bytes, and made anew where they have not.

    Args:
        reference: manifest of the speech, with its true motion or filmed lips.
        out: the folder.
        readers: {name: checkpoint of a recogniser that sees}.
        judge: checkpoint of a SyncNet3D that was no motion's loss.
        lexicon: manifests whose alignments tell how words are pronounced, besides the reference's own.
        beam_size: of the readers.
    """

    def __init__(
        self,
        reference: str | Path,
        out: Path,
        readers: Mapping[str, str],
        judge: str | None = None,
        lexicon: Sequence[str] = (),
        beam_size: int = 5,
    ):
        self.reference = str(reference)
        self.rows = sorted(read_manifest(reference, use=SEEN), key=lambda row: row["utt_id"])
        self.out, self.readers, self.judge = out, dict(readers), judge
        self.decoding = DecodeConfig(method="beam", beam_size=beam_size, modality="v")
        self.digests = Digests()
        lexicon_rows = [row for path in lexicon for row in read_manifest(path)]
        self.reading = Readback(self.rows, lexicon_rows, self.digests)
        self.hardware: dict[str, str] = {}
        self._judge: SyncNet3D | None = None

    def measure(self, name: str, manifest: str | Path) -> dict[str, np.ndarray]:
        """Everything of one motion: {key: tally (U, 2)}, over the reference's utterances by utt_id.

        manifest: the reference's utterances with a generated `motion` and its drawn `lips` (or the reference itself).
        name: of the files in the folder. Raises InputError: utterances or lips that the manifest lacks.
        """
        rows = read_manifest(manifest, need=("lips",) if self.readers else (), use=SEEN)
        by_id = {row["utt_id"]: row for row in rows}
        missing = sorted(row["utt_id"] for row in self.rows if row["utt_id"] not in by_id)
        if missing:
            raise InputError(f"motion {name!r} lacks {len(missing)} utterances of {self.reference}: {missing[:3]}")
        others = [by_id[row["utt_id"]] for row in self.rows]
        found = self._measured(name, others)
        keys = dict.fromkeys(key for measures in found for key in measures)
        tallies = {key: np.array([measures.get(key, (0, 0)) for measures in found], dtype=float) for key in keys}
        if "lip_intensity_mm" in tallies:
            heard, seen = (np.where(tally[:, 1] > 0, tally[:, 0], np.nan) for tally in map(tallies.pop, INTENSITIES))
            terms = slcc_terms(heard, seen, [row["speaker"] for row in self.rows])
            tallies["slcc"] = np.stack([np.nan_to_num(terms), np.isfinite(terms)], axis=-1)
        runtime = None if others[0]["motion"] is None else Runtime.load(Path(others[0]["motion"]).parent)
        if runtime is not None:
            tallies["rtf"] = np.array([_runtime_of(row, runtime) for row in others])
            self.hardware[name] = runtime.hardware
        for reader, checkpoint in self.readers.items():
            read = self.reading.tallies(self.out / f"read_{name}_by_{reader}", checkpoint, others, self.decoding)
            tallies |= {readback_key(rate, reader): tally for rate, tally in read.items()}
        return {key: tally for key, tally in tallies.items() if tally[:, 1].sum() > 0}

    def protocol(self, measured: Sequence[str]) -> dict:
        """What scores.json says of the reference and of the figures with the keys `measured`."""
        n_lips = n_verts = n_upper = 0
        if self.rows[0]["motion"] is not None:
            template = FaceTemplate.load(self.rows[0]["template"])
            n_lips, n_upper = len(template.region("lips")), len(template.region("upper_face"))
            n_verts = len(template.verts)
        judge = "" if self.judge is None else f"`{Path(self.judge).parent.name}`"
        return {
            "reference": self.reference,
            "sha256": self.digests.of_reference(self.rows),
            "judges": self.judges(),
            "utterances": len(self.rows),
            "speakers": len({row["speaker"] for row in self.rows}),
            "hardware": dict(self.hardware),
            "geometry": definitions(measured, n_lips, n_verts, n_upper, judge, self.hardware),
        }

    def judges(self) -> dict:
        """What the figures hang on beside the reference: SHA-256 of the readers and of the judge, and the search."""
        return {
            "readers": {name: self.digests.of(path) for name, path in self.readers.items()},
            "judge": self.digests.of(self.judge),
            "decoding": self.decoding.describe(),
        }

    def reader_facts(self) -> dict[str, str]:
        """Each reader's checkpoint and training, in words."""
        return {name: f"`{Path(path).parent.name}`, {training_facts(path)}" for name, path in self.readers.items()}

    def _measured(self, name: str, others: list[dict]) -> list[Measures]:
        # The code is among the inputs: a metric that changes is measured again.
        code = [self.digests.of(path) for path in (__file__, talking3d.metrics.__file__, face_frame.__file__)]
        files = self.digests.of_rows(self.rows + others, SEEN)
        inputs = digest_of([code, files, self.digests.of(self.judge)])
        path = self.out / "measured" / f"{name}.json"
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["inputs"] == inputs:
                return [kept["utterances"][row["utt_id"]] for row in self.rows]
        if self.judge is not None and self._judge is None:
            self._judge = SyncNet3D.from_pretrained(self.judge)
        found = [measure_utterance(row, other, self._judge) for row, other in zip(self.rows, others, strict=True)]
        found = [{key: (float(total), float(weight)) for key, (total, weight) in each.items()} for each in found]
        utterances = {row["utt_id"]: measures for row, measures in zip(self.rows, found, strict=True)}
        write_json(path, {"inputs": inputs, "utterances": utterances})
        return found
