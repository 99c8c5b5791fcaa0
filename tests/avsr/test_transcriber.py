"""A real clip, through the road that `avsr transcribe` takes and through the one that training takes."""

import json
from dataclasses import asdict

import pytest
import torch

from avsr import cli
from avsr.data.manifest import read_manifest
from avsr.data.prepare import prepare
from avsr.data.text import train_tokenizer
from avsr.decode import DecodeConfig, Transcriber, decode_manifest
from avsr.errors import InputError
from avsr.models.recognizer import Recognizer, RecognizerConfig

TEXT = "bin blue at f two now"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small recogniser with random weights, in the format that training leaves."""
    tokenizer = train_tokenizer([TEXT], "word")
    torch.manual_seed(0)
    model = Recognizer(RecognizerConfig(vocab_size=len(tokenizer), dim=32, layers=1, heads=2, ff_dim=48, kernel=7))
    folder = tmp_path_factory.mktemp("recognizer") / "checkpoint"
    model.save_pretrained(folder, tokenizer, {})
    return folder


@pytest.fixture(scope="module")
def clip(shared):
    return sorted((shared / "grid" / "s1").glob("*.mpg"))[0]


def test_a_clip_is_heard_and_seen_as_a_prepared_utterance_is(checkpoint, clip, tmp_path):
    config = DecodeConfig(method="beam", beam_size=3)
    direct = Transcriber.from_pretrained(checkpoint)(clip, config)
    prepare([{"utt_id": "clip", "speaker": "s1", "text": TEXT, "video": str(clip)}], tmp_path / "prepared")
    rows = read_manifest(tmp_path / "prepared" / "manifest.jsonl")
    prepared = decode_manifest(Recognizer.from_pretrained(checkpoint), rows, config)["clip"]
    # Prepared lips went through a lossy file, so the scores differ by a trifle.
    assert direct.text == prepared.text
    assert direct.score == pytest.approx(prepared.score, rel=0.02)


def test_transcribe_prints_the_text_and_names_its_recogniser(checkpoint, clip, capsys):
    assert cli.main(["transcribe", str(clip), "--checkpoint", str(checkpoint), "--method", "greedy"]) == 0
    printed = capsys.readouterr()
    assert f"recogniser: {checkpoint}" in printed.err
    assert printed.out == Transcriber.from_pretrained(checkpoint)(clip, DecodeConfig(method="greedy")).text + "\n"


def test_json_has_words_and_other_texts(checkpoint, clip, capsys):
    given = ["transcribe", str(clip), "--checkpoint", str(checkpoint), "--n_best", "2", "--beam_size", "3", "--json"]
    assert cli.main(given) == 0
    line = json.loads(capsys.readouterr().out)
    found = Transcriber.from_pretrained(checkpoint)(clip, DecodeConfig(beam_size=3, n_best=2))
    assert line["file"] == str(clip) and line["text"] == found.text
    assert line["words"] == [asdict(word) for word in found.words]
    assert [text for text, _ in line["nbest"]] == [text for text, _ in found.nbest]


def test_a_file_without_a_face_says_so(checkpoint, shared):
    with pytest.raises(InputError, match="video|lips|face"):
        Transcriber.from_pretrained(checkpoint)(
            shared / "speech" / "utterances" / "spk1_snt1.wav", DecodeConfig(modality="v")
        )
