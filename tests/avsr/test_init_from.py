"""Starting a recogniser from others that were trained."""

import pytest
import torch

from avsr.data.text import train_tokenizer
from avsr.errors import InputError
from avsr.models.recognizer import Recognizer, RecognizerConfig
from avsr.train import init_from

TINY = {
    "dim": 16, "stream_layers": 1, "layers": 1, "heads": 2, "ff_dim": 24, "kernel": 5, "decoder_ff_dim": 24,
    "visual_channels": [4, 4, 8],
}  # fmt: skip


def recognizer(modalities: str, seed: int, text: str = "a b c", **changes) -> Recognizer:
    torch.manual_seed(seed)
    tokenizer = train_tokenizer([text], "word")
    model = Recognizer(RecognizerConfig(**TINY | {"modalities": modalities, "vocab_size": len(tokenizer)} | changes))
    model.tokenizer = tokenizer
    return model


def saved(model: Recognizer, folder) -> str:
    model.save_pretrained(folder, model.tokenizer)
    return str(folder)


def test_hearing_and_seeing_come_together(tmp_path):
    hearing, seeing, both = recognizer("a", 1), recognizer("v", 2), recognizer("av", 3)
    fusion = {name: value.clone() for name, value in both.fusion.state_dict().items()}
    taken = init_from(both, [saved(hearing, tmp_path / "a"), saved(seeing, tmp_path / "v")])
    own = both.state_dict()
    for name, value in hearing.state_dict().items():
        assert torch.equal(own[name], value)  # the joint part too: it is the first
    for name, value in seeing.state_dict().items():
        if name.startswith(("video.", "stream_encoders.v.")):
            assert torch.equal(own[name], value)
    assert all(torch.equal(value, both.fusion.state_dict()[name]) for name, value in fusion.items())
    assert {name for name in own if not name.startswith("fusion.")} == set(taken)


def test_weights_of_another_shape_stay_as_they_were(tmp_path):
    narrow, wide = recognizer("a", 1, ff_dim=20), recognizer("a", 2)
    before = wide.encoder.state_dict()
    taken = init_from(wide, [saved(narrow, tmp_path / "narrow")])
    assert any(name.startswith("audio.") for name in taken)
    assert torch.equal(wide.audio.project.weight, narrow.audio.project.weight)
    name = next(name for name, value in before.items() if 24 in value.shape)
    assert f"encoder.{name}" not in taken


def test_with_other_tokens_what_depends_on_them_is_not_taken(tmp_path, caplog):
    other, own = recognizer("a", 1, text="a b d"), recognizer("a", 2)
    kept = {name: value.clone() for name, value in own.state_dict().items()}
    taken = set(init_from(own, [saved(other, tmp_path / "other")]))
    assert "has other tokens than data.tokenizer" in caplog.text
    heads = {name for name in kept if name.startswith(("ctc.", "decoder."))}
    assert heads and taken == kept.keys() - heads
    for name, value in own.state_dict().items():
        assert torch.equal(value, kept[name] if name in heads else other.state_dict()[name])


def test_a_checkpoint_that_gives_nothing_is_an_error(tmp_path):
    checkpoint = saved(recognizer("a", 1), tmp_path / "a")
    with pytest.raises(InputError, match="has no weight that fits this model beside those of the others"):
        init_from(recognizer("av", 0), [checkpoint, checkpoint])
