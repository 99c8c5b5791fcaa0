"""Training a recogniser, or a language model for it, from a config file: what `avsr train` does."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch

from avsr.data.dataset import DataConfig, listed, recognition_data
from avsr.data.text_dataset import TextDataConfig, collate_texts, text_data
from avsr.errors import InputError
from avsr.models.public_checkpoints import load_av_hubert, load_visual_frontend
from avsr.models.recognizer import Recognizer, RecognizerConfig
from avsr.models.transformer_lm import TransformerLM, TransformerLMConfig
from avsr.training.config import keep_config, load_config, read_yaml
from avsr.training.trainer import FREE_KEYS, Trainer, TrainerConfig

logger = logging.getLogger(__name__)


@dataclass
class RecognizerTraining:
    """The schema of a recogniser's yaml file."""

    model: str = "recognizer"
    out: str = "exp/recognizer"
    init: list[str] = field(default_factory=list)  # checkpoints of recognisers to start from; see `init_from`
    init_av_hubert: str | None = None  # AV-HuBERT, whose front ends, fusion and encoder training starts from
    init_video: str | None = None  # a public checkpoint whose visual front end (resnet18_…) training starts from
    data: DataConfig = field(default_factory=DataConfig)
    recognizer: RecognizerConfig = field(default_factory=RecognizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


@dataclass
class LanguageModelTraining:
    """The schema of a transformer language model's yaml file."""

    model: str = "transformer_lm"
    out: str = "exp/transformer_lm"
    data: TextDataConfig = field(default_factory=TextDataConfig)
    transformer_lm: TransformerLMConfig = field(default_factory=TransformerLMConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


def train(config_path: str | Path, overrides: list[str], preset: str | None = None) -> Path:
    """Train the `model` that the yaml at `config_path` names (default: recognizer); its checkpoint's folder."""
    named = read_yaml(config_path).get("model", "recognizer")
    if named not in TRAININGS:
        raise InputError(f"{config_path}: unknown model {named!r}; expected one of {', '.join(TRAININGS)}")
    return TRAININGS[named](config_path, overrides, preset)


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
    init_from(model, config.init)
    if config.init_video is not None:
        if model.video is None:
            raise InputError(f"init_video={config.init_video}: a recogniser of sound alone has no visual front end")
        load_visual_frontend(model.video, config.init_video)
    if config.init_av_hubert is not None:
        load_av_hubert(model, config.init_av_hubert)
    hours = sum(row["duration_s"] for row in train.rows) / 3600
    sources = " and ".join(sorted({row.get("source") or "of unknown source" for row in train.rows}))
    facts = {
        "trained on": ", ".join(path if n == 1 else f"{path} ({n} times an epoch)" for path, n in listed(config.data)),
        "training data": f"{len(train.rows)} utterances, {hours:.3g} h, {sources}",
        "config": str(config_path),
        "seed": config.trainer.seed,
    }
    if config.init:
        facts["started from"] = ", ".join(config.init)

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


def init_from(model: Recognizer, checkpoints: list[str]) -> list[str]:
    """Give a model the weights of trained recognisers wherever name and shape agree, the first checkpoint's first.

    So an audio-visual recogniser starts from a hearing and a seeing one, with the joint part of the first. One with
    other tokens gives its front ends, fusion and encoders.

    Returns:
        the names of the weights that were taken.

    Raises:
        InputError: a checkpoint with no weight that this model lacks still.
    """
    own = model.state_dict()
    taken: dict[str, torch.Tensor] = {}
    for checkpoint in checkpoints:
        other = Recognizer.from_pretrained(checkpoint)
        heads: tuple[str, ...] = ()
        if other.tokenizer.tokens != model.tokenizer.tokens:
            heads = ("ctc.", "decoder.", "frame_head.")
            logger.warning("init: %s has other tokens than data.tokenizer; its CTC and decoder are left", checkpoint)
        fitting = {
            name: value
            for name, value in other.state_dict().items()
            if name not in taken and name in own and own[name].shape == value.shape and not name.startswith(heads)
        }
        if not fitting:
            raise InputError(f"init: {checkpoint} has no weight that fits this model beside those of the others")
        taken |= fitting
    model.load_state_dict(own | taken)
    return list(taken)


def train_language_model(config_path: str | Path, overrides: list[str], preset: str | None = None) -> Path:
    """Train as the yaml at `config_path` says, with `key=value` overrides; resumes. Returns the checkpoint's folder."""
    config = load_config(config_path, overrides, LanguageModelTraining, preset=preset)
    keep_config(Path(config.out) / "config.yaml", config, may_change=FREE_KEYS)
    torch.manual_seed(config.trainer.seed)
    tokenizer, (train_texts, train_sampler), (valid_texts, valid_sampler) = text_data(config.data, config.trainer.seed)
    config.transformer_lm.vocab_size = len(tokenizer)
    facts = {"trained on": ", ".join(config.data.train), "config": str(config_path), "seed": config.trainer.seed}

    def export(state_dict: dict, folder: Path) -> None:
        exported = TransformerLM(config.transformer_lm)
        exported.load_state_dict(state_dict)
        exported.save_pretrained(folder, tokenizer, facts)

    trainer = Trainer(
        TransformerLM(config.transformer_lm),
        config.trainer,
        config.out,
        train_dataset=train_texts,
        train_sampler=train_sampler,
        valid_dataset=valid_texts,
        valid_sampler=valid_sampler,
        collate=collate_texts,
        export=export,
    )
    trainer.fit()
    return Path(config.out) / "checkpoint"


TRAININGS = {"recognizer": train_recognizer, "transformer_lm": train_language_model}
