"""Lips for every utterance of a manifest by the 2D teacher: its sound, and one still picture of its speaker."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from avsr.data.manifest import write_manifest
from avsr.errors import InputError
from avsr.media.audio import read_audio
from avsr.media.lips import SIZE
from avsr.media.timing import FPS, frames_of
from avsr.media.video import read_lips, write_lips
from talking3d.models.teacher2d import Teacher2D
from talking3d.predict import derangement
from talking3d.render.lip_clips import CLIPS_A_FOLDER


def teach_manifest(
    rows: list[dict],
    model: Teacher2D,
    out_dir: str | Path,
    *,
    others: Iterable[dict] = (),
    still: str | Path | None = None,
    shuffle_seed: int | None = None,
) -> Path:
    """Write out_dir/lips/NNN/<utt_id>.mp4 for each row and out_dir/manifest.jsonl, whose rows name it.

    A row's still is the first frame of its own lips; else of the first lips of its speaker among the rows, then among
    `others`; else the file `still`.

    Args:
        rows: manifest rows with `audio`.
        others: rows whose lips may show speakers of `rows`.
        still: a lip crop, a picture of 96 x 96 pixels or a clip.
        shuffle_seed: None, or a control: each utterance gets the lips of another one's sound, drawn by this seed and
            cut or begun again to its own length.

    Returns:
        the manifest's path; its rows have `lips`, source="rendered" and generator="teacher2d" ("teacher2d-shuffled"),
        and no `video`, `landmarks` or `motion`, which these lips were not made from.

    Raises:
        InputError: before anything is drawn: rows for whose still there is nothing, a still that is no lip crop.
            While drawing: silent or unreadable sound, naming the utterance.
    """
    out_dir = Path(out_dir)
    stills = _stills(rows, others, still)
    given = None if still is None else read_still(still)
    sounds = [row["audio"] for row in rows]
    if shuffle_seed is not None:
        sounds = [sounds[other] for other in derangement(len(rows), shuffle_seed)]
    generator = Teacher2D.NAME if shuffle_seed is None else f"{Teacher2D.NAME}-shuffled"
    written = []
    for i, row in enumerate(tqdm(rows, desc="teaching lips", unit="utt", disable=None)):
        try:
            picture = given if stills[i] is None else read_lips(stills[i])[0]
            lips = model.predict(read_audio(sounds[i]), picture)
            if shuffle_seed is not None:
                lips = lips[np.arange(frames_of(len(read_audio(row["audio"])))) % len(lips)]
        except InputError as error:
            raise InputError(f"{row['utt_id']}: {error}") from error
        clip = out_dir / "lips" / f"{i // CLIPS_A_FOLDER:03d}" / f"{row['utt_id']}.mp4"
        write_lips(clip, lips)
        gone = dict.fromkeys(("video", "landmarks", "motion", "template"))
        drawn = {"lips": str(clip), "duration_s": len(lips) / FPS, "source": "rendered", "generator": generator}
        written.append({**row, **gone, **drawn})
    manifest = out_dir / "manifest.jsonl"
    write_manifest(manifest, written)
    return manifest


def read_still(path: str | Path) -> np.ndarray:
    """A lip crop (96, 96) uint8 gray from a picture file, or from a clip its first frame. Raises InputError."""
    if Path(path).suffix == ".mp4":
        return read_lips(path)[0]
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None or picture.shape != (SIZE, SIZE):
        found = "no readable picture" if picture is None else f"{picture.shape[1]}x{picture.shape[0]} pixels"
        raise InputError(f"{path}: {found}; a still is a lip crop of {SIZE}x{SIZE} pixels, as `avsr prepare` cuts them")
    return picture


def _stills(rows: list[dict], others: Iterable[dict], still: str | Path | None) -> list[str | None]:
    """The file of each row's still; None where it is the one that was given."""
    by_speaker: dict[str, str] = {}
    for row in (*rows, *others):
        if row["lips"] is not None and row["speaker"] is not None:
            by_speaker.setdefault(row["speaker"], row["lips"])
    stills = [row["lips"] or by_speaker.get(row["speaker"]) for row in rows]
    lacking = [row["utt_id"] for row, found in zip(rows, stills, strict=True) if found is None]
    if lacking and still is None:
        raise InputError(
            f"no lips show the speaker of {len(lacking)} of {len(rows)} utterances (first: {lacking[0]}): give a "
            "manifest of the speaker's lips, or a still"
        )
    return stills
