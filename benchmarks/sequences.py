"""Motion of another system: its vertex sequences as a manifest that the benchmarks measure and read.

A folder holds a sequence for each utterance of the reference, named by utt_id:

    FOLDER/<utt_id>.npy      vertices (T, V, 3), or (T, 3 V) as most public code saves them
    FOLDER/<utt_id>.npz      the same, as its array "vertices" or the only one that it holds
    FOLDER/<utt_id>/*.obj    a mesh a frame, in the order of the numbers in their names
    FOLDER/runtime.json      how long they took, where that is known: see `talking3d.runtime`

Vertices are places, not offsets from rest: rest is the template of the reference's row, or one template for all rows. A
mesh (.ply, .obj) as template says in which frame the sequences lie; they are turned and scaled as it is, and the scale
is noted: BIWI's published LVE and FDD are squares of its own unit, which is 0.17 m. A template of the kit (.npz) has
its own frame, in metres.

Letters: T frames, V vertices.
"""

import re
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from avsr.data.arrays import MISMATCH_FRAMES
from avsr.data.manifest import write_manifest
from avsr.errors import InputError
from avsr.files import write_json
from avsr.media.audio import read_audio
from avsr.media.timing import FPS, frames_of
from benchmarks.digests import Digests, digest_of
from talking3d.face.align import Similarity, similarity
from talking3d.face.from_mesh import UNITS_M, read_indices, template_from_mesh
from talking3d.face.mesh_io import read_mesh
from talking3d.face.motion import Motion, resample
from talking3d.face.template import FaceTemplate
from talking3d.runtime import Runtime

FAR_MM = 20.0  # from rest, at the median vertex: no face speaks so far from it
EXPECTED = "expected <utt_id>.npy or .npz with vertices (T, V, 3) or (T, 3 V), or a folder <utt_id> of .obj frames"


@dataclass(frozen=True)
class Layout:
    """How sequences are to be read.

    fps: their rate; another than 25 is resampled. unit: m, cm or mm; None: the template's own, which of a mesh is found
    by the distance of its eyes. template: file of the face that they move, or None for each row's own. lips and
    upper_face: index files of the vertices that metrics take, in place of the template's regions; landmarks: of a mesh,
    where its mouth cannot be found (see `template_from_mesh`).
    """

    fps: float = FPS
    unit: str | None = None
    template: str | None = None
    lips: str | None = None
    upper_face: str | None = None
    landmarks: str | None = None

    def __post_init__(self):
        if not 1 <= self.fps <= 1000:
            raise InputError(f"--fps {self.fps:g}: expected frames a second, 1 to 1000")
        for option in ("lips", "upper_face", "landmarks"):
            if getattr(self, option) is not None and self.template is None:
                raise InputError(f"--{option} names vertices of a mesh: give it with --template")


class Face(NamedTuple):
    """A template, its file, and how the sequences' coordinates become its."""

    template: FaceTemplate
    path: Path
    laid: Similarity


def load_face(layout: Layout, out: Path) -> Face:
    """The face of `layout.template`, written to a file below `out` for the manifests to name.

    Raises InputError: no such template, index files of another mesh, a mesh whose mouth cannot be found.
    """
    path, regions = Path(layout.template), {"lips": layout.lips, "upper_face": layout.upper_face}
    if path.suffix == ".npz":
        if layout.landmarks is not None:
            raise InputError(f"--landmarks are those of a mesh; {path} has its own")
        template = FaceTemplate.load(path)
        given = {name: read_indices(file, len(template.verts)) for name, file in regions.items() if file is not None}
        template = replace(template, regions=template.regions | given)
        laid = _scaled(layout.unit)
    else:
        template = template_from_mesh(path, unit=layout.unit, landmarks=layout.landmarks, **regions)
        laid = similarity(read_mesh(path)[0], template.verts)
    files = map(Digests().of, (layout.template, layout.landmarks, *regions.values()))
    key = digest_of([layout.unit, *files])
    saved = out / "templates" / f"{path.stem}_{key[:12]}.npz"
    if not saved.is_file():
        template.save(saved)
    return Face(FaceTemplate.load(saved), saved, laid)


