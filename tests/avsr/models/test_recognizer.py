"""The recogniser: indifference to padding and to missing streams; its losses, its checkpoints, its errors."""

import math

import pytest
import torch
from torch.nn import functional

from avsr.data.text import train_tokenizer
from avsr.errors import InputError
from avsr.models.espnet import ctc_loss
from avsr.models.recognizer import Recognizer, RecognizerConfig

LENGTHS = (18, 11, 6)
TINY = {
    "dim": 16, "layers": 1, "heads": 2, "ff_dim": 24, "kernel": 5, "decoder_ff_dim": 24, "visual_channels": [4, 4, 8],
    "vocab_size": 9, "n_labels": 5,
}  # fmt: skip


def make_model(**changes) -> Recognizer:
    torch.manual_seed(0)
    return Recognizer(RecognizerConfig(**{**TINY, **changes})).eval()


def make_batch(lengths: tuple[int, ...] = LENGTHS) -> dict:
    generator = torch.Generator().manual_seed(1)
    count, longest = len(lengths), max(lengths)
    frames, samples, tokens = torch.arange(longest), torch.arange(longest * 640), torch.arange(4)
    counts = torch.tensor(lengths)[:, None]
    token_lengths = torch.tensor([2 + index % 3 for index in range(count)])
    return {
        "waveform": 0.1 * torch.randn(count, longest * 640, generator=generator) * (samples < counts * 640),
        "lips": torch.randint(0, 256, (count, longest, 88, 88), dtype=torch.uint8, generator=generator)
        * (frames < counts)[:, :, None, None],
        "lengths": counts[:, 0],
        "has_audio": torch.ones(count, dtype=torch.bool),
        "has_video": torch.ones(count, dtype=torch.bool),
        "tokens": torch.randint(1, 8, (count, 4), generator=generator).masked_fill(
            tokens >= token_lengths[:, None], -1
        ),
        "token_lengths": token_lengths,
        "token_frames": torch.stack([tokens.expand(count, 4), counts - 2 + 0 * tokens], dim=-1),
        "frame_labels": torch.randint(0, 6, (count, longest), generator=generator).masked_fill(frames >= counts, -100),
        "utt_ids": [f"utt{index}" for index in range(count)],
    }


def alone(batch: dict, index: int) -> dict:
    n = int(batch["lengths"][index])
    one = {key: value[index : index + 1] for key, value in batch.items()}
    one |= {"waveform": one["waveform"][:, : n * 640], "lips": one["lips"][:, :n]}
    spoken = {key: one[key][:, : one["token_lengths"][0]] for key in ("tokens", "token_frames")}
    return one | spoken | {"frame_labels": one["frame_labels"][:, :n]}


LATE = {"stream_layers": 1, "stream_ctc_weight": 0.3}


@pytest.mark.parametrize(
    "build",
    [{}, {"encoder": "e_branchformer"}, LATE, LATE | {"fusion": "cross_attention"}, {"fusion": "concat"}],
    ids=["early", "e_branchformer", "late", "cross_attention", "concat"],
)
@pytest.mark.parametrize("modalities", ["a", "v", "av"])
def test_an_utterance_is_encoded_the_same_alone_and_in_a_padded_batch(modalities, build):
    model, batch = make_model(modalities=modalities, **build), make_batch()
    batch["has_audio"][1] = modalities == "a"
    batch["has_video"][2] = modalities == "v"
    with torch.no_grad():
        together, lengths = model.encode(batch)
        losses = model(batch)
        singles = [model(alone(batch, index)) for index in range(len(LENGTHS))]
        for index, length in enumerate(LENGTHS):
            single, _ = model.encode(alone(batch, index))
            assert torch.allclose(together[index, :length], single[0], atol=1e-4)
    assert lengths.tolist() == list(LENGTHS)
    for term, weights in (("ctc", batch["token_lengths"]), ("att", batch["token_lengths"] + 1), ("frame", lengths)):
        expected = sum(float(one[term]) * int(w) for one, w in zip(singles, weights, strict=True)) / int(weights.sum())
        assert float(losses[term]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("build", [{}, LATE], ids=["early", "late"])
def test_half_precision_learns_what_single_precision_does(build):
    model, batch = make_model(**build), make_batch()

    def losses_and_gradient():
        model.zero_grad()
        losses = model(batch)
        losses["loss"].backward()
        gradient = torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])
        return {name: float(loss) for name, loss in losses.items() if name != "ter"}, gradient

    exact, gradient = losses_and_gradient()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, rough = losses_and_gradient()
        log_probs = model.ctc.log_softmax(model.encode(batch)[0])
    assert rounded != exact and rounded == pytest.approx(exact, rel=0.02)
    assert rough.isfinite().all() and functional.cosine_similarity(gradient, rough, dim=0) > 0.98
    kept = torch.arange(max(LENGTHS)) < batch["lengths"][:, None]
    single = model.ctc.log_softmax(model.encode(batch)[0])
    assert torch.allclose(log_probs.float()[kept], single[kept], atol=0.1)


