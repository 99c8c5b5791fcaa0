"""A filmed speaker's look: what `look_fit` finds and lip clips are drawn in."""

import dataclasses
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from avsr.errors import InputError
from avsr.files import atomic_path
from talking3d.face.template import FaceTemplate
from talking3d.render.look import Look


@dataclass(frozen=True, eq=False)
class SpeakerLook:
    """How a speaker's lip crops look.

    look: light and lens. colors (V, 3): linear albedo, gray as the crops are. topology_hash: of the template.
    """

    look: Look
    colors: np.ndarray
    topology_hash: str

    def dress(self, template: FaceTemplate) -> FaceTemplate:
        """The template with these colours; InputError where it is of another topology."""
        if template.topology_hash != self.topology_hash:
            raise InputError(
                f"the speaker's look was found on another face than {template.name!r} (topology "
                f"{self.topology_hash[:12]}, not {template.topology_hash[:12]}); find it with this template's motion"
            )
        return replace(template, colors=self.colors)

    def save(self, path: str | Path) -> None:
        """Write one .npz, whole or not at all."""
        texts = {"look": json.dumps(dataclasses.asdict(self.look)), "topology_hash": self.topology_hash}
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(file, colors=self.colors, **{name: np.array(text) for name, text in texts.items()})

    @classmethod
    def load(cls, path: str | Path) -> "SpeakerLook":
        """Read what `save` wrote; InputError on a missing, damaged or incomplete file."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                look = Look(**{name: _tuples(value) for name, value in json.loads(str(stored["look"])).items()})
                return cls(look, stored["colors"].astype(np.float32), str(stored["topology_hash"]))
        except (OSError, ValueError, TypeError, KeyError, EOFError) as error:
            raise InputError(f"{path}: not a speaker's look ({error}); make it with `talking3d look`") from error


def _tuples(value):
    """JSON's lists as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
