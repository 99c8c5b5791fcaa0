"""The training loop of every model of the kit, on a CPU, one GPU or many (`accelerate launch`).

The model says what its losses are; the trainer does the rest: Accelerate's loop with gradient accumulation, mixed
precision and clipping, a learning-rate schedule, validation, the best and the averaged weights, logs, and a state
from which a killed run goes on as if nothing had happened: on a CPU, to the same bits.

What a run leaves in its folder:
    checkpoint/    what `export` writes, from the weights that `select` names
    done.json      steps, epochs, seconds, validation scores
    train.log, tensorboard/, trainer.yaml
While it runs also:
    state/, weights/    see avsr.training.state
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, gather_object, set_seed
from torch import Tensor, nn
from tqdm import tqdm

from avsr.errors import InputError
from avsr.files import write_json
from avsr.training.checkpoint import load_weights
from avsr.training.config import keep_config
from avsr.training.loader import EpochBatches, build_loader
from avsr.training.log import RunLog, format_scalars
from avsr.training.state import Progress, RunState, Sums, add_weighted, means, merge_sums

CHOICES = {
    "schedule": ("onecycle", "cosine", "constant"),
    "precision": ("auto", "no", "bf16", "fp16"),
    "monitor_mode": ("min", "max"),
    "select": ("average", "best", "last"),
}
# A resumed run may change these: they move no weight, beyond the rounding of another number of threads.
FREE_KEYS = tuple(f"trainer.{key}" for key in ("log_every_steps", "save_every_steps", "num_workers", "num_threads"))


class NonFiniteLoss(RuntimeError):
    """Training can't go on: a loss or a gradient is NaN or infinite. The state on disk is from before it."""


@dataclass
class TrainerConfig:
    """How to train; the model's and the data's settings are elsewhere."""

    seed: int = 0  # of dropout and the like; whoever builds the model seeds its initial weights
    max_epochs: int = 10
    lr: float = 1e-3  # the schedule's peak
    weight_decay: float = 0.01  # not on norms and biases
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_ratio: float = 0.1  # share of all optimiser steps
    schedule: str = "onecycle"  # see `lr_factor`
    grad_clip: float | None = 5.0  # largest norm of all gradients together; None: unclipped
    accumulate: int = 1  # batches an optimiser step
    precision: str = "no"  # auto: bf16 where the device computes in it; bf16 works on any; fp16 needs a GPU
    average_last: int = 5  # epochs whose weights are averaged
    select: str = "average"  # the weights to export: average | best | last
    monitor: str = "loss"  # the validation scalar that `best` goes by
    monitor_mode: str = "min"
    log_every_steps: int = 50
    save_every_steps: int | None = None  # None: a state after each epoch only
    num_workers: int = 0  # processes that load data; 0: this one
    num_threads: int | None = None  # of torch on the CPU; None: torch's own choice

    def __post_init__(self):
        for name, valid in CHOICES.items():
            if getattr(self, name) not in valid:
                raise InputError(f"trainer.{name} is {getattr(self, name)!r}; expected one of {', '.join(valid)}")
        for name in ("max_epochs", "accumulate", "average_last", "log_every_steps", "save_every_steps", "num_threads"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"trainer.{name} is {getattr(self, name)}; expected at least 1")
        if self.lr <= 0 or (self.grad_clip is not None and self.grad_clip <= 0):
            raise InputError(f"trainer.lr and trainer.grad_clip must be positive, got {self.lr} and {self.grad_clip}")
        if not 0 <= self.warmup_ratio < 1 or self.num_workers < 0 or self.weight_decay < 0:
            raise InputError(
                "trainer.warmup_ratio must lie in [0, 1), num_workers and weight_decay must not be negative"
            )


