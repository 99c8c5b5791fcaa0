"""Decoding with tiny recognisers that really learned: each word of a toy language is a tone and a picture."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avsr.data.corrupt import make_corruption_manifest
from avsr.data.dataset import UtteranceDataset, collate
from avsr.data.text import train_tokenizer
from avsr.data.text_dataset import collate_texts
from avsr.decode import DecodeConfig, decode_batch, decode_manifest
from avsr.errors import InputError
from avsr.files import read_jsonl
from avsr.lm import train_ngram
from avsr.media.audio import write_wav
from avsr.media.video import write_lips
from avsr.models.recognizer import Recognizer, RecognizerConfig
from avsr.models.transformer_lm import TransformerLM, TransformerLMConfig
from avsr.score import score
from avsr.transcribe import Transcriber

TEXTS = ["set red now", "set blue", "bin red soon now", "now bin"]
WORDS = sorted({word for text in TEXTS for word in text.split()})
WORD_FRAMES, PAUSE_FRAMES = 10, 4
STEPS = 220


def toy_utterance(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Waveform (S,) and lips (T, 96, 96): per word a tone, and a bar at a height of its own."""
    rng = np.random.default_rng(len(text))
    waveform, lips = [0.003 * rng.standard_normal(PAUSE_FRAMES * 640)], [np.full((PAUSE_FRAMES, 96, 96), 90)]
    for word in text.split():
        place = WORDS.index(word)
        time_s = np.arange(WORD_FRAMES * 640) / 16000
        waveform += [0.3 * np.sin(2 * np.pi * 300 * 1.4**place * time_s), waveform[0]]
        shown = np.full((WORD_FRAMES, 96, 96), 90)
        shown[:, 14 + 12 * place : 24 + 12 * place, 20:76] = 220
        lips += [shown, lips[0]]
    return np.concatenate(waveform).astype(np.float32), np.concatenate(lips).astype(np.uint8)


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("toy")
    rows = []
    for index, text in enumerate(TEXTS):
        waveform, lips = toy_utterance(text)
        write_wav(folder / f"{index}.wav", waveform)
        write_lips(folder / f"{index}.mp4", lips)
        rows.append(
            {
                "utt_id": f"utt{index}", "speaker": "s", "text": text, "audio": str(folder / f"{index}.wav"),
                "lips": str(folder / f"{index}.mp4"), "duration_s": len(waveform) / 16000, "alignment": None,
            }
        )  # fmt: skip
    return rows


@pytest.fixture(scope="module", params=["word", "unigram"])
def model(request, rows) -> Recognizer:
    tokenizer = train_tokenizer(TEXTS, request.param, vocab_size=20 if request.param == "unigram" else None)
    torch.manual_seed(0)
    config = RecognizerConfig(
        vocab_size=len(tokenizer), dim=32, layers=1, heads=2, ff_dim=48, kernel=7, decoder_ff_dim=48,
        visual_channels=[8, 8, 16], dropout=0.0, frontend_dropout=0.0, time_masks=0, freq_masks=0, drop_audio=0.35,
        drop_video=0.35, label_smoothing=0.0, ctc_weight=0.7,
    )  # fmt: skip
    model = Recognizer(config)
    model.tokenizer = tokenizer
    data = UtteranceDataset(rows, tokenizer)
    batch = collate([data[index] for index in range(len(rows))])
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, 2.5 * (1 - step / STEPS)))
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(batch)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def texts(hypotheses) -> list[str]:
    return [hypothesis.text for hypothesis in hypotheses]


def test_every_method_beam_and_modality_reads_what_was_learned(model, rows):
    data = UtteranceDataset(rows, None)
    batch = collate([data[index] for index in range(len(rows))])
    for modality in ("av", "a", "v"):
        assert texts(decode_batch(model, batch, DecodeConfig("greedy", modality=modality))) == TEXTS
    scores = []
    for beam_size in (1, 2, 5, 20):
        found = decode_batch(model, batch, DecodeConfig("beam", beam_size=beam_size))
        assert texts(found) == TEXTS
        scores.append([hypothesis.score for hypothesis in found])
        assert all(-20 < hypothesis.score <= 0 for hypothesis in found)
    assert (np.diff(scores, axis=0) > -1e-3).all()  # a wider beam never ends with a worse score
    assert texts(decode_batch(model, batch, DecodeConfig("beam", beam_size=5, ctc_weight=1.0))) == TEXTS
    assert texts(decode_batch(model, batch, DecodeConfig("beam", beam_size=5, ctc_weight=0.0))) == TEXTS


