"""Videos of talkers to a corpus of 3D speech motion: a face template fitted to the landmarks of a prepared manifest.

out_dir/prepared/                sound, landmarks and lips, where videos were given in place of a manifest
out_dir/settings.json            template and way of fitting; written first
out_dir/template.npz             the template
out_dir/templates/<speaker>.npz  the template with the speaker's shape
out_dir/speakers/<speaker>.npz   the speaker's rest (`talking3d.face.landmark_fit.Talker`)
out_dir/motion/<utt_id>.npz      coefficients and head pose
out_dir/fits/<utt_id>.npz        camera, confidence, fitted landmarks
out_dir/quality.json, quality.md, pictures/, dropped.jsonl, manifest.jsonl
"""

import functools
import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from avsr.data.manifest import read_manifest, speaker_of, write_manifest
from avsr.data.prepare import prepare, rows_from_folder
from avsr.errors import InputError
from avsr.files import atomic_path, write_jsonl
from avsr.media.landmarks import Landmarks
from avsr.media.video import read_lips
from avsr.parallel import worker_pool
from talking3d.corpus.fit_report import ClipQuality, clip_quality, write_pictures, write_quality
from talking3d.face.film_check import check_film
from talking3d.face.landmark_fit import (
    MOST_CLIPS,
    Talker,
    TooShortError,
    Tracked,
    fit_clip,
    fit_talker,
    line_darkness,
)
from talking3d.face.procedural import procedural_face
from talking3d.face.template import FaceTemplate
from talking3d.out_folder import claim

GENERATOR = "fit"
FITTING = 3  # goes into settings.json: raise it when the same landmarks give another motion

logger = logging.getLogger(__name__)


def filmed_rows(source: str | Path, out_dir: str | Path, **how) -> list[dict]:
    """Manifest rows of talking videos: a manifest of `avsr prepare`, or a video or a folder of them, which is prepared.

    how: n_jobs, detector and landmark_model of `avsr.data.prepare.prepare`. Raises InputError as that does.
    """
    if Path(source).suffix != ".jsonl":
        source = prepare(rows_from_folder(source), Path(out_dir) / "prepared", **how)
    return read_manifest(source, use=("lips", "video", "alignment"))


def fit_manifest(
    rows: list[dict],
    out_dir: str | Path,
    template: str = "procedural",
    *,
    n_jobs: int = 1,
    landmarks: str | Path | None = None,
    speakers: str | Path | None = None,
) -> Path:
    """Fit a template to every clip of a prepared manifest and return the manifest of the corpus.

    A row without speaker is a speaker of its own. A clip that cannot be fitted is in dropped.jsonl with the reason.
    Clips and speakers that are there already are kept, so that an interrupted call goes on where it stopped.

    Args:
        rows: manifest rows with `audio` and `landmarks`; with `lips` too, closures are seen better.
        template: "procedural", or the file of any template with an articulation basis.
        n_jobs: processes.
        landmarks: a folder of <utt_id>.npz (`Landmarks`, at 25 fps) of another tracker, in place of the rows' own.
        speakers: the folder of an earlier fit, whose speakers are taken over: so splits of a corpus agree.

    Raises:
        InputError: no rows, a row without landmarks, a template that is missing or not moved, an out_dir of another
            template or way of fitting, and when no clip can be fitted.
    """
    out_dir = Path(out_dir).resolve()
    rows = [_with_landmarks(row, landmarks) for row in rows]
    if not rows:
        raise InputError("there are no utterances to fit: the manifest is empty")
    face = load_face(template)
    _claim(out_dir, face)
    clips: dict[str, list[dict]] = {}
    for row in rows:
        clips.setdefault(speaker_of(row), []).append(row)
    if speakers is not None:
        _take_over(Path(speakers), out_dir, face, clips)
    face_file = out_dir / "template.npz"  # also for the processes
    if not face_file.is_file():
        face.save(face_file)
    missing = [
        (name, some) for name, some in clips.items() if not all(p.is_file() for p in _talker_files(out_dir, name))
    ]
    make_talker = functools.partial(_make_talker, face_file=str(face_file), out_dir=str(out_dir))
    reasons = _run(missing, make_talker, n_jobs, "speakers")
    unknown = {name: reason for (name, _), reason in zip(missing, reasons, strict=True) if reason is not None}
    attempt = functools.partial(_attempt, out_dir=str(out_dir), unknown=unknown)
    return leave_corpus(out_dir, rows, _run(rows, attempt, n_jobs, "clips"))


def load_face(template: str | Path) -> FaceTemplate:
    """The procedural face by its name, or the template of a file."""
    return procedural_face() if template == "procedural" else FaceTemplate.load(template)


