"""SelfTalk: what its lip reader sees, which way gradients go, padding, checkpoints, what is missing, that it learns."""

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from talking3d.corpus.motion_dataset import collate, fit_motion_basis
from talking3d.generators import load_generator
from talking3d.models.selftalk import SelfTalk, SelfTalkConfig
from talking3d.models.speech_encoder import SpeechEncoderConfig

TINY = SelfTalkConfig(
    encoder=SpeechEncoderConfig(
        dim=16, layers=1, heads=2, ff_dim=32, kernel=5, dropout=0.0, freq_mask_bins=0, time_masks=0
    ),
    heads=2,
    ff_dim=32,
    dropout=0.0,
)


def _model(dataset, face):
    torch.manual_seed(0)
    model = SelfTalk(TINY, fit_motion_basis(dataset.rows, 8), dataset.mean_motion(), face, ["ann", "bob"])
    with torch.no_grad():  # the head starts at zero: give it something to say
        model.head.weight.normal_(std=0.3)
    return model.eval()


def test_the_reader_sees_the_lips_vertices_in_mm(dataset, tiny_face):
    """The map from vertices folded into the basis is the map of the vertices."""
    model, batch = _model(dataset, tiny_face), collate([dataset[3], dataset[8]])
    lips = torch.einsum("btk,kvx->btvx", batch["motion"], model.basis)[:, :, tiny_face.region("lips")]
    with torch.no_grad():
        expected = model.reader(model.lip_norm(model.lip_map(1000 * lips.flatten(2))), batch["lengths"])
        seen = model.read_lips(batch["motion"], batch["lengths"])
    assert seen[0].std() > 0.1
    torch.testing.assert_close(seen, expected, atol=1e-4, rtol=1e-4)


def test_the_lips_text_reaches_the_motion_and_the_latent_does_not_pull_the_speech(dataset, tiny_face):
    model, batch = _model(dataset, tiny_face), collate([dataset[i] for i in range(4)])
    terms = model.predict_with_losses(batch)[1]

    def reached(term):
        parameters = dict(model.named_parameters())
        gradients = torch.autograd.grad(terms[term], parameters.values(), retain_graph=True, allow_unused=True)
        return {
            name.split(".")[0]
            for name, gradient in zip(parameters, gradients, strict=True)
            if gradient is not None and gradient.any()
        }

    spoken, reading = {"encoder", "styles", "decoder", "head"}, {"lip_map", "lip_norm", "reader"}
    assert reached("heard") == {"encoder", "hear", "ctc"}
    assert reached("read") == spoken | reading | {"ctc"}
    assert reached("latent") == spoken | reading
    assert reached("vertex") == spoken


def test_an_utterance_alone_is_what_it_is_in_a_padded_batch(dataset, tiny_face):
    model, batch, one = _model(dataset, tiny_face), collate([dataset[0], dataset[9]]), collate([dataset[0]])
    with torch.no_grad():
        together, alone = (model.coefficients(b["waveform"], b["lengths"], b["speakers"]) for b in (batch, one))
        read, read_alone = (model.read_lips(b["motion"], b["lengths"]) for b in (batch, one))
    torch.testing.assert_close(together[:1, : alone.shape[1]], alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(read[:1, : alone.shape[1]], read_alone, atol=1e-4, rtol=1e-4)
    assert not together[0, alone.shape[1] :].any()


def test_it_learns_to_speak_and_both_ways_to_the_text(dataset, tiny_face):
    model = _model(dataset, tiny_face).train()
    batch = collate([dataset[i] | {"text": f"{'ab'[i % 2]} buzz"} for i in range(6)])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    history = []
    for _ in range(60):
        optimizer.zero_grad()
        terms = model(batch)
        terms["loss"].backward()
        optimizer.step()
        history.append({name: value.item() for name, value in terms.items()})
    for name, share in (("vertex", 0.4), ("heard", 0.4), ("read", 0.4)):
        assert history[-1][name] < share * history[0][name], name
    assert all(leaf.grad is not None for leaf in model.parameters())
    weights = {"velocity": TINY.velocity_weight, "closure": TINY.closure_weight, "coefficient": TINY.coefficient_weight}
    weights |= {"vertex": 1.0, "heard": TINY.heard_weight, "read": TINY.read_weight, "latent": TINY.latent_weight}
    total = sum(weight * history[0][name] for name, weight in weights.items())
    assert history[0]["loss"] == pytest.approx(total, rel=1e-5)


def test_saved_and_loaded_it_says_the_same(dataset, tiny_face, tmp_path):
    model, waveform = _model(dataset, tiny_face), dataset[4]["waveform"]
    model.save_pretrained(tmp_path / "selftalk")
    again = load_generator(tmp_path / "selftalk")
    assert type(again) is SelfTalk
    assert np.allclose(again.predict(waveform, "ann"), model.predict(waveform, "ann"), atol=1e-6)


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "utt3: its row has no text, which selftalk learns to read: give one"),
        ("…", "utt3: the transcript is empty"),
        ("größe", "utt3: characters outside the tokenizer: 'ß', 'ö' in 'größe'"),
    ],
)
def test_texts_that_cannot_be_read(dataset, tiny_face, text, message):
    with pytest.raises(InputError, match=message):
        _model(dataset, tiny_face)(collate([dataset[3] | {"text": text}]))


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(InputError, match=r"selftalk.heads \(3\) must divide encoder.dim \(128\)"):
        SelfTalkConfig(heads=3)
