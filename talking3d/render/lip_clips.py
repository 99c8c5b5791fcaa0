"""Motion files to lip crops on disk, with the manifest that a recogniser trains from: of a hundred clips or a million.

out_dir/settings.json           how the clips are drawn; written first
out_dir/lips/000/<utt_id>.mp4   at most 1000 to a folder
out_dir/failed.jsonl            while some rows could not be drawn: utt_id and reason
out_dir/manifest.jsonl          once every clip is there
"""

import functools
import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from avsr.data.manifest import speaker_of, write_manifest
from avsr.errors import InputError
from avsr.media.timing import FPS
from avsr.media.video import write_lips
from avsr.parallel import worker_pool
from talking3d.face.motion import Motion
from talking3d.face.motion_noise import with_noise
from talking3d.face.template import FaceTemplate
from talking3d.out_folder import claim, report_failures
from talking3d.render.look import Look, look_about, random_look
from talking3d.render.rasterize import chosen_backend
from talking3d.render.renderer import render_lips
from talking3d.render.speaker_look import SpeakerLook

# Goes into each look's seed and into settings.json: raise it when the same motion is drawn differently.
DRAWING = 3
LOOKS = ("random", "plain")
CLIPS_A_FOLDER = 1000
CLIPS_A_TASK = 8  # drawn by a process before it reports
TASKS_AHEAD = 4  # waiting for each process

logger = logging.getLogger(__name__)


class Job(NamedTuple):
    """One clip to draw. look: one of LOOKS, or the file of a speaker's."""

    utt_id: str
    motion: str
    template: str
    clip: str
    look: str
    seed: int
    backend: str
    motion_noise: float | None


def draw_lip_clips(
    rows: list[dict],
    out_dir: str | Path,
    *,
    generator: str,
    n_jobs: int = 1,
    seed: int = 0,
    look: str | Path = "random",
    faces: str | Path | None = None,
    backend: str = "auto",
    motion_noise: float | None = None,
) -> Path:
    """Draw each row's motion on its template to out_dir/lips/NNN/<utt_id>.mp4 and write out_dir/manifest.jsonl.

    Clips are the same bytes for any n_jobs, order or company: all that is random depends on `seed` and the utterance's
    id only. Clips that are there already are kept, wherever in lips/ they lie; new ones go to the folder that their
    row's number gives. So a run that was stopped, even killed, is taken up again. Two runs at once into one out_dir
    would disturb each other.

    A row that cannot be drawn does not stop the others. But then no manifest is written: the rows and reasons are in
    out_dir/failed.jsonl, and the next run tries them again.

    Args:
        rows: manifest rows with `motion` and `template` (files).
        generator: what made the motion, for the manifest.
        look: "random": each utterance has a light, background, stance, lens and codec of its own (`random_look`);
            "plain": all have the default `Look`; otherwise the file of a speaker's look (`talking3d look`), or a folder
            of them, <speaker>.npz: each utterance has one about it (`look_about`).
        faces: a folder of templates of the rows' topology: each clip shows one of them, by `seed` and its id, instead
            of the row's own.
        backend: of `rasterize.BACKENDS`; their pictures differ by a gray level here and there, and so do bytes.
        motion_noise: put noise of this share of each coefficient's standard deviation on the motion (`with_noise`).

    Returns:
        the manifest's path: the rows with `lips`, source="rendered" and `generator` set.

    Raises:
        InputError: before anything is drawn: an unknown look or backend, a speaker without look, a folder without
            faces, a negative noise, no rows, a utt_id used twice, a row without motion or template, an out_dir that was
            drawn otherwise. At once: a clip that cannot be written (a full disk). After all the others are drawn: rows
            with a bad motion or template.
    """
    out_dir = Path(out_dir)
    _check_rows(rows)
    looks = _looks_of(rows, str(look))
    settings = {"drawing": DRAWING, "look": _said(looks), "seed": seed, "backend": chosen_backend(backend, "cpu")}
    if motion_noise is not None:
        if not motion_noise >= 0:
            raise InputError(f"motion_noise must be a share of at least 0, got {motion_noise}")
        settings["motion_noise"] = motion_noise
    if faces is not None:
        shown = _faces_in(Path(faces))
        settings["faces"] = _hash_of(shown)
        rows = [row | {"template": str(_face_of(row["utt_id"], seed, shown))} for row in rows]
    claim(out_dir, settings, "clips drawn with")
    found = _clips_in(out_dir / "lips")
    clips = [
        found.get(f"{row['utt_id']}.mp4", out_dir / "lips" / f"{i // CLIPS_A_FOLDER:03d}" / f"{row['utt_id']}.mp4")
        for i, row in enumerate(rows)
    ]
    jobs = [
        Job(row["utt_id"], str(row["motion"]), str(row["template"]), str(clip), of_row, seed, backend, motion_noise)
        for row, clip, of_row in zip(rows, clips, looks, strict=True)
        if f"{row['utt_id']}.mp4" not in found
    ]
    logger.info("drawing lips: %d of %d clips to draw in %s", len(jobs), len(rows), out_dir)
    failed, n_drawn = [], 0
    with tqdm(total=len(jobs), desc="drawing lips", unit="clip", disable=None) as progress:
        for failures, n_more in _run(jobs, n_jobs):
            failed += failures
            progress.update(n_more)
            n_before, n_drawn = n_drawn, n_drawn + n_more
            if 10 * n_drawn // len(jobs) > 10 * n_before // len(jobs):
                logger.info("drawing lips: %d of %d clips done", n_drawn, len(jobs))
    report_failures(out_dir, failed, len(rows), "could not be drawn, the others are")
    drawn = {"source": "rendered", "generator": generator}
    manifest = out_dir / "manifest.jsonl"
    write_manifest(manifest, [row | {"lips": str(clip)} | drawn for row, clip in zip(rows, clips, strict=True)])
    logger.info("drew lips: %s", manifest)
    return manifest


