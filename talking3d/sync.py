"""How well sound and motion are in step: LSE-D, LSE-C and the offset of a clip, by a `SyncNet3D` that judges.

The formulas are SyncNet's (Chung & Zisserman, ACCV-W 2016; joonson/syncnet_python) with embeddings of 3D motion, as
Learn2Talk has them. Values compare only between motions judged by the same checkpoint.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avsr.errors import InputError
from avsr.media.audio import check_waveform, read_audio
from avsr.media.timing import FPS
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate
from talking3d.models.syncnet3d import SyncNet3D


@dataclass(frozen=True)
class SyncScore:
    """lse_d: the least of the mean distances over all offsets; lse_c: their median minus it.

    offset_frames: the offset of the least; positive where the motion comes after its sound. distances (2 v + 1,).
    """

    lse_d: float
    lse_c: float
    offset_frames: int
    distances: np.ndarray

    @property
    def offset_ms(self) -> float:
        """The offset in milliseconds."""
        return 1000.0 * self.offset_frames / FPS


def sync_score(model: SyncNet3D, waveform: np.ndarray, offsets: np.ndarray) -> SyncScore:
    """Judge one clip: waveform (S,) at 16 kHz, offsets (T, V, 3) metres. Raises InputError on a clip too short."""
    distances = model.distances(waveform, offsets)
    best = int(distances.argmin())
    least = float(distances[best])
    return SyncScore(least, float(np.median(distances)) - least, best - len(distances) // 2, distances)


def mean_scores(scores: Iterable[SyncScore]) -> tuple[float, float]:
    """LSE-D and LSE-C, averaged over clips as Wav2Lip's evaluation does."""
    scores = list(scores)
    return float(np.mean([score.lse_d for score in scores])), float(np.mean([score.lse_c for score in scores]))


def score_file(
    checkpoint: str | Path, speech: str | Path, motion: str | Path, template: str | Path | None = None
) -> SyncScore:
    """Judge a file of speech and a motion.npz; template: the face that moves, the judge's own where None.

    Raises InputError: unreadable or silent speech, motion at another rate or of another topology than the judge's.
    """
    model = SyncNet3D.from_pretrained(checkpoint)
    waveform = read_audio(speech)
    check_waveform(waveform, speech)
    moved = Motion.load(motion)
    if moved.fps != FPS:
        raise InputError(f"{motion} runs at {moved.fps:g} fps, expected {FPS}: resample it first")
    if moved.topology_hash != model.template.topology_hash:
        raise InputError(
            f"{motion} moves {moved.template_name!r} (topology {moved.topology_hash[:12]}), the judge in {checkpoint} "
            f"knows {model.template.name!r} ({model.template.topology_hash[:12]}): judge it with one of its topology"
        )
    face = model.template if template is None else FaceTemplate.load(template)
    return sync_score(model, waveform, moved.offsets_for(face))
