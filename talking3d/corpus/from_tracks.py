"""Fits of a FLAME tracker to a corpus of 3D speech motion: what SMIRK or SPECTRE found in filmed clips
(`talking3d.face.flame_track`), as motion of the user's FLAME template.

The folder is laid out as that of `talking3d.corpus.from_video`, without speakers/ and fits/.
"""

from pathlib import Path

import numpy as np

from avsr.data.arrays import MISMATCH_FRAMES
from avsr.data.manifest import speaker_of
from avsr.errors import InputError
from avsr.media.audio import read_audio
from avsr.media.timing import FPS, frames_of
from talking3d.corpus.fit_report import ClipQuality, clip_quality
from talking3d.corpus.from_video import leave_corpus, load_face
from talking3d.face.flame_track import (
    SUFFIXES,
    FlameTrack,
    check_flame,
    read_track,
    track_coefficients,
    track_person,
)
from talking3d.face.motion import Motion, resample
from talking3d.face.template import FaceTemplate
from talking3d.out_folder import claim

GENERATOR = "track"


def track_manifest(
    rows: list[dict], tracks: str | Path, out_dir: str | Path, template: str | Path, fps: float = FPS
) -> Path:
    """Turn a tracker's fits into motion of a FLAME template and return the manifest of the corpus.

    A clip whose fit cannot be used is in dropped.jsonl with the reason. A speaker's shape is the mean of the clips'.
    Where rows have `landmarks`, quality.md says how well the mouth follows them.

    Args:
        rows: manifest rows with `audio`.
        tracks: a folder of <utt_id>.npz, .npy, .pkl or .pt.
        template: a FLAME template, .npz.
        fps: of the tracker's frames; another than 25 is resampled, linearly.

    Raises:
        InputError: a rate that is none, a template that isn't FLAME's, an out_dir of another template or other fits,
            and when no clip can be used.
    """
    if not 1 <= fps <= 1000:
        raise InputError(f"--fps {fps:g}: expected frames a second, 1 to 1000")
    face, out_dir, tracks = load_face(template), Path(out_dir).resolve(), Path(tracks).resolve()
    check_flame(face)
    claim(out_dir, {"tracks": str(tracks), "fps": fps, "template": face.name}, "motion of")
    found = {row["utt_id"]: _attempt(row, tracks, face, fps) for row in rows}
    people: dict[str, list[FlameTrack]] = {}
    for row in rows:
        if not isinstance(found[row["utt_id"]], str):
            people.setdefault(speaker_of(row), []).append(found[row["utt_id"]][0])
    for name, of_speaker in people.items():
        track_person(of_speaker, face, name).save(_template_of(out_dir, name))
    return leave_corpus(out_dir, rows, [_keep(row, found[row["utt_id"]], out_dir) for row in rows])


def _attempt(row: dict, tracks: Path, face: FaceTemplate, fps: float) -> tuple[FlameTrack, Motion] | str:
    """A row's track and motion, or the reason why it has none."""
    paths = [path for suffix in SUFFIXES if (path := tracks / f"{row['utt_id']}{suffix}").is_file()]
    if len(paths) != 1:
        what = "no file" if not paths else f"{len(paths)} files"
        return f"{tracks} has {what} of it; expected one of {row['utt_id']}{', '.join(SUFFIXES)}"
    try:
        track = read_track(paths[0])
        values = np.concatenate([track_coefficients(track, face, paths[0]), track.head], axis=1)
        if fps != FPS:  # rotation vectors of frames so near each other may be blended as they are
            values = resample(values, fps)
        n_frames = frames_of(len(read_audio(row["audio"])))
        missing = n_frames - len(values)
        if abs(missing) > MISMATCH_FRAMES:
            return (
                f"{paths[0]}: {len(track.head)} frames at {fps:g} fps last {len(values) / FPS:.2f} s, its sound "
                f"{n_frames / FPS:.2f} s: give the tracker's rate with --fps, and whole clips"
            )
        values = np.concatenate([values, np.repeat(values[-1:], max(missing, 0), axis=0)])[:n_frames]
        head_pose = np.concatenate([values[:, -3:], np.zeros((n_frames, 3))], axis=1)
        return track, Motion.of_template(face, FPS, coefficients=values[:, :-3], head_pose=head_pose)
    except InputError as error:
        return str(error)


def _keep(row: dict, found: tuple[FlameTrack, Motion] | str, out_dir: Path) -> tuple[dict, ClipQuality] | str:
    """Save a row's motion: the row with it and its quality."""
    if isinstance(found, str):
        return found
    motion, template = out_dir / "motion" / f"{row['utt_id']}.npz", _template_of(out_dir, speaker_of(row))
    found[1].save(motion)
    made = {**row, "motion": str(motion), "template": str(template), "generator": GENERATOR}
    return made, clip_quality(made, FaceTemplate.load(template))


def _template_of(out_dir: Path, name: str) -> Path:
    return out_dir / "templates" / f"{name}.npz"