def clip_look(utt_id: str, seed: int, look: str = "random") -> Look:
    """The look that an utterance is drawn with; look: one of LOOKS, or the file of a speaker's."""
    if look == "plain":
        return Look()
    rng = _rng(utt_id, seed)
    return random_look(rng) if look == "random" else look_about(SpeakerLook.load(look).look, rng)


def _rng(utt_id: str, seed: int, *purpose: str) -> np.random.Generator:
    """Random numbers that depend on these only."""
    digest = hashlib.sha256("/".join(map(str, (DRAWING, seed, utt_id, *purpose))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _looks_of(rows: list[dict], look: str) -> list[str]:
    """Of each row: one of LOOKS, or the file of its speaker's look."""
    if look in LOOKS or Path(look).is_file():
        return [look] * len(rows)
    if not Path(look).is_dir():
        raise InputError(
            f"unknown look {look!r}: expected one of {', '.join(LOOKS)}, or what `talking3d look` has written, a file "
            "or its folder"
        )
    files = {name: Path(look, f"{name}.npz") for name in {speaker_of(row) for row in rows}}
    absent = sorted(name for name, file in files.items() if not file.is_file())
    if absent:
        raise InputError(
            f"{look} has no look of {len(absent)} speakers (first: {absent[0]}): find them with `talking3d look`, or "
            "name the file of one look for all"
        )
    return [str(files[speaker_of(row)]) for row in rows]


def _said(looks: list[str]) -> str:
    """What settings.json says of the looks: of files their hash, so that another look isn't taken for the same."""
    return looks[0] if looks[0] in LOOKS else _hash_of(dict.fromkeys(looks))


def _hash_of(files: Iterable[str | Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(Path(file).read_bytes())
    return f"sha256 {digest.hexdigest()[:16]}"


def _faces_in(folder: Path) -> list[Path]:
    found = sorted(folder.resolve().glob("*.npz"))
    if not found:
        raise InputError(f"{folder} has no faces: expected a folder of templates (.npz), as a corpus's templates/")
    return found


def _face_of(utt_id: str, seed: int, faces: list[Path]) -> Path:
    return faces[_rng(utt_id, seed, "face").integers(len(faces))]


def _check_rows(rows: list[dict]) -> None:
    if not rows:
        raise InputError("no utterances to draw: the manifest is empty")
    seen: set[str] = set()
    for row in rows:
        utt_id = row["utt_id"]
        if utt_id in seen:
            raise InputError(f"utterance {utt_id!r} appears twice among the rows to draw; each id must be unique")
        seen.add(utt_id)
        for field in ("motion", "template"):
            if row.get(field) is None:
                raise InputError(f"utterance {utt_id!r} has no {field}: drawing lips needs motion and template files")


def _clips_in(lips: Path) -> dict[str, Path]:
    """The clips by their names below lips/NNN/; what a killed run was writing is removed."""
    clips: dict[str, Path] = {}
    for shard in sorted(lips.glob("[0-9][0-9][0-9]*")):
        for folder, folders, files in os.walk(shard):
            for name in [name for name in folders if name.startswith(".")]:
                shutil.rmtree(Path(folder, name))
                folders.remove(name)
            for name in files:
                path = Path(folder, name)
                if path.stat().st_size > 0:  # a computer that crashed may leave empty files
                    clips[str(path.relative_to(shard))] = path
    return clips


def _run(jobs: list[Job], n_jobs: int) -> Iterator[tuple[list[dict], int]]:
    """Draw the clips; yield (failures, number of clips) as tasks are done. Failures are utt_id and reason."""
    jobs = sorted(jobs, key=lambda job: job.template)  # a process that stays with a face loads and shades it once
    tasks = [jobs[i : i + CLIPS_A_TASK] for i in range(0, len(jobs), CLIPS_A_TASK)]
    if n_jobs > 1 and len(jobs) > 1 and len(tasks) < 2 * n_jobs:
        tasks = [[job] for job in jobs]
    if n_jobs <= 1 or len(tasks) <= 1:
        for task in tasks:
            for job in task:
                yield _draw_clips([job])
        return
    # The first is drawn here, so that numba's kernels are compiled and cached once, before the workers load them.
    yield _draw_clips(tasks[0][:1])
    tasks[0] = tasks[0][1:]
    with worker_pool(min(n_jobs, len(tasks))) as pool:
        waiting = set()
        for task in filter(None, tasks):
            waiting.add(pool.submit(_draw_clips, task))
            if len(waiting) >= TASKS_AHEAD * n_jobs:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


def _draw_clips(task: list[Job]) -> tuple[list[dict], int]:
    failures = []
    for job in task:
        try:
            _draw_clip(job)
        except InputError as error:
            failures.append({"utt_id": job.utt_id, "reason": str(error)})
        except OSError as error:
            raise InputError(f"cannot write {job.clip}: {error}; mend that and draw again, it will go on") from error
    return failures, len(task)


def _draw_clip(job: Job) -> None:
    template = _load_template(job.template, job.look)
    motion = Motion.load(job.motion)
    if motion.fps != FPS:
        raise InputError(f"{job.motion} runs at {motion.fps} fps, expected {FPS}: resample it first")
    if job.motion_noise is not None:
        motion = with_noise(motion, template, job.motion_noise, _rng(job.utt_id, job.seed, "motion"))
    look = clip_look(job.utt_id, job.seed, job.look)
    write_lips(
        job.clip, render_lips(template, motion.offsets_for(template), motion.head_pose, look, backend=job.backend)
    )


@functools.lru_cache(maxsize=64)
def _load_template(path: str, look: str) -> FaceTemplate:
    template = FaceTemplate.load(path)
    return template if look in LOOKS else SpeakerLook.load(look).dress(template)
