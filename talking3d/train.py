"""Training the models of this package from a config file: what `talking3d train` does."""

from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from avsr.errors import InputError
from avsr.training.config import keep_config, load_config, read_yaml
from avsr.training.trainer import FREE_KEYS, Trainer, TrainerConfig
from talking3d.corpus import lip_dataset, motion_dataset
from talking3d.corpus.lip_dataset import LipData, LipDataConfig, lip_data
from talking3d.corpus.motion_dataset import MotionDataConfig, StudentData, student_data
from talking3d.face.template import FaceTemplate
from talking3d.generators import GENERATORS
from talking3d.learn2talk import Learn2Talk, Learn2TalkConfig
from talking3d.models.audio2mesh import Audio2Mesh
from talking3d.models.basis_model import BasisModel, BasisModelConfig
from talking3d.models.codetalker import CodeTalker
from talking3d.models.head_pose import HeadPoseConfig, PoseVAE
from talking3d.models.motion_model import MotionModel
from talking3d.models.motion_prior import MotionPrior
from talking3d.models.syncnet2d import SyncNet2D, SyncNet2DConfig
from talking3d.models.syncnet3d import SyncNet3D, SyncNet3DConfig
from talking3d.models.teacher2d import Teacher2D, Teacher2DConfig


def _schema(name: str, own: type, data: type = MotionDataConfig, **more: tuple[type, object]) -> type:
    """The schema of the yaml file of a model's training.

    own: the config that stands under the model's name. more: further keys, each with type and default.
    """
    values = {"model": (str, name), "out": (str, f"exp/{name}"), **more}
    parts = {"data": data, name: own, "trainer": TrainerConfig}
    return make_dataclass(
        f"{name}_training",
        [(key, kind, default) for key, (kind, default) in values.items()]
        + [(key, part, field(default_factory=part)) for key, part in parts.items()],
    )


# batches of a sync network hold `basis_size` components of the training motion
SYNC = _schema("syncnet3d", SyncNet3DConfig, basis_size=(int, 32))
LIP_SYNC = _schema("syncnet2d", SyncNet2DConfig, LipDataConfig)
TEACHER = _schema("teacher2d", Teacher2DConfig, LipDataConfig, expert=(str | None, None))  # checkpoint of a SyncNet2D
HEAD_POSE = _schema("head_pose", HeadPoseConfig)
INIT = {"init": (str | None, None)}  # checkpoint of the same kind that a generator's training starts from


@dataclass
class Learn2TalkTraining(_schema(Audio2Mesh.NAME, Audio2Mesh.Config, **INIT)):
    """The schema of a jointly trained student's yaml file."""

    model: str = "learn2talk"
    out: str = "exp/learn2talk"
    learn2talk: Learn2TalkConfig = field(default_factory=Learn2TalkConfig)


def train(config_path: str | Path, overrides: list[str], preset: str | None = None) -> Path:
    """Train the model that the yaml at `config_path` names; resumes. Returns the checkpoint's folder."""
    name = read_yaml(config_path).get("model")
    if name not in TRAININGS:
        raise InputError(f"{config_path}: model is {name!r}; expected {' or '.join(TRAININGS)}")
    return TRAININGS[name](config_path, overrides, preset)


def train_motion_model(new: Callable, model: type[BasisModel], config_path, overrides, preset) -> Path:
    """Train a `model` on speech with motion; `new` makes one, of its config and what `BasisModel` takes besides."""
    more = INIT if issubclass(model, MotionModel) else {}
    config = load_config(config_path, overrides, _schema(model.NAME, model.Config, **more), preset=preset)
    own = getattr(config, model.NAME)
    start = None if getattr(config, "init", None) is None else model.from_pretrained(config.init)
    return _train_on_motion(config, own.basis_size, partial(_new, new, own, start=start), config_path, start)