def import_sequences(
    folder: str | Path, name: str, rows: list[dict], out: Path, layout: Layout, face: Face | None, truth: bool = False
) -> Path:
    """Write a folder's sequences as motion below out/motions and return the manifest of them.

    What lies in the folder, the layout and the faces name the place where it is written, so that what is already there
    is right. A sequence that is up to 5 frames (0.2 s) longer or shorter than the reference's motion, or than its sound
    where it has none, is cut or holds its last frame.

    Args:
        rows: of the reference. truth: the sequences are theirs, which have no motion yet: the rows keep their lips, and
            a sequence keeps its length.

    Raises:
        InputError: utterances that the folder lacks or has beyond the reference's; what is not a sequence; other
            vertices than the template's; NaN; a length or a place that cannot be right.
    """
    folder = Path(folder)
    found = find_sequences(folder, [row["utt_id"] for row in rows], name)
    digests = Digests()
    given = [[utt_id, digests.of(path)] for utt_id, path in sorted(found.items())]
    of_rows = digests.of_rows(rows, ("template", "motion", "audio") if face is None else ("motion", "audio"))
    told = [given, of_rows, layout.fps, layout.unit, None if face is None else digests.of(face.path), truth]
    told += [[row[field] for field in ("speaker", "text", "lips", "alignment")] for row in rows]
    runtime = Runtime.load(folder)
    told += [digests.of(__file__), None if runtime is None else asdict(runtime)]
    home = out / "motions" / f"{name}_{digest_of(told)[:12]}"
    manifest = home / "manifest.jsonl"
    if manifest.is_file():
        return manifest
    written = []
    for row in rows:
        of_row = _face_of(row, layout) if face is None else face
        n_frames = None if truth else _frames_of(row)
        offsets = read_offsets(found[row["utt_id"]], of_row, layout.fps, n_frames)
        motion = home / "motion" / f"{row['utt_id']}.npz"
        Motion.of_template(of_row.template, FPS, offsets=offsets).save(motion)
        files = {"motion": str(motion), "template": str(of_row.path)}
        if not truth:
            files |= {"lips": None, "video": None, "landmarks": None, "generator": name}
        written.append(row | files)
    if runtime is not None:
        runtime.save(home / "motion")
    scale = (_scaled(layout.unit) if face is None else face.laid).scale
    write_json(home / "sequences.json", {"folder": str(folder), **asdict(layout), "metres_per_unit": scale})
    write_manifest(manifest, written)
    return manifest


def find_sequences(folder: Path, utt_ids: list[str], name: str) -> dict[str, Path]:
    """{utt_id: file or folder of meshes} of a folder; InputError where they are not exactly the utterances."""
    if not folder.is_dir():
        raise InputError(f"motion {name!r}: {folder} is no folder of sequences; {EXPECTED}")
    held = [
        (path.name if path.is_dir() else path.stem, path)
        for path in sorted(folder.iterdir())
        if path.suffix in (".npy", ".npz") or (path.is_dir() and any(path.glob("*.obj")))
    ]
    twice = [utt_id for utt_id, times in Counter(utt_id for utt_id, _ in held).items() if times > 1]
    if twice:
        raise InputError(f"motion {name!r}: {folder} has more than one sequence of {twice[0]!r}: leave one")
    found = dict(held)
    missing, surplus = sorted(set(utt_ids) - set(found)), sorted(set(found) - set(utt_ids))
    if missing or surplus:
        raise InputError(
            f"motion {name!r}: {folder} lacks {len(missing)} of the reference's {len(utt_ids)} utterances "
            f"{missing[:3]} and has {len(surplus)} others {surplus[:3]}; {EXPECTED}"
        )
    return found