def test_a_manifest_is_decoded_whole_and_in_order(model, rows, tmp_path):
    blind = [row | {"text": "words it has never seen"} for row in reversed(rows)]
    config = DecodeConfig("beam", beam_size=3, max_utts=2)
    found = decode_manifest(model, blind, config, out=tmp_path / "hyp.jsonl")
    assert list(found) == ["utt3", "utt2", "utt1", "utt0"]
    lines = read_jsonl(tmp_path / "hyp.jsonl")
    assert [line["utt_id"] for line in lines] == list(found)
    assert set(lines[0]) == {"utt_id", "text", "score", "words", "nbest"}
    assert lines[0]["nbest"] == [[lines[0]["text"], lines[0]["score"]]]
    assert set(lines[0]["words"][0]) == {"text", "start_s", "end_s", "confidence"}
    refs, hyps = ({row["utt_id"]: row["text"] for row in source} for source in (rows, lines))
    assert score(refs, hyps).wer == 0


def test_words_and_other_texts_of_an_utterance(model, rows):
    data = UtteranceDataset(rows, None)
    batch = collate([data[index] for index in range(len(rows))])
    for config in (DecodeConfig("greedy"), DecodeConfig(n_best=3)):
        for hypothesis, text, row in zip(decode_batch(model, batch, config), TEXTS, rows, strict=True):
            assert [word.text for word in hypothesis.words] == text.split()
            times = [time for word in hypothesis.words for time in (word.start_s, word.end_s)]
            assert times == sorted(times) and times[0] >= 0 and times[-1] <= row["duration_s"] + 0.04
            assert all(0.2 < word.confidence <= 1 for word in hypothesis.words)
            scores = [score for _, score in hypothesis.nbest]
            assert hypothesis.nbest[0] == (text, hypothesis.score) and scores == sorted(scores, reverse=True)
            assert len({text for text, _ in hypothesis.nbest}) == len(scores) <= config.n_best
    assert len(scores) > 1


def test_a_language_model_weighs_tokens_of_the_beam(model, rows, tmp_path):
    tokenizer = model.tokenizer
    units = [[tokenizer.tokens[token] for token in tokenizer.encode(text)] for text in TEXTS]
    lm = train_ngram(units, 3)
    lm.save(tmp_path / "lm.arpa")
    data = UtteranceDataset(rows, None)
    batch = collate([data[index] for index in range(len(rows))])
    without = decode_batch(model, batch, DecodeConfig())
    weighed = decode_batch(model, batch, DecodeConfig(lm=str(tmp_path / "lm.arpa"), lm_weight=0.2))
    assert texts(weighed) == TEXTS
    for bare, heavier, tokens in zip(without, weighed, units, strict=True):
        logs = [lm.log_prob(unit, tokens[:position]) for position, unit in enumerate([*tokens, lm.END])]
        assert heavier.score - bare.score == pytest.approx(0.2 * sum(logs), abs=1e-3) and sum(logs) < -1


def test_a_trained_language_model_does_too(model, rows, tmp_path):
    tokenizer = model.tokenizer
    torch.manual_seed(0)
    tiny = {"dim": 8, "layers": 2, "heads": 2, "ff_dim": 16}
    lm = TransformerLM(TransformerLMConfig(vocab_size=len(tokenizer), **tiny)).eval()
    lm.save_pretrained(tmp_path / "lm", tokenizer)
    data = UtteranceDataset(rows, None)
    batch = collate([data[index] for index in range(len(rows))])
    without = decode_batch(model, batch, DecodeConfig())
    weighed = decode_batch(model, batch, DecodeConfig(lm=str(tmp_path / "lm"), lm_weight=0.2))
    assert texts(weighed) == TEXTS
    for bare, heavier, text in zip(without, weighed, TEXTS, strict=True):
        tokens = np.array(tokenizer.encode(text))
        with torch.no_grad():
            log_prob = -(len(tokens) + 1) * float(lm(collate_texts([tokens]))["loss"])
        assert heavier.score - bare.score == pytest.approx(0.2 * log_prob, abs=1e-3)
    other = train_tokenizer(["x y"], "word")
    TransformerLM(TransformerLMConfig(vocab_size=len(other), **tiny)).save_pretrained(tmp_path / "other", other)
    with pytest.raises(InputError, match="other: the language model has other tokens than the recogniser"):
        decode_batch(model, batch, DecodeConfig(lm=str(tmp_path / "other")))


