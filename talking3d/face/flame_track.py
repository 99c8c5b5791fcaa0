"""What a FLAME tracker found in a filmed clip, as motion of a FLAME template (`talking3d.face.flame`).

A file holds one clip: a dict of arrays in .npz, .npy or .pkl, or of tensors in .pt, with a row a frame, as trackers'
encoders return them. Nothing in a file is run. SMIRK (Retsinas et al., CVPR 2024; github.com/georgeretsi/smirk,
src/smirk_encoder.py) and SPECTRE (Filntisis et al., CVPRW 2023; github.com/filby89/spectre, src/spectre.py) name them
so, the latter as DECA does:

    SMIRK              SPECTRE       shape    what
    shape_params       shape         (T, S)   shape, standard deviations
    expression_params  exp           (T, E)   expression, standard deviations
    pose_params        pose[:, :3]   (T, 3)   the head's rotation vector
    jaw_params         pose[:, 3:]   (T, 3)   the jaw's rotation vector

Their demos draw and keep none of it. In demo_video.py of SMIRK each frame's `outputs`, and in demo.py of SPECTRE each
chunk's `codedict` (after the sums with DECA's and the cuts), is collected and saved at the end:

    np.savez("<utt_id>.npz", **{key: np.concatenate([part[key].cpu().numpy() for part in parts]) for key in keys})

Left out: SMIRK's eyelid_params, as its eyelids are shapes of its own and not FLAME's; the camera, which is that of a
crop about each frame's face, so that the head turns and stays in its place; and shapes beyond the template's leading
ones. A jaw's turn becomes linear coefficients about three axes.

Letters: T frames, S shapes, E expressions, K articulations.
"""

import pickle
from pathlib import Path
from typing import NamedTuple

import numpy as np

from avsr.errors import InputError
from talking3d.face.flame import JAW_ANGLE, JAW_TURNS
from talking3d.face.safe_pickle import read_pickled
from talking3d.face.template import FaceTemplate

SUFFIXES = (".npz", ".npy", ".pkl", ".pt")
SMIRK = ("shape_params", "expression_params", "pose_params", "jaw_params")
SPECTRE = ("shape", "exp", "pose")


class FlameTrack(NamedTuple):
    """shape (T, S), expression (T, E), head (T, 3) and jaw (T, 3) rotation vectors, in the tracker's frames."""

    shape: np.ndarray
    expression: np.ndarray
    head: np.ndarray
    jaw: np.ndarray


def read_track(path: str | Path) -> FlameTrack:
    """A tracker's file. Raises InputError on one that is missing, not readable, holds code, lacks a key, and where an
    array has another shape or NaN."""
    stored = _read_tensors(path) if Path(path).suffix == ".pt" else read_pickled(path)
    if "pose" in stored:
        arrays = [_rows(stored, key, width, path) for key, width in zip(SPECTRE, (None, None, 6), strict=True)]
        track = FlameTrack(*arrays[:2], arrays[2][:, :3], arrays[2][:, 3:])
    else:
        track = FlameTrack(
            *(_rows(stored, key, width, path) for key, width in zip(SMIRK, (None, None, 3, 3), strict=True))
        )
    lengths = {len(array) for array in track}
    if len(lengths) > 1 or 0 in lengths:
        raise InputError(f"{path}: its arrays have {sorted(lengths)} frames; expected a row of each for every frame")
    return track


def check_flame(template: FaceTemplate) -> None:
    """InputError unless the template is FLAME's, as `load_flame` makes it of a whole model."""
    absent = {"expression_000", *JAW_TURNS} - set(template.articulation_names)
    if absent:
        raise InputError(
            f"face template {template.name!r} lacks {', '.join(sorted(absent))}: what a FLAME tracker found moves "
            "FLAME's; make its template with `talking3d template flame MODEL`"
        )


def track_coefficients(track: FlameTrack, template: FaceTemplate, where: str | Path) -> np.ndarray:
    """Coefficients (T, K) of a FLAME template. InputError naming `where`: expressions that the template hasn't."""
    column = {name: k for k, name in enumerate(template.articulation_names)}
    n_own = sum(name.startswith("expression_") for name in column)
    n_found = track.expression.shape[1]
    if n_found > n_own:
        raise InputError(
            f"{where}: {n_found} expression coefficients, but the template {template.name!r} has {n_own}: it was made "
            "of another model than the tracker's"
        )
    coefficients = np.zeros((len(track.expression), len(column)), np.float32)
    coefficients[:, [column[f"expression_{k:03d}"] for k in range(n_found)]] = track.expression
    coefficients[:, [column[name] for name in JAW_TURNS]] = track.jaw / JAW_ANGLE
    return coefficients


def track_person(tracks: list[FlameTrack], template: FaceTemplate, name: str) -> FaceTemplate:
    """The template with the mean shape of a speaker's clips, as far as its leading shapes go."""
    mean = np.mean([track.shape.mean(axis=0) for track in tracks], axis=0)
    shape = np.zeros(len(template.shape_names))
    n = min(len(shape), len(mean))
    shape[:n] = mean[:n]
    return template.identity(shape, name=name)


def _read_tensors(path) -> dict:
    import torch

    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise InputError(f"{path}: not a file of tensors alone ({str(error).splitlines()[0]})") from error
    if not isinstance(stored, dict):
        raise InputError(f"{path}: holds {type(stored).__name__}, expected a dict of tensors")
    return {key: value.numpy() if isinstance(value, torch.Tensor) else value for key, value in stored.items()}


def _rows(stored: dict, key: str, width: int | None, path) -> np.ndarray:
    if key not in stored:
        raise InputError(
            f"{path}: holds {', '.join(map(str, stored)) or 'nothing'}, but no {key}; expected what SMIRK returns "
            f"({', '.join(SMIRK)}) or SPECTRE ({', '.join(SPECTRE)})"
        )
    array = np.asarray(stored[key])
    if array.dtype.kind not in "fiu" or array.ndim != 2 or width not in (None, array.shape[1]):
        expected = f"numbers (T, {'n' if width is None else width})"
        raise InputError(f"{path}: {key} is {array.dtype} {array.shape}, expected {expected}: a row a frame")
    if not np.isfinite(array).all():
        raise InputError(f"{path}: {key} holds NaN or infinite values")
    return array.astype(np.float64)
