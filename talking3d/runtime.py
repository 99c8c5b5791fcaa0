"""How long a generator took for each utterance, kept beside the motion that it made.

runtime.json: {"hardware": what computed, in words, "seconds": {utt_id: s}}. Another system may write its own.
"""

import json
import platform
from dataclasses import dataclass, field
from pathlib import Path

import torch

from avsr.errors import InputError
from avsr.files import write_json

FILE = "runtime.json"


@dataclass(frozen=True)
class Runtime:
    """Seconds from sound in memory to motion in memory by utt_id, and what computed them."""

    hardware: str
    seconds: dict[str, float] = field(default_factory=dict)

    def save(self, folder: str | Path) -> None:
        """Write folder/runtime.json, whole or not at all."""
        write_json(Path(folder) / FILE, {"hardware": self.hardware, "seconds": self.seconds})

    @classmethod
    def load(cls, folder: str | Path) -> "Runtime | None":
        """What folder/runtime.json says; None where there is none. Raises InputError on one of another form."""
        path = Path(folder) / FILE
        if not path.is_file():
            return None
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            hardware, seconds = stored["hardware"], {str(key): float(s) for key, s in stored["seconds"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f'{path}: expected {{"hardware": words, "seconds": {{utt_id: s}}}} ({error!r})') from error
        if not isinstance(hardware, str) or not all(0 < s < float("inf") for s in seconds.values()):
            raise InputError(f"{path}: hardware must be words that say what computed, seconds numbers above 0")
        return cls(hardware, seconds)


def device_name(device: torch.device) -> str:
    """What computes on a torch device, in words: the GPU, or the processor and the threads that torch uses of it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor_name()}, {threads} thread{'s' if threads > 1 else ''}"


def processor_name() -> str:
    """The processor's model, as Linux says it, or what Python knows."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if "model name" in line:
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
