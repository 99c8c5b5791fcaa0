"""The trainer against a naive loop, against itself resumed after SIGKILL, and each way it refuses to go on."""

import dataclasses
import json
import logging
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_training import N_TRAIN, TinyDataset, TinyModel, TinySampler, tiny_collate, tiny_trainer
from torch import nn

from avsr.errors import InputError
from avsr.training.checkpoint import read_weights
from avsr.training.loader import EpochBatches
from avsr.training.trainer import NonFiniteLoss, TrainerConfig, lr_factor

SCRIPT = Path(__file__).with_name("tiny_training.py")
ROOT = Path(__file__).resolve().parents[3]
TINY = TrainerConfig(max_epochs=3, num_threads=1, accumulate=2, lr=0.01, average_last=2, log_every_steps=5)


def tiny(**changes) -> TrainerConfig:
    return dataclasses.replace(TINY, **changes)


def run_script(out_dir: Path, kill_at: int, *overrides: str, processes: int = 1) -> int:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)] if processes > 1 else []
    command = [sys.executable, *launcher, str(SCRIPT), str(out_dir), str(kill_at), *overrides]
    return subprocess.run(command, env=environment, capture_output=True, timeout=120).returncode


def final_weights(out_dir: Path) -> dict[str, torch.Tensor]:
    return read_weights(out_dir / "checkpoint" / "model.safetensors")


