"""Motion files to lip crops on disk, with the manifest that a recogniser trains from."""

import functools
import hashlib
import json
import logging
from collections.abc import Iterator
from concurrent.futures import as_completed
from pathlib import Path

import numpy as np
from tqdm import tqdm

from avsr.data.manifest import write_manifest
from avsr.errors import InputError
from avsr.files import write_json
from avsr.media.timing import FPS
from avsr.media.video import write_lips
from avsr.parallel import worker_pool
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate
from talking3d.render.look import Look, random_look
from talking3d.render.renderer import render_lips

# Goes into each look's seed and into settings.json: raise it when the same motion is drawn differently.
DRAWING = 2

logger = logging.getLogger(__name__)


def draw_lip_clips(rows: list[dict], out_dir: str | Path, *, generator: str, n_jobs: int = 1, seed: int = 0) -> Path:
    """Draw each row's motion on its template to out_dir/lips/<utt_id>.mp4 and write out_dir/manifest.jsonl.

    rows: manifest rows with `motion` and `template` (files). generator: what made the motion, for the manifest. Each
    utterance gets a light, background and lens of its own that depend on `seed` and its id only: the clips are the same
    bytes for any n_jobs, order or company. Clips that are there already are kept, so an interrupted run is resumed.

    Returns the manifest's path: the rows with `lips`, source="rendered" and `generator` set.

    Raises InputError: no rows, a row without motion or template, a bad motion or template (naming the utterance), or
    an out_dir that was drawn with another seed.
    """
    out_dir = Path(out_dir)
    _check_rows(rows)
    _claim(out_dir, {"drawing": DRAWING, "seed": seed})
    clips = {row["utt_id"]: out_dir / "lips" / f"{row['utt_id']}.mp4" for row in rows}
    todo = [
        (row["utt_id"], str(row["motion"]), str(row["template"]), str(clips[row["utt_id"]]), seed)
        for row in rows
        if not clips[row["utt_id"]].exists()
    ]
    logger.info("drawing lips: %d of %d clips to draw in %s", len(todo), len(rows), out_dir)
    for _ in tqdm(_run(todo, n_jobs), total=len(todo), desc="drawing lips", unit="clip", disable=None):
        pass
    drawn = {"source": "rendered", "generator": generator}
    manifest = out_dir / "manifest.jsonl"
    write_manifest(manifest, [row | {"lips": str(clips[row["utt_id"]])} | drawn for row in rows])
    logger.info("drew lips: %s", manifest)
    return manifest


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
            if not Path(row[field]).is_file():
                raise InputError(f"utterance {utt_id!r}: {field} {row[field]} doesn't exist")


def _claim(out_dir: Path, settings: dict) -> None:
    """Write down how out_dir is drawn; refuse to mix two ways."""
    path = out_dir / "settings.json"
    if not path.exists():
        write_json(path, settings)
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    if found != settings:
        raise InputError(f"{out_dir} holds clips drawn with {found}, not {settings}: draw into another folder")


def _run(todo: list[tuple], n_jobs: int) -> Iterator[None]:
    if n_jobs <= 1 or len(todo) <= 1:
        for job in todo:
            yield _draw_clip(*job)
        return
    # The first clip is drawn here, so that numba's kernels are compiled and cached once, before the workers load them.
    yield _draw_clip(*todo[0])
    with worker_pool(min(n_jobs, len(todo) - 1)) as pool:
        for job in as_completed([pool.submit(_draw_clip, *job) for job in todo[1:]]):
            yield job.result()


def _draw_clip(utt_id: str, motion_path: str, template_path: str, clip_path: str, seed: int) -> None:
    try:
        template = _load_template(template_path)
        motion = Motion.load(motion_path)
        if motion.fps != FPS:
            raise InputError(f"{motion_path} runs at {motion.fps} fps, expected {FPS}: resample it first")
        lips = render_lips(template, motion.offsets_for(template), motion.head_pose, clip_look(utt_id, seed))
    except InputError as error:
        raise InputError(f"utterance {utt_id!r}: {error}") from error
    write_lips(clip_path, lips)


def clip_look(utt_id: str, seed: int) -> Look:
    """The look that an utterance is drawn with."""
    digest = hashlib.sha256(f"{DRAWING}/{seed}/{utt_id}".encode()).digest()
    return random_look(np.random.default_rng(int.from_bytes(digest[:8], "big")))


@functools.lru_cache(maxsize=64)
def _load_template(path: str) -> FaceTemplate:
    return FaceTemplate.load(path)
