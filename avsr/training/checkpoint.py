"""Trained models as folders in the Hugging Face Hub's layout.

A checkpoint folder holds `model.safetensors` (weights), `config.yaml` (`name:` of the model class's kind and its
`config:`), `README.md` (the model card) and whatever files the model needs beside them (`tokenizer.model`, …). It is
written whole or not at all, and read from a local folder or, by id, from the Hub.
"""

import dataclasses
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from avsr.errors import InputError
from avsr.files import atomic_path, write_text
from avsr.training.config import from_dict, read_yaml, save_config

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.yaml"
CARD_FILE = "README.md"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read back: its folder, the model's name, its config as plain dicts, its weights on the CPU."""

    folder: Path
    name: str
    config: dict
    state_dict: dict[str, Tensor]


def save_pretrained(
    folder: str | Path,
    *,
    name: str,
    config: Any,
    state_dict: Mapping[str, Tensor],
    files: Mapping[str, Path] | None = None,
    card: str,
) -> None:
    """Write a checkpoint folder in one step; one already there is replaced.

    `config` is the model's config dataclass; `files` maps further file names to the files to copy; `card` is the text
    of the model card (see `model_card`).
    """
    with atomic_path(folder) as partial:
        partial.mkdir()
        save_weights(partial / WEIGHTS_FILE, state_dict)
        save_config(partial / CONFIG_FILE, {"name": name, "config": dataclasses.asdict(config)})
        write_text(partial / CARD_FILE, card)
        for file_name, source in (files or {}).items():
            shutil.copyfile(source, partial / file_name)


def load_pretrained(folder_or_hub_id: str | Path, expect: str | None = None) -> Checkpoint:
    """Read a checkpoint from a folder, else from the Hugging Face Hub (or its local cache) by `owner/name`.

    Raises InputError when there is no such folder or Hub repository (or no network to reach it), when a file is
    missing or corrupt, and when the checkpoint holds another model than `expect`.
    """
    folder = find_folder(folder_or_hub_id)
    for file_name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / file_name).is_file():
            raise InputError(f"{folder}: not a checkpoint: it has no {file_name}")
    config_path = folder / CONFIG_FILE
    content = read_yaml(config_path)
    if not isinstance(content.get("name"), str) or not isinstance(content.get("config"), dict):
        raise InputError(f"{config_path}: expected the keys name (the model) and config (its settings)")
    if expect is not None and content["name"] != expect:
        raise InputError(f"{folder} holds a {content['name']} model; a {expect} model is needed here")
    return Checkpoint(folder, content["name"], content["config"], read_weights(folder / WEIGHTS_FILE))


def find_folder(folder_or_hub_id: str | Path, patterns: Sequence[str] | None = None) -> Path:
    """The folder, else what the Hugging Face Hub (or its local cache) has by that id: all, or what matches `patterns`.

    Raises InputError where there is neither.
    """
    folder = Path(folder_or_hub_id)
    return folder if folder.is_dir() else _download(str(folder_or_hub_id), patterns)


def save_weights(path: str | Path, state_dict: Mapping[str, Tensor]) -> None:
    """Write weights as one safetensors file, whole or not at all; tied weights are written under each name."""
    # safetensors refuses tensors that share memory or aren't contiguous (channels_last); these copies are neither.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state_dict.items()
    }
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata={"format": "pt"})


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU; InputError where it is missing or corrupt."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such weights file") from None
    except SafetensorError as error:
        raise InputError(f"{path}: corrupt or not a safetensors file ({error}); copy or download it again") from error


def load_weights(model: nn.Module, state_dict: Mapping[str, Tensor], where: str | Path) -> None:
    """Load weights into `model`, all of them or none.

    Raises InputError, opened by `where`, listing the names that are missing, unexpected or of another shape.
    """
    wanted = model.state_dict()
    complaints = {
        "missing": [name for name in wanted if name not in state_dict],
        "unexpected": [name for name in state_dict if name not in wanted],
        "of another shape": [
            f"{name} {tuple(state_dict[name].shape)}, expected {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in state_dict and state_dict[name].shape != tensor.shape
        ],
    }
    found = [f"{what}: {_shorten(names)}" for what, names in complaints.items() if names]
    if found:
        raise InputError(f"{where}: the weights don't fit the model its config describes; {'; '.join(found)}")
    model.load_state_dict(state_dict)


