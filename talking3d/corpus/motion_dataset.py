"""Speech with the motion of the face that spoke it, as training batches; and the basis that the motion is given in.

A row is a manifest row with `audio`, `motion` and `template`. Motion reaches the model as coefficients of one basis
fitted to the training motion, so that the last layer costs little for any number of vertices. A 2D teacher's lips for
the same sound, whoever drew or filmed them, come beside it by manifests of their own.

Letters: B batch, S samples, T video frames, V vertices, K basis size, P coefficients of a corpus's own basis.
"""

import functools
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from avsr.data.alignment import read_alignment
from avsr.data.arrays import ArrayCache, fit_frames, pad_arrays
from avsr.data.batching import BucketBatchSampler
from avsr.data.manifest import read_manifest
from avsr.errors import InputError
from avsr.media.audio import read_audio
from avsr.media.timing import FPS, frames_of, samples_of
from avsr.media.video import read_lips
from talking3d.corpus.perturb import PerturbConfig, perturb, retime, retime_pictures
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate

NEED = ("audio", "motion", "template")  # fields of a row that this module reads
UNKNOWN = -1  # index of a speaker who wasn't heard in training
MAX_GAP_FRAMES = 5  # by which sound and motion may differ in length
NEGLIGIBLE = 1e-7  # share of the motion's energy below which a component is left out

logger = logging.getLogger(__name__)


@dataclass
class MotionDataConfig:
    """Manifests of speech with motion, and how they are batched."""

    train: list[str] = field(default_factory=list)
    valid: list[str] = field(default_factory=list)
    teacher: list[str] = field(default_factory=list)  # manifests of lips for the same sound, of both; none: no lips
    max_frames_per_batch: int = 800  # padding included
    max_utts: int = 16
    cache_mb: int = 512  # decoded speech and lips kept in memory
    perturb: PerturbConfig = field(default_factory=PerturbConfig)


class MotionDataset(torch.utils.data.Dataset):
    """Rows of speech with motion: items {utt_id, text (None where the row has none), waveform (S,), motion (T, K) in
    `basis`, speaker index, template (its file)}; head_pose (T, 6) where the motion has one; with a teacher lips
    (T, 96, 96) uint8.

    Args:
        rows: manifest rows with `audio`, `motion` and `template`.
        basis: (K, V, 3), of `fit_motion_basis`: orthogonal rows.
        speakers: names whose index an item gets; others get `UNKNOWN`.
        perturb: how to vary the speech; None leaves it as it is (evaluation).
        seed: with the epoch and the index it determines an item: a resumed run hears the same.
        cache_mb: bound on the decoded speech and lips that are kept in memory.
        teacher: the file of each utterance's lips by its utt_id, as `teacher_lips` finds them; None: items have none.

    Raises:
        InputError: naming the utterance: motion of another topology or rate than the others', motion or lips of
            another length than its sound by more than five frames.
    """

    def __init__(
        self,
        rows: list[dict],
        basis: np.ndarray,
        *,
        speakers: Sequence[str],
        perturb: PerturbConfig | None = None,
        seed: int = 0,
        cache_mb: int = 512,
        teacher: dict[str, str] | None = None,
    ):
        self.rows = rows
        self.perturb = perturb
        self.seed = seed
        self.epoch = 0
        self._index = {name: i for i, name in enumerate(speakers)}
        self._motion, self._head_pose = _project(rows, basis)
        self._teacher = teacher
        self._cache = ArrayCache(cache_mb)

    @property
    def lengths_frames(self) -> list[int]:
        """Frames of each row's motion; speed perturbation changes an item's by its share."""
        return [len(motion) for motion in self._motion]

    def mean_motion(self) -> np.ndarray:
        """(K,) coefficients averaged over all frames: what a face shows that doesn't listen."""
        return np.concatenate(self._motion).mean(0)

    def head_poses(self) -> list[np.ndarray]:
        """Each row's (T, 6); InputError naming the first whose motion has none."""
        for row, head_pose in zip(self.rows, self._head_pose, strict=True):
            if head_pose is None:
                raise InputError(f"{row['utt_id']}: {row['motion']} has no head_pose: give motion of heads that move")
        return self._head_pose

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that perturbations are drawn for."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict:
        row, motion = self.rows[i], self._motion[i]
        waveform = self._cache.get(row["audio"], lambda: read_audio(row["audio"]))
        if self._head_pose[i] is not None:
            motion = np.concatenate([motion, self._head_pose[i]], axis=1)  # retimed together
        n_frames = frames_of(len(waveform))
        if abs(n_frames - len(motion)) > MAX_GAP_FRAMES:
            raise InputError(
                f"{row['utt_id']}: {row['motion']} has {len(motion)} frames, its sound {n_frames} at {FPS} fps: "
                "give the motion that belongs to this sound"
            )
        n_frames = min(n_frames, len(motion))
        waveform, motion = waveform[: samples_of(n_frames)], motion[:n_frames]
        lips = None if self._teacher is None else self._lips(row["utt_id"], n_frames)
        if self.perturb is not None:
            rng = np.random.default_rng((self.seed, self.epoch, i))
            waveform, speed = perturb(waveform, self.perturb, rng, phones_of(row))
            n_frames = frames_of(len(waveform))
            motion = retime(motion, speed, n_frames)
            lips = None if lips is None else retime_pictures(lips, speed, n_frames)
        size = self._motion[i].shape[1]
        item = {
            "utt_id": row["utt_id"],
            "text": row.get("text"),
            "waveform": waveform,
            "motion": motion[:, :size],
            "speaker": self._index.get(row["speaker"], UNKNOWN),
            "template": row["template"],
        }
        if self._head_pose[i] is not None:
            item["head_pose"] = motion[:, size:]
        return item if lips is None else item | {"lips": lips}

    def _lips(self, utt_id: str, n_frames: int) -> np.ndarray:
        path = self._teacher[utt_id]
        try:
            return fit_frames(self._cache.get(path, lambda: read_lips(path)), n_frames)
        except InputError as error:
            raise InputError(f"{utt_id}: its teacher's lips: {error}") from error