@torch.no_grad()
def test_the_raw_waveform_is_heard_the_same_alone_and_in_a_padded_batch(tmp_path):
    model, batch = make_model(audio_frontend="resnet1d", ff_activation="relu"), make_batch()
    model.tokenizer = train_tokenizer(["a b c d e f"], "word")
    model.save_pretrained(tmp_path / "checkpoint", model.tokenizer)
    again = Recognizer.from_pretrained(tmp_path / "checkpoint")
    together, _ = model.encode(batch)
    for index, length in enumerate(LENGTHS):
        single, _ = again.encode(alone(batch, index))
        assert torch.allclose(together[index, :length], single[0], atol=1e-4)


@pytest.mark.parametrize("build", [{}, LATE, LATE | {"fusion": "cross_attention"}, {"fusion": "concat"}])
def test_one_model_serves_every_modality(build):
    model, batch = make_model(**build), make_batch()
    with torch.no_grad():
        heard, _ = model.encode(batch, "a")
        seen, _ = model.encode(batch, "v")
        both, _ = model.encode(batch)
        assert not torch.allclose(heard, seen) and not torch.allclose(heard, both) and not torch.allclose(seen, both)
        assert torch.equal(heard, model.encode(batch | {"lips": torch.zeros_like(batch["lips"])}, "a")[0])
        assert torch.equal(seen, model.encode(batch | {"waveform": torch.zeros_like(batch["waveform"])}, "v")[0])
        bare = batch | {"has_video": torch.zeros(3, dtype=torch.bool)}
        assert torch.equal(heard, model.encode(bare)[0])


def test_losses_are_weighed_as_configured_and_the_frame_loss_fades():
    model, batch = make_model(ctc_weight=0.3, frame_weight=2.0, frame_until=0.5), make_batch()
    with torch.no_grad():
        for progress, share in ((0.0, 1.0), (0.25, 0.5), (0.5, 0.0), (1.0, 0.0)):
            terms = model(batch | {"progress": progress})
            expected = 0.3 * terms["ctc"] + 0.7 * terms["att"] + 2.0 * share * terms["frame"]
            assert torch.allclose(terms["loss"], expected)
    assert float(terms["frame"]) == pytest.approx(math.log(6), rel=0.5)


def test_the_streams_own_ctc_counts_the_utterances_that_have_it():
    model, batch = make_model(**LATE, decoder_layers=0, n_labels=0), make_batch()
    batch["has_video"][1] = False
    with torch.no_grad():
        terms = model(batch)
        heard, seen = (model._streams(batch)[m][0] for m in "av")
        said = [batch[key] for key in ("lengths", "tokens", "token_lengths", "token_frames")]
        there = torch.tensor([0, 2])
        expected = ctc_loss(model.ctc, heard, *said)
        expected += ctc_loss(model.ctc, seen[there], *(part[there] for part in said))
        assert terms["stream_ctc"].item() == pytest.approx(expected.item() / 2, rel=1e-5)
        assert terms["loss"].item() == pytest.approx(0.7 * terms["ctc"].item() + 0.3 * terms["stream_ctc"].item())


