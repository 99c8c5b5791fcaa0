"""Lips for manifests: trained, drawn and read back through the command line, and whose still is taken."""

import cv2
import numpy as np
import pytest
import torch

from avsr.data.manifest import read_manifest
from avsr.errors import InputError
from avsr.media.video import read_lips
from talking3d.cli import main
from talking3d.corpus.motion_dataset import teacher_lips
from talking3d.models.speech_encoder import SpeechEncoderConfig
from talking3d.models.teacher2d import Teacher2D, Teacher2DConfig
from talking3d.teach import read_still, teach_manifest

SYNC = """
model: syncnet2d
out: {folder}/sync
data: {{train: [{manifest}], valid: [{manifest}], perturb: {{share: 0.0}}}}
syncnet2d: {{width: 16, dim: 8, max_offset: 4, visual_channels: [4, 4, 8]}}
trainer: {{max_epochs: 1, average_last: 1, num_threads: 1}}
"""
TEACHER = """
model: teacher2d
out: {folder}/teacher
expert: {folder}/sync/checkpoint
data: {{train: [{manifest}], valid: [{manifest}], perturb: {{share: 0.0}}}}
teacher2d: {{channels: [4, 8], drawn_frames: 2, encoder: {{dim: 16, layers: 1, heads: 2, ff_dim: 32, kernel: 5}}}}
trainer: {{max_epochs: 1, average_last: 1, num_threads: 1}}
"""


@pytest.fixture
def model():
    torch.manual_seed(0)
    encoder = SpeechEncoderConfig(dim=16, layers=1, heads=2, ff_dim=32, kernel=5)
    return Teacher2D(Teacher2DConfig(encoder=encoder, channels=[4, 8])).eval()  # untrained: it shows the still


def test_from_the_corpus_to_a_students_teacher(lips_manifest, lip_rows, spoken_rows, tmp_path):
    for text in (SYNC, TEACHER):
        (tmp_path / "train.yaml").write_text(text.format(folder=tmp_path, manifest=lips_manifest))
        assert main(["train", str(tmp_path / "train.yaml")]) == 0
    checkpoint = tmp_path / "teacher" / "checkpoint"
    assert main(["teach", str(lips_manifest), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "out")]) == 0
    rows = read_manifest(tmp_path / "out" / "manifest.jsonl", need=("audio", "lips"))
    assert [row["utt_id"] for row in rows] == [row["utt_id"] for row in lip_rows]
    assert {(row["source"], row["generator"]) for row in rows} == {("rendered", "teacher2d")}
    assert [len(read_lips(row["lips"])) for row in rows] == [25 + 2 * i for i in range(10)]
    assert len(teacher_lips([str(tmp_path / "out" / "manifest.jsonl")], spoken_rows)) == 10


def test_a_still_is_the_rows_own_then_its_speakers_then_the_given_one(model, lip_rows, tmp_path):
    own, anns, bobs, nobodys = lip_rows[0], lip_rows[1], lip_rows[2], lip_rows[3]
    rows = [own, {**anns, "lips": None}, {**bobs, "lips": None}, {**nobodys, "lips": None, "speaker": None}]
    cv2.imwrite(str(tmp_path / "still.png"), np.full((96, 96), 60, np.uint8))
    manifest = teach_manifest(rows, model, tmp_path / "out", others=[lip_rows[5]], still=tmp_path / "still.png")
    shown = [read_lips(row["lips"])[0].astype(int) for row in read_manifest(manifest, need=("lips",))]
    bob, ann = (read_lips(lip_rows[i]["lips"])[0].astype(int) for i in (0, 5))
    for picture, still in zip(shown, (bob, ann, bob, np.full((96, 96), 60)), strict=True):
        assert np.abs(picture - still).mean() < 3  # what coding loses


def test_shuffled_lips_are_of_another_ones_sound_and_of_its_own_length(model, lip_rows, tmp_path):
    with torch.no_grad():
        model.last.weight.normal_(std=0.02)
    rows = lip_rows[:3]
    straight = read_manifest(teach_manifest(rows, model, tmp_path / "true"), need=("lips",))
    shuffled = read_manifest(teach_manifest(rows, model, tmp_path / "control", shuffle_seed=0), need=("lips",))
    for row, true, control in zip(rows, straight, shuffled, strict=True):
        assert control["generator"] == "teacher2d-shuffled" and control["audio"] == row["audio"]
        lips, others = read_lips(true["lips"]).astype(int), read_lips(control["lips"]).astype(int)
        assert lips.shape == others.shape
        assert np.abs(lips - others).mean() > 1  # the same still, another sound


def test_nobody_to_show_is_an_error(model, lip_rows, tmp_path):
    rows = [lip_rows[0], {**lip_rows[1], "lips": None}]
    with pytest.raises(InputError, match=r"no lips show the speaker of 1 of 2 utterances \(first: utt1\)"):
        teach_manifest(rows, model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_still_is_a_lip_crop(lip_rows, tmp_path):
    cv2.imwrite(str(tmp_path / "face.png"), np.zeros((128, 120), np.uint8))
    with pytest.raises(InputError, match="face.png: 120x128 pixels; a still is a lip crop of 96x96 pixels"):
        read_still(tmp_path / "face.png")
    with pytest.raises(InputError, match="none.png: no readable picture"):
        read_still(tmp_path / "none.png")
    np.testing.assert_array_equal(read_still(lip_rows[0]["lips"]), read_lips(lip_rows[0]["lips"])[0])


def test_sound_that_cannot_be_spoken_is_named(model, lip_rows, tmp_path):
    rows = [{**lip_rows[0], "audio": str(tmp_path / "gone.wav")}]
    with pytest.raises(InputError, match="utt0: .*gone.wav: no such audio file"):
        teach_manifest(rows, model, tmp_path / "out")