def leave_corpus(out_dir: Path, rows: list[dict], outcomes: Iterable[tuple[dict, ClipQuality] | str]) -> Path:
    """Write what a folder of fits says of itself, and return its manifest.

    outcomes: of each row, with its motion and quality, or the reason why it has none. InputError where none has.
    """
    kept, quality, dropped = [], [], []
    for row, outcome in zip(rows, outcomes, strict=True):
        if isinstance(outcome, str):
            if len(rows) > 1:  # of one, the error says it
                logger.warning("%s dropped: %s", row["utt_id"], outcome)
            dropped.append({"utt_id": row["utt_id"], "reason": outcome})
        else:
            kept.append(outcome[0])
            quality.append(outcome[1])
    write_jsonl(out_dir / "dropped.jsonl", dropped)
    if not kept and len(rows) == 1:
        raise InputError(f"{rows[0]['utt_id']}: {dropped[0]['reason']}")
    if not kept:
        raise InputError(
            f"none of {len(rows)} clips can be fitted; the first: {dropped[0]['utt_id']}: {dropped[0]['reason']} "
            f"(all of them: {out_dir / 'dropped.jsonl'})"
        )
    write_quality(out_dir, quality, n_dropped=len(dropped))
    write_pictures(out_dir, kept, quality)
    manifest = out_dir / "manifest.jsonl"
    write_manifest(manifest, kept)
    logger.info("%s: %d clips, %d dropped", manifest, len(kept), len(dropped))
    return manifest


def read_clip(row: dict) -> Tracked:
    """The landmarks of a row, and how dark the line between its lips is where it has any.

    Raises InputError as these do, and where the film is unfit (`check_film`).
    """
    landmarks = Landmarks.load(row["landmarks"])
    check_film(landmarks)
    return Tracked(landmarks, None if row.get("lips") is None else line_darkness(read_lips(row["lips"])))


def _with_landmarks(row: dict, folder: str | Path | None) -> dict:
    if folder is not None:
        row = {**row, "landmarks": str(Path(folder).resolve() / f"{row['utt_id']}.npz")}
    if row.get("landmarks") is None:
        raise InputError(f"{row['utt_id']} has no landmarks: make them with `avsr prepare`, or name a folder of them")
    return row


def _claim(out_dir: Path, face: FaceTemplate) -> None:
    """Write down how out_dir is fitted; refuse to mix two ways."""
    digest = hashlib.sha256(face.topology_hash.encode())
    for array in (face.verts, face.articulation_basis, face.shape_basis, face.landmarks):
        digest.update(array.tobytes())
    settings = {"fitting": FITTING, "template": face.name, "template_sha256": digest.hexdigest()}
    claim(out_dir, settings, "fits made with")


def _take_over(earlier: Path, out_dir: Path, face: FaceTemplate, clips: dict[str, list[dict]]) -> None:
    """Copy the speakers of an earlier fit of the same template that there are clips of."""
    if not (earlier / "settings.json").is_file():
        raise InputError(f"{earlier} is no folder that `talking3d fit` has written: it has no settings.json")
    _claim(earlier, face)
    for name in clips:
        pairs = list(zip(_talker_files(earlier, name), _talker_files(out_dir, name), strict=True))
        if all(source.is_file() and not target.is_file() for source, target in pairs):
            for source, target in pairs:
                with atomic_path(target) as partial:
                    shutil.copyfile(source, partial)


def _talker_files(out_dir: str | Path, name: str) -> tuple[Path, Path]:
    """A speaker's template and rest."""
    return tuple(Path(out_dir) / folder / f"{name}.npz" for folder in ("templates", "speakers"))


def _make_talker(speaker: tuple[str, list[dict]], face_file: str, out_dir: str) -> str | None:
    """Estimate a speaker and write its files; the reason where that cannot be done."""
    name, rows = speaker
    step = max(1, len(rows) // MOST_CLIPS)
    clips, reason = [], None
    for row in rows[::step]:
        try:
            clips.append(read_clip(row))
        except InputError as error:
            reason = str(error)
    if not clips:
        return reason
    try:
        talker = fit_talker(FaceTemplate.load(face_file), clips, name)
    except TooShortError as error:
        return str(error)
    template, rest = _talker_files(out_dir, name)
    talker.template.save(template)
    talker.save(rest)
    return None


@functools.lru_cache(maxsize=16)
def _load_talker(out_dir: str, name: str) -> Talker:
    template, rest = _talker_files(out_dir, name)
    return Talker.load(rest, FaceTemplate.load(template))


def _attempt(row: dict, out_dir: str, unknown: dict[str, str]) -> tuple[dict, ClipQuality] | str:
    """The row with its motion and the quality of its fit, or the reason why it has none; unknown: of speakers."""
    motion, fit = (Path(out_dir) / folder / f"{row['utt_id']}.npz" for folder in ("motion", "fits"))
    name = speaker_of(row)
    try:
        if not (motion.is_file() and fit.is_file()):
            clip = read_clip(row)
            if name in unknown:
                return unknown[name]
            talker = _load_talker(out_dir, name)
            fitted = fit_clip(talker, clip)
            fitted.save_tracks(fit)
            fitted.motion(talker.template).save(motion)
        template = _talker_files(out_dir, name)[0]
        made = {**row, "motion": str(motion), "template": str(template), "generator": GENERATOR}
        return made, clip_quality(made, _load_talker(out_dir, name).template, fit)
    except InputError as error:
        return str(error)


def _run(items: list, work: Callable, n_jobs: int, what: str) -> Iterator:
    """Yield work(item) for all items, in order."""
    progress = functools.partial(tqdm, total=len(items), desc=f"fit {what}", disable=None)
    if n_jobs <= 1 or len(items) < 2:
        yield from progress(map(work, items))
        return
    with worker_pool(min(n_jobs, len(items))) as pool:
        yield from progress(pool.map(work, items, chunksize=4 if what == "clips" else 1))
