"""Training a recogniser from a config file: what `avsr train` does."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from avsr.data.dataset import DataConfig, recognition_data
from avsr.errors import InputError
from avsr.models.public_checkpoints import load_av_hubert, load_visual_frontend
from avsr.models.recognizer import Recognizer, RecognizerConfig
from avsr.training.config import keep_config, load_config
from avsr.training.trainer import FREE_KEYS, Trainer, TrainerConfig


@dataclass
class RecognizerTraining:
    """The schema of a recogniser's yaml file."""

    model: str = "recognizer"
    out: str = "exp/recognizer"
    init_av_hubert: str | None = None  # AV-HuBERT, whose front ends, fusion and encoder training starts from
    init_video: str | None = None  # a public checkpoint whose visual front end (resnet18_…) training starts from
    data: DataConfig = field(default_factory=DataConfig)
    recognizer: RecognizerConfig = field(default_factory=RecognizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


def train_recognizer(config_path: str | Path, overrides: list[str], preset: str | None = None) -> Path:
    """Train as the yaml at `config_path` says, with `key=value` overrides; resumes. Returns the checkpoint's folder."""
    config = load_config(config_path, overrides, RecognizerTraining, preset=preset)
    config.data.modalities = config.recognizer.modalities
    keep_config(Path(config.out) / "config.yaml", config, may_change=FREE_KEYS)
    torch.manual_seed(config.trainer.seed)
    train, train_sampler, valid, valid_sampler, collate, tokenizer, labels = recognition_data(
        config.data, config.trainer.seed
    )
    config.recognizer.vocab_size = len(tokenizer)
    config.recognizer.longest_s = max(row["duration_s"] for row in train.rows)
    config.recognizer.n_labels = len(labels) if labels is not None else 0
    model = Recognizer(config.recognizer)
    model.tokenizer = tokenizer
    if config.init_video is not None:
        if model.video is None:
            raise InputError(f"init_video={config.init_video}: a recogniser of sound alone has no visual front end")
        load_visual_frontend(model.video, config.init_video)
    if config.init_av_hubert is not None:
        load_av_hubert(model, config.init_av_hubert)
    hours = sum(row["duration_s"] for row in train.rows) / 3600
    sources = " and ".join(sorted({row.get("source") or "of unknown source" for row in train.rows}))
    facts = {
        "trained on": ", ".join(config.data.train),
        "training data": f"{len(train.rows)} utterances, {hours:.3g} h, {sources}",
        "config": str(config_path),
        "seed": config.trainer.seed,
    }

    def export(state_dict: dict, folder: Path) -> None:
        exported = Recognizer(config.recognizer)
        exported.load_state_dict(state_dict)
        exported.save_pretrained(folder, tokenizer, facts)

    trainer = Trainer(
        model,
        config.trainer,
        config.out,
        train_dataset=train,
        train_sampler=train_sampler,
        valid_dataset=valid,
        valid_sampler=valid_sampler,
        collate=collate,
        export=export,
    )
    trainer.fit()
    return Path(config.out) / "checkpoint"
