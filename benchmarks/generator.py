"""How true, and how readable, generated face motion is.

    python -m benchmarks.generator REFERENCE.jsonl --motion NAME=MANIFEST … --reader NAME=CHECKPOINT … --out DIR
                                   [--judge CHECKPOINT]

REFERENCE's rows hold the speech with its true motion (embedded and 3D corpora) or with filmed lips and their landmarks.
Each MANIFEST holds the same utterances with a generated `motion` and its drawn `lips`. Geometry is measured where the
reference has motion; every reader reads the reference's lips and each motion's; the judge, a `SyncNet3D` that was no
motion's loss, tells how well motion fits its sound.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from avsr.data.alignment import read_alignment
from avsr.data.manifest import read_manifest
from avsr.decode import DecodeConfig, decode_manifest
from avsr.errors import InputError, exit_status
from avsr.files import read_jsonl, write_json
from avsr.media.audio import read_audio
from avsr.media.landmarks import Landmarks
from avsr.models.recognizer import Recognizer
from avsr.score import bootstrap_interval, score
from benchmarks.recognizer import training_facts
from talking3d.face.motion import Motion
from talking3d.face.regions import lip_aperture_mm
from talking3d.face.template import FaceTemplate
from talking3d.metrics import closures, fdd, ldtw_mm, lve, lve_mm, mtm_ms, mve_mm
from talking3d.models.syncnet3d import SyncNet3D
from talking3d.sync import mean_scores, sync_score

INNER_LIPS = 62, 66  # iBUG-68: the middle of the upper and of the lower inner lip
GEOMETRY = (
    "LVE: per frame the largest distance over the {lips} lip vertices, averaged over all frames pooled; squared in m² "
    "(the literature's) and rooted in mm. MVE: mean over all {verts} vertices. LDTW: mean lip distance after dynamic "
    "time warping. FDD: signed, {upper} upper-face vertices. 25 fps. Closed on p b m: inner lips within 0.5 mm. "
)
OPENING = (
    "Lip-opening r: mean over utterances of Pearson's r between the inner-lip gaps. MTM: mean temporal misalignment of "
    "the gaps' extrema, pooled over those that find a partner. "
)
SYNC = "LSE-D, LSE-C: mean over utterances, by the judge {judge}, over ±15 frames; comparable within this table only. "


def opening_of(row: dict) -> np.ndarray | None:
    """(T,) inner-lip gap of a row: mm from its motion, else pixels from its filmed landmarks; None without either."""
    if row["motion"] is not None:
        template = FaceTemplate.load(row["template"])
        return lip_aperture_mm(template, Motion.load(row["motion"]).offsets_for(template))
    if row["landmarks"] is not None:
        points = Landmarks.load(row["landmarks"]).points
        return np.linalg.norm(points[:, INNER_LIPS[0]] - points[:, INNER_LIPS[1]], axis=-1)
    return None


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's r over the frames both have; None where one of them doesn't move."""
    n = min(len(a), len(b))
    a, b = a[:n], b[:n]
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-6 and b.std() > 1e-6 else None


def measure(reference: list[dict], generated: dict[str, dict], judge: SyncNet3D | None = None) -> dict:
    """Geometry and sync of one generator against the reference, pooled as the metrics' docstrings say."""
    frames, errors, dynamics, closed, rs, openings, synced, warped = ([] for _ in range(8))
    for row in reference:
        other = generated[row["utt_id"]]
        opening, true_opening = opening_of(other), opening_of(row)
        if opening is None:  # lips alone, as a 2D teacher draws them: they are read, not measured
            continue
        if true_opening is not None:
            rs.append(correlation(opening, true_opening))
            n = min(len(opening), len(true_opening))
            openings.append((opening[:n], true_opening[:n]))
        if judge is not None and other["motion"] is not None:
            offsets = Motion.load(other["motion"]).offsets_for(FaceTemplate.load(other["template"]))
            synced.append(sync_score(judge, read_audio(row["audio"]), offsets))
        phones = read_alignment(row["alignment"]).get("phones") if row["alignment"] is not None else None
        if phones:
            closed += closures(opening, phones)
        if row["motion"] is None:
            continue
        template = FaceTemplate.load(row["template"])
        lips = template.region("lips")
        pair = [(Motion.load(other["motion"]).offsets_for(template), Motion.load(row["motion"]).offsets_for(template))]
        frames.append(len(pair[0][1]))
        errors.append((lve(pair, lips), lve_mm(pair, lips), mve_mm(pair)))
        warped.append(ldtw_mm(pair, lips))
        dynamics.append(fdd(pair, template.region("upper_face"))[0])
    result = {}
    if errors:
        # A mean over pooled frames is the frame-weighted mean of the sequences' means.
        pooled = np.average(errors, axis=0, weights=frames)
        result |= dict(zip(("lve_m2", "lve_mm", "mve_mm"), map(float, pooled), strict=True))
        result |= {"ldtw_mm": float(np.mean(warped)), "fdd": float(np.mean(dynamics))}
    if closed:
        result["closure_rate"] = float(np.mean(closed))
    moving = [r for r in rs if r is not None]
    if moving:
        result["lip_correlation"] = float(np.mean(moving))
        misaligned, paired = mtm_ms(openings)
        if paired > 0:
            result["mtm_ms"] = misaligned
    if synced:
        result |= dict(zip(("lse_d", "lse_c"), mean_scores(synced), strict=True))
    return result


