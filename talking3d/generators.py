"""The models that make speech move a face, by the names that their checkpoints carry."""

from pathlib import Path

from avsr.errors import InputError
from avsr.training.checkpoint import load_pretrained
from talking3d.models.audio2mesh import Audio2Mesh
from talking3d.models.codetalker import CodeTalker
from talking3d.models.faceformer import FaceFormer
from talking3d.models.motion_model import MotionModel
from talking3d.models.selftalk import SelfTalk

GENERATORS: dict[str, type[MotionModel]] = {
    model.NAME: model for model in (Audio2Mesh, FaceFormer, CodeTalker, SelfTalk)
}


def load_generator(folder_or_hub_id: str | Path) -> MotionModel:
    """Load a checkpoint of any of them, in eval mode. Raises InputError where it is another model's."""
    name = load_pretrained(folder_or_hub_id).name
    if name not in GENERATORS:
        raise InputError(
            f"{folder_or_hub_id} holds a {name!r}, which makes no motion; expected {', '.join(GENERATORS)}"
        )
    return GENERATORS[name].from_pretrained(folder_or_hub_id)
