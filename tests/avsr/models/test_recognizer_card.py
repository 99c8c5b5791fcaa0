"""A recogniser's model card: what the Hub reads of it, and figures that were measured."""

import json

import pytest
import torch
import yaml

from avsr import cli
from avsr.data.manifest import write_manifest
from avsr.data.text import train_tokenizer
from avsr.errors import InputError
from avsr.models.recognizer import Recognizer, RecognizerConfig
from avsr.models.recognizer_card import add_score


@pytest.fixture
def checkpoint(tmp_path):
    tokenizer = train_tokenizer(["bin blue now"], "word")
    torch.manual_seed(0)
    small = {"dim": 8, "layers": 1, "heads": 2, "ff_dim": 8, "kernel": 3, "decoder_layers": 0}
    model = Recognizer(RecognizerConfig(vocab_size=len(tokenizer), modalities="v", **small))
    model.save_pretrained(
        tmp_path / "checkpoint", tokenizer, {"training data": "3 utterances, filmed"}, license="other"
    )
    return tmp_path / "checkpoint"


def read(checkpoint) -> tuple[dict, str]:
    _, front, body = (checkpoint / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_card_says_what_it_is_for_and_how_to_use_it(checkpoint):
    front, body = read(checkpoint)
    assert front == {
        "library_name": "liploop",
        "license": "other",
        "tags": ["liploop", "recognizer", "lip-reading", "speech-recognition"],
        "pipeline_tag": "automatic-speech-recognition",
    }  # no figure without a measurement
    for heading in ("# recognizer", "## Use", "## Intended use", "## Limits", "## Settings"):
        assert heading in body.splitlines()
    assert "from the lips alone" in body and "60% of the width" in body and "16 kHz" not in body
    assert "- **training data**: 3 utterances, filmed" in body


def test_measured_figures_enter_and_are_replaced(checkpoint, tmp_path, capsys):
    texts = {"a": "bin blue now", "b": "set red"}
    rows = [{"utt_id": name, "speaker": "s", "text": text, "duration_s": 1.0} for name, text in texts.items()]
    write_manifest(tmp_path / "manifest.jsonl", rows)
    lines = [{"utt_id": "a", "text": "bin red now"}, {"utt_id": "b", "text": "set red"}]
    (tmp_path / "hyp.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, body = read(checkpoint)
    files = [str(checkpoint), str(tmp_path / "hyp.jsonl"), str(tmp_path / "manifest.jsonl")]
    assert cli.main(["card", *files, "--dataset", "toy, clean"]) == 0
    assert "toy, clean 20.00 % of 5 words" in capsys.readouterr().out
    add_score(checkpoint, "toy, −5 dB", 60.0, 5)
    add_score(checkpoint, "toy, −5 dB", 55.5, 5)
    front, after = read(checkpoint)
    assert after == body and front["metrics"] == ["wer"]
    results = front["model-index"][0]["results"]
    assert [(one["dataset"]["name"], one["metrics"][0]["value"]) for one in results] == [
        ("toy, clean", 20.0), ("toy, −5 dB", 55.5)
    ]  # fmt: skip
    from huggingface_hub import ModelCard

    read_by_hub = ModelCard.load(checkpoint / "README.md").data.eval_results
    assert [(one.dataset_name, one.metric_type, one.metric_value) for one in read_by_hub] == [
        ("toy, clean", "wer", 20.0), ("toy, −5 dB", "wer", 55.5)
    ]  # fmt: skip
    Recognizer.from_pretrained(checkpoint)


def test_a_folder_without_a_card_is_refused(tmp_path):
    with pytest.raises(InputError, match="no model card; give a checkpoint's folder"):
        add_score(tmp_path, "toy", 1.0, 1)
    (tmp_path / "README.md").write_text("# no front matter\n")
    with pytest.raises(InputError, match="begins with YAML between two lines of ---"):
        add_score(tmp_path, "toy", 1.0, 1)
