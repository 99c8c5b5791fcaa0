"""A run's diary: lines to the log and to `train.log`, scalars to TensorBoard."""

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

logger = logging.getLogger(__name__)


class RunLog:
    """A context manager; inactive in all processes but the main one.

    Lines go to this module's logger, above the progress bar where there is one, and are added to `out_dir/train.log`.
    """

    def __init__(self, out_dir: Path, active: bool):
        self.out_dir, self.active, self.step = out_dir, active, 0

    def __enter__(self) -> "RunLog":
        logging.getLogger("accelerate").setLevel(logging.WARNING)  # it would report each file of each state
        if self.active:
            self.file = logging.FileHandler(self.out_dir / "train.log", encoding="utf-8")
            self.file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
            self.level = logger.level
            logger.addHandler(self.file)
            logger.setLevel(logging.INFO)
            self.redirection = logging_redirect_tqdm()
            self.redirection.__enter__()
        return self

    def __exit__(self, *error) -> None:
        if self.active:
            self.redirection.__exit__(*error)
            logger.removeHandler(self.file)
            logger.setLevel(self.level)
            self.file.close()
            if "_writer" in self.__dict__:
                self._writer.close()

    def line(self, text: str, *args) -> None:
        """Log a line; `args` fill its %-signs."""
        if self.active:
            logger.info(text, *args)

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Write TensorBoard scalars `group/name` at optimiser step `step`."""
        if self.active:
            self.step = step
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)

    @cached_property
    def _writer(self):
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        # What a killed run wrote beyond its last state is written again, and TensorBoard drops the first of it.
        return SummaryWriter(self.out_dir / "tensorboard", purge_step=self.step)


def format_scalars(values: Mapping[str, float]) -> str:
    """Scalars as `name value` pairs in one line."""
    return " ".join(f"{name} {value:.4g}" for name, value in values.items())
