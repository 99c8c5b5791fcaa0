"""Networks in Hugging Face's format: a naive twin, alignment, batches, training, checkpoints, and bad folders."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from avsr.errors import InputError
from talking3d.corpus.motion_dataset import MotionDataset, collate, fit_motion_basis
from talking3d.models.audio2mesh import Audio2Mesh, Audio2MeshConfig
from talking3d.models.pretrained_speech import PretrainedSpeech, SpeechArchitecture, read_architecture
from talking3d.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig

KINDS = ("wav2vec2", "hubert", "wavlm")
BASE = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "num_buckets": 16,
    "max_bucket_distance": 20,
    "feat_extract_norm": "group",
    "do_stable_layer_norm": False,
    "conv_bias": False,
}
LARGE = {**BASE, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def _weights(kind, config):
    """Random weights under the names that Hugging Face's models have, without a prefix."""
    generator = torch.Generator().manual_seed(0)
    width, dims = config["hidden_size"], [1, *config["conv_dim"]]
    shapes = {"masked_spec_embed": (width,)}

    def layer(name, *shape):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    for i, kernel in enumerate(config["conv_kernel"]):
        block = f"feature_extractor.conv_layers.{i}"
        layer(f"{block}.conv", dims[i + 1], dims[i], kernel)
        if not config["conv_bias"]:
            del shapes[f"{block}.conv.bias"]
        if i == 0 or config["feat_extract_norm"] == "layer":
            layer(f"{block}.layer_norm", dims[i + 1])
    layer("feature_projection.layer_norm", dims[-1])
    layer("feature_projection.projection", width, dims[-1])
    groups, kernel = config["num_conv_pos_embedding_groups"], config["num_conv_pos_embeddings"]
    shapes["encoder.pos_conv_embed.conv.bias"] = (width,)
    shapes["encoder.pos_conv_embed.conv.weight_g"] = (1, 1, kernel)
    shapes["encoder.pos_conv_embed.conv.weight_v"] = (width, width // groups, kernel)
    layer("encoder.layer_norm", width)
    for i in range(config["num_hidden_layers"]):
        block = f"encoder.layers.{i}"
        for name in ("q", "k", "v", "out"):
            layer(f"{block}.attention.{name}_proj", width, width)
        if kind == "wavlm":
            heads = config["num_attention_heads"]
            shapes[f"{block}.attention.gru_rel_pos_const"] = (1, heads, 1, 1)
            layer(f"{block}.attention.gru_rel_pos_linear", 8, width // heads)
            if i == 0:
                shapes[f"{block}.attention.rel_attn_embed.weight"] = (config["num_buckets"], heads)
        layer(f"{block}.layer_norm", width)
        layer(f"{block}.feed_forward.intermediate_dense", config["intermediate_size"], width)
        layer(f"{block}.feed_forward.output_dense", width, config["intermediate_size"])
        layer(f"{block}.final_layer_norm", width)
    return {name: 0.4 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def _folder(path, kind, config, *, head=False, binary=False, normalize=True):
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"model_type": kind, "hidden_act": "gelu", **config}))
    (path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": normalize, "sampling_rate": 16_000}))
    weights = _weights(kind, config)
    if head:
        weights = {f"{kind}.{name}": tensor for name, tensor in weights.items()}
        weights["lm_head.weight"] = torch.zeros(32, config["hidden_size"])
    if binary:
        torch.save(weights, path / "pytorch_model.bin")
    else:
        save_file(weights, path / "model.safetensors")
    return path


def _naive_layers(kind, config, weights, sound):
    """Every transformer layer's output (N, F, W) for padded sound (S,), as the papers have the networks."""
    heads, width = config["num_attention_heads"], config["hidden_size"]

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        x = centred / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    x = sound[None]
    for i, stride in enumerate(config["conv_stride"]):
        block = f"feature_extractor.conv_layers.{i}"
        x = functional.conv1d(x, weights[f"{block}.conv.weight"], weights.get(f"{block}.conv.bias"), stride)
        if config["feat_extract_norm"] == "layer":
            x = norm(x.T, f"{block}.layer_norm").T
        elif i == 0:
            x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
            x = x * weights[f"{block}.layer_norm.weight"][:, None] + weights[f"{block}.layer_norm.bias"][:, None]
        x = functional.gelu(x)
    x = linear(norm(x.T, "feature_projection.layer_norm"), "feature_projection.projection")  # (F, W)
    v, g = (weights[f"encoder.pos_conv_embed.conv.weight_{name}"] for name in "vg")
    kernel = g * v / v.square().sum((0, 1), keepdim=True).sqrt()
    positions = functional.conv1d(
        x.T,
        kernel,
        weights["encoder.pos_conv_embed.conv.bias"],
        padding=kernel.shape[-1] // 2,
        groups=config["num_conv_pos_embedding_groups"],
    )
    x = x + functional.gelu(positions[:, : len(x)]).T
    stable = config["do_stable_layer_norm"]
    if not stable:
        x = norm(x, "encoder.layer_norm")
    outputs = []
    for i in range(config["num_hidden_layers"]):
        block = f"encoder.layers.{i}"
        heard = norm(x, f"{block}.layer_norm") if stable else x
        q, k, v = (linear(heard, f"{block}.attention.{name}_proj") for name in "qkv")
        mixed = []
        for h in range(heads):
            own = slice(h * width // heads, (h + 1) * width // heads)
            scores = q[:, own] @ k[:, own].T / (width // heads) ** 0.5
            if kind == "wavlm":
                scores = scores + _wavlm_bias(config, weights, f"{block}.attention", heard[:, own], h)
            mixed.append(scores.softmax(-1) @ v[:, own])
        attended = linear(torch.cat(mixed, -1), f"{block}.attention.out_proj")

        def feed(y, block=block):
            hidden = functional.gelu(linear(y, f"{block}.feed_forward.intermediate_dense"))
            return linear(hidden, f"{block}.feed_forward.output_dense")

        if stable:
            x = x + attended
            x = x + feed(norm(x, f"{block}.final_layer_norm"))
        else:
            x = norm(x + attended, f"{block}.layer_norm")
            x = norm(x + feed(x), f"{block}.final_layer_norm")
        outputs.append(x)
    return torch.stack(outputs)


def _wavlm_bias(config, weights, name, heard, head):
    """Gated relative position bias (F, F) of one head: equations 4 to 6 of the paper."""
    n, buckets, far = len(heard), config["num_buckets"] // 2, config["max_bucket_distance"]
    table = weights["encoder.layers.0.attention.rel_attn_embed.weight"][:, head]
    bias = torch.zeros(n, n)
    for i in range(n):
        for j in range(n):
            distance = abs(j - i)
            if distance >= buckets // 2:
                share = np.log(distance / (buckets // 2)) / np.log(far / (buckets // 2))
                distance = min(buckets - 1, buckets // 2 + int(share * (buckets - buckets // 2)))
            bias[i, j] = table[distance + (buckets if j > i else 0)]
    gates = heard @ weights[f"{name}.gru_rel_pos_linear.weight"].T + weights[f"{name}.gru_rel_pos_linear.bias"]
    update, reset = (gates[:, part].sum(-1, keepdim=True).sigmoid() for part in (slice(0, 4), slice(4, 8)))
    constant = weights[f"{name}.gru_rel_pos_const"][0, head]
    return bias * (update * (reset * constant - 1) + 2)


def _speech(path, **changes):
    torch.manual_seed(0)
    speech = PretrainedSpeech(12, read_architecture(path), **{"dropout": 0.0, "finetune": False, **changes})
    speech.load_weights_of(path)
    return speech.eval()


def _sound(n_samples, seed=0):
    return 0.1 * torch.randn(n_samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [BASE, LARGE], ids=["base", "large"])
def test_features_are_those_of_the_naive_twin(tmp_path, kind, config):
    speech = _speech(_folder(tmp_path / "m", kind, config))
    with torch.no_grad():
        speech.layer_weights.copy_(torch.tensor([0.3, -1.0, 2.0]))
    sound = _sound(12 * 640 - 100)
    padded = functional.pad(sound, (0, 100))
    normal = (padded - padded.mean()) / (padded.var(correction=0) + 1e-7).sqrt()
    layers = _naive_layers(kind, config, _weights(kind, config), functional.pad(normal, (40, 40)))
    assert layers.shape == (3, 24, 16)  # two features a video frame
    weights = torch.tensor([0.3, -1.0, 2.0]).exp()
    mixed = sum(w * functional.layer_norm(x, (16,)) for w, x in zip(weights / weights.sum(), layers, strict=True))
    with torch.no_grad():
        expected = speech.project(torch.stack([torch.cat([mixed[2 * t], mixed[2 * t + 1]]) for t in range(12)]))
        torch.testing.assert_close(speech(sound[None], torch.tensor([12]))[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{"head": True}, {"binary": True}, {"head": True, "binary": True}], ids=str)
def test_other_ways_to_store_them(tmp_path, options):
    plain, other = _folder(tmp_path / "a", "wav2vec2", BASE), _folder(tmp_path / "b", "wav2vec2", BASE, **options)
    sound, lengths = _sound(6_400)[None], torch.tensor([10])
    with torch.no_grad():
        torch.testing.assert_close(_speech(other)(sound, lengths), _speech(plain)(sound, lengths))


def test_a_frames_features_are_centred_on_it(tmp_path):
    """The convolutions hear a frame's own samples and as many before as after: 400 samples wide, 320 apart."""
    speech = _speech(_folder(tmp_path / "m", "wav2vec2", LARGE, normalize=False))
    assert (speech.architecture.hop_samples, speech.architecture.field_samples) == (320, 400)
    heard = []
    speech.network.feature_extractor.register_forward_hook(lambda _m, sound, out: heard.append((sound[0], out[0])))
    sound = _sound(10 * 640).requires_grad_()
    speech.finetune = True  # or gradients stop
    speech(sound[None], torch.tensor([10]))
    _, features = heard[0]
    (gradient,) = torch.autograd.grad(features[0, 2 * 4 : 2 * 5].sum(), sound)
    reached = gradient.nonzero().flatten()
    assert (reached.min(), reached.max()) == (4 * 640 - 40, 5 * 640 + 39)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [BASE, LARGE], ids=["base", "large"])
def test_an_utterance_alone_is_what_it_is_in_a_padded_batch(tmp_path, kind, config):
    folder = _folder(tmp_path / "m", kind, config)
    torch.manual_seed(0)
    shape = {"dim": 12, "layers": 1, "heads": 2, "ff_dim": 24, "kernel": 5}
    encoder = SpeechEncoder(SpeechEncoderConfig(pretrained=str(folder), **shape)).eval()
    lengths = torch.tensor([20, 9, 1])
    sounds = [_sound(640 * n - 100, seed=n) for n in lengths.tolist()]
    batch = torch.nn.utils.rnn.pad_sequence(sounds, batch_first=True)
    with torch.no_grad():
        together = encoder(batch, lengths)
        assert together.shape == (3, 20, 12)
        for b, length in enumerate(lengths.tolist()):
            alone = encoder(sounds[b][None], lengths[b : b + 1])
            torch.testing.assert_close(together[b, :length], alone[0], atol=1e-4, rtol=1e-4)
            assert not together[b, length:].any()


def test_normalisation_is_the_models_own(tmp_path):
    """With it loudness is not heard; the model's feature extractor says whether."""
    sound, lengths = _sound(6_400)[None], torch.tensor([10])
    for normalize in (True, False):
        speech = _speech(_folder(tmp_path / str(normalize), "wavlm", LARGE, normalize=normalize))
        with torch.no_grad():
            same = torch.allclose(speech(sound, lengths), speech(0.2 * sound, lengths), atol=1e-3)
        assert same == normalize


@pytest.mark.parametrize("finetune", [False, True])
def test_what_is_trained(tmp_path, finetune):
    speech = _speech(_folder(tmp_path / "m", "hubert", BASE), finetune=finetune).train()
    sound, lengths = _sound(6_400)[None], torch.tensor([10])
    speech(sound, lengths).square().sum().backward()
    with_gradient = {name for name, p in speech.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"layer_weights", "project.weight", "project.bias"} <= with_gradient
    assert any(name.startswith("network.encoder.transformer.layers.0") for name in with_gradient) == finetune
    assert not any(name.startswith("network.feature_extractor") for name in with_gradient)
    with torch.no_grad():  # what is frozen drops nothing
        assert torch.equal(speech(sound, lengths), speech(sound, lengths)) != finetune


def test_a_student_learns_with_it_and_its_checkpoint_stands_alone(tmp_path, spoken_rows, tiny_face):
    folder = _folder(tmp_path / "m", "wav2vec2", BASE)
    basis = fit_motion_basis(spoken_rows, 8)
    dataset = MotionDataset(spoken_rows, basis, speakers=["ann", "bob"])
    encoder = SpeechEncoderConfig(dim=16, layers=1, heads=2, ff_dim=32, kernel=5, dropout=0.0, pretrained=str(folder))
    config = Audio2MeshConfig(encoder=encoder)
    torch.manual_seed(0)
    model = Audio2Mesh(config, basis, dataset.mean_motion(), tiny_face, ["ann", "bob"]).train()
    assert config.encoder.architecture is None and model.view_frames is None
    batch = collate([dataset[0], dataset[1]])
    frozen = model.encoder.frontend.network.state_dict()
    frozen = {name: tensor.clone() for name, tensor in frozen.items()}
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        losses.append(model(batch)["loss"])
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(t, frozen[name]) for name, t in model.encoder.frontend.network.state_dict().items())
    model.eval().save_pretrained(tmp_path / "checkpoint")
    shutil.rmtree(folder)
    again = Audio2Mesh.from_pretrained(tmp_path / "checkpoint")
    waveform = dataset[0]["waveform"]
    np.testing.assert_array_equal(again.predict(waveform, "bob"), model.predict(waveform, "bob"))


def _spoil(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_bad_folders_are_errors(tmp_path):
    folder = _folder(tmp_path / "m", "wav2vec2", BASE)
    with pytest.raises(InputError, match="no such checkpoint folder"):
        read_architecture(tmp_path / "nowhere")
    for changes, message in (
        ({"model_type": "whisper"}, "m/config.json: model_type is 'whisper'; expected wav2vec2, hubert, wavlm"),
        ({"feat_proj_layer_norm": False}, "feat_proj_layer_norm is False; only models with True"),
        ({"conv_stride": [7] * 7}, "step by 823543 samples, which do not divide the 640"),
        ({"conv_stride": [5, 2]}, "must be of one length, got 7, 7 and 2"),
    ):
        before = (folder / "config.json").read_text()
        _spoil(folder, **changes)
        with pytest.raises(InputError, match=message):
            read_architecture(folder)
        (folder / "config.json").write_text(before)
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": 8000}')
    with pytest.raises(InputError, match="the model hears 8000 Hz; expected 16000"):
        read_architecture(folder)
    (folder / "preprocessor_config.json").write_text("[]")
    with pytest.raises(InputError, match="preprocessor_config.json: expected keys and values"):
        read_architecture(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json: not readable JSON"):
        read_architecture(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="config.json: no such file; expected a model in Hugging Face's format"):
        read_architecture(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_weights_are_errors(tmp_path, kind):
    folder = _folder(tmp_path / "m", kind, BASE)
    _spoil(folder, num_hidden_layers=4)
    with pytest.raises(InputError, match="layers.3"):
        _speech(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights; expected model.safetensors or pytorch_model.bin"):
        _speech(folder)
    (folder / "pytorch_model.bin").write_bytes(b"nothing")
    with pytest.raises(InputError, match="pytorch_model.bin: corrupt"):
        _speech(folder)


def test_an_architecture_of_another_kind_is_an_error():
    with pytest.raises(InputError, match="model_type is 'whisper'"):
        dataclasses.replace(SpeechArchitecture(), model_type="whisper")
