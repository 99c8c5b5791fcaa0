"""Strict configs: every mistake has its own message, every annotation comes back as declared."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from omegaconf import MISSING

from avsr.errors import InputError
from avsr.training.config import from_dict, keep_config, load_config, save_config


@dataclass
class Optimiser:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float | None = 5.0

    def __post_init__(self):
        if self.lr <= 0:
            raise InputError(f"lr must be positive, got {self.lr}")


@dataclass(frozen=True)
class Data:
    train: str = MISSING
    dims: tuple[int, ...] = (4, 8)
    tags: list[str] = field(default_factory=list)
    shuffle: bool = True


@dataclass
class Run:
    optimiser: Optimiser = field(default_factory=Optimiser)
    data: Data = field(default_factory=Data)
    extra: Data | None = None
    by_name: dict[str, Optimiser] = field(default_factory=dict)
    epochs: int = 10
    warm_lr: float = "${optimiser.lr}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("optimiser:\n  lr: 2e-3\ndata:\n  train: a.jsonl\n")
    return path


def test_file_and_overrides_over_defaults(path):
    overrides = ["optimiser.betas=[0.8,0.9]", "data.dims=[1,2,3]", "data.shuffle=false", "optimiser.clip=null"]
    run = load_config(path, [*overrides, "epochs=3", "epochs=4"], Run)
    assert run.optimiser == Optimiser(lr=2e-3, betas=(0.8, 0.9), clip=None)
    assert run.data == Data(train="a.jsonl", dims=(1, 2, 3), shuffle=False)
    assert run.epochs == 4, "the last override wins"
    assert run.warm_lr == 2e-3, "interpolations are resolved after merging"


def test_preset_between_file_and_overrides(path):
    path.write_text(path.read_text() + "epochs: 5\npresets:\n  small: {epochs: 2, data: {dims: [1]}}\n  default: {}\n")
    small = load_config(path, ["data.dims=[7]"], Run, preset="small")
    assert (small.epochs, small.data.dims, small.data.train) == (2, (7,), "a.jsonl")
    assert load_config(path, [], Run, preset="default") == load_config(path, [], Run)
    with pytest.raises(InputError, match="no preset 'huge'; it has small, default"):
        load_config(path, [], Run, preset="huge")


def test_wrong_presets(path):
    content = path.read_text()
    path.write_text(content + "presets: {small: {epohcs: 2}}\n")
    with pytest.raises(InputError, match=r"preset small: unknown key epohcs \(did you mean epochs\?\)"):
        load_config(path, [], Run)
    path.write_text(content + "presets: {small: {epochs: two}}\n")
    with pytest.raises(InputError, match="preset small: epochs: Value 'two'"):
        load_config(path, [], Run, preset="small")
    for wrong in ("presets: {small: 3}\n", "presets: [small]\n"):
        path.write_text(content + wrong)
        with pytest.raises(InputError, match="expected presets: {name"):
            load_config(path, [], Run)
    path.write_text(content)
    with pytest.raises(InputError, match="no preset 'small'; it has none"):
        load_config(path, [], Run, preset="small")


def test_optional_and_nested_dataclasses(path):
    run = load_config(path, ["extra.train=b.jsonl", "by_name.a.betas=[0.1,0.2]"], Run)
    assert run.extra == Data(train="b.jsonl")
    assert run.by_name == {"a": Optimiser(betas=(0.1, 0.2))}
    assert load_config(path, [], Run).extra is None


def test_round_trip_through_a_file(path, tmp_path):
    run = load_config(path, ["extra.train=b.jsonl", "data.tags=[x,y]"], Run)
    save_config(tmp_path / "copy.yaml", run)
    assert load_config(tmp_path / "copy.yaml", [], Run) == run


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.lrr=1", r"unknown key optimiser\.lrr \(did you mean optimiser\.lr\?\)"),
        ("lr=1", r"unknown key lr \(did you mean optimiser\.lr\?\)"),
        ("epoch=1", r"unknown key epoch \(did you mean epochs\?\)"),
        ("data.qqq=1", r"unknown key data\.qqq; valid keys of data: train, dims, tags, shuffle"),
        ("extra.trian=1", r"unknown key extra\.trian \(did you mean extra\.train\?\)"),
        ("by_name.a.lrr=1", r"by_name\.a\.lrr: Key 'lrr' not in 'Optimiser'"),
        ("epochs=many", r"epochs: Value 'many' of type 'str' could not be converted to Integer"),
        ("epochs=2.5", r"epochs: Value '2.5' of type 'float' could not be converted to Integer"),
        ("epochs=null", r"epochs: Incompatible value 'None' for field of type 'int'"),
        ("data.shuffle=perhaps", r"data\.shuffle: Value 'perhaps' .* valid bool"),
        ("data.tags=x", r"data\.tags: expected a list, got 'x'; write \[x\]"),
        ("data.dims=3", r"data\.dims: expected a list, got 3; write \[3\]"),
        ("data.dims=[1,x]", r"data\.dims\[1\]: Value 'x'"),
        ("optimiser=3", r"optimiser holds keys of its own; expected a mapping, got 3"),
        ("epochs", r"expected key=value"),
        ("data.tags=[1", r"not a readable value"),
    ],
)
def test_wrong_override(path, override, message):
    with pytest.raises(InputError, match=message) as caught:
        load_config(path, [override], Run)
    assert str(caught.value).startswith(f"override {override!r}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("optimiser: {lrr: 1}", r"unknown key optimiser\.lrr \(did you mean optimiser\.lr\?\)"),
        ("epochs: 3", r"no value for data\.train"),
        ("data: {train: a}\nextra: {dims: [1]}", r"no value for extra\.train"),
        ("data: {train: a}\noptimiser: {lr: -1}", r"lr must be positive, got -1"),
        ("data: {train: a}\noptimiser: {betas: [1, 2, 3]}", r"optimiser\.betas: expected 2 values, got \[1\.0, 2\.0"),
        ("data: {train: '${nowhere}'}", r"Interpolation key 'nowhere' not found"),
        ("epochs: [1", r"not a readable YAML"),
        ("epochs: 1\nepochs: 2", r"not a readable YAML"),
        ("- 1", r"expected 'key: value' lines"),
    ],
)
def test_wrong_file(path, content, message):
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_config(path, [], Run)
    assert str(caught.value).startswith(str(path))


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such config file"):
        load_config(tmp_path / "absent.yaml", [], Run)


def test_from_dict_is_as_strict():
    assert from_dict(Optimiser, {"lr": 1}, "here") == Optimiser(lr=1.0)
    with pytest.raises(InputError, match=r"^here: unknown key lrr \(did you mean lr\?\)"):
        from_dict(Optimiser, {"lrr": 1}, "here")


def test_kept_config_must_stay_the_same(tmp_path):
    path = tmp_path / "config.yaml"
    keep_config(path, {"optimiser": Optimiser()})
    keep_config(path, {"optimiser": Optimiser()})
    with pytest.raises(InputError, match=r"another config: optimiser\.lr was 0\.001 and is now 0\.5\. Restore"):
        keep_config(path, {"optimiser": Optimiser(lr=0.5)})
    with pytest.raises(InputError, match=r"epochs was '\(absent\)' and is now 3"):
        keep_config(path, {"optimiser": Optimiser(), "epochs": 3})
    keep_config(path, {"optimiser": Optimiser(), "new": None})  # what is off by default may come later
    keep_config(path, {"optimiser": Optimiser()})


def test_keys_that_may_change_do(tmp_path):
    path = tmp_path / "config.yaml"
    keep_config(path, Optimiser())
    keep_config(path, Optimiser(clip=None), may_change=["clip"])
    assert load_config(path, [], Optimiser).clip is None