def lr_factor(step: int, total_steps: int, config: TrainerConfig) -> float:
    """The learning rate of optimiser step `step` (from 0) of `total_steps`, as a share of its peak.

    onecycle: half a cosine from 1/25 up to 1 over the warm-up, half a cosine down to 0 (Smith & Topin,
    arXiv:1708.07120); cosine: linear warm-up, then the same way down; constant: linear warm-up, then 1.
    """
    warmup = round(config.warmup_ratio * total_steps)
    if step < warmup:
        if config.schedule == "onecycle":
            return 1 - (1 - 1 / 25) * (1 + math.cos(math.pi * step / warmup)) / 2
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (step - warmup) / (total_steps - warmup))) / 2


class Trainer:
    """Trains one model in one folder; `fit` resumes whatever an earlier, killed `fit` there had done.

    The model's contract: `model(batch)` returns a dict of scalar tensors with the key "loss"; the others are logged.
    In eval mode it may return further ones, such as an error rate. `batch` is what `collate` returns with tensors on
    the right device, and with `batch["progress"]`, the share of all optimiser steps done (0 to 1), for losses that
    change over the training. Means weigh each batch by its number of utterances: `len(batch["utt_ids"])`, or else the
    first dimension of its first tensor. With several processes, training means are of the main one's batches.

    A resumed run is bit-identical to a straight one on a CPU if the caller seeds the initial weights, if what a dataset
    draws at random depends on (seed, epoch, index) only, and if `num_threads` is the same.

    Args:
        out_dir: the run's folder, one config a folder
        train_sampler, valid_sampler: batch samplers that yield lists of indices and have a stable `__len__`; samplers
            and datasets may have `set_epoch(epoch)`
        collate: makes a batch dict of a list of a dataset's items
        export: `export(state_dict, folder)` writes the trained model, weights on the CPU, as a checkpoint folder
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainerConfig,
        out_dir: str | Path,
        *,
        train_dataset: Any,
        train_sampler: Any,
        valid_dataset: Any,
        valid_sampler: Any,
        collate: Callable[[list], dict],
        export: Callable[[dict[str, Tensor], Path], None],
    ):
        self.config, self.out_dir, self.export = config, Path(out_dir), export
        # One trainer at a time: Accelerate's state is the process's, and refuses a second precision.
        AcceleratorState._reset_state()
        self.accelerator = _accelerator(config)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        self.batches = EpochBatches(train_sampler, rank=rank, world=world, fill=True)
        valid_batches = EpochBatches(valid_sampler, rank=rank, world=world, fill=False)
        how = {"num_workers": config.num_workers, "to": self.accelerator.device}
        self.train_loader = build_loader(train_dataset, self.batches, collate, **how)
        self.valid_loader = build_loader(valid_dataset, valid_batches, collate, **how)
        self.model, self.optimizer = self.accelerator.prepare(model, _adamw(model, config))
        self.total_steps = config.max_epochs * math.ceil(len(self.batches) / config.accumulate)
        self.progress = Progress(len(self.batches), world)
        self.state = RunState(self.out_dir, self.accelerator, config.average_last)
        self.log = RunLog(self.out_dir, active=self.accelerator.is_main_process)

    def fit(self) -> dict:
        """Train to the end, or return at once where that is done already; the content of `done.json`.

        A model trained to the end holds the exported weights.

        Raises InputError when the folder belongs to another config or to other data, and when the model doesn't report
        the scalar to monitor; NonFiniteLoss when a loss or a gradient isn't finite.
        """
        done_path = self.out_dir / "done.json"
        with self.accelerator.main_process_first():
            keep_config(self.out_dir / "trainer.yaml", {"trainer": self.config}, may_change=FREE_KEYS)
        with self.log:
            if done_path.exists():
                self.log.line("%s is trained already: %s is there, nothing to do", self.out_dir, done_path.name)
                return json.loads(done_path.read_text(encoding="utf-8"))
            if self.config.num_threads is not None:
                torch.set_num_threads(self.config.num_threads)
            try:
                self._start()
                for epoch in range(self.progress.epoch, self.config.max_epochs):
                    self._train_epoch(epoch)
                    self._end_epoch(epoch)
                return self._finish(done_path)
            finally:
                # Accelerate put autocast into the model's own forward; the caller gets the plain model back.
                self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)

    def _start(self) -> None:
        saved = self.state.load(self.progress)
        if saved is None:
            self._monitored(self._validate(n_batches=1))  # a wrong name had better show now than after an epoch
            set_seed(self.config.seed, device_specific=True)
            facts = (self.config.max_epochs, len(self.batches), self.total_steps, self.accelerator.mixed_precision)
            self.log.line("training %d epochs of %d batches, %d optimiser steps in all, mixed precision %s", *facts)
        else:
            self.progress = saved
            self.log.line("resuming after epoch %d, batch %d (step %d)", saved.epoch, saved.batches, saved.steps)
        self.began = time.monotonic() - self.progress.seconds

    def _train_epoch(self, epoch: int) -> None:
        config, progress, accelerator = self.config, self.progress, self.accelerator
        self.model.train()
        self.batches.start(epoch, first=progress.batches)
        hidden = None if accelerator.is_main_process else True  # None: shown on a terminal, not in a log
        span = {"total": progress.batches_per_epoch, "initial": progress.batches}
        with tqdm(desc=f"epoch {epoch + 1}", leave=False, disable=hidden, **span) as bar:
            for batch in self.train_loader:
                with accelerator.accumulate(self.model):
                    lr = config.lr * lr_factor(progress.steps, self.total_steps, config)
                    for group in self.optimizer.param_groups:
                        group["lr"] = lr
                    terms = self.model(self._with_progress(batch))
                    values = self._finite_values(terms, batch)
                    accelerator.backward(terms["loss"])
                    if accelerator.sync_gradients:
                        values |= {"lr": lr, "grad_norm": self._clip_gradients(batch)}
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                progress.batches += 1
                add_weighted(progress.sums, values, _count_utterances(batch))
                bar.update()
                bar.set_postfix(loss=f"{values['loss']:.4g}", refresh=False)
                if accelerator.sync_gradients:
                    progress.steps += 1
                    self._after_step(values)

    def _after_step(self, values: dict[str, float]) -> None:
        progress = self.progress
        if progress.steps % self.config.log_every_steps == 0:
            position = (progress.epoch + 1, progress.batches, progress.batches_per_epoch, progress.steps)
            self.log.line("epoch %d batch %d/%d step %d: %s", *position, format_scalars(values))
            self.log.scalars("train", values, progress.steps)
        every = self.config.save_every_steps
        # The state after an epoch's last step is saved with the epoch's end, after validation.
        if every is not None and progress.steps % every == 0 and progress.batches < progress.batches_per_epoch:
            self._save_state()

    def _end_epoch(self, epoch: int) -> None:
        progress = self.progress
        train, valid = means(progress.sums), self._validate()
        value = self._monitored(valid)
        if progress.best is None or self._better(value, progress.best["value"]):
            progress.best = {"epoch": epoch, "value": value}
        progress.history.append({"epoch": epoch, "steps": progress.steps, "train": train, "valid": valid})
        progress.epoch, progress.batches, progress.sums = epoch + 1, 0, {}
        texts = (format_scalars(train), format_scalars(valid))
        self.log.line("epoch %d done: train %s | valid %s | best %d", epoch + 1, *texts, progress.best["epoch"] + 1)
        self.log.scalars("epoch", train, progress.steps)
        self.log.scalars("valid", valid, progress.steps)
        self.state.save_weights(epoch, self.accelerator.get_state_dict(self.model))
        self._save_state()

    def _save_state(self) -> None:
        self.progress.seconds = time.monotonic() - self.began
        self.state.save(self.progress)

    def _finish(self, done_path: Path) -> dict:
        progress, config = self.progress, self.config
        first_averaged = max(0, config.max_epochs - config.average_last)
        epochs = {
            "average": list(range(first_averaged, config.max_epochs)),
            "best": [progress.best["epoch"]],
            "last": [config.max_epochs - 1],
        }[config.select]
        weights = self.state.average(epochs)
        load_weights(self.accelerator.unwrap_model(self.model), weights, self.out_dir)
        valid = self._validate()
        self.log.line("weights of epochs %s: valid %s", [epoch + 1 for epoch in epochs], format_scalars(valid))
        done = {
            "steps": progress.steps,
            "epochs": progress.epoch,
            "seconds": round(time.monotonic() - self.began, 1),
            "best": progress.best | {"monitor": config.monitor},
            "select": config.select,
            "valid": valid,  # of the exported weights
            "history": progress.history,
        }
        if self.accelerator.is_main_process:
            self.export(weights, self.out_dir / "checkpoint")
            write_json(done_path, done)
        self.state.remove()
        self.accelerator.wait_for_everyone()
        return done

    @torch.no_grad()
    def _validate(self, n_batches: int | None = None) -> dict[str, float]:
        """Means over the validation set, or over each process's first `n_batches` of it."""
        model = self.accelerator.unwrap_model(self.model)  # without DDP, whose forward waits for the other processes
        model.eval()
        sums: Sums = {}
        for batch in islice(self.valid_loader, n_batches):
            add_weighted(sums, _to_floats(model(self._with_progress(batch))), _count_utterances(batch))
        return means(merge_sums(gather_object([sums])))

    def _with_progress(self, batch: dict) -> dict:
        return batch | {"progress": self.progress.steps / self.total_steps}

    def _monitored(self, valid: dict[str, float]) -> float:
        name = self.config.monitor
        if name not in valid:
            raise InputError(f"trainer.monitor is {name!r}, but this model's validation gives {', '.join(valid)}")
        return valid[name]

    def _better(self, value: float, best: float) -> bool:
        return math.isnan(best) or (value < best if self.config.monitor_mode == "min" else value > best)

    def _finite_values(self, terms: dict[str, Tensor], batch: dict) -> dict[str, float]:
        values = _to_floats(terms)
        if not math.isfinite(values["loss"]):
            raise self._stop("the loss", format_scalars(values), batch)
        return values

    def _clip_gradients(self, batch: dict) -> float:
        limit = math.inf if self.config.grad_clip is None else self.config.grad_clip
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), limit).item()
        # fp16 meets infinite gradients by design: its scaler skips the step and lowers the scale.
        if not math.isfinite(norm) and self.config.precision != "fp16":
            raise self._stop("a gradient", f"norm {norm}", batch)
        return norm

    def _stop(self, what: str, values: str, batch: dict) -> NonFiniteLoss:
        progress = self.progress
        names = f", utterances {', '.join(batch['utt_ids'])}" if "utt_ids" in batch else ""
        return NonFiniteLoss(
            f"{what} isn't finite at optimiser step {progress.steps + 1} (epoch {progress.epoch + 1}, batch "
            f"{progress.batches + 1}{names}): {values}. Look at these utterances, or lower trainer.lr"
        )


def _computes_in_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bf16. One without emulates it, at several times what float32 takes."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _accelerator(config: TrainerConfig) -> Accelerator:
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if _computes_in_bf16(PartialState().device) else "no"
    accelerator = Accelerator(
        mixed_precision=precision,
        gradient_accumulation_steps=config.accumulate,
        # A step may leave parameters unused: a modality that was dropped, a loss whose weight has reached 0.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if config.precision == "fp16" and accelerator.device.type == "cpu":
        raise InputError("trainer.precision=fp16 needs a GPU: without one its losses can't be scaled; try bf16")
    return accelerator


def _adamw(model: nn.Module, config: TrainerConfig) -> torch.optim.AdamW:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},  # norms and biases
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=tuple(config.betas), fused=True)


def _count_utterances(batch: dict) -> int:
    if "utt_ids" in batch:
        return len(batch["utt_ids"])
    return next(value.shape[0] for value in batch.values() if isinstance(value, Tensor))


def _to_floats(terms: dict[str, Tensor]) -> dict[str, float]:
    """The scalars as numbers, with one wait for the device."""
    numbers = torch.stack([value.detach().float() for value in terms.values()]).tolist()
    return dict(zip(terms, numbers, strict=True))
