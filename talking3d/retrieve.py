"""Lips for the motion of a manifest out of filmed frames: those of the same speaker whose own motion is nearest.

out_dir/settings.json           of which frames; written first
out_dir/lips/000/<utt_id>.mp4   at most 1000 to a folder
out_dir/frames/<utt_id>.json    which frames a clip is made of, and how near they are
out_dir/failed.jsonl            while some rows have no lips: utt_id and reason
out_dir/statistics.json, manifest.jsonl   once every clip is there
"""

import functools
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from avsr.data.manifest import speaker_of, write_manifest
from avsr.errors import InputError
from avsr.files import write_json
from avsr.media.video import read_lips, write_lips
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate
from talking3d.frame_search import FilmedFrames, FrameSearch, LipSpace, features, small_pictures
from talking3d.out_folder import claim, report_failures
from talking3d.render.lip_clips import CLIPS_A_FOLDER

RETRIEVAL = 1  # goes into settings.json: raise it when the same motion gets other frames
CLIPS_IN_MEMORY = 512  # decoded; 0.7 MB for 3 s

logger = logging.getLogger(__name__)


def retrieve_manifest(
    rows: list[dict], filmed: list[dict], out_dir: str | Path, *, own: bool = False, n_jobs: int = 1
) -> Path:
    """Write out_dir/lips/NNN/<utt_id>.mp4 for each row and out_dir/manifest.jsonl, whose rows name it.

    Nothing is random: the same rows get the same frames, in any company. Clips that are there already are kept, so that
    an interrupted call goes on. A row that cannot be done does not stop the others, but then no manifest is written:
    out_dir/failed.jsonl says why, and the next call tries it again.

    Args:
        rows: manifest rows with `motion` and `template`.
        filmed: rows of a fitted corpus (`talking3d fit`), with `lips`, `motion` and `template`, of the same topology.
        own: whether an utterance may be given its own frames, where `filmed` has it.
        n_jobs: threads.

    Returns:
        the manifest's path; its rows have `lips`, source="rendered", `generator` the motion's with "-retrieved", and no
        `video` or `landmarks`, which show other lips.

    Raises:
        InputError: before anything is written: no rows, an utterance twice, filmed rows without lips or motion, an
            out_dir of other frames. At once: filmed files that are damaged or do not fit each other. After all the
            others are done: rows of speakers who are not filmed, or only in that utterance, and rows with a bad motion
            or template.
    """
    out_dir = Path(out_dir)
    _check(rows, ("motion", "template"), "to find lips for")
    _check(filmed, ("lips", "motion", "template"), "of filmed frames")
    settings = {"retrieval": RETRIEVAL, "own": own, "filmed_sha256": _digest(filmed)}
    claim(out_dir, settings, "lips retrieved with")
    clips = {
        row["utt_id"]: out_dir / "lips" / f"{i // CLIPS_A_FOLDER:03d}" / f"{row['utt_id']}.mp4"
        for i, row in enumerate(rows)
    }
    missing: dict[str, list[dict]] = {}
    for row in rows:
        if not (clips[row["utt_id"]].is_file() and _record(out_dir, row).is_file()):
            missing.setdefault(speaker_of(row), []).append(row)
    failed = []
    with tqdm(total=sum(map(len, missing.values())), desc="retrieving lips", unit="clip", disable=None) as progress:
        for speaker, some in missing.items():
            sources = [row for row in filmed if speaker_of(row) == speaker]
            for row, reason in _retrieve(some, sources, clips, out_dir, own, n_jobs):
                progress.update()
                if reason is not None:
                    failed.append({"utt_id": row["utt_id"], "reason": reason})
    report_failures(out_dir, failed, len(rows), "got no lips, the others have")
    write_json(out_dir / "statistics.json", statistics(_read_record(out_dir, row) for row in rows))
    manifest = out_dir / "manifest.jsonl"
    write_manifest(manifest, [_made(row, clips[row["utt_id"]]) for row in rows])
    logger.info("retrieved lips: %s", manifest)
    return manifest