def collate(items: list[dict]) -> dict:
    """Batch items: waveform (B, S) and motion (B, T, K) zero-padded, lengths (B,) in frames, speakers (B,).

    utt_ids, texts and templates (files) are lists. head_pose (B, T, 6) is there where all items have one; where there
    is a teacher, lips (B, T, 96, 96) uint8.
    """
    lengths = [len(item["motion"]) for item in items]
    waveform = np.zeros((len(items), samples_of(max(lengths))), dtype=np.float32)
    for b, item in enumerate(items):
        waveform[b, : len(item["waveform"])] = item["waveform"]
    tracks = ("motion", "head_pose") if all("head_pose" in item for item in items) else ("motion",)
    batch = {
        "utt_ids": [item["utt_id"] for item in items],
        "texts": [item.get("text") for item in items],
        "templates": [item["template"] for item in items],
        "waveform": torch.from_numpy(waveform),
        **{name: pad_sequence([torch.from_numpy(item[name]) for item in items], batch_first=True) for name in tracks},
        "lengths": torch.tensor(lengths),
        "speakers": torch.tensor([item["speaker"] for item in items]),
    }
    if "lips" in items[0]:
        batch["lips"] = pad_arrays([item["lips"] for item in items], 0)
    return batch


def phones_of(row: dict) -> list[tuple[float, float, str]]:
    """(start_s, end_s, IPA) of a manifest row's phones; none where its alignment has none."""
    return [] if row.get("alignment") is None else read_alignment(row["alignment"]).get("phones", [])


def teacher_lips(manifests: Sequence[str], rows: Sequence[dict]) -> dict[str, str]:
    """The file of each row's lips by its utt_id; of manifests that both have an utterance the first one gives it.

    Raises InputError naming utterances that no manifest has.
    """
    found: dict[str, str] = {}
    for path in manifests:
        for row in read_manifest(path, need=("lips",)):
            found.setdefault(row["utt_id"], row["lips"])
    missing = [row["utt_id"] for row in rows if row["utt_id"] not in found]
    if missing:
        raise InputError(
            f"data.teacher: {', '.join(manifests)} lack the lips of {len(missing)} of {len(rows)} utterances "
            f"({', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}): let the teacher draw them all"
        )
    return found