def read_offsets(path: Path, face: Face, fps: float, n_frames: int | None) -> np.ndarray:
    """A sequence as offsets (T, V, 3) metres from the template at 25 fps, T being `n_frames` where given."""
    template = face.template
    vertices = read_vertices(path, len(template.verts))
    if fps != FPS:
        vertices = resample(vertices, fps)
    offsets = (face.laid.points(vertices) - template.verts).astype(np.float32)
    away_mm = 1e3 * float(np.median(np.linalg.norm(offsets.mean(axis=0), axis=-1)))
    if away_mm > FAR_MM:
        raise InputError(
            f"{path}: its median vertex is {away_mm:.4g} mm away from {template.name!r} at rest, expected at most "
            f"{FAR_MM:g}: another unit (--unit), another frame (--template with the mesh that they were made on), "
            "offsets in place of vertices, or a moving head (leave its pose out)"
        )
    if n_frames is None:
        return offsets
    missing = n_frames - len(offsets)
    if abs(missing) > MISMATCH_FRAMES:
        raise InputError(
            f"{path}: {len(offsets)} frames at {FPS} fps, and the reference has {n_frames}; they may differ by at most "
            f"{MISMATCH_FRAMES}: give the rate of the sequences with --fps, and whole utterances"
        )
    return np.concatenate([offsets, np.repeat(offsets[-1:], max(missing, 0), axis=0)])[:n_frames]


def read_vertices(path: Path, n_verts: int) -> np.ndarray:
    """A sequence (T, V, 3) in its own unit and at its own rate; InputError unless it is one of `n_verts` vertices."""
    if path.is_dir():
        meshes = [read_mesh(mesh)[0] for mesh in sorted(path.glob("*.obj"), key=_numbers)]
        shapes = {mesh.shape for mesh in meshes}
        if len(shapes) > 1:
            raise InputError(f"{path}: meshes of {sorted(n for n, _ in shapes)} vertices; expected {n_verts} each")
        vertices, holds = np.stack(meshes), f"{len(meshes)} meshes of {len(meshes[0])} vertices"
    else:
        vertices, holds = _read_array(path)
    if vertices.ndim == 2 and vertices.shape[1] == 3 * n_verts:
        vertices = vertices.reshape(len(vertices), n_verts, 3)
    if (
        vertices.ndim != 3
        or vertices.shape[1:] != (n_verts, 3)
        or len(vertices) == 0
        or vertices.dtype.kind not in "fiu"
    ):
        raise InputError(f"{path} holds {holds}; expected numbers (T, {n_verts}, 3) or (T, {3 * n_verts})")
    bad = ~np.isfinite(vertices).all(axis=(1, 2))
    if bad.any():
        raise InputError(f"{path}: NaN or infinite vertices in {int(bad.sum())} frames, first in {int(bad.argmax())}")
    return vertices


def _read_array(path: Path) -> tuple[np.ndarray, str]:
    """The array of an .npy or .npz file, and in words what the file holds."""
    try:
        stored = np.load(path, allow_pickle=False)
        arrays = {"": stored} if isinstance(stored, np.ndarray) else {key: stored[key] for key in stored.files}
    except Exception as error:
        raise InputError(f"{path}: not a readable array ({error}); {EXPECTED}") from error
    holds = ", ".join(f"{key} {array.shape} {array.dtype}".strip() for key, array in arrays.items()) or "nothing"
    if "vertices" in arrays:
        return arrays["vertices"], holds
    if len(arrays) != 1:
        raise InputError(f"{path} holds {holds}; expected one array, or one that is named 'vertices'")
    return next(iter(arrays.values())), holds


def _face_of(row: dict, layout: Layout) -> Face:
    if row["template"] is None:
        raise InputError(f"{row['utt_id']}: the reference names no template for it; give one for all with --template")
    return Face(FaceTemplate.load(row["template"]), Path(row["template"]), _scaled(layout.unit))


def _frames_of(row: dict) -> int:
    return frames_of(len(read_audio(row["audio"]))) if row["motion"] is None else Motion.load(row["motion"]).n_frames


def _scaled(unit: str | None) -> Similarity:
    return Similarity(UNITS_M["m" if unit is None else unit], np.eye(3), np.zeros(3))


def _numbers(path: Path) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", path.stem)], path.stem
