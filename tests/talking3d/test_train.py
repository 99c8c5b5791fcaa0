"""Every model of motion trains from its yaml, by its own settings, and leaves what loads again."""

from pathlib import Path

import pytest
import torch

from avsr.data.manifest import read_manifest, write_manifest
from avsr.errors import InputError
from avsr.training.config import load_config
from talking3d.generators import GENERATORS, load_generator
from talking3d.models.motion_prior import MotionPrior
from talking3d.train import HEAD_POSE, LIP_SYNC, SYNC, TEACHER, TRAININGS, Learn2TalkTraining, _schema, train

RECIPE = Path(__file__).parents[2] / "egs/mini/conf"
TINY_ENCODER = "{dim: 16, layers: 1, heads: 2, ff_dim: 32, kernel: 5}"
OWN = {
    "audio2mesh": f"{{encoder: {TINY_ENCODER}}}",
    "faceformer": f"{{encoder: {TINY_ENCODER}, teacher_forcing: true}}",
    "motion_prior": "{codec: {dim: 16, layers: 1, heads: 2, ff_dim: 32, components: 2, code_dim: 4, codes: 8}}",
    "codetalker": f"{{encoder: {TINY_ENCODER}, layers: 1, ff_dim: 32}}",
    "selftalk": f"{{encoder: {TINY_ENCODER}, ff_dim: 32, reader_layers: 1}}",
}


@pytest.fixture
def trained(spoken, tmp_path):
    """Trains a model for one epoch by its name; the checkpoint's folder."""

    def run(name: str, *overrides: str) -> Path:
        config = tmp_path / f"{name}.yaml"
        config.write_text(
            f"model: {name}\nout: {tmp_path / name}\n{name}: {OWN[name]}\n"
            f"data: {{train: [{spoken}], valid: [{spoken}], max_utts: 5, perturb: {{share: 0.0}}}}\n"
            "trainer: {max_epochs: 1, average_last: 1, num_threads: 1}\n"
        )
        return train(config, list(overrides))

    return run


@pytest.mark.parametrize("name", [name for name in GENERATORS if name != "codetalker"])
def test_a_generator_trains_from_its_yaml(trained, name):
    model = load_generator(trained(name))
    assert type(model) is GENERATORS[name] and model.config.encoder.dim == 16
    assert model.speakers == ["ann", "bob"]


def test_codetalker_trains_on_a_trained_prior(trained):
    prior = trained("motion_prior")
    model = load_generator(trained("codetalker", f"codetalker.prior={prior}"))
    assert model.config.codec == MotionPrior.from_pretrained(prior).config.codec
    with pytest.raises(InputError, match="codetalker.prior names no motion prior"):
        trained("codetalker", "codetalker.prior=null", f"out={prior.parent}2")


@pytest.mark.parametrize("name", ["audio2mesh", "faceformer"])
def test_a_training_starts_from_a_trained_generator(trained, name, spoken, tmp_path):
    start = load_generator(trained(name, "trainer.max_epochs=2"))
    rows = [{**row, "speaker": {"ann": "ann", "bob": "cid"}[row["speaker"]]} for row in read_manifest(spoken)]
    write_manifest(tmp_path / "cid.jsonl", rows)
    still = ("trainer.lr=1.0e-12", f"data.train=[{tmp_path}/cid.jsonl]", f"init={tmp_path}/{name}/checkpoint")
    model = load_generator(trained(name, *still, f"out={tmp_path}/tuned"))
    assert model.speakers == ["ann", "cid"]
    assert torch.equal(model.basis, start.basis)
    for key, value in model.named_parameters():
        given = start.get_parameter(key)
        if key.endswith("styles.weight"):
            given = torch.stack([given[0], given.mean(0)])
        assert torch.allclose(value, given, atol=1e-6), key
    with pytest.raises(InputError, match=f"init: .* of the {name} to start from is not this model's"):
        trained(name, *still, f"{name}.encoder.ff_dim=16", f"out={tmp_path}/other")


def test_settings_of_one_model_are_not_anothers(trained):
    with pytest.raises(InputError, match="unknown key faceformer"):
        trained("selftalk", "faceformer.period=8")


SCHEMAS = {
    **{model.NAME: _schema(model.NAME, model.Config) for model in (*GENERATORS.values(), MotionPrior)},
    "learn2talk": Learn2TalkTraining,
    "syncnet3d": SYNC,
    "syncnet2d": LIP_SYNC,
    "teacher2d": TEACHER,
    "head_pose": HEAD_POSE,
}


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("preset", ["smoke", "default", "full"])
def test_the_recipes_yaml_of_each_is_valid(name, preset):
    config = load_config(RECIPE / f"{name}.yaml", [], SCHEMAS[name], preset=preset)
    assert config.model == name
    assert config.trainer.num_threads == 1