def fit_motion_basis(rows: list[dict], size: int) -> np.ndarray:
    """Fit the principal components of the motion of `rows` over all vertices: (K, V, 3) float32 metres, K <= size.

    Components are taken about the rest pose, not about the mean, so that no motion is exactly zero coefficients. Each
    is scaled so that its coefficient has a root mean square of 1 over the training frames. Those that hold less than
    1e-7 of the energy are left out. Motion stored as coefficients of the template's own basis is never expanded: its
    second moments are enough.

    Raises:
        InputError: motion of several topologies, or none that moves.
    """
    moments: dict[str, np.ndarray] = {}  # digest of a corpus basis -> (P, P) second moments of its coefficients
    bases: dict[str, np.ndarray] = {}
    factor = None  # (R, 3 V), its Gram matrix is the second moment of the plain offsets
    n_frames = 0
    topology = None
    for row in rows:
        stored = _load(row)
        topology = stored.topology_hash if topology is None else topology
        if stored.topology_hash != topology:
            raise InputError(
                f"{row['utt_id']}: {row['motion']} moves another topology ({stored.n_verts} vertices) than "
                f"{rows[0]['motion']}: train on one topology"
            )
        n_frames += len(stored.values)
        if stored.basis is None:
            factor = stored.values if factor is None else np.concatenate([factor, stored.values])
            if len(factor) > max(1000, 4 * size):
                factor = _components(factor)[: 2 * size]
        else:
            bases[stored.digest] = stored.basis
            moments[stored.digest] = moments.get(stored.digest, 0.0) + stored.values.T @ stored.values
    factors = [] if factor is None else [factor]
    for digest, moment in moments.items():
        energies, directions = np.linalg.eigh(moment)
        factors.append(np.sqrt(energies.clip(min=0))[:, None] * (directions.T @ bases[digest]))
    components = _components(np.concatenate(factors)) / np.sqrt(n_frames)
    energies = np.square(components).sum(1)
    if energies.sum() == 0:
        raise InputError(f"the motion of all {len(rows)} training utterances stands still: nothing to learn")
    n_kept = min(size, int((energies > NEGLIGIBLE * energies.sum()).sum()))
    lost_mm = 1e3 * np.sqrt(energies[n_kept:].sum() / (components.shape[1] / 3))
    logger.info("motion basis: %d components; root mean square left out: %.4f mm", n_kept, lost_mm)
    return components[:n_kept].reshape(n_kept, -1, 3).astype(np.float32)


@dataclass(frozen=True)
class StudentData:
    """What a student's training needs: datasets with their batch samplers, the motion basis (K, V, 3), speakers."""

    train: MotionDataset
    train_sampler: BucketBatchSampler
    valid: MotionDataset
    valid_sampler: BucketBatchSampler
    basis: np.ndarray
    speakers: list[str]


def student_data(config: MotionDataConfig, basis_size: int, seed: int, basis: np.ndarray | None = None) -> StudentData:
    """Read the manifests of a student's training and fit its basis, or give its motion in `basis` (K, V, 3).

    Raises InputError where train or valid names no manifest, and where a teacher lacks an utterance.
    """
    for name in ("train", "valid"):
        if not getattr(config, name):
            raise InputError(f"data.{name} names no manifest: give a list, as in data.{name}=[{name}/manifest.jsonl]")
    rows, valid_rows = (
        [row for path in paths for row in read_manifest(path, need=NEED)] for paths in (config.train, config.valid)
    )
    speakers = sorted({row["speaker"] for row in rows if row["speaker"] is not None})
    basis = fit_motion_basis(rows, basis_size) if basis is None else basis
    teacher = teacher_lips(config.teacher, rows + valid_rows) if config.teacher else None
    shared = {"speakers": speakers, "seed": seed, "cache_mb": config.cache_mb, "teacher": teacher}
    train = MotionDataset(rows, basis, perturb=config.perturb, **shared)
    valid = MotionDataset(valid_rows, basis, **shared)
    bounds = {"max_frames": config.max_frames_per_batch, "max_utts": config.max_utts, "seed": seed}
    return StudentData(
        train=train,
        train_sampler=BucketBatchSampler(train.lengths_frames, shuffle=True, **bounds),
        valid=valid,
        valid_sampler=BucketBatchSampler(valid.lengths_frames, shuffle=False, **bounds),
        basis=basis,
        speakers=speakers,
    )