def test_words_of_a_lexicon_and_no_others(model, rows, tmp_path):
    data = UtteranceDataset(rows, None)
    batch = collate([data[index] for index in range(len(rows))])
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS))
    train_ngram([text.split() for text in TEXTS], 2).save(tmp_path / "lm.arpa")
    for lm in (None, str(tmp_path / "lm.arpa")):
        found = decode_batch(model, batch, DecodeConfig("lexicon", lexicon=str(path), lm=lm, n_best=2))
        assert texts(found) == TEXTS
        assert [word.text for word in found[2].words] == TEXTS[2].split()
        assert found[0].nbest[0][1] > found[0].nbest[1][1]
    path.write_text("\n".join(set(WORDS) - {"red"}))
    found = decode_batch(model, batch, DecodeConfig("lexicon", lexicon=str(path)))
    assert texts(found)[1::2] == TEXTS[1::2] and not any("red" in text.split() for text in texts(found))


def test_noise_of_a_manifest_is_mixed_in(model, rows):
    noise = [
        {"utt_id": row["utt_id"], "kind": "white", "sources": [], "snr_db": -20.0, "seed": index}
        for index, row in enumerate(rows)
    ]
    config = DecodeConfig("greedy", modality="a")
    clean, noisy = decode_manifest(model, rows, config), decode_manifest(model, rows, config, noise_lines=noise)
    assert texts(clean.values()) == TEXTS != texts(noisy.values())


def test_corruption_of_a_manifest_is_what_is_seen_and_heard(model, rows):
    def read(kind, modality, severity=1.0):
        lines = make_corruption_manifest(rows, kind=kind, severity=severity, seed=0)
        found = decode_manifest(model, rows, DecodeConfig("greedy", modality=modality), corruption_lines=lines)
        return texts(found.values())

    assert read("blank", "a") == read("gaps", "v") == read("offset", "v", 0) == TEXTS
    for kind in ("blank", "frozen"):
        assert read(kind, "v") != TEXTS
    assert read("gaps", "a") != TEXTS


def test_files_are_transcribed_from_a_checkpoint(model, rows, tmp_path):
    model.save_pretrained(tmp_path / "checkpoint", model.tokenizer)
    transcriber = Transcriber.from_pretrained(tmp_path / "checkpoint")
    heard = transcriber(rows[2]["audio"], DecodeConfig("beam", beam_size=4))
    assert (heard.utt_id, heard.text) == ("2", TEXTS[2])
    waveform, lips = toy_utterance(TEXTS[0])
    assert transcriber.transcribe(waveform, lips).text == TEXTS[0]
    assert transcriber.transcribe(None, lips).text == TEXTS[0]
    assert transcriber.transcribe(waveform[: -2 * 640], lips).text == TEXTS[0]  # cut to the shorter
    json.dumps(heard.score)


def test_input_that_cannot_be_transcribed_is_named(rows, tmp_path):
    torch.manual_seed(0)
    tiny = {"dim": 8, "layers": 1, "heads": 2, "ff_dim": 8, "kernel": 3, "decoder_layers": 0}
    transcriber = Transcriber(Recognizer(RecognizerConfig(vocab_size=5, modalities="a", **tiny)))
    transcriber.model.tokenizer = train_tokenizer(["a b"], "word")
    with pytest.raises(InputError, match="no such file"):
        transcriber(tmp_path / "absent.mp4")
    with pytest.raises(InputError, match=r"0.mp4: neither sound nor lips"):
        transcriber(Path(rows[0]["lips"]))
    with pytest.raises(InputError, match="cannot decode with modality 'v'"):
        transcriber(rows[0]["audio"], DecodeConfig(modality="v"))
    with pytest.raises(InputError, match="silent"):
        transcriber.transcribe(np.zeros(16000, np.float32), None)
    with pytest.raises(InputError, match="no frames"):
        transcriber.transcribe(None, np.zeros((0, 96, 96), np.uint8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "viterbi"}, "unknown decoding method 'viterbi'"),
        ({"beam_size": 0}, "beam_size must be 1 or more"),
        ({"ctc_weight": 2.0}, "ctc_weight is a share"),
        ({"n_best": 0}, "n_best must be 1 or more"),
        ({"method": "lexicon"}, "method lexicon needs a lexicon"),
        ({"lexicon": "words.txt"}, "method lexicon needs a lexicon, and no other has one: got beam, words.txt"),
        ({"method": "greedy", "lm": "lm.arpa"}, "greedy decoding has no use for a language model"),
    ],
)
def test_settings_that_cannot_decode_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        DecodeConfig(**change)
