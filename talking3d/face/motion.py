"""Motion: how a template's vertices move over time, stored as coefficients of a basis or as plain offsets."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from avsr.errors import InputError
from avsr.files import atomic_path
from avsr.media.timing import FPS
from talking3d.face.template import FaceTemplate


@dataclass(frozen=True, eq=False)
class Motion:
    """T frames of a face in motion.

    Exactly one of coefficients (T, K) of the template's named basis ("articulation") and offsets (T, V, 3) metres
    from the template at rest is given. head_pose (T, 6), optional: rotation vector in radians, translation in metres.
    template_name and topology_hash say which faces it can move. Raises InputError on arrays that don't fit.
    """

    fps: float
    template_name: str
    topology_hash: str
    coefficients: np.ndarray | None = None
    basis: str = "articulation"
    offsets: np.ndarray | None = None
    head_pose: np.ndarray | None = None

    def __post_init__(self):
        where = f"motion of {self.template_name!r}"
        if not self.fps > 0:
            raise InputError(f"{where}: fps must be above 0, got {self.fps}")
        if (self.coefficients is None) == (self.offsets is None):
            raise InputError(f"{where}: give either coefficients or offsets, and not both")
        tails = {"coefficients": ("K",), "offsets": ("V", 3), "head_pose": (6,)}
        for key, tail in tails.items():
            value = getattr(self, key)
            if value is None:
                continue
            value = np.ascontiguousarray(value, np.float32)
            object.__setattr__(self, key, value)
            fits = value.ndim == 1 + len(tail) and (isinstance(tail[-1], str) or value.shape[-1] == tail[-1])
            if not fits or len(value) == 0:
                expected = ", ".join(map(str, ("T", *tail)))
                raise InputError(f"{where}: {key} must be ({expected}) with T > 0, got {value.shape}")
            if not np.isfinite(value).all():
                frame = int(np.flatnonzero(~np.isfinite(value.reshape(len(value), -1)).all(axis=1))[0])
                raise InputError(f"{where}: {key} holds NaN or infinite values, first in frame {frame}")
        if self.head_pose is not None and len(self.head_pose) != self.n_frames:
            raise InputError(f"{where}: {self.n_frames} frames, but head_pose has {len(self.head_pose)}")

    @classmethod
    def of_template(cls, template: FaceTemplate, fps: float, **arrays) -> "Motion":
        """A motion of this template from coefficients= or offsets= and optional head_pose=."""
        return cls(fps=fps, template_name=template.name, topology_hash=template.topology_hash, **arrays)

    @property
    def n_frames(self) -> int:
        return len(self.offsets if self.coefficients is None else self.coefficients)

    def part(self, frames: slice | np.ndarray) -> "Motion":
        """The motion of these frames: a slice, or their numbers (N,)."""
        arrays = {name: getattr(self, name) for name in ("coefficients", "offsets", "head_pose")}
        return replace(self, **{name: value[frames] for name, value in arrays.items() if value is not None})

    def offsets_for(self, template: FaceTemplate) -> np.ndarray:
        """Offsets (T, V, 3) metres for a template of the same topology; InputError for any other."""
        if template.topology_hash != self.topology_hash:
            raise InputError(
                f"the motion was made for {self.template_name!r} (topology {self.topology_hash[:12]}) and cannot move "
                f"{template.name!r} (topology {template.topology_hash[:12]}, {len(template.verts)} vertices); give the "
                "template that it was made with, or carry it over with `talking3d transfer`"
            )
        if self.offsets is not None:
            if self.offsets.shape[1] != len(template.verts):
                raise InputError(
                    f"the motion of {self.template_name!r} has offsets for {self.offsets.shape[1]} vertices, "
                    f"{template.name!r} has {len(template.verts)}"
                )
            return self.offsets
        if self.basis != "articulation":
            raise InputError(
                f"the motion of {self.template_name!r} is stored in the basis {self.basis!r}, which the template does "
                "not carry; expand it to offsets first"
            )
        return template.offsets(self.coefficients)

    def save(self, path: str | Path) -> None:
        """Write one .npz, whole or not at all."""
        arrays = {
            "fps": np.float64(self.fps),
            "template": np.array([self.template_name, self.topology_hash], dtype=np.str_),
            "basis": np.array(self.basis, dtype=np.str_),
        }
        for key in ("coefficients", "offsets", "head_pose"):
            if getattr(self, key) is not None:
                arrays[key] = getattr(self, key)
        with atomic_path(path) as partial, open(partial, "wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "Motion":
        """Read what `save` wrote; InputError on a missing, corrupt or incomplete file."""
        path = Path(path)
        if not path.is_file():
            raise InputError(f"motion {path}: no such file")
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {key: stored[key] for key in stored.files}
        except Exception as error:
            raise InputError(f"motion {path}: not a readable .npz file ({error})") from error
        missing = [key for key in ("fps", "template") if key not in arrays]
        if missing:
            raise InputError(f"motion {path}: lacks {', '.join(missing)}; write it with Motion.save")
        template_name, topology_hash = arrays["template"].tolist()
        try:
            return cls(
                fps=float(arrays["fps"]),
                template_name=template_name,
                topology_hash=topology_hash,
                basis=str(arrays.get("basis", "articulation")),
                **{key: arrays.get(key) for key in ("coefficients", "offsets", "head_pose")},
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def resample(values: np.ndarray, fps: float) -> np.ndarray:
    """Values (T, ...) at `fps` -> at 25 fps: linear in time between the middles of frames, held at both ends."""
    n_frames = max(1, round(len(values) * FPS / fps))
    at = np.clip((np.arange(n_frames) + 0.5) * fps / FPS - 0.5, 0, len(values) - 1)
    before = np.floor(at).astype(int)
    after = np.minimum(before + 1, len(values) - 1)
    share = (at - before).reshape(-1, *[1] * (values.ndim - 1))
    return (1 - share) * values[before] + share * values[after]
