"""The looks of a corpus's filmed speakers, found from what `talking3d fit` has written.

out_dir/<speaker>.npz    `SpeakerLook`; `talking3d draw --look out_dir` draws in it
out_dir/<speaker>.png    filmed crops, and below them the same frames in the default look and in the speaker's
out_dir/agreement.json   how near both come to the film (`look_fit.agreement`)
"""

import json
import logging
from pathlib import Path

import numpy as np

from avsr.data.manifest import speaker_of
from avsr.errors import InputError
from avsr.files import write_json
from avsr.media.video import read_lips
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate
from talking3d.render.compare import write_picture
from talking3d.render.look import Look
from talking3d.render.look_fit import MOST_CLIPS, FilmedLips, agreement, choose_frames, fit_look
from talking3d.render.speaker_look import SpeakerLook

SHOWN = 12  # frames of the picture
HELD_OUT = 4  # clips at most that only measure, where a speaker has more than two

logger = logging.getLogger(__name__)


def find_looks(rows: list[dict], out_dir: str | Path) -> Path:
    """Find the look of every speaker of rows with `lips` (filmed), `motion` and `template`; return out_dir.

    The agreement is measured on clips that the look was not found from, unless a speaker has only one or two. Looks
    that are there already are kept.

    Raises:
        InputError: no rows, a row whose lips are drawn, files that do not belong together.
    """
    out_dir = Path(out_dir)
    speakers: dict[str, list[dict]] = {}
    for row in rows:
        if row.get("source") == "rendered":
            raise InputError(f"the lips of {row['utt_id']} are drawn: a look is found from filmed ones")
        speakers.setdefault(speaker_of(row), []).append(row)
    if not speakers:
        raise InputError("there are no utterances to find looks from: the manifest is empty")
    report = out_dir / "agreement.json"
    figures = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
    for name, of_speaker in sorted(speakers.items()):
        if name in figures and (out_dir / f"{name}.npz").is_file():
            continue
        found, tried = _shared_out(of_speaker)
        speaker_look = fit_look([_load(row) for row in found])
        figures[name] = _show(speaker_look, [_load(row) for row in tried], out_dir / f"{name}.png")
        speaker_look.save(out_dir / f"{name}.npz")
        write_json(report, figures)
        before, after = (figures[name][key]["correlation"] for key in ("default", "fitted"))
        logger.info("%s: correlation with the film %.3f, in the default look %.3f", name, after, before)
    return out_dir


def _shared_out(rows: list[dict]) -> tuple[list[dict], list[dict]]:
    """The rows that a look is found from, and those that it is measured on; both lie evenly among all."""
    if len(rows) <= 2:
        return rows, rows
    n_tried = min(HELD_OUT, len(rows) // 3)
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), MOST_CLIPS + n_tried)).round().astype(int)
    tried = set(chosen[np.linspace(1, len(chosen) - 2, n_tried).round().astype(int)].tolist())
    return [rows[i] for i in chosen if i not in tried], [rows[i] for i in sorted(tried)]


def _load(row: dict) -> FilmedLips:
    try:
        return FilmedLips(FaceTemplate.load(row["template"]), Motion.load(row["motion"]), read_lips(row["lips"]))
    except InputError as error:
        raise InputError(f"utterance {row['utt_id']!r}: {error}") from error


def _show(speaker_look: SpeakerLook, clips: list[FilmedLips], path: Path) -> dict:
    """Write the picture; return the agreement of the default and of the speaker's look with the film."""
    frames = choose_frames(clips)
    drawn = {
        "default": frames.drawn(frames.template, Look()),
        "fitted": frames.drawn(speaker_look.dress(frames.template), speaker_look.look),
    }
    at = np.linspace(0, len(frames.film) - 1, min(SHOWN, len(frames.film))).round().astype(int)
    strips = [np.concatenate(list(pictures[at]), axis=1) for pictures in (frames.film, *drawn.values())]
    picture = np.round(255 * np.concatenate(strips)).astype(np.uint8)
    write_picture(path, np.repeat(picture[..., None], 3, axis=-1))
    return {name: agreement(pictures, frames.film) for name, pictures in drawn.items()}
