"""The command line `avsr`: what it prints, what it leaves, and how it says what is wrong."""

import json

import numpy as np
import pytest

from avsr import cli
from avsr.data import noise
from avsr.data.corrupt import read_corruption_manifest
from avsr.data.manifest import write_manifest
from avsr.data.noise import read_noise_manifest
from avsr.data.text import load_tokenizer
from avsr.errors import InputError
from avsr.media.audio import write_wav


@pytest.fixture
def manifest(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i, text in enumerate(("bin blue at f two now", "set red in g six again", "lay white by z one soon")):
        write_wav(tmp_path / f"u{i}.wav", 0.1 * rng.standard_normal(16000).astype(np.float32))
        audio = str(tmp_path / f"u{i}.wav")
        rows.append({"utt_id": f"u{i}", "speaker": f"s{i}", "text": text, "audio": audio, "duration_s": 1.0})
    write_manifest(tmp_path / "manifest.jsonl", rows)
    return tmp_path / "manifest.jsonl"


def test_noise_writes_a_manifest_for_each_snr(manifest, tmp_path, capsys):
    options = ["--kind", "babble", "--snr_db", "0", "-5", "--babble", str(manifest), "--out", str(tmp_path / "noise")]
    assert cli.main(["noise", str(manifest), *options]) == 0
    for snr_db in (0, -5):
        lines = read_noise_manifest(tmp_path / "noise" / f"babble_{snr_db}dB.jsonl")
        assert [line["snr_db"] for line in lines] == [snr_db] * 3
    assert capsys.readouterr().out.count("3 utterances, hash") == 2


def test_noise_in_rooms_and_rooms_alone(manifest, tmp_path, capsys):
    write_wav(tmp_path / "rir.wav", 0.5 ** np.arange(30))
    shared = [str(manifest), "--rir", str(tmp_path / "rir.wav"), "--out", str(tmp_path / "noise")]
    assert cli.main(["noise", *shared, "--kind", "talker", "--snr_db", "0"]) == 0
    assert cli.main(["noise", *shared, "--kind", "none"]) == 0
    for name, snr_db in (("talker_0dB_reverb", 0.0), ("reverb", None)):
        lines = read_noise_manifest(tmp_path / "noise" / f"{name}.jsonl")
        assert [(line["snr_db"], line["rir"]) for line in lines] == [(snr_db, str(tmp_path / "rir.wav"))] * 3
    assert cli.main(["noise", *shared, "--kind", "white"]) == 2
    assert "snr_db must be a finite number" in capsys.readouterr().err


def test_noise_kinds_are_those_of_noise():
    assert (*noise.KINDS, noise.ROOM_ONLY) == cli.NOISE_KINDS


def test_corrupt_writes_a_manifest_for_each_severity(manifest, tmp_path, capsys):
    options = ["--kind", "offset", "--severity", "0", "-2", "--seed", "4", "--out", str(tmp_path / "corrupt")]
    assert cli.main(["corrupt", str(manifest), *options]) == 0
    for severity in (0, -2):
        lines = read_corruption_manifest(tmp_path / "corrupt" / f"offset_{severity}.jsonl")
        assert [(line["utt_id"], line["severity"]) for line in lines] == [(f"u{i}", severity) for i in range(3)]
    assert capsys.readouterr().out.count("3 utterances, hash") == 2
    assert cli.main(["corrupt", str(manifest), "--kind", "blank", "--severity", "2", "--out", str(tmp_path)]) == 2
    assert "severity 2.0 of blank: expected a number from 0 to 1" in capsys.readouterr().err


def test_tokenizer_covers_all_manifests(manifest, tmp_path):
    out = tmp_path / "tokenizer.model"
    assert cli.main(["tokenizer", str(manifest), "--kind", "word", "--out", str(out)]) == 0
    tokenizer = load_tokenizer(out)
    assert tokenizer.decode(tokenizer.encode("lay red at g one now")) == "lay red at g one now"


def test_score_prints_espnets_table(manifest, tmp_path, capsys):
    hyps = ["bin blue at f two now", "set red in g six again", "lay white by z nine soon"]
    hyp = tmp_path / "run" / "hyp.jsonl"
    hyp.parent.mkdir()
    hyp.write_text("".join(json.dumps({"utt_id": f"u{i}", "text": text}) + "\n" for i, text in enumerate(hyps)))
    assert cli.main(["score", str(hyp), str(manifest)]) == 0
    assert "|run|3|18|94.4|5.6|0.0|0.0|5.6|33.3|" in capsys.readouterr().out


def test_bad_input_is_one_line_and_status_2(tmp_path, capsys):
    assert cli.main(["score", str(tmp_path / "hyp.jsonl"), str(tmp_path / "none.jsonl")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and "none.jsonl" in err and err.count("\n") == 1


def test_the_default_checkpoint_is_named_or_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("LIPLOOP_RECOGNIZER", raising=False)
    monkeypatch.setattr(cli, "REPOSITORY", tmp_path)
    with pytest.raises(InputError, match="no recogniser found .* give --checkpoint DIR, set LIPLOOP_RECOGNIZER"):
        cli.default_checkpoint()
    mini = tmp_path / cli.DEFAULT_CHECKPOINTS[1]
    mini.mkdir(parents=True)
    (mini / "config.yaml").touch()
    assert cli.default_checkpoint() == mini
    monkeypatch.setenv("LIPLOOP_RECOGNIZER", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="elsewhere"):
        cli.default_checkpoint()
