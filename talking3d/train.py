"""Training the models of this package from a config file: what `talking3d train` does."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from avsr.errors import InputError
from avsr.training.config import keep_config, load_config, read_yaml
from avsr.training.trainer import FREE_KEYS, Trainer, TrainerConfig
from talking3d.corpus.motion_dataset import MotionDataConfig, StudentData, collate, student_data
from talking3d.face.template import FaceTemplate
from talking3d.learn2talk import Learn2Talk, Learn2TalkConfig
from talking3d.models.audio2mesh import Audio2Mesh, Audio2MeshConfig
from talking3d.models.faceformer import FaceFormer, FaceFormerConfig
from talking3d.models.head_pose import HeadPoseConfig, PoseVAE
from talking3d.models.syncnet3d import SyncNet3D, SyncNet3DConfig


@dataclass
class StudentTraining:
    """The schema of a student's yaml file."""

    model: str = "audio2mesh"
    out: str = "exp/audio2mesh"
    data: MotionDataConfig = field(default_factory=MotionDataConfig)
    audio2mesh: Audio2MeshConfig = field(default_factory=Audio2MeshConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


@dataclass
class FaceFormerTraining:
    """The schema of a FaceFormer's yaml file."""

    model: str = "faceformer"
    out: str = "exp/faceformer"
    data: MotionDataConfig = field(default_factory=MotionDataConfig)
    faceformer: FaceFormerConfig = field(default_factory=FaceFormerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


@dataclass
class Learn2TalkTraining(StudentTraining):
    """The schema of a jointly trained student's yaml file."""

    model: str = "learn2talk"
    out: str = "exp/learn2talk"
    learn2talk: Learn2TalkConfig = field(default_factory=Learn2TalkConfig)


@dataclass
class SyncTraining:
    """The schema of a sync network's yaml file."""

    model: str = "syncnet3d"
    out: str = "exp/syncnet3d"
    data: MotionDataConfig = field(default_factory=MotionDataConfig)
    basis_size: int = 32  # components of the training motion that batches hold
    syncnet3d: SyncNet3DConfig = field(default_factory=SyncNet3DConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


@dataclass
class HeadPoseTraining:
    """The schema of a head motion's yaml file."""

    model: str = "head_pose"
    out: str = "exp/head_pose"
    data: MotionDataConfig = field(default_factory=MotionDataConfig)
    head_pose: HeadPoseConfig = field(default_factory=HeadPoseConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


def train(config_path: str | Path, overrides: list[str], preset: str | None = None) -> Path:
    """Train the model that the yaml at `config_path` names; resumes. Returns the checkpoint's folder."""
    name = read_yaml(config_path).get("model")
    if name not in TRAININGS:
        raise InputError(f"{config_path}: model is {name!r}; expected {' or '.join(TRAININGS)}")
    return TRAININGS[name](config_path, overrides, preset)


def train_student(config_path: str | Path, overrides: list[str], preset: str | None) -> Path:
    """Train an `Audio2Mesh` on speech with motion."""
    config = load_config(config_path, overrides, StudentTraining, preset=preset)
    return _train_on_motion(config, config.audio2mesh.basis_size, partial(_student, config), config_path)


def train_learn2talk(config_path: str | Path, overrides: list[str], preset: str | None) -> Path:
    """Train an `Audio2Mesh` by the joint objective; the checkpoint is a student's like any other."""
    config = load_config(config_path, overrides, Learn2TalkTraining, preset=preset)

    def build(data: StudentData, template: FaceTemplate) -> Learn2Talk:
        return Learn2Talk(config.learn2talk, _student(config, data, template))

    return _train_on_motion(config, config.audio2mesh.basis_size, build, config_path)


def train_faceformer(config_path: str | Path, overrides: list[str], preset: str | None) -> Path:
    """Train a `FaceFormer` on speech with motion."""
    config = load_config(config_path, overrides, FaceFormerTraining, preset=preset)

    def build(data: StudentData, template: FaceTemplate) -> FaceFormer:
        return FaceFormer(config.faceformer, data.basis, data.train.mean_motion(), template, data.speakers)

    return _train_on_motion(config, config.faceformer.basis_size, build, config_path)


def train_syncnet(config_path: str | Path, overrides: list[str], preset: str | None) -> Path:
    """Train a `SyncNet3D` on speech with motion."""
    config = load_config(config_path, overrides, SyncTraining, preset=preset)

    def build(data: StudentData, template: FaceTemplate) -> SyncNet3D:
        return SyncNet3D(config.syncnet3d, template, data.basis[:, template.region("lips")])

    return _train_on_motion(config, config.basis_size, build, config_path)


def train_head_pose(config_path: str | Path, overrides: list[str], preset: str | None) -> Path:
    """Train a `PoseVAE` on speech with head motion."""
    config = load_config(config_path, overrides, HeadPoseTraining, preset=preset)

    def build(data: StudentData, template: FaceTemplate) -> PoseVAE:
        data.valid.head_poses()  # raises where one is missing
        return PoseVAE.fitting(config.head_pose, data.train.head_poses())

    return _train_on_motion(config, 1, build, config_path)


def _student(config: StudentTraining, data: StudentData, template: FaceTemplate) -> Audio2Mesh:
    return Audio2Mesh(config.audio2mesh, data.basis, data.train.mean_motion(), template, data.speakers)


def _train_on_motion(config, basis_size: int, build: Callable, config_path: str | Path) -> Path:
    """Train what build(data, template) makes, by a config with `data`, `trainer` and `out`."""
    keep_config(Path(config.out) / "config.yaml", config, may_change=FREE_KEYS)
    data = student_data(config.data, basis_size, config.trainer.seed)
    torch.manual_seed(config.trainer.seed)
    model = build(data, FaceTemplate.load(data.train.rows[0]["template"]))
    facts = {
        "trained on": ", ".join(config.data.train),
        "utterances": len(data.train),
        "config": str(config_path),
        "seed": config.trainer.seed,
    }
    trainer = Trainer(
        model,
        config.trainer,
        config.out,
        train_dataset=data.train,
        train_sampler=data.train_sampler,
        valid_dataset=data.valid,
        valid_sampler=data.valid_sampler,
        collate=collate,
        export=lambda state_dict, folder: model.save_pretrained(folder, state_dict, facts),
    )
    trainer.fit()
    return Path(config.out) / "checkpoint"


TRAININGS = {
    "audio2mesh": train_student,
    "learn2talk": train_learn2talk,
    "faceformer": train_faceformer,
    "syncnet3d": train_syncnet,
    "head_pose": train_head_pose,
}
