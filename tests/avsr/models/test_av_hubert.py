"""AV-HuBERT: random weights of its names, loaded, against a twin written from the publication."""

import math

import numpy as np
import pytest
import torch
from auto_avsr_twin import Twin, random_weights
from safetensors.torch import save_file
from torch.nn import functional

from avsr.errors import InputError
from avsr.models.filterbank_frontend import FilterbankFrontend, stacked_filterbanks
from avsr.models.public_checkpoints import load_av_hubert
from avsr.models.recognizer import Recognizer, RecognizerConfig
from avsr.models.transformer_encoder import TransformerEncoder

DIM, HEADS, FF, LAYERS, LENGTHS = 32, 4, 48, 2, (11, 7)
SIZES = {"dim": DIM, "heads": HEADS, "ff_dim": FF, "layers": LAYERS}
FAIRSEQ = {
    "pos_conv_embed.conv": "pos_conv.0", ".attention.": ".self_attn.", "feed_forward.intermediate_dense": "fc1",
    "feed_forward.output_dense": "fc2",
}  # fmt: skip


def small_av_hubert() -> dict[str, torch.Tensor]:
    """Weights in the names of the Hugging Face port, below its encoder."""
    visual = random_weights(True, 9, dim=DIM, layers=1, prelu=True)
    torch.manual_seed(2)
    names = {"feature_extractor_audio.proj": (DIM, 104), "post_extract_proj": (DIM, 2 * DIM)}
    norms = {"layer_norm": 2 * DIM, "encoder.layer_norm": DIM}
    for number in range(LAYERS):
        layer = f"encoder.layers.{number}"
        names |= {f"{layer}.attention.{part}_proj": (DIM, DIM) for part in ("k", "v", "q", "out")}
        names |= {f"{layer}.feed_forward.intermediate_dense": (FF, DIM)}
        names |= {f"{layer}.feed_forward.output_dense": (DIM, FF)}
        norms |= {f"{layer}.layer_norm": DIM, f"{layer}.final_layer_norm": DIM}
    weights = {f"{name}.weight": torch.randn(shape) / math.sqrt(shape[1]) for name, shape in names.items()}
    weights |= {f"{name}.bias": 0.1 * torch.randn(shape[0]) for name, shape in names.items()}
    for name, width in norms.items():
        weights |= {f"{name}.weight": 1 + 0.1 * torch.randn(width), f"{name}.bias": 0.1 * torch.randn(width)}
    conv = "encoder.pos_conv_embed.conv"
    weights |= {f"{conv}.weight_g": 0.5 + torch.rand(1, 1, 128), f"{conv}.weight_v": torch.randn(DIM, DIM // 16, 128)}
    weights |= {f"{conv}.bias": 0.1 * torch.randn(DIM), "mask_emb": torch.randn(104)}
    resnet = {name.removeprefix("frontend."): w for name, w in visual.items() if name.startswith("frontend.")}
    weights |= {f"feature_extractor_video.resnet.{name}": w for name, w in resnet.items()}
    return weights | {f"feature_extractor_video.proj.{p}": visual[f"proj_encoder.{p}"] for p in ("weight", "bias")}


def naive_filterbanks(waveform: np.ndarray) -> np.ndarray:
    """python_speech_features' way, a window and a filter at a time: (640 T,) -> (T, 104)."""
    samples = 32768.0 * waveform.astype(np.float64)
    samples = np.append(samples[0], samples[1:] - 0.97 * samples[:-1])
    n_windows = 1 + math.ceil((len(samples) - 400) / 160)
    samples = np.append(samples, np.zeros(1000))
    points = [700 * (10 ** (m / 2595) - 1) for m in np.linspace(0, 2595 * math.log10(1 + 8000 / 700), 28)]
    edges = [math.floor(513 * hz / 16000) for hz in points]
    bands = np.zeros((n_windows, 26))
    for n in range(n_windows):
        power = np.abs(np.fft.rfft(samples[160 * n : 160 * n + 400], 512)) ** 2 / 512
        for b in range(26):
            left, middle, right = edges[b : b + 3]
            energy = sum(power[i] * (i - left) / (middle - left) for i in range(left, middle))
            energy += sum(power[i] * (right - i) / (right - middle) for i in range(middle, right))
            bands[n, b] = math.log(energy if energy > 0 else np.finfo(float).eps)
    missing = -n_windows % 4
    return np.concatenate([bands, np.zeros((missing, 26))]).reshape(-1, 104)


class AvHubertTwin(Twin):
    """One utterance; a stream that is None is zeros, as in fine-tuning."""

    def __call__(self, waveform, lips) -> torch.Tensor:
        n = len(lips) if lips is not None else len(waveform) // 640
        audio = video = torch.zeros(n, DIM)
        if waveform is not None:
            bands = torch.from_numpy(naive_filterbanks(waveform.numpy())).float()
            audio = self.linear(functional.layer_norm(bands, (104,)), "feature_extractor_audio.proj")
        if lips is not None:
            front = {k.replace("feature_extractor_video.resnet", "frontend"): w for k, w in self.w.items()}
            video = self.linear(Twin(front).visual(lips), "feature_extractor_video.proj")
        x = self.linear(self.layer_norm(torch.cat([audio, video], dim=1), "layer_norm"), "post_extract_proj")
        conv, g, v = "encoder.pos_conv_embed.conv", *(self.w[f"encoder.pos_conv_embed.conv.weight_{p}"] for p in "gv")
        kernel = g * v / v.square().sum(dim=(0, 1), keepdim=True).sqrt()
        place = functional.conv1d(x.T[None], kernel, self.w[f"{conv}.bias"], padding=64, groups=16)[0, :, :n].T
        x = x + functional.gelu(place)
        for number in range(LAYERS):
            name = f"encoder.layers.{number}"
            y = self.layer_norm(x, f"{name}.layer_norm")
            q, k, v = (self.linear(y, f"{name}.attention.{p}_proj").unflatten(1, (HEADS, -1)) for p in "qkv")
            shares = (torch.einsum("ihd,jhd->hij", q, k) / math.sqrt(DIM // HEADS)).softmax(dim=-1)
            x = x + self.linear(torch.einsum("hij,jhd->ihd", shares, v).flatten(1), f"{name}.attention.out_proj")
            y = self.linear(self.layer_norm(x, f"{name}.final_layer_norm"), f"{name}.feed_forward.intermediate_dense")
            x = x + self.linear(functional.gelu(y), f"{name}.feed_forward.output_dense")
        return self.layer_norm(x, "encoder.layer_norm")

    def layer_norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"])


def empty_model(**changes) -> Recognizer:
    torch.manual_seed(0)
    kinds = {"audio_frontend": "filterbank", "visual_frontend": "resnet18_prelu", "fusion": "concat_norm"}
    return Recognizer(
        RecognizerConfig(**{"vocab_size": 9, "encoder": "transformer", **kinds, **SIZES, **changes})
    ).eval()


def a_batch() -> dict:
    generator = torch.Generator().manual_seed(3)
    return {
        "utt_ids": ["one", "two"],
        "lengths": torch.tensor(LENGTHS),
        "waveform": 0.1 * torch.randn(2, 640 * max(LENGTHS), generator=generator),  # padding holds noise
        "lips": torch.randint(0, 256, (2, max(LENGTHS), 88, 88), dtype=torch.uint8, generator=generator),
        "has_audio": torch.ones(2, dtype=torch.bool),
        "has_video": torch.ones(2, dtype=torch.bool),
    }


@pytest.mark.parametrize("form", ["hugging face", "fairseq", "torch 2"])
@torch.inference_mode()
def test_a_loaded_recogniser_encodes_as_published(form, tmp_path):
    weights, stored = small_av_hubert(), {}
    for name, tensor in weights.items():
        if form == "fairseq":
            for theirs, fairseqs in FAIRSEQ.items():
                name = name.replace(theirs, fairseqs)
            if "layers." in name:
                name = name.replace(".layer_norm.", ".self_attn_layer_norm.")
        if form == "torch 2":
            name = name.replace("weight_g", "parametrizations.weight.original0")
            name = name.replace("weight_v", "parametrizations.weight.original1")
        stored[f"encoder.w2v_model.{name}" if form == "fairseq" else f"model.encoder.{name}"] = tensor.clone()
    stored["model.decoder.embed_tokens.weight"] = torch.ones(9, DIM)
    save_file(stored, tmp_path / "model.safetensors")
    model, twin, batch = empty_model(), AvHubertTwin(weights), a_batch()
    ctc = model.ctc.ctc_lo.weight.clone()
    load_av_hubert(model, tmp_path / "model.safetensors")
    assert torch.equal(model.ctc.ctc_lo.weight, ctc)
    for modality in ("av", "a", "v"):
        encoded, _ = model.encode(batch, modality)
        for index, length in enumerate(LENGTHS):
            waveform = batch["waveform"][index, : 640 * length] if "a" in modality else None
            lips = batch["lips"][index, :length] if "v" in modality else None
            torch.testing.assert_close(encoded[index, :length], twin(waveform, lips), atol=1e-4, rtol=1e-4)
            assert (encoded[index, length:] == 0).all()


def test_filterbanks_are_those_of_a_loop():
    batch = a_batch()
    together = stacked_filterbanks(batch["waveform"], batch["lengths"])
    assert together.shape == (2, 11, 104)
    for index, length in enumerate(LENGTHS):
        expected = torch.from_numpy(naive_filterbanks(batch["waveform"][index, : 640 * length].numpy())).float()
        torch.testing.assert_close(together[index, :length], expected, atol=1e-3, rtol=1e-4)
    silent = FilterbankFrontend(8, dropout=0.0)(torch.zeros(1, 6400), torch.tensor([10]))
    assert silent.isfinite().all()


def test_every_parameter_of_such_a_recogniser_learns():
    model, batch = empty_model(drop_audio=0.0, drop_video=0.0).train(), a_batch()
    batch |= {"tokens": torch.tensor([[2, 3], [4, 5]]), "token_lengths": torch.tensor([2, 2])}
    model(batch)["loss"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_what_does_not_fit_is_named(tmp_path):
    weights = small_av_hubert()
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"unexpected: encoder.encoder.layers.1"):
        load_av_hubert(empty_model(layers=1), tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"missing: fusion.gate.weight|missing: fusion.norm_audio"):
        load_av_hubert(empty_model(fusion="gated"), tmp_path / "model.safetensors")
    save_file({"a.weight": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="not AV-HuBERT: no post_extract_proj among a.weight"):
        load_av_hubert(empty_model(), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="a multiple of its heads and 16, got 24"):
        TransformerEncoder(dim=24, layers=1, heads=4, ff_dim=8, dropout=0.0)