def train_learn2talk(config_path: str | Path, overrides: list[str], preset: str | None) -> Path:
    """Train an `Audio2Mesh` by the joint objective; the checkpoint is a student's like any other."""
    config = load_config(config_path, overrides, Learn2TalkTraining, preset=preset)
    start = None if config.init is None else Audio2Mesh.from_pretrained(config.init)

    def build(data: StudentData, template: FaceTemplate) -> Learn2Talk:
        return Learn2Talk(config.learn2talk, _new(Audio2Mesh, config.audio2mesh, data, template, start))

    return _train_on_motion(config, config.audio2mesh.basis_size, build, config_path, start)


def train_syncnet(config_path: str | Path, overrides: list[str], preset: str | None) -> Path:
    """Train a `SyncNet3D` on speech with motion."""
    config = load_config(config_path, overrides, SYNC, preset=preset)

    def build(data: StudentData, template: FaceTemplate) -> SyncNet3D:
        return SyncNet3D(config.syncnet3d, template, data.basis[:, template.region("lips")])

    return _train_on_motion(config, config.basis_size, build, config_path)


def train_lip_syncnet(config_path: str | Path, overrides: list[str], preset: str | None) -> Path:
    """Train a `SyncNet2D` on speech with lips."""
    config = load_config(config_path, overrides, LIP_SYNC, preset=preset)
    return _train_on_lips(config, lambda: SyncNet2D(config.syncnet2d), config_path)


def train_teacher(config_path: str | Path, overrides: list[str], preset: str | None) -> Path:
    """Train a `Teacher2D` on speech with lips."""
    config = load_config(config_path, overrides, TEACHER, preset=preset)
    expert = None if config.expert is None else SyncNet2D.from_pretrained(config.expert)
    return _train_on_lips(config, lambda: Teacher2D(config.teacher2d, expert), config_path)


def train_head_pose(config_path: str | Path, overrides: list[str], preset: str | None) -> Path:
    """Train a `PoseVAE` on speech with head motion."""
    config = load_config(config_path, overrides, HEAD_POSE, preset=preset)

    def build(data: StudentData, template: FaceTemplate) -> PoseVAE:
        data.valid.head_poses()  # raises where one is missing
        return PoseVAE.fitting(config.head_pose, data.train.head_poses())

    return _train_on_motion(config, 1, build, config_path)


def _new(
    new: Callable,
    config: BasisModelConfig,
    data: StudentData,
    template: FaceTemplate,
    start: MotionModel | None = None,
) -> BasisModel:
    model = new(config, data.basis, data.train.mean_motion(), template, data.speakers)
    if start is not None:
        model.start_from(start)
    return model


def _train_on_motion(
    config, basis_size: int, build: Callable, config_path: str | Path, start: MotionModel | None = None
) -> Path:
    """Train what build(data, template) makes, by a config with `data`, `trainer` and `out`; in the basis of `start`."""
    keep_config(Path(config.out) / "config.yaml", config, may_change=FREE_KEYS)
    basis = None if start is None else start.basis.numpy()
    data = student_data(config.data, basis_size, config.trainer.seed, basis)
    torch.manual_seed(config.trainer.seed)
    model = build(data, FaceTemplate.load(data.train.rows[0]["template"]))
    return _fit(config, model, data, motion_dataset.collate, config_path)


def _train_on_lips(config, build: Callable, config_path: str | Path) -> Path:
    """Train what build() makes, by a config with `data`, `trainer` and `out`."""
    keep_config(Path(config.out) / "config.yaml", config, may_change=FREE_KEYS)
    data = lip_data(config.data, config.trainer.seed)
    torch.manual_seed(config.trainer.seed)
    return _fit(config, build(), data, lip_dataset.collate, config_path)


def _fit(config, model: nn.Module, data: StudentData | LipData, collate: Callable, config_path: str | Path) -> Path:
    """Train a model that saves itself; returns the checkpoint's folder."""
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
    **{model.NAME: partial(train_motion_model, model, model) for model in (*GENERATORS.values(), MotionPrior)},
    "codetalker": partial(train_motion_model, CodeTalker.on_prior, CodeTalker),
    "learn2talk": train_learn2talk,
    "syncnet3d": train_syncnet,
    "syncnet2d": train_lip_syncnet,
    "teacher2d": train_teacher,
    "head_pose": train_head_pose,
}
