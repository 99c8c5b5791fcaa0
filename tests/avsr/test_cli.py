"""The command line `avsr`: what it prints, what it leaves, and how it says what is wrong."""

import json

import numpy as np
import pytest

from avsr import cli
from avsr.data import noise
from avsr.data.corrupt import read_corruption_manifest
from avsr.data.manifest import read_manifest, write_manifest
from avsr.data.noise import read_noise_manifest
from avsr.data.text import load_tokenizer
from avsr.errors import InputError
from avsr.lm import load_ngram
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


def test_tokenizer_of_phones_pronounces_by_a_dictionary(manifest, tmp_path, capsys):
    out, lexicon = tmp_path / "tokenizer.model", tmp_path / "lexicon.txt"
    words = sorted({word for row in read_manifest(manifest, check_files=False) for word in row["text"].split()})
    lexicon.write_text("\n".join(f"{word} {' '.join(word)}" for word in words))
    command = ["tokenizer", str(manifest), "--kind", "phone", "--out", str(out), "--lexicon", str(lexicon)]
    assert cli.main(command) == 0
    tokenizer = load_tokenizer(out)
    assert [tokenizer.tokens[token] for token in tokenizer.encode("red")] == ["▁r", "e", "d"]
    lexicon.write_text("red r e d")
    assert cli.main(command) == 2 and "words without a pronunciation" in capsys.readouterr().err


def test_lm_is_of_words_or_of_a_tokenizers_tokens(manifest, tmp_path, capsys):
    out, text = tmp_path / "lm.arpa", tmp_path / "more.txt"
    text.write_text("bin red with a one please\n\n")
    assert cli.main(["lm", str(manifest), str(text), "--order", "2", "--valid", str(manifest), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "lm.arpa: 4 sentences, 21 words, order 2" in printed
    model = load_ngram(out)
    sentences = [row["text"].split() for row in read_manifest(manifest, need=("text",))]
    assert f"manifest.jsonl: {model.perplexity(sentences):.2f}" in printed and {"please", "lay"} <= model.words
    tokenizer = tmp_path / "tokenizer.model"
    assert cli.main(["tokenizer", str(manifest), "--kind", "char", "--out", str(tokenizer)]) == 0
    assert cli.main(["lm", str(manifest), "--tokenizer", str(tokenizer), "--out", str(out)]) == 0
    assert load_ngram(out).words == set(load_tokenizer(tokenizer).tokens[2:-1])
    assert cli.main(["lm", str(tmp_path / "none.txt"), "--out", str(out)]) == 2
    assert "none.txt: no such file; expected a manifest" in capsys.readouterr().err


def test_score_prints_espnets_table(manifest, tmp_path, capsys):
    hyps = ["bin blue at f two now", "set red in g six again", "lay white by z nine soon"]
    hyp = tmp_path / "run" / "hyp.jsonl"
    hyp.parent.mkdir()
    hyp.write_text("".join(json.dumps({"utt_id": f"u{i}", "text": text}) + "\n" for i, text in enumerate(hyps)))
    assert cli.main(["score", str(hyp), str(manifest)]) == 0
    assert "|run|3|18|94.4|5.6|0.0|0.0|5.6|33.3|" in capsys.readouterr().out


@pytest.fixture
def two_systems(tmp_path):
    """Hypotheses of 40 utterances by two systems, in folders of the same name, and their manifest."""
    rows, wrong = [], {"a": 0.2, "b": 0.5}
    rng = np.random.default_rng(0)
    for i in range(40):
        rows.append({"utt_id": f"u{i}", "text": "Set white at b two now"})
    write_manifest(tmp_path / "texts.jsonl", rows)
    for name, error in wrong.items():
        path = tmp_path / name / "test" / "hyp.jsonl"
        path.parent.mkdir(parents=True)
        lines = []
        for i in range(40):
            heard = [
                w if rng.random() > error else {"b": "p", "two": "q"}.get(w, "")
                for w in ("set", "white", "at", "b", "two", "now")
            ]
            lines.append(json.dumps({"utt_id": f"u{i}", "text": " ".join(heard), "score": -1.0}) + "\n")
        path.write_text("".join(lines))
    return tmp_path / "a" / "test" / "hyp.jsonl", tmp_path / "b" / "test" / "hyp.jsonl", tmp_path / "texts.jsonl"


def test_score_compares_two_systems(two_systems, capsys):
    a, b, manifest = map(str, two_systems)
    assert cli.main(["score", a, manifest, "--against", b, "--confusions", "3", "--alignments", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    first, second = said["systems"][a], said["systems"][b]
    gain = said["differences"]["WER"]
    assert gain["difference"] == pytest.approx(first["word"]["err"] - second["word"]["err"]) and gain["difference"] < 0
    assert gain["low"] < gain["difference"] < gain["high"] < 0 and gain["p"] == pytest.approx(2 / 10_001)
    assert said["differences"]["CER"]["difference"] < 0
    low, high = first["intervals"]["WER"]
    assert low < first["word"]["err"] < high
    assert ["b", "p"] in [pair[:2] for pair in second["confusions"]] and len(second["confusions"]) == 3

    assert cli.main(["score", b, manifest, "--against", a, "--confusions", "3", "--alignments"]) == 0
    text = capsys.readouterr().out
    assert f"WER of {b} − {a}: {-gain['difference']:+.1f} points" in text and "p = 0.0002" in text
    assert "normaliser lower" in text and "WER\n" in text and "CER\n" in text
    assert "|reference|taken for|times|" in text and text.count("REF:") == 80

    assert cli.main(["score", a, manifest, "--against", a]) == 2
    assert "it is the file that it would be compared with" in capsys.readouterr().err


def test_score_names_its_normaliser(two_systems, capsys):
    a, _, manifest = map(str, two_systems)
    wers = []
    for name in ("lower", "none"):
        assert cli.main(["score", a, manifest, "--normalizer", name, "--json"]) == 0
        [one] = json.loads(capsys.readouterr().out)["systems"].values()
        assert one["normalizer"] == name
        wers.append(one["word"]["err"])
    assert wers[0] < wers[1]  # "Set" is not "set"
    assert cli.main(["score", a, manifest, "--normalizer", "none"]) == 0
    assert "normaliser none: texts as they are" in capsys.readouterr().out


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
