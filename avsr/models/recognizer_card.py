"""The model card of a recogniser, and measured figures written into it, as the Hugging Face Hub reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from avsr.errors import InputError
from avsr.files import write_text
from avsr.training.checkpoint import CARD_FILE, model_card

TASK = "automatic-speech-recognition"
_READS = {
    "a": ("speech from sound", "audio"),
    "v": ("speech from the lips alone", "lip-reading"),
    "av": ("speech from sound and lips, and from either alone", "audio-visual"),
}
_USE = """```python
from avsr.transcribe import Transcriber

transcriber = Transcriber.from_pretrained("this folder or its Hub id")
print(transcriber("clip.mp4").text)
```"""


def recognizer_card(config: Any, facts: Mapping[str, Any], license: str = "apache-2.0") -> str:
    """The card of a recogniser of this config; `facts` says what it was trained on, and whether that was filmed."""
    reads, tag = _READS[config.modalities]
    lips = "the face upright, frontal and found by the landmark detector; lip crops of 96 pixels whose mouth is "
    lips += f"{config.mouth_width:.0%} of the width, 25 pictures a second. "
    needs = "Sound at 16 kHz, mono. " if "a" in config.modalities else ""
    needs += lips[0].upper() + lips[1:] if "v" in config.modalities else ""
    sections = {
        "Use": _USE,
        "Intended use": f"Research: reads {reads}, one talker at a time, in the language and words of its training "
        "data. Not for identifying people, nor for listening in on those who have not agreed to it.",
        "Limits": f"{needs}Other speakers, cameras, accents, words and noises than those of the training data raise "
        "the error; a recogniser trained on a small grammar knows no other sentences. Confidence is not calibrated.",
    }
    front = {"license": license, "tags": [tag, "speech-recognition"], "pipeline_tag": TASK}
    return model_card("recognizer", config, facts, front=front, sections=sections)


def add_score(folder: str | Path, dataset: str, wer: float, n_words: int) -> None:
    """Write a measured word error rate, in % of n_words, of `dataset` into a checkpoint's card; one there is replaced.

    Raises InputError where the folder has no card with front matter.
    """
    path = Path(folder) / CARD_FILE
    front, body = _read_card(path)
    entry = {
        "task": {"type": TASK, "name": "speech recognition"},
        "dataset": {"type": dataset, "name": dataset},
        "metrics": [{"type": "wer", "value": round(wer, 2), "name": f"WER % of {n_words} words"}],
    }
    index = front.setdefault("model-index", [{"name": "recognizer", "results": []}])[0]
    index["results"] = [one for one in index["results"] if one["dataset"]["name"] != dataset] + [entry]
    front["metrics"] = ["wer"]
    write_text(path, f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n{body}")


def _read_card(path: Path) -> tuple[dict, str]:
    try:
        _, front, body = path.read_text(encoding="utf-8").split("---\n", 2)
        return yaml.safe_load(front), body
    except FileNotFoundError:
        raise InputError(f"{path}: no model card; give a checkpoint's folder") from None
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: a model card begins with YAML between two lines of ---") from error
