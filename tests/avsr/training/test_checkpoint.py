"""Checkpoint folders: written whole, read back to the bit, refused with a reason."""

from dataclasses import dataclass

import pytest
import torch
import yaml
from huggingface_hub import constants
from torch import nn

from avsr.errors import InputError
from avsr.training.checkpoint import (
    average_state_dicts,
    load_pretrained,
    load_weights,
    model_card,
    read_weights,
    save_pretrained,
    save_weights,
)


@dataclass
class ToyConfig:
    width: int = 3
    kernels: tuple[int, ...] = (3, 5)


def toy_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 2))


@pytest.fixture
def folder(tmp_path):
    tokens = tmp_path / "tokens.txt"
    tokens.write_text("a b c")
    save_pretrained(
        tmp_path / "checkpoint",
        name="toy",
        config=ToyConfig(),
        state_dict=toy_model().state_dict(),
        files={"tokenizer.model": tokens},
        card=model_card("toy", ToyConfig(), {"data": "mini (synthetic)", "WER": 0.123456}),
    )
    return tmp_path / "checkpoint"


def test_round_trip(folder):
    checkpoint = load_pretrained(folder, expect="toy")
    assert (checkpoint.name, checkpoint.config) == ("toy", {"width": 3, "kernels": [3, 5]})
    assert (folder / "tokenizer.model").read_text() == "a b c"
    for name, tensor in toy_model().state_dict().items():
        assert torch.equal(checkpoint.state_dict[name], tensor)
    model = toy_model()
    nn.init.zeros_(model[0].weight)
    load_weights(model, checkpoint.state_dict, folder)
    assert torch.equal(model[0].weight, toy_model()[0].weight)


def test_tied_and_channels_last_weights_are_saved_as_they_are(tmp_path):
    weight = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    save_weights(tmp_path / "w.safetensors", {"a": weight, "b": weight, "part": weight[:, 1:]})
    read = read_weights(tmp_path / "w.safetensors")
    assert (
        torch.equal(read["a"], weight) and torch.equal(read["b"], weight) and torch.equal(read["part"], weight[:, 1:])
    )


def test_saving_replaces_whole_or_not_at_all(folder, tmp_path):
    settings = {"name": "toy", "config": ToyConfig(width=7), "state_dict": toy_model().state_dict(), "card": "new"}
    with pytest.raises(FileNotFoundError):
        save_pretrained(folder, **settings, files={"tokenizer.model": tmp_path / "absent"})
    assert load_pretrained(folder).config["width"] == 3 and (folder / "tokenizer.model").exists()
    save_pretrained(folder, **settings)
    assert load_pretrained(folder).config["width"] == 7 and not (folder / "tokenizer.model").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "tokens.txt"], "no temporary is left"


def test_card_has_front_matter_facts_and_settings(folder):
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front) == {"library_name": "liploop", "license": "apache-2.0", "tags": ["liploop", "toy"]}
    for line in ("# toy", "- **data**: mini (synthetic)", "- **WER**: 0.1235", "| `kernels` | `(3, 5)` |"):
        assert line in body.splitlines()


def test_a_folder_that_is_no_checkpoint(folder):
    with pytest.raises(InputError, match="holds a toy model; a recognizer model is needed"):
        load_pretrained(folder, expect="recognizer")
    (folder / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"model\.safetensors: corrupt"):
        load_pretrained(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no model\.safetensors"):
        load_pretrained(folder)
    (folder / "config.yaml").write_text("width: 3\n")
    (folder / "model.safetensors").touch()
    with pytest.raises(InputError, match=r"config\.yaml: expected the keys name"):
        load_pretrained(folder)
    with pytest.raises(InputError, match=r"no such weights file"):
        read_weights(folder / "absent.safetensors")


def test_hub_ids_come_from_the_hub_s_cache(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"someone/toy: no such folder here, and the Hugging Face Hub gave no model"):
        load_pretrained("someone/toy")
    repository = tmp_path / "cache" / "models--someone--toy"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / ("0" * 40))
    assert load_pretrained("someone/toy", expect="toy").config["width"] == 3


@pytest.mark.parametrize("path", ["./exp/toy", "/exp/toy", "toy", "exp/toy/checkpoint"])
def test_a_path_is_not_taken_for_a_hub_id(path):
    with pytest.raises(InputError, match="no such checkpoint folder"):
        load_pretrained(path)


def test_weights_of_another_model():
    other = {"0.weight": torch.zeros(3, 2, 3, 3), "0.bias": torch.zeros(3), "new": torch.zeros(1)}
    model = toy_model()
    before = model[0].bias.clone()
    with pytest.raises(InputError, match=r"^here: .*missing: 1\.weight.*unexpected: new; of another shape: 0\.weight"):
        load_weights(model, other, "here")
    assert torch.equal(model[0].bias, before), "nothing is loaded where something doesn't fit"


def test_average_takes_means_of_floats_and_the_last_of_counters():
    models = [nn.BatchNorm1d(2) for _ in range(3)]
    for step, model in enumerate(models, start=1):
        model.running_mean.fill_(step)
        model.num_batches_tracked.fill_(step * 10)
        nn.init.constant_(model.weight, 2.0**step)
    average = average_state_dicts([model.state_dict() for model in models])
    assert average["running_mean"].tolist() == [2.0, 2.0]
    assert average["num_batches_tracked"].item() == 30
    torch.testing.assert_close(average["weight"], torch.full((2,), 14 / 3))
    assert {name: tensor.dtype for name, tensor in average.items()} == {
        name: tensor.dtype for name, tensor in models[0].state_dict().items()
    }


def test_average_needs_weights_of_one_model():
    with pytest.raises(ValueError, match="no weights"):
        average_state_dicts([])
    with pytest.raises(ValueError, match="different models"):
        average_state_dicts([{"a": torch.zeros(1)}, {"b": torch.zeros(1)}])