class Pretrained:
    """Saving and loading of an `nn.Module` that its config and its weights make whole; it has `config`."""

    NAME: ClassVar[str]  # in checkpoints
    Config: ClassVar[type]

    @classmethod
    def of_config(cls, config: Any) -> Self:
        """A new model whose weights are to be loaded."""
        return cls(config)

    def save_pretrained(self, folder: str | Path, state_dict: dict | None = None, facts: dict | None = None) -> None:
        """Write a checkpoint folder: weights, config and model card.

        state_dict: other weights of this model than its own, as a trainer averages them. facts: lines of the card.
        """
        save_pretrained(
            folder,
            name=self.NAME,
            config=self.config,
            state_dict=self.state_dict() if state_dict is None else state_dict,
            card=model_card(self.NAME, self.config, facts or {}),
        )

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path) -> Self:
        """Load a checkpoint in eval mode. Raises InputError as `load_pretrained` and `load_weights` do."""
        checkpoint = load_pretrained(folder_or_hub_id, expect=cls.NAME)
        model = cls.of_config(from_dict(cls.Config, checkpoint.config, f"{folder_or_hub_id}/config.yaml"))
        load_weights(model, checkpoint.state_dict, str(folder_or_hub_id))
        return model.eval()


def average_state_dicts(state_dicts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several epochs' weights, given oldest first.

    Floating-point entries (parameters and running statistics) are averaged in float64; others, such as BatchNorm's
    step counters, are taken from the last. Raises ValueError when none are given or their names differ.
    """
    if not state_dicts:
        raise ValueError("no weights to average")
    if any(other.keys() != state_dicts[0].keys() for other in state_dicts):
        raise ValueError("the weights to average belong to different models")
    average = {}
    for name, last in state_dicts[-1].items():
        if last.is_floating_point():
            total = sum(weights[name].double() for weights in state_dicts)
            average[name] = (total / len(state_dicts)).to(last.dtype)
        else:
            average[name] = last.clone()
    return average


def model_card(
    name: str,
    config: Any,
    facts: Mapping[str, Any],
    *,
    front: Mapping[str, Any] | None = None,
    sections: Mapping[str, str] | None = None,
) -> str:
    """A model card: YAML front matter for the Hub, `facts` (training data, scores, commands, …) and the settings.

    `facts` maps a line's title to its text or number; say there whether data were filmed or synthetic. `front` adds to
    the front matter or replaces in it, its tags come after these; `sections` are titles and texts before the settings.
    """
    matter = {"library_name": "liploop", "license": "apache-2.0", **(front or {})}
    matter["tags"] = ["liploop", name, *matter.get("tags", ())]
    lines = ["---", *yaml.safe_dump(matter, sort_keys=False, allow_unicode=True).splitlines(), "---", "", f"# {name}"]
    lines += ["", f"A LipLoop `{name}` model, read with `from_pretrained`.", ""]
    lines += [f"- **{title}**: {_card_text(value)}" for title, value in facts.items()]
    for title, text in (sections or {}).items():
        lines += ["", f"## {title}", "", text]
    lines += ["", "## Settings", "", "| setting | value |", "|---|---|"]
    lines += [f"| `{key}` | `{value}` |" for key, value in dataclasses.asdict(config).items()]
    return "\n".join(lines) + "\n"


def _card_text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _shorten(names: Sequence[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _download(hub_id: str, patterns: Sequence[str] | None) -> Path:
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", hub_id) is None:
        raise InputError(f"{hub_id}: no such checkpoint folder (nor is it a Hugging Face Hub id, owner/name)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{hub_id}: no such folder here, and the Hugging Face Hub gave no model of this id: {reason}"
        ) from error