def evaluate(
    reference_path: str,
    motions: dict[str, str],
    readers: dict[str, str],
    out: Path,
    beam_size: int,
    judge: str | None = None,
) -> dict:
    """Measure and read every motion; returns what scores.json holds."""
    reference = read_manifest(reference_path)
    manifests = {"reference": reference} | {name: read_manifest(path, need=("lips",)) for name, path in motions.items()}
    wanted = {row["utt_id"] for row in reference}
    for name, rows in manifests.items():
        missing = wanted - {row["utt_id"] for row in rows}
        if missing:
            raise InputError(
                f"motion {name!r} lacks {len(missing)} utterances of {reference_path}: {sorted(missing)[:3]}"
            )
    judging = None if judge is None else SyncNet3D.from_pretrained(judge)
    result = {name: {"manifest": motions.get(name, reference_path)} for name in manifests}
    for name, rows in manifests.items():
        result[name] |= measure(reference, {row["utt_id"]: row for row in rows}, judging)
        result[name]["readback"] = {}
    refs = {row["utt_id"]: row["text"] for row in reference}
    config = DecodeConfig(method="beam", beam_size=beam_size, modality="v")
    for reader, checkpoint in readers.items():
        model = Recognizer.from_pretrained(checkpoint)
        for name, rows in manifests.items():
            hyp = out / f"read_{name}_by_{reader}" / "hyp.jsonl"
            if not hyp.is_file():
                decode_manifest(model, [row for row in rows if row["utt_id"] in wanted], config, out=hyp)
            scores = score(refs, {line["utt_id"]: line["text"] for line in read_jsonl(hyp)})
            low, high = bootstrap_interval(scores)
            result[name]["readback"][reader] = {"wer": scores.wer, "low": low, "high": high, "cer": scores.cer}
    geometry = OPENING
    if reference[0]["motion"] is not None:
        template = FaceTemplate.load(reference[0]["template"])
        sizes = {"lips": len(template.region("lips")), "upper": len(template.region("upper_face"))}
        geometry = GEOMETRY.format(verts=len(template.verts), **sizes) + OPENING
    if judge is not None:
        geometry += SYNC.format(judge=f"`{Path(judge).parent.name}`")
    return {
        "protocol": {
            "reference": str(reference_path),
            "utterances": len(reference),
            "speakers": len({row["speaker"] for row in reference}),
            "geometry": geometry,
        },
        "readers": {name: f"`{Path(path).parent.name}`, {training_facts(path)}" for name, path in readers.items()},
        "motions": result,
    }


def _named(text: str) -> tuple[str, str]:
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=PATH")
    return name, path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference")
    parser.add_argument("--motion", type=_named, action="append", required=True, metavar="NAME=MANIFEST")
    parser.add_argument("--reader", type=_named, action="append", default=[], metavar="NAME=CHECKPOINT")
    parser.add_argument("--judge", help="checkpoint of a SyncNet3D")
    parser.add_argument("--beam_size", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    scores = evaluate(args.reference, dict(args.motion), dict(args.reader), args.out, args.beam_size, args.judge)
    write_json(args.out / "scores.json", scores)
    for name, row in scores["motions"].items():
        print(name, {key: value for key, value in row.items() if key != "manifest"})


if __name__ == "__main__":
    sys.exit(exit_status(main))
