"""Training the models of this package from a config file: what `talking3d train` does."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from avsr.errors import InputError
from avsr.training.config import keep_config, load_config, read_yaml
from avsr.training.trainer import FREE_KEYS, Trainer, TrainerConfig
from talking3d.corpus.motion_dataset import MotionDataConfig, collate, student_data
from talking3d.face.template import FaceTemplate
from talking3d.models.audio2mesh import Audio2Mesh, Audio2MeshConfig


@dataclass
class StudentTraining:
    """The schema of a student's yaml file."""

    model: str = "audio2mesh"
    out: str = "exp/audio2mesh"
    data: MotionDataConfig = field(default_factory=MotionDataConfig)
    audio2mesh: Audio2MeshConfig = field(default_factory=Audio2MeshConfig)
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
    keep_config(Path(config.out) / "config.yaml", config, may_change=FREE_KEYS)
    data = student_data(config.data, config.audio2mesh.basis_size, config.trainer.seed)
    torch.manual_seed(config.trainer.seed)
    template = FaceTemplate.load(data.train.rows[0]["template"])
    model = Audio2Mesh(config.audio2mesh, data.basis, data.train.mean_motion(), template, data.speakers)
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


TRAININGS = {"audio2mesh": train_student}