def assert_same_bits(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert not different, f"{different} differ"


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """A run without a break: 3 epochs of 12 batches, 2 batches a step."""
    out_dir = tmp_path_factory.mktemp("straight")
    tiny_trainer(out_dir, TINY).fit()
    return out_dir


# A state is saved every 2 steps (4 batches) and at each epoch's end.
@pytest.mark.parametrize(
    ("kill_at", "resumed_at"),
    [
        (17, (1, 4)),  # just after a state in the middle of an epoch
        (20, (1, 4)),  # between states, in the middle of an accumulation
        pytest.param(3, None, marks=pytest.mark.slow),  # before the first state: from the beginning
        pytest.param(25, (2, 0), marks=pytest.mark.slow),  # just after an epoch's end
    ],
)
def test_killed_and_resumed_ends_with_the_same_bits(straight, tmp_path, kill_at, resumed_at):
    assert run_script(tmp_path, kill_at, "save_every_steps=2") == -signal.SIGKILL
    states = [path.name for path in (tmp_path / "state").glob("epoch_*")]
    assert states == ([] if resumed_at is None else ["epoch_{:04d}_batch_{:06d}".format(*resumed_at)])
    trainer = tiny_trainer(tmp_path, tiny(save_every_steps=2))
    trainer.fit()
    seen = trainer.train_loader.dataset.dataset.seen
    assert resumed_at is None or len(seen) < 2 * N_TRAIN, "batches that were used before the state aren't loaded again"
    assert_same_bits(final_weights(tmp_path), final_weights(straight))
    before, after = (json.loads((folder / "done.json").read_text()) for folder in (straight, tmp_path))
    for key in ("steps", "epochs", "best", "valid", "history"):
        assert before[key] == after[key], key


@pytest.mark.slow
def test_kills_over_and_over_bf16_with_workers(tmp_path):
    settings = ("save_every_steps=1", "precision=bf16", "num_workers=2")
    assert run_script(tmp_path / "broken", 6, *settings) == -signal.SIGKILL
    assert run_script(tmp_path / "broken", 14, *settings) == -signal.SIGKILL
    assert run_script(tmp_path / "broken", 0, *settings) == 0
    tiny_trainer(tmp_path / "whole", tiny(precision="bf16")).fit()
    assert_same_bits(final_weights(tmp_path / "broken"), final_weights(tmp_path / "whole"))


class Interrupted(TinyModel):
    """Ends the run at its 17th training batch, without the cost of another process."""

    def forward(self, batch: dict) -> dict:
        if self.training and self.calls == 16:
            raise KeyboardInterrupt
        return super().forward(batch)


def interrupt(out_dir: Path) -> None:
    torch.manual_seed(TINY.seed)
    with pytest.raises(KeyboardInterrupt):
        tiny_trainer(out_dir, tiny(save_every_steps=2), Interrupted()).fit()


def test_a_kill_while_writing_leaves_the_state_before_it(straight, tmp_path):
    interrupt(tmp_path)
    for partial in ("state/.epoch_0001_batch_000008.x1/epoch_0001_batch_000008", "weights/.epoch_0001.x2"):
        (tmp_path / partial).mkdir(parents=True)
        (tmp_path / partial / "model.safetensors").write_bytes(b"torn")
    trainer = tiny_trainer(tmp_path, TINY)
    trainer.state.load(trainer.progress)
    assert not list(tmp_path.glob("*/.*")), "what a killed run had half written is removed"
    trainer.fit()
    assert_same_bits(final_weights(tmp_path), final_weights(straight))


def test_a_failure_while_saving_keeps_the_state_before_it(tmp_path, monkeypatch):
    trainer = tiny_trainer(tmp_path, tiny(save_every_steps=1))
    save_state, calls = trainer.accelerator.save_state, []

    def full_disk(folder):
        save_state(folder)
        calls.append(folder)
        if len(calls) == 3:
            raise OSError("No space left on device")

    monkeypatch.setattr(trainer.accelerator, "save_state", full_disk)
    with pytest.raises(OSError, match="No space left"):
        trainer.fit()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["epoch_0000_batch_000004"]


@pytest.mark.slow
def test_two_processes_resume_to_the_same_bits(tmp_path):
    settings = ("save_every_steps=2", "num_workers=1")
    assert run_script(tmp_path / "broken", 8, *settings, processes=2) != 0
    assert (tmp_path / "broken" / "state" / "epoch_0001_batch_000000").exists()
    assert run_script(tmp_path / "broken", 0, *settings, processes=2) == 0
    assert run_script(tmp_path / "whole", 0, *settings, processes=2) == 0
    assert_same_bits(final_weights(tmp_path / "broken"), final_weights(tmp_path / "whole"))


class PlainModel(nn.Module):
    """No dropout, no noise: what a naive loop can reproduce."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.outer = nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 1)
        self.seen: list[tuple[bool, float, list[str]]] = []

    def forward(self, batch: dict) -> dict:
        self.seen.append((self.training, batch["progress"], batch["utt_ids"]))
        guess = self.outer(self.norm(self.inner(batch["x"])).relu())[:, 0]
        return {"loss": (guess - batch["target"]).square().mean()}


@pytest.mark.parametrize("accumulate", [1, 5])
def test_against_a_naive_loop(tmp_path, accumulate):
    """12 batches by 5: the last group of 2 is a step of its own, each batch weighing 1/5, as with Accelerate."""
    config = tiny(accumulate=accumulate, grad_clip=0.5, weight_decay=0.3, select="last", max_epochs=2)
    model = PlainModel()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    done = tiny_trainer(tmp_path, config, model).fit()

    twin, n_groups = PlainModel(), math.ceil(12 / accumulate)
    twin.load_state_dict(start)
    decayed = [p for p in twin.parameters() if p.ndim > 1]
    others = [p for p in twin.parameters() if p.ndim <= 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1.0, betas=config.betas, weight_decay=0.3)
    dataset, sampler, step = TinyDataset(N_TRAIN, 0, augment=True), TinySampler(N_TRAIN, 0), 0
    for epoch in range(2):
        dataset.set_epoch(epoch)
        sampler.set_epoch(epoch)
        batches = list(sampler)
        for first in range(0, 12, accumulate):
            for indices in batches[first : first + accumulate]:
                batch = tiny_collate([dataset[index] for index in indices]) | {"progress": step / (2 * n_groups)}
                (twin(batch)["loss"] / accumulate).backward()
            nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
            for group in optimiser.param_groups:
                group["lr"] = config.lr * lr_factor(step, 2 * n_groups, config)
            optimiser.step()
            optimiser.zero_grad()
            step += 1

    assert done["steps"] == step
    assert [seen for seen in model.seen if seen[0]] == twin.seen, "batches, their order, progress"
    for name, tensor in twin.state_dict().items():
        torch.testing.assert_close(final_weights(tmp_path)[name], tensor, rtol=1e-5, atol=1e-6)


def test_worker_processes_change_nothing(straight, tmp_path):
    tiny_trainer(tmp_path, tiny(num_workers=2)).fit()
    assert_same_bits(final_weights(tmp_path), final_weights(straight))


@pytest.mark.slow
def test_two_processes_equal_two_accumulated_batches(tmp_path):
    """Process r of 2 takes batches r, r+2, …: a step sees the batches that one process accumulates over two."""
    settings = ("plain=1", "max_epochs=2")
    assert run_script(tmp_path / "two", 0, *settings, "accumulate=1", processes=2) == 0
    assert run_script(tmp_path / "one", 0, *settings, "accumulate=2") == 0
    one, two = (json.loads((tmp_path / name / "done.json").read_text()) for name in ("one", "two"))
    assert one["steps"] == two["steps"] == 12
    assert one["valid"] == pytest.approx(two["valid"], rel=1e-5)
    for name, tensor in final_weights(tmp_path / "one").items():
        torch.testing.assert_close(final_weights(tmp_path / "two")[name], tensor, rtol=1e-4, atol=1e-6)


def test_shares_of_several_processes():
    sampler = TinySampler(N_TRAIN, seed=1)
    shares = [EpochBatches(sampler, rank=rank, world=5, fill=True) for rank in range(5)]
    for share in shares:
        share.start(epoch=2)
    filled = [list(share) for share in shares]
    assert [len(share) for share in shares] == [len(batches) for batches in filled] == [3] * 5
    sampler.set_epoch(2)
    expected = [[(2, index) for index in batch] for batch in sampler]
    in_turn = [batches[turn] for turn in range(3) for batches in filled]
    assert in_turn == expected + expected[:3], "every batch once, then the first ones again"
    shares[1].start(epoch=2, first=2)
    assert (list(shares[1]), len(shares[1])) == (filled[1][2:], 1)

    valid = [EpochBatches(sampler, rank=rank, world=5, fill=False) for rank in range(5)]
    assert [len(share) for share in valid] == [len(list(share)) for share in valid] == [3, 3, 2, 2, 2]


def test_selected_weights(tmp_path):
    """average and last of the weights that the epochs had; best by the monitor, here the highest."""
    after_epochs = []

    class Spy(TinyModel):
        def train(self, mode=True):
            if not mode:  # validation follows each epoch
                after_epochs.append({name: tensor.clone() for name, tensor in self.state_dict().items()})
            return super().train(mode)

    for select in ("last", "average", "best"):
        after_epochs.clear()
        config = tiny(select=select, monitor="bias", monitor_mode="max", max_epochs=4)
        done = tiny_trainer(tmp_path / select, config, Spy()).fit()
        epochs = after_epochs[1:-1]  # without the check before the first and the last validation
        assert len(epochs) == 4
        values = [epoch["valid"]["bias"] for epoch in done["history"]]
        assert done["best"] == {"epoch": values.index(max(values)), "value": max(values), "monitor": "bias"}
        weights = final_weights(tmp_path / select)
        if select == "average":
            for name in ("inner.weight", "norm.running_var"):
                torch.testing.assert_close(weights[name], (epochs[2][name] + epochs[3][name]) / 2)
            assert weights["norm.num_batches_tracked"] == epochs[3]["norm.num_batches_tracked"]
        else:
            assert_same_bits(weights, epochs[3 if select == "last" else done["best"]["epoch"]])
        assert sorted(path.name for path in (tmp_path / select).iterdir()) == [
            "checkpoint", "done.json", "tensorboard", "train.log", "trainer.yaml",
        ]  # fmt: skip


def test_validation_weighs_batches_by_utterances(straight):
    """Batches of 1, 2, 3 and 1 utterances: the mean is that of a single batch of all seven."""
    model = TinyModel()
    model.load_state_dict(final_weights(straight))
    model.eval()
    dataset = TinyDataset(7, seed=1, augment=False)
    batch = tiny_collate([dataset[index] for index in range(7)]) | {"progress": 1.0}
    expected = {name: value.item() for name, value in model(batch).items()}
    valid = json.loads((straight / "done.json").read_text())["valid"]
    assert valid == pytest.approx(expected, rel=1e-5)


def test_a_finished_run_returns_at_once(straight, caplog):
    before = (straight / "checkpoint" / "model.safetensors").stat()
    trainer = tiny_trainer(straight, TINY)
    with caplog.at_level(logging.INFO):
        assert trainer.fit() == json.loads((straight / "done.json").read_text())
    assert "is trained already" in caplog.text
    assert trainer.train_loader.dataset.dataset.seen == []
    assert (straight / "checkpoint" / "model.safetensors").stat() == before


def test_another_config_is_refused(straight):
    with pytest.raises(InputError, match=r"trainer\.lr was 0\.01 and is now 0\.5.*another folder"):
        tiny_trainer(straight, tiny(lr=0.5)).fit()
    tiny_trainer(straight, tiny(log_every_steps=3, num_workers=1)).fit()


def test_other_data_are_refused(tmp_path):
    interrupt(tmp_path)
    trainer = tiny_trainer(tmp_path, TINY)
    trainer.progress.batches_per_epoch = 13
    with pytest.raises(InputError, match="batches_per_epoch = 12, now it is 13"):
        trainer.fit()


def test_an_unknown_monitor_is_refused_before_training(tmp_path):
    trainer = tiny_trainer(tmp_path, tiny(monitor="ter"))
    with pytest.raises(InputError, match=r"trainer\.monitor is 'ter', .* gives loss, square, bias"):
        trainer.fit()
    assert trainer.progress.steps == 0


def test_an_empty_manifest_is_refused():
    with pytest.raises(InputError, match="no batches"):
        EpochBatches([], rank=0, world=1, fill=True)


class Diverging(TinyModel):
    """The fifth training batch's loss, or only its gradient, isn't finite."""

    def __init__(self, gradient: bool):
        super().__init__()
        self.gradient = gradient

    def forward(self, batch: dict) -> dict:
        terms = super().forward(batch)
        if self.training and self.calls == 5:
            # The square root's slope at 0 is infinite, its value isn't.
            wrong = (self.outer.bias * 0).sum().sqrt() if self.gradient else terms["square"] * math.nan
            terms |= {"wrong": wrong, "loss": terms["loss"] + wrong}
        return terms


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        (False, r"the loss isn't finite at optimiser step 3 \(epoch 1, batch 5, utterances {}\): loss nan .*wrong nan"),
        (True, r"a gradient isn't finite at optimiser step 3 \(epoch 1, batch 6, .*\): norm (nan|inf)"),
    ],
)
def test_divergence_stops_before_the_update_and_keeps_the_state(tmp_path, gradient, message):
    batches = list(TinySampler(N_TRAIN, 0))
    model = Diverging(gradient)
    trainer = tiny_trainer(tmp_path, tiny(save_every_steps=1), model)
    with pytest.raises(NonFiniteLoss, match=message.format(", ".join(f"utt{index}" for index in batches[4]))):
        trainer.fit()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["epoch_0000_batch_000004"]
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_bf16_computes_in_bf16_and_gives_the_model_back(tmp_path):
    dtypes = []

    class Spy(TinyModel):
        def forward(self, batch):
            dtypes.append(self.inner(batch["x"]).dtype)
            return super().forward(batch)

    model = Spy()
    tiny_trainer(tmp_path, tiny(precision="bf16"), model).fit()
    assert set(dtypes) == {torch.bfloat16}
    assert {tensor.dtype for tensor in final_weights(tmp_path).values()} == {torch.float32, torch.int64}
    batch = tiny_collate([TinyDataset(2, 0, augment=False)[0]]) | {"progress": 0.0}
    model.eval()(batch)
    assert dtypes[-1] == torch.float32, "autocast is gone after the training"


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a CPU's instructions")
@pytest.mark.parametrize(
    ("able", "precision"), [({"avx512_bf16": True}, "bf16"), ({"avx2": True, "avx512_bf16": False}, "no")]
)
def test_auto_is_bf16_where_the_cpu_computes_in_it(tmp_path, monkeypatch, able, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    trainer = tiny_trainer(tmp_path, tiny(precision="auto"))
    assert trainer.accelerator.mixed_precision == precision


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 works on GPUs")
def test_fp16_needs_a_gpu(tmp_path):
    with pytest.raises(InputError, match=r"trainer\.precision=fp16 needs a GPU"):
        tiny_trainer(tmp_path, tiny(precision="fp16"))


def test_log_and_scalars(straight):
    lines = (straight / "train.log").read_text().splitlines()
    assert len([line for line in lines if " step " in line]) == 18 // 5
    assert "epoch 1 batch 10/12 step 5: loss" in lines[1] and "grad_norm" in lines[1]
    assert len([line for line in lines if "done: train loss" in line]) == 3
    events = EventAccumulator(str(straight / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/lr")] == [5, 10, 15]
    assert [event.step for event in events.Scalars("valid/loss")] == [6, 12, 18]
    history = json.loads((straight / "done.json").read_text())["history"]
    assert events.Scalars("valid/loss")[0].value == pytest.approx(history[0]["valid"]["loss"])


@pytest.mark.parametrize("total", [1, 2, 10, 1000])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.999])
@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "constant"])
def test_schedules_rise_to_one_and_fall(total, ratio, schedule):
    config = TrainerConfig(schedule=schedule, warmup_ratio=ratio)
    factors = [lr_factor(step, total, config) for step in range(total)]
    warmup = round(ratio * total)
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    assert warmup == total or factors[warmup] == 1
    if total == 1000 and ratio == 0.1:
        assert factors[0] == pytest.approx({"onecycle": 1 / 25}.get(schedule, 1 / 101))
        assert factors[-1] == pytest.approx({"constant": 1.0}.get(schedule, 0.0), abs=1e-5)


@pytest.mark.parametrize("steps", [40, 333])
def test_onecycle_is_pytorch_s(steps):
    """PyTorch counts to the last step itself, and ends at 4e-6 instead of 0: a difference of under a step."""
    config = TrainerConfig(schedule="onecycle", warmup_ratio=0.3)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.0, total_steps=steps, pct_start=0.3)
    for step in range(steps):
        assert lr_factor(step, steps, config) == pytest.approx(optimiser.param_groups[0]["lr"], abs=6 / steps)
        optimiser.step()
        if step < steps - 1:
            theirs.step()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "onecylce"}, r"trainer\.schedule is 'onecylce'; expected one of onecycle, cosine, constant"),
        ({"precision": "fp32"}, r"trainer\.precision is 'fp32'; expected one of auto, no, bf16, fp16"),
        ({"select": "first"}, r"trainer\.select is 'first'"),
        ({"monitor_mode": "low"}, r"trainer\.monitor_mode is 'low'"),
        ({"max_epochs": 0}, r"trainer\.max_epochs is 0; expected at least 1"),
        ({"save_every_steps": 0}, r"trainer\.save_every_steps is 0"),
        ({"lr": 0.0}, r"trainer\.lr and trainer\.grad_clip must be positive"),
        ({"warmup_ratio": 1.0}, r"trainer\.warmup_ratio must lie in \[0, 1\)"),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(InputError, match=message):
        TrainerConfig(**changes)
