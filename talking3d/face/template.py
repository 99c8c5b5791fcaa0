"""FaceTemplate: one face's mesh, regions, landmarks, bases and colours, kept in one .npz file."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from avsr.errors import InputError
from avsr.files import atomic_path

N_LANDMARKS = 68
_MIN_AREA_M2 = 1e-14


@dataclass(frozen=True, eq=False)
class FaceTemplate:
    """A triangle mesh of a face at rest with everything that the kit knows about it.

    verts (V, 3) float32 metres, mouth near the origin, +x to the viewer's right, +y up, +z towards the viewer.
    faces (F, 3) int32. regions: vertex indices by name (lips, lips_inner, lower_face, mouth_interior, ...).
    landmarks (68,) int32: the vertex of each iBUG-68 point, ordered left to right in the picture, -1 where absent.
    shape_basis (S, V, 3) and articulation_basis (K, V, 3): metres per unit, added linearly; S or K may be 0.
    colors (V, 3) float32: linear albedo in [0, 1].

    Raises InputError on arrays that don't fit each other, indices out of range, non-finite values or degenerate
    triangles.
    """

    name: str
    verts: np.ndarray
    faces: np.ndarray
    regions: dict[str, np.ndarray] = field(default_factory=dict)
    landmarks: np.ndarray | None = None
    shape_basis: np.ndarray | None = None
    shape_names: tuple[str, ...] = ()
    articulation_basis: np.ndarray | None = None
    articulation_names: tuple[str, ...] = ()
    colors: np.ndarray | None = None

    def __post_init__(self):
        n_verts = len(self.verts)
        absent = {
            "landmarks": np.full(N_LANDMARKS, -1, np.int32),
            "shape_basis": np.zeros((0, n_verts, 3), np.float32),
            "articulation_basis": np.zeros((0, n_verts, 3), np.float32),
            "colors": np.full((n_verts, 3), 0.5, np.float32),
        }
        for key, default in absent.items():
            if getattr(self, key) is None:
                object.__setattr__(self, key, default)
        for key in ("verts", "shape_basis", "articulation_basis", "colors"):
            object.__setattr__(self, key, np.ascontiguousarray(getattr(self, key), np.float32))
        for key in ("faces", "landmarks"):
            object.__setattr__(self, key, np.ascontiguousarray(getattr(self, key), np.int32))
        object.__setattr__(self, "regions", {k: np.asarray(v, np.int32) for k, v in self.regions.items()})
        object.__setattr__(self, "shape_names", tuple(map(str, self.shape_names)))
        object.__setattr__(self, "articulation_names", tuple(map(str, self.articulation_names)))
        self._validate()

    def _validate(self):
        n_verts, where = len(self.verts), f"face template {self.name!r}"
        _require(self.verts.ndim == 2 and self.verts.shape[1] == 3 and n_verts > 0, where, "verts must be (V, 3)")
        _require(self.faces.ndim == 2 and self.faces.shape[1] == 3, where, "faces must be (F, 3): triangulate the mesh")
        _require(self.landmarks.shape == (N_LANDMARKS,), where, f"landmarks must be ({N_LANDMARKS},), -1 where absent")
        _require(self.colors.shape == (n_verts, 3), where, f"colors must be ({n_verts}, 3)")
        for basis, names in (("shape", self.shape_names), ("articulation", self.articulation_names)):
            shape = getattr(self, f"{basis}_basis").shape
            expected = (len(names), n_verts, 3)
            _require(shape == expected, where, f"{basis}_basis must be {expected} to fit its names, got {shape}")
        for key in ("verts", "shape_basis", "articulation_basis", "colors"):
            _require(bool(np.isfinite(getattr(self, key)).all()), where, f"{key} holds NaN or infinite values")
        for key, index, low in [
            ("faces", self.faces, 0),
            ("landmarks", self.landmarks, -1),
            *[(f"region {k!r}", v, 0) for k, v in self.regions.items()],
        ]:
            outside = (index < low) | (index >= n_verts)
            _require(not outside.any(), where, f"{key}: {int(outside.sum())} indices outside 0..{n_verts - 1}")
        a, b, c = (self.verts[self.faces[:, k]].astype(np.float64) for k in range(3))
        area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
        flat = np.flatnonzero(area < _MIN_AREA_M2)
        _require(
            len(flat) == 0,
            where,
            f"{len(flat)} degenerate triangles (faces {flat[:5].tolist()} ...); remove them; the unit is metres",
        )

    @property
    def topology_hash(self) -> str:
        """sha256 over the faces and the number of vertices: two templates with one hash can share motion."""
        digest = hashlib.sha256(np.int64(len(self.verts)).tobytes())
        digest.update(self.faces.astype("<i4").tobytes())
        return digest.hexdigest()

    def region(self, name: str) -> np.ndarray:
        """Vertex indices of a region; InputError names the regions there are."""
        if name not in self.regions:
            known = ", ".join(sorted(self.regions)) or "none"
            raise InputError(f"face template {self.name!r} has no region {name!r}; it has: {known}")
        return self.regions[name]

    def region_faces(self, name: str) -> np.ndarray:
        """(F',) indices of the triangles whose three corners all lie in a region."""
        inside = np.zeros(len(self.verts), bool)
        inside[self.region(name)] = True
        return np.flatnonzero(inside[self.faces].all(axis=1))

    def identity(self, shape: np.ndarray, colors: np.ndarray | None = None, name: str | None = None) -> "FaceTemplate":
        """The face of shape coefficients (S,), with the same topology, regions and articulation."""
        shape = np.asarray(shape, np.float32)
        if shape.shape != (len(self.shape_names),):
            raise InputError(
                f"face template {self.name!r} takes {len(self.shape_names)} shape coefficients "
                f"({', '.join(self.shape_names)}), got an array of shape {shape.shape}"
            )
        verts = self.verts + np.tensordot(shape, self.shape_basis, axes=1)
        return replace(
            self,
            verts=verts,
            colors=self.colors if colors is None else colors,
            name=self.name if name is None else name,
        )

    def offsets(self, coefficients: np.ndarray) -> np.ndarray:
        """Offsets (T, V, 3) metres of articulation coefficients (T, K)."""
        coefficients = np.asarray(coefficients, np.float32)
        n_basis = len(self.articulation_names)
        if coefficients.ndim != 2 or coefficients.shape[1] != n_basis:
            raise InputError(
                f"face template {self.name!r} is moved by (T, {n_basis}) coefficients "
                f"({', '.join(self.articulation_names)}), got an array of shape {coefficients.shape}"
            )
        flat = coefficients @ self.articulation_basis.reshape(n_basis, -1)
        return flat.reshape(len(coefficients), -1, 3)

    def save(self, path: str | Path) -> None:
        """Write one .npz, whole or not at all."""
        arrays = {f"region/{k}": v for k, v in self.regions.items()}
        for key in ("verts", "faces", "landmarks", "shape_basis", "articulation_basis", "colors"):
            arrays[key] = getattr(self, key)
        names = {k: np.array(getattr(self, k), dtype=np.str_) for k in ("name", "shape_names", "articulation_names")}
        with atomic_path(path) as partial, open(partial, "wb") as file:
            np.savez(file, **arrays, **names)

    @classmethod
    def load(cls, path: str | Path) -> "FaceTemplate":
        """Read what `save` wrote; InputError on a missing, corrupt or incomplete file."""
        path = Path(path)
        if not path.is_file():
            raise InputError(f"face template {path}: no such file")
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {key: stored[key] for key in stored.files}
        except Exception as error:
            raise InputError(f"face template {path}: not a readable .npz file ({error})") from error
        missing = [key for key in ("name", "verts", "faces") if key not in arrays]
        if missing:
            raise InputError(f"face template {path}: lacks {', '.join(missing)}; write it with FaceTemplate.save")
        regions = {key.removeprefix("region/"): arrays.pop(key) for key in list(arrays) if key.startswith("region/")}
        unknown = sorted(set(arrays) - set(cls.__dataclass_fields__))
        if unknown:
            raise InputError(f"face template {path}: unknown arrays {', '.join(unknown)}")
        for key in ("shape_names", "articulation_names"):
            arrays[key] = tuple(arrays.get(key, np.array([], np.str_)).tolist())
        try:
            return cls(**{**arrays, "name": str(arrays["name"])}, regions=regions)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def _require(holds: bool, where: str, problem: str) -> None:
    if not holds:
        raise InputError(f"{where}: {problem}")
