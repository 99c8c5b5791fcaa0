"""From videos to a corpus: sound, landmarks, lip crops and a manifest, with the reason for every utterance left out."""

import itertools
import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import soundfile
from tqdm import tqdm

from avsr.data.manifest import write_manifest
from avsr.errors import InputError
from avsr.files import write_jsonl
from avsr.media.audio import check_waveform, read_audio, write_wav
from avsr.media.landmarks import Landmarks, detect_landmarks
from avsr.media.lips import MOUTH_WIDTH, crop_lips
from avsr.media.timing import FPS, SAMPLE_RATE, frames_of, samples_of
from avsr.media.video import stream_frames, write_lips
from avsr.parallel import worker_pool

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".mpg", ".mpeg", ".mov", ".avi", ".mkv", ".webm", ".m4v")
MIN_FOUND = 0.5  # share of the frames that must show a face
NOTED_DIFFERENCE_S = 0.2  # between the lengths of sound and video; smaller ones are a codec's padding

_OUTPUTS = {"audio": "wav", "lips": "mp4", "landmarks": "npz"}


def prepare(
    rows: list[dict],
    out_dir: str | Path,
    n_jobs: int = 1,
    detector: str = "auto",
    mouth_width: float = MOUTH_WIDTH,
    landmark_model: str | Path | None = None,
) -> Path:
    """Make a corpus folder of videos and return its manifest.

    rows: manifest rows with `utt_id` and `video`, and `audio` where the sound isn't the video's own. For each utterance
    out_dir gets audio/<utt_id>.wav (16 kHz), lips/<utt_id>.mp4 and landmarks/<utt_id>.npz, all cut to the shorter of
    sound and video; then manifest.jsonl, in the order of `rows`, and dropped.jsonl with the reason for each utterance
    that cannot be used (no face in half of its frames, corrupt, silent, ...).

    Utterances whose three files exist are not made again, so that an interrupted call goes on where it stopped. n_jobs
    processes share the work. detector, landmark_model: see `avsr.media.landmarks`. mouth_width: see `avsr.media.lips`;
    the recogniser's. Raises InputError on bad utt_ids, on a mouth_width that is no share, and when no utterance can be
    used.
    """
    out_dir = Path(out_dir).resolve()
    _check_rows(rows)
    if not 0.0 < mouth_width <= 1.0:
        raise InputError(f"mouth_width is a share of the crop's width, above 0 and up to 1, got {mouth_width}")
    kept, dropped = [], []
    how = {"detector": detector, "landmark_model": landmark_model, "mouth_width": mouth_width}
    attempt = partial(_attempt, out_dir=out_dir, **how)
    for row, outcome in zip(rows, _run(rows, attempt, n_jobs), strict=True):
        if isinstance(outcome, str):
            if len(rows) > 1:  # of one, the error says it
                logger.warning("%s dropped: %s", row["utt_id"], outcome)
            dropped.append({"utt_id": row["utt_id"], "reason": outcome})
        else:
            kept.append(outcome)
    write_jsonl(out_dir / "dropped.jsonl", dropped)
    if not kept and len(rows) == 1:
        raise InputError(dropped[0]["reason"])
    if not kept:
        raise InputError(
            f"none of {len(rows)} utterances can be used; the first: {dropped[0]['utt_id']}: {dropped[0]['reason']} "
            f"(all of them: {out_dir / 'dropped.jsonl'})"
        )
    manifest = out_dir / "manifest.jsonl"
    write_manifest(manifest, kept)
    logger.info("%s: %d utterances, %d dropped", manifest, len(kept), len(dropped))
    return manifest