class FilmedSpeaker:
    """A speaker's fitted clips, ready to be searched. Raises InputError naming the utterance that does not fit."""

    def __init__(self, sources: list[dict], n_jobs: int = 1):
        self.utt_ids = [row["utt_id"] for row in sources]
        self.space = LipSpace.of_template(FaceTemplate.load(sources[0]["template"]))
        self._files = [row["lips"] for row in sources]
        self._template = functools.lru_cache(maxsize=64)(FaceTemplate.load)
        self._lips = functools.lru_cache(maxsize=CLIPS_IN_MEMORY)(read_lips)
        with ThreadPoolExecutor(n_jobs) as pool:
            clips = list(pool.map(self._read, sources))
        self.frames = FilmedFrames.of_clips(clips)
        self._first = np.searchsorted(self.frames.clip, np.arange(len(sources)))
        self._search = FrameSearch(self.frames)

    def retrieve(self, row: dict, own: bool = False) -> tuple[np.ndarray, dict]:
        """Lips (T, 96, 96) for a row's motion, and its record, what out_dir/frames/ has of it.

        Raises InputError on a bad motion or template, and where no frames are left.
        """
        positions, gap_mm = self.space.track(Motion.load(row["motion"]), self._template(row["template"]))
        without = self.utt_ids.index(row["utt_id"]) if not own and row["utt_id"] in self.utt_ids else None
        path = self._search.path(features(positions, gap_mm), without)
        clip = self.frames.clip[path]
        within = path - self._first[clip]
        lips = np.stack([self._lips(self._files[c])[frame] for c, frame in zip(clip, within, strict=True)])
        cuts = np.flatnonzero((np.diff(path) != 1) | (np.diff(clip) != 0)) + 1
        starts = np.concatenate([[0], cuts])
        lengths = np.diff([*starts, len(path)])
        steps = np.sqrt(np.square(np.diff(lips.astype(np.float32), axis=0)).mean(axis=(1, 2)))
        at_cut = np.isin(np.arange(1, len(path)), cuts)
        record = {
            "speaker": speaker_of(row),
            "filmed_frames": len(self.frames.clip),
            "runs": [
                [self.utt_ids[clip[start]], int(within[start]), int(length)]
                for start, length in zip(starts, lengths, strict=True)
            ],
            "distance_mm": np.linalg.norm(self.frames.positions[path] - positions, axis=1).round(4).tolist(),
            "step_at_cuts": steps[at_cut].round(2).tolist(),
            "step_in_runs": steps[~at_cut].round(2).tolist(),
        }
        return lips, record

    def _read(self, row: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        try:
            positions, gap_mm = self.space.track(Motion.load(row["motion"]), self._template(row["template"]))
            lips = read_lips(row["lips"])  # not kept: an hour of them is 0.8 GB
        except InputError as error:
            raise InputError(f"filmed {row['utt_id']}: {error}") from error
        if len(lips) != len(gap_mm):
            raise InputError(
                f"filmed {row['utt_id']}: {len(lips)} frames of lips, {len(gap_mm)} of motion: fit it again"
            )
        return positions, gap_mm, small_pictures(lips)


def statistics(records: Iterable[dict]) -> dict:
    """The figures of all clips together.

    distance_mm: mean over frames of how far the lips' vertices are from the target (root mean square over vertices);
    run_frames: mean length of what follows each other in the source; used: share of the speakers' filmed frames that
    are shown; step_at_cuts, step_in_runs: mean difference of neighbouring pictures (root mean square, gray levels)
    where frames are joined and where they were filmed so. None where there is no such step.
    """
    records = list(records)
    shown = {
        (utt_id, frame)
        for record in records
        for utt_id, first, length in record["runs"]
        for frame in range(first, first + length)
    }
    filmed = {record["speaker"]: record["filmed_frames"] for record in records}
    pooled = {
        name: [value for record in records for value in record[name]]
        for name in ("distance_mm", "step_at_cuts", "step_in_runs")
    }
    n_frames = len(pooled["distance_mm"])
    return {
        "clips": len(records),
        "frames": n_frames,
        "filmed_frames": sum(filmed.values()),
        "used": len(shown) / sum(filmed.values()),
        "run_frames": n_frames / sum(len(record["runs"]) for record in records),
        **{name: float(np.mean(values)) if values else None for name, values in pooled.items()},
    }


def _retrieve(
    rows: list[dict], sources: list[dict], clips: dict[str, Path], out_dir: Path, own: bool, n_jobs: int
) -> Iterator[tuple[dict, str | None]]:
    """Make the clips of one speaker; yield each row with the reason why it has none, or None."""
    if not sources:
        reason = f"no filmed frames of speaker {speaker_of(rows[0])!r}: give a fitted manifest that shows this speaker"
        yield from ((row, reason) for row in rows)
        return
    speaker = FilmedSpeaker(sources, n_jobs)

    def attempt(row: dict) -> str | None:
        try:
            lips, record = speaker.retrieve(row, own)
        except InputError as error:
            return str(error)
        write_json(_record(out_dir, row), record)
        write_lips(clips[row["utt_id"]], lips)
        return None

    with ThreadPoolExecutor(n_jobs) as pool:
        yield from zip(rows, pool.map(attempt, rows), strict=True)


def _made(row: dict, clip: Path) -> dict:
    generator = f"{row.get('generator') or 'corpus'}-retrieved"
    return {**row, "lips": str(clip), "source": "rendered", "generator": generator, "video": None, "landmarks": None}


def _record(out_dir: Path, row: dict) -> Path:
    return out_dir / "frames" / f"{row['utt_id']}.json"


def _read_record(out_dir: Path, row: dict) -> dict:
    return json.loads(_record(out_dir, row).read_text(encoding="utf-8"))


def _check(rows: list[dict], fields: tuple[str, ...], what: str) -> None:
    if not rows:
        raise InputError(f"no utterances {what}: the manifest is empty")
    seen: set[str] = set()
    for row in rows:
        if row["utt_id"] in seen:
            raise InputError(f"utterance {row['utt_id']!r} appears twice among those {what}; each id must be unique")
        seen.add(row["utt_id"])
        for field in fields:
            if row.get(field) is None:
                raise InputError(f"utterance {row['utt_id']!r} has no {field}: those {what} need {', '.join(fields)}")


def _digest(filmed: list[dict]) -> str:
    """Of the frames there are to choose from, and of their motion."""
    digest = hashlib.sha256()
    for row in sorted(filmed, key=lambda row: row["utt_id"]):
        digest.update(row["utt_id"].encode())
        try:
            digest.update(Path(row["motion"]).read_bytes())
        except OSError as error:
            raise InputError(f"filmed {row['utt_id']}: cannot read its motion ({error})") from error
    return digest.hexdigest()
