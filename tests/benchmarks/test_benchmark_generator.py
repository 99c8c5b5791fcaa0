import numpy as np
import pytest

from avsr.data.manifest import FIELDS
from benchmarks.generator import correlation, measure
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face
from talking3d.metrics import fdd, lve, lve_mm, mve_mm


def test_correlation_ignores_length_and_stillness():
    t = np.linspace(0, 6, 50)
    assert correlation(np.sin(t), 3 * np.sin(t[:40]) + 1) == pytest.approx(1)
    assert correlation(np.zeros(50), np.sin(t)) is None


def test_measures_are_pooled_as_the_metrics_pool(tmp_path):
    face = procedural_face()
    face.save(tmp_path / "face.npz")
    rng = np.random.default_rng(0)
    rows = {"reference": [], "other": []}
    pairs = []
    for i, n_frames in enumerate((20, 35)):
        both = []
        for name, of in rows.items():
            motion = Motion.of_template(
                face, 25, coefficients=rng.random((n_frames, len(face.articulation_names))) * 0.3
            )
            motion.save(tmp_path / f"{name}{i}.npz")
            row = dict.fromkeys(FIELDS) | {"utt_id": f"u{i}", "motion": tmp_path / f"{name}{i}.npz"}
            of.append(row | {"template": tmp_path / "face.npz"})
            both.append(motion.offsets_for(face))
        pairs.append((both[1], both[0]))
    result = measure(rows["reference"], {row["utt_id"]: row for row in rows["other"]})
    lips = face.region("lips")
    assert result["lve_mm"] == pytest.approx(lve_mm(pairs, lips), rel=1e-6)
    assert result["lve_m2"] == pytest.approx(lve(pairs, lips), rel=1e-6)
    assert result["mve_mm"] == pytest.approx(mve_mm(pairs), rel=1e-6)
    assert result["fdd"] == pytest.approx(fdd(pairs, face.region("upper_face"))[0], rel=1e-6)
    assert -1 <= result["lip_correlation"] <= 1
    assert measure(rows["reference"], {row["utt_id"]: row for row in rows["reference"]})["lve_mm"] == 0
    lips_alone = {row["utt_id"]: row | {"motion": None} for row in rows["other"]}
    assert measure(rows["reference"], lips_alone) == {}  # a 2D teacher's: they are read only