def rows_from_folder(folder: str | Path) -> list[dict]:
    """Manifest rows for every video below `folder`, or for the one video that it names.

    utt_id is the relative path without suffix, "_" between its parts and words; text is a sibling .txt's, else "".
    Raises InputError when there is no such folder or no video in it.
    """
    folder = Path(folder)
    if not folder.exists():
        raise InputError(f"{folder}: no such video or folder; check the path")
    single = folder.is_file()
    videos = [folder] if single else sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        raise InputError(f"{folder}: no videos below it ({', '.join(VIDEO_SUFFIXES)})")
    root = folder.parent if single else folder
    rows = []
    for video in videos:
        transcript = video.with_suffix(".txt")
        rows.append(
            {
                "utt_id": "_".join(" ".join(video.relative_to(root).with_suffix("").parts).split()),
                "text": transcript.read_text(encoding="utf-8").strip() if transcript.is_file() else "",
                "video": str(video.resolve()),
            }
        )
    return rows


def _check_rows(rows: list[dict]) -> None:
    if not rows:
        raise InputError("there are no utterances to prepare")
    seen = set()
    for number, row in enumerate(rows, start=1):
        utt_id, video = row.get("utt_id"), row.get("video")
        if not utt_id or not video:
            raise InputError(f"row {number}: expected utt_id and video, got utt_id={utt_id!r} video={video!r}")
        if "/" in utt_id or os.sep in utt_id or utt_id.startswith("."):
            raise InputError(f"row {number}: utt_id {utt_id!r} names output files; leave out / and a leading dot")
        if utt_id in seen:
            raise InputError(f"row {number}: utt_id {utt_id!r} appears twice; each utterance needs its own")
        seen.add(utt_id)


def _run(rows: list[dict], attempt: Callable[[dict], dict | str], n_jobs: int) -> Iterator[dict | str]:
    """Yield the outcome of each row, in order."""
    progress = partial(tqdm, total=len(rows), desc="prepare", unit="utt", disable=None)
    if n_jobs == 1:
        yield from progress(map(attempt, rows))
        return
    with worker_pool(n_jobs) as pool:
        yield from progress(pool.map(attempt, rows, chunksize=4))


def _attempt(row: dict, out_dir: Path, **how) -> dict | str:
    """The row with its outputs, or the reason why it has none."""
    paths = {field: out_dir / field / f"{row['utt_id']}.{suffix}" for field, suffix in _OUTPUTS.items()}
    if not all(path.is_file() for path in paths.values()):
        try:
            _prepare_utterance(row, **how, **paths)
        except InputError as error:
            return str(error)
    duration_s = round(soundfile.info(paths["audio"]).frames / SAMPLE_RATE, 6)
    return {**row, **{field: str(path) for field, path in paths.items()}, "duration_s": duration_s, "source": "filmed"}


def _prepare_utterance(
    row: dict,
    *,
    detector: str,
    landmark_model: str | Path | None,
    mouth_width: float,
    audio: Path,
    lips: Path,
    landmarks: Path,
) -> None:
    video = row["video"]
    sound = row.get("audio") or video
    waveform = read_audio(sound)
    check_waveform(waveform, sound)
    if landmarks.is_file():
        faces = Landmarks.load(landmarks)
    else:
        pictures = stream_frames(video, gray=landmark_model is None)  # of the detectors only MediaPipe's sees colour
        faces = detect_landmarks(pictures, detector, where=video, model=landmark_model)
    n_found, n_video, n_sound = int(faces.found.sum()), len(faces.found), frames_of(len(waveform))
    if n_found < MIN_FOUND * n_video:
        raise InputError(f"{video}: a face in only {n_found} of {n_video} frames; at least half of them must show it")
    if n_found < n_video:
        logger.info("%s: a face in %d of %d frames", row["utt_id"], n_found, n_video)
    difference_s = (n_sound - n_video) / FPS
    if abs(difference_s) > NOTED_DIFFERENCE_S:
        longer = "sound" if difference_s > 0 else "video"
        logger.warning("%s: the %s is %.2f s longer; cut to the shorter", row["utt_id"], longer, abs(difference_s))
    n_frames = min(n_sound, n_video)
    faces = Landmarks(faces.points[:n_frames], faces.found[:n_frames], faces.detector)
    crops = crop_lips(itertools.islice(stream_frames(video, gray=True), n_frames), faces.points, mouth_width)
    faces.save(landmarks)
    write_lips(lips, crops)
    write_wav(audio, waveform[: samples_of(n_frames)])
