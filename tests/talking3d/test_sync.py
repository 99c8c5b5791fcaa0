"""Sync scores from known distances, and of files."""

import dataclasses

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from talking3d.cli import main
from talking3d.corpus.motion_dataset import fit_motion_basis
from talking3d.face.motion import Motion
from talking3d.models.syncnet3d import SyncNet3D, SyncNet3DConfig
from talking3d.sync import mean_scores, score_file, sync_score


class Known:
    """A judge that has made up its mind."""

    def __init__(self, distances):
        self.made_up = np.array(distances)

    def distances(self, waveform, offsets):
        return self.made_up


def test_scores_are_syncnets_formulas():
    score = sync_score(Known([1.0, 0.9, 1.1, 0.4, 1.2, 1.3, 1.0]), None, None)
    assert (score.lse_d, score.offset_frames) == (0.4, 0)
    assert score.lse_c == pytest.approx(1.0 - 0.4)  # the median minus the least
    late = sync_score(Known([1.0, 0.9, 1.1, 0.8, 1.2, 0.2, 1.0]), None, None)
    assert (late.offset_frames, late.offset_ms) == (2, 80.0)
    assert mean_scores([score, late]) == (pytest.approx(0.3), pytest.approx((0.6 + 0.8) / 2))


@pytest.fixture
def judge(spoken_rows, tiny_face, tmp_path):
    torch.manual_seed(0)
    config = SyncNet3DConfig(width=16, dim=8, max_offset=4)
    model = SyncNet3D(config, tiny_face, fit_motion_basis(spoken_rows, 8)[:, tiny_face.region("lips")])
    model.save_pretrained(tmp_path / "sync")
    return tmp_path / "sync"


def test_a_file_is_judged_from_the_command_line(judge, spoken_rows, capsys):
    row = spoken_rows[5]
    score = score_file(judge, row["audio"], row["motion"])
    assert main(["sync", row["audio"], row["motion"], "--checkpoint", str(judge)]) == 0
    out = capsys.readouterr().out
    assert f"offset {score.offset_frames:+d} frames" in out and f"LSE-D {score.lse_d:.3f}" in out


def test_motion_of_another_topology(judge, spoken_rows, tmp_path):
    motion = dataclasses.replace(Motion.load(spoken_rows[0]["motion"]), topology_hash="0" * 64)
    motion.save(tmp_path / "other.npz")
    with pytest.raises(InputError, match="judge it with one of its topology"):
        score_file(judge, spoken_rows[0]["audio"], tmp_path / "other.npz")


def test_motion_at_another_rate(judge, spoken_rows, tmp_path):
    dataclasses.replace(Motion.load(spoken_rows[0]["motion"]), fps=30.0).save(tmp_path / "other.npz")
    with pytest.raises(InputError, match="runs at 30 fps, expected 25"):
        score_file(judge, spoken_rows[0]["audio"], tmp_path / "other.npz")
