"""A training that starts from a public checkpoint."""

import numpy as np
import pytest
import torch
import yaml

from avsr.data.manifest import write_manifest
from avsr.data.text import train_tokenizer
from avsr.errors import InputError
from avsr.media.audio import write_wav
from avsr.media.video import write_lips
from avsr.models.frontends import VideoFrontend
from avsr.models.recognizer import Recognizer
from avsr.train import train_recognizer
from avsr.training.checkpoint import save_weights

TEXT = "bin red now"


@pytest.fixture
def config(tmp_path):
    """The yaml of a tiny training that takes one step and moves nothing."""
    rng = np.random.default_rng(0)
    write_wav(tmp_path / "u.wav", 0.1 * rng.standard_normal(640 * 12))
    write_lips(tmp_path / "u.mp4", rng.integers(0, 255, (12, 96, 96), dtype=np.uint8))
    files = {"audio": str(tmp_path / "u.wav"), "lips": str(tmp_path / "u.mp4")}
    row = {"utt_id": "u", "speaker": "s", "text": TEXT, "duration_s": 12 / 25, "source": "filmed", **files}
    write_manifest(tmp_path / "manifest.jsonl", [row])
    tokenizer = train_tokenizer([TEXT], "word")
    tokenizer.save(tmp_path / "tokenizer.model")
    manifest = [str(tmp_path / "manifest.jsonl")]
    data = {"train": manifest, "valid": manifest, "tokenizer": str(tmp_path / "tokenizer.model"), "frame_label": None}
    small = {"dim": 8, "layers": 1, "heads": 2, "ff_dim": 8, "kernel": 3, "visual_frontend": "resnet18_prelu"}
    trainer = {"max_epochs": 1, "lr": 1e-12, "weight_decay": 0.0, "num_threads": 1}
    content = {"out": str(tmp_path / "exp"), "data": data, "recognizer": small, "trainer": trainer}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "train.yaml"


def test_training_starts_from_a_public_visual_front_end(config, tmp_path):
    torch.manual_seed(5)
    public = VideoFrontend(8, kind="resnet18_prelu", channels=[], dropout=0.0)
    names = {"conv1": "frontend3D.0", "bn1": "frontend3D.1", "relu": "frontend3D.2"}
    stored = {}
    for name, tensor in public.trunk.state_dict().items():
        part, _, rest = name.partition(".")
        stored[f"resnet.{names[part]}.{rest}" if part in names else f"resnet.trunk.{name}"] = tensor
    stored["resnet.frontend3D.0.weight"] = stored["resnet.frontend3D.0.weight"][:, None]
    save_weights(tmp_path / "p.safetensors", {f"feature_extractor_video.{name}": w for name, w in stored.items()})
    folder = train_recognizer(config, [f"init_video={tmp_path / 'p.safetensors'}"])
    trained = Recognizer.from_pretrained(folder).video.trunk.state_dict()
    for name, tensor in public.trunk.state_dict().items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(trained[name], tensor.contiguous(), atol=1e-6, rtol=1e-6)
    assert Recognizer.from_pretrained(folder).config.longest_s == pytest.approx(0.48)
    card = (folder / "README.md").read_text()
    assert "1 utterances, 0.000133 h, filmed" in card


def test_a_listener_has_no_visual_front_end(config):
    with pytest.raises(InputError, match="a recogniser of sound alone has no visual front end"):
        train_recognizer(config, ["recognizer.modalities=a", "init_video=any.pth"])