def test_a_batch_without_alignments_trains_on_its_text():
    model, batch = make_model().train(), make_batch()
    batch["frame_labels"].fill_(-100)
    terms = model(batch)
    terms["loss"].backward()
    assert terms["frame"].item() == 0.0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    "build",
    [
        {},
        LATE | {"fusion": "cross_attention", "audio_frontend": "conv2d"},
        {"fusion": "concat", "audio_frontend": "resnet1d"},
    ],
)
def test_every_parameter_learns(build):
    model = make_model(drop_audio=0.0, drop_video=0.0, **build).train()
    model(make_batch())["loss"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_modality_dropout_never_takes_the_last_stream():
    model, batch = make_model(drop_audio=0.5, drop_video=0.5).train(), make_batch((4,) * 400)
    batch["has_audio"][::2] = False
    has_audio, has_video = model._available(batch, None)
    assert (has_audio | has_video).all() and has_video[::2].all()
    assert 60 < int(has_audio[1::2].sum()) < 140 and not (has_audio & has_video).any()
    model.eval()
    has_audio, has_video = model._available(batch, None)
    assert torch.equal(has_audio, batch["has_audio"]) and has_video.all()


def test_greedy_removes_repeats_and_blanks():
    model = make_model()
    path = torch.tensor([0, 3, 3, 0, 3, 5, 5, 0, 0, 2])
    model.ctc.log_softmax = lambda encoded: torch.nn.functional.one_hot(encoded, 9).float().log()
    assert model.greedy(path[None], torch.tensor([10]))[0][0] == [3, 3, 5, 2]
    assert model.greedy(path[None], torch.tensor([5]))[0][0] == [3, 3]


def test_error_rate_is_reported_in_eval_mode_only():
    model, batch = make_model(), make_batch()
    assert "ter" not in model.train()(batch)
    model.eval()
    references = [row[row >= 0].tolist() for row in batch["tokens"]]
    model.greedy = lambda encoded, lengths: [(tokens[1:], 0.0) for tokens in references]  # each lacks its first token
    assert float(model(batch)["ter"]) == pytest.approx(3 / sum(map(len, references)))


def test_checkpoint_comes_back_as_it_went(tmp_path):
    tokenizer = train_tokenizer(["set red at b", "place blue in c"], "word")
    model, batch = make_model(vocab_size=len(tokenizer)), make_batch()
    model.save_pretrained(tmp_path / "checkpoint", tokenizer, {"trained on": "nothing"})
    names = {path.name for path in (tmp_path / "checkpoint").iterdir()}
    assert names == {"model.safetensors", "config.yaml", "tokenizer.model", "README.md"}
    again = Recognizer.from_pretrained(tmp_path / "checkpoint")
    assert again.config == model.config and again.tokenizer.tokens == tokenizer.tokens and not again.training
    with torch.no_grad():
        assert torch.equal(again.encode(batch)[0], model.encode(batch)[0])


def test_a_foreign_tokenizer_is_noticed(tmp_path):
    tokenizer = train_tokenizer(["set red at b"], "word")
    make_model(vocab_size=len(tokenizer)).save_pretrained(tmp_path / "checkpoint", tokenizer)
    train_tokenizer(["some other words altogether, and more of them"], "word").save(
        tmp_path / "checkpoint" / "tokenizer.model"
    )
    with pytest.raises(InputError, match="come from different trainings"):
        Recognizer.from_pretrained(tmp_path / "checkpoint")


def test_streams_that_are_not_there_are_named():
    batch = make_batch()
    with pytest.raises(InputError, match="this model was made for audio; it cannot decode with modality 'v'"):
        make_model(modalities="a").encode(batch, "v")
    batch["has_video"][1] = False
    with pytest.raises(InputError, match="utt1: there is no video, and modality 'v' needs it"):
        make_model().encode(batch, "v")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modalities": "va"}, "unknown modalities 'va'"),
        ({"vocab_size": 0}, "needs a vocabulary"),
        ({"ctc_weight": 1.5}, "ctc_weight is a share between 0 and 1"),
        ({"drop_audio": 0.7, "drop_video": 0.7}, "no stream would be left"),
        ({"layers": 0}, "layers >= 1 and stream_layers >= 0, got 0, 0"),
        ({"stream_ctc_weight": 0.3}, "stream_ctc_weight needs streams with encoders of their own"),
        ({"fusion": "sum"}, "unknown fusion 'sum'"),
        ({"encoder": "transformer", "attention_past": 5, "attention_future": 1}, "transformer attends to all frames"),
        (
            {"audio_frontend": "resnet1d", "statistics_past_s": 1.0, "statistics_future_s": 0.2},
            "resnet1d does not have",
        ),
    ],
)
def test_settings_that_make_no_model_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        make_model(**change)