def _project(rows: list[dict], basis: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """Each row's motion as its least-squares coefficients (T, K) of `basis`, without expanding corpus coefficients.

    Also each row's head pose (T, 6), None where the motion has none.
    """
    flat = np.asarray(basis, dtype=np.float64).reshape(len(basis), -1)
    dual = (flat / np.square(flat).sum(1, keepdims=True)).T  # (3 V, K)
    projections: dict[str, np.ndarray] = {}
    motion, head_pose = [], []
    for row in rows:
        stored = _load(row)
        if 3 * stored.n_verts != len(dual):
            raise InputError(
                f"{row['utt_id']}: {row['motion']} moves {stored.n_verts} vertices, the motion basis {len(dual) // 3}: "
                "train and evaluate on one topology"
            )
        if stored.basis is not None and stored.digest not in projections:
            projections[stored.digest] = stored.basis @ dual
        projection = dual if stored.basis is None else projections[stored.digest]
        motion.append((stored.values @ projection).astype(np.float32))
        head_pose.append(stored.head_pose)
    return motion, head_pose


@dataclass(frozen=True)
class _Stored:
    """A motion as its file holds it, float64: values (T, P) of a corpus's basis (P, 3 V); offsets (T, 3 V) without."""

    topology_hash: str
    values: np.ndarray
    head_pose: np.ndarray | None
    digest: str = ""  # of the basis
    basis: np.ndarray | None = None

    @property
    def n_verts(self) -> int:
        return (self.values if self.basis is None else self.basis).shape[1] // 3


def _load(row: dict) -> _Stored:
    motion = Motion.load(row["motion"])
    if motion.fps != FPS:
        raise InputError(f"{row['utt_id']}: {row['motion']} runs at {motion.fps:g} fps, expected {FPS}: resample it")
    if motion.coefficients is None:
        values = motion.offsets.reshape(motion.n_frames, -1).astype(np.float64)
        return _Stored(motion.topology_hash, values, motion.head_pose)
    topology_hash, digest, basis = _corpus_basis(row["template"])
    if topology_hash != motion.topology_hash or len(basis) != motion.coefficients.shape[1]:
        raise InputError(
            f"{row['utt_id']}: {row['motion']} was made on another face than its template {row['template']}: "
            "name the template that it was made with"
        )
    return _Stored(topology_hash, motion.coefficients.astype(np.float64), motion.head_pose, digest, basis)


@functools.lru_cache(maxsize=64)
def _corpus_basis(template_path: str) -> tuple[str, str, np.ndarray]:
    """A template's topology hash, and the digest and rows (P, 3 V) of its articulation basis."""
    template = FaceTemplate.load(template_path)
    basis = template.articulation_basis.reshape(len(template.articulation_basis), -1)
    return template.topology_hash, hashlib.sha256(basis.tobytes()).hexdigest(), basis


def _components(factor: np.ndarray) -> np.ndarray:
    """Orthogonal rows with the Gram matrix of the rows of `factor` (R, 3 V), largest first."""
    if len(factor) > factor.shape[1]:
        energies, directions = np.linalg.eigh(factor.T @ factor)
        return np.sqrt(energies.clip(min=0))[::-1, None] * directions.T[::-1]
    _, directions = np.linalg.eigh(factor @ factor.T)
    return directions.T[::-1] @ factor
