"""Auto-AVSR's network from its publication, over a state dict of its names: random weights and a slow forward."""

import math

import torch
from torch import Tensor
from torch.nn import functional

HEADS = 4


def random_weights(video: bool, vocab_size: int, dim: int = 32, layers: int = 2, prelu: bool = False) -> dict:
    """A state dict of the published names and shapes, its widths behind the front end made small."""
    torch.manual_seed(1)
    weights: dict[str, Tensor] = {}

    def matrix(name: str, *shape: int, bias: bool = True) -> None:
        weights[f"{name}.weight"] = torch.randn(shape) / math.sqrt(math.prod(shape[1:]))
        if bias:
            weights[f"{name}.bias"] = 0.1 * torch.randn(shape[0])

    def norm(name: str, width: int, batch: bool = False) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = 1 + 0.1 * torch.randn(width), 0.1 * torch.randn(width)
        if batch:
            weights[f"{name}.running_mean"], weights[f"{name}.running_var"] = (
                0.1 * torch.randn(width),
                0.5 + torch.rand(width),
            )
            weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    stem = "frontend.frontend3D.0" if video else "frontend.trunk.conv1"
    matrix(stem, 64, 1, *((5, 7, 7) if video else (80,)), bias=False)
    norm("frontend.frontend3D.1" if video else "frontend.trunk.bn1", 64, batch=True)
    if prelu:
        weights["frontend.frontend3D.2.weight"] = 0.25 + 0.1 * torch.rand(64)
    square = (3, 3) if video else (3,)
    for layer, (before, width) in enumerate(((64, 64), (64, 128), (128, 256), (256, 512)), start=1):
        for block, inner in enumerate((before, width)):
            name = f"frontend.trunk.layer{layer}.{block}"
            matrix(f"{name}.conv1", width, inner, *square, bias=False)
            matrix(f"{name}.conv2", width, width, *square, bias=False)
            norm(f"{name}.bn1", width, batch=True)
            norm(f"{name}.bn2", width, batch=True)
            if prelu:
                for slope in ("relu1", "relu2"):
                    weights[f"{name}.{slope}.weight"] = 0.25 + 0.1 * torch.rand(width)
            if inner != width:
                matrix(f"{name}.downsample.0", width, inner, *(1 for _ in square), bias=False)
                norm(f"{name}.downsample.1", width, batch=True)
    matrix("proj_encoder", dim, 512)
    for number in range(layers):
        name = f"encoder.encoders.{number}"
        for part in ("linear_q", "linear_k", "linear_v", "linear_out"):
            matrix(f"{name}.self_attn.{part}", dim, dim)
        matrix(f"{name}.self_attn.linear_pos", dim, dim, bias=False)
        for bias in ("u", "v"):
            weights[f"{name}.self_attn.pos_bias_{bias}"] = 0.3 * torch.randn(HEADS, dim // HEADS)
        for part in ("feed_forward", "feed_forward_macaron"):
            matrix(f"{name}.{part}.w_1", 48, dim)
            matrix(f"{name}.{part}.w_2", dim, 48)
        matrix(f"{name}.conv_module.pointwise_cov1", 2 * dim, dim, 1)
        matrix(f"{name}.conv_module.depthwise_conv", dim, 1, 7)
        norm(f"{name}.conv_module.norm", dim, batch=True)
        matrix(f"{name}.conv_module.pointwise_cov2", dim, dim, 1)
        for part in ("norm_ff", "norm_ff_macaron", "norm_mha", "norm_conv", "norm_final"):
            norm(f"{name}.{part}", dim)
    norm("encoder.after_norm", dim)
    weights["decoder.embed.0.weight"] = torch.randn(vocab_size, dim)
    for part in ("self_attn", "src_attn"):
        for linear in ("linear_q", "linear_k", "linear_v", "linear_out"):
            matrix(f"decoder.decoders.0.{part}.{linear}", dim, dim)
    matrix("decoder.decoders.0.feed_forward.w_1", 48, dim)
    matrix("decoder.decoders.0.feed_forward.w_2", dim, 48)
    for part in ("norm1", "norm2", "norm3"):
        norm(f"decoder.decoders.0.{part}", dim)
    norm("decoder.after_norm", dim)
    matrix("decoder.output_layer", vocab_size, dim)
    matrix("ctc.ctc_lo", vocab_size, dim)
    return weights


class Twin:
    """One utterance at a time, each formula in the open."""

    def __init__(self, weights: dict[str, Tensor]):
        self.w = weights

    def visual(self, lips: Tensor) -> Tensor:
        """lips (T, 88, 88) uint8 -> (T, 512)."""
        x = ((lips.float() / 255 - 0.421) / 0.165)[None, None]
        x = functional.conv3d(x, self.w["frontend.frontend3D.0.weight"], stride=(1, 2, 2), padding=(2, 3, 3))
        x = self.act(self.batch_norm(x, "frontend.frontend3D.1"), "frontend.frontend3D.2")
        x = functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))[0].transpose(0, 1)
        return self.resnet(x, functional.conv2d).mean(dim=(2, 3))

    def audio(self, waveform: Tensor) -> Tensor:
        """waveform (640 T,) -> (T, 512)."""
        x = functional.layer_norm(waveform, waveform.shape, eps=1e-8)[None, None]
        x = functional.conv1d(x, self.w["frontend.trunk.conv1.weight"], stride=4, padding=38)
        x = self.resnet(self.act(self.batch_norm(x, "frontend.trunk.bn1"), ""), functional.conv1d)
        return x[0].unflatten(1, (-1, 20)).mean(dim=2).T

    def resnet(self, x: Tensor, convolve) -> Tensor:
        for layer in range(1, 5):
            for block in range(2):
                name = f"frontend.trunk.layer{layer}.{block}"
                stride = 2 if layer > 1 and block == 0 else 1
                y = convolve(x, self.w[f"{name}.conv1.weight"], stride=stride, padding=1)
                y = self.act(self.batch_norm(y, f"{name}.bn1"), f"{name}.relu1")
                y = self.batch_norm(convolve(y, self.w[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
                if f"{name}.downsample.0.weight" in self.w:
                    x = convolve(x, self.w[f"{name}.downsample.0.weight"], stride=stride)
                    x = self.batch_norm(x, f"{name}.downsample.1")
                x = self.act(x + y, f"{name}.relu2")
        return x

    def act(self, x: Tensor, name: str) -> Tensor:
        slopes = self.w.get(f"{name}.weight")
        return x * torch.sigmoid(x) if slopes is None else functional.prelu(x, slopes)

    def encode(self, features: Tensor) -> Tensor:
        """(T, 512) -> (T, D)."""
        x = self.linear(features, "proj_encoder")
        x = x * math.sqrt(x.shape[1])
        number = 0
        while f"encoder.encoders.{number}.norm_ff.weight" in self.w:
            name = f"encoder.encoders.{number}"
            x = x + 0.5 * self.feed_forward(self.norm(x, f"{name}.norm_ff_macaron"), f"{name}.feed_forward_macaron")
            x = x + self.relative_attention(self.norm(x, f"{name}.norm_mha"), f"{name}.self_attn")
            x = x + self.convolve(self.norm(x, f"{name}.norm_conv"), f"{name}.conv_module")
            x = x + 0.5 * self.feed_forward(self.norm(x, f"{name}.norm_ff"), f"{name}.feed_forward")
            x = self.norm(x, f"{name}.norm_final")
            number += 1
        return self.norm(x, "encoder.after_norm")

    def relative_attention(self, x: Tensor, name: str) -> Tensor:
        """Shaw's and Transformer-XL's relative positions, one pair of frames at a time."""
        n, dim = x.shape
        q, k, v = (self.linear(x, f"{name}.linear_{part}").unflatten(1, (HEADS, -1)) for part in "qkv")
        u, w = self.w[f"{name}.pos_bias_u"], self.w[f"{name}.pos_bias_v"]
        out = torch.zeros(n, HEADS, dim // HEADS)
        for head in range(HEADS):
            scores = torch.zeros(n, n)
            for i in range(n):
                for j in range(n):
                    place = self.linear(positions(torch.tensor([float(i - j)]), dim)[0], f"{name}.linear_pos")
                    place = place.unflatten(0, (HEADS, -1))[head]
                    scores[i, j] = (q[i, head] + u[head]) @ k[j, head] + (q[i, head] + w[head]) @ place
            out[:, head] = (scores / math.sqrt(dim // HEADS)).softmax(dim=1) @ v[:, head]
        return self.linear(out.flatten(1), f"{name}.linear_out")

    def attention(self, x: Tensor, memory: Tensor, name: str, causal: bool) -> Tensor:
        q, k, v = (
            self.linear(source, f"{name}.linear_{part}").unflatten(1, (HEADS, -1)).transpose(0, 1)
            for source, part in ((x, "q"), (memory, "k"), (memory, "v"))
        )
        found = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.linear(found.transpose(0, 1).flatten(1), f"{name}.linear_out")

    def convolve(self, x: Tensor, name: str) -> Tensor:
        w = self.w
        x = functional.conv1d(x.T[None], w[f"{name}.pointwise_cov1.weight"], w[f"{name}.pointwise_cov1.bias"])
        value, gate = x.chunk(2, dim=1)
        kernel = w[f"{name}.depthwise_conv.weight"]
        x = functional.conv1d(
            value * torch.sigmoid(gate), kernel, w[f"{name}.depthwise_conv.bias"],
            padding=kernel.shape[-1] // 2, groups=len(kernel),
        )  # fmt: skip
        x = self.batch_norm(x, f"{name}.norm")
        x = x * torch.sigmoid(x)
        return functional.conv1d(x, w[f"{name}.pointwise_cov2.weight"], w[f"{name}.pointwise_cov2.bias"])[0].T

    def decode(self, tokens: Tensor, encoded: Tensor) -> Tensor:
        """Logits (U, vocabulary) of what follows each prefix of tokens (U,), of encoded (T, D)."""
        x = self.w["decoder.embed.0.weight"][tokens]
        x = x * math.sqrt(x.shape[1]) + positions(torch.arange(len(tokens)).float(), x.shape[1])
        name = "decoder.decoders.0"
        own = self.norm(x, f"{name}.norm1")
        x = x + self.attention(own, own, f"{name}.self_attn", causal=True)
        x = x + self.attention(self.norm(x, f"{name}.norm2"), encoded, f"{name}.src_attn", causal=False)
        x = x + self.feed_forward(self.norm(x, f"{name}.norm3"), f"{name}.feed_forward")
        return self.linear(self.norm(x, "decoder.after_norm"), "decoder.output_layer")

    def feed_forward(self, x: Tensor, name: str) -> Tensor:
        return self.linear(self.linear(x, f"{name}.w_1").clamp(min=0), f"{name}.w_2")

    def linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

    def norm(self, x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"], eps=1e-12)

    def batch_norm(self, x: Tensor, name: str) -> Tensor:
        w = self.w
        return functional.batch_norm(
            x, w[f"{name}.running_mean"], w[f"{name}.running_var"], w[f"{name}.weight"], w[f"{name}.bias"]
        )


def positions(places: Tensor, dim: int) -> Tensor:
    """(N,) -> (N, D): sines and cosines in turn."""
    angles = places[:, None] * torch.exp(-math.log(10000.0) / dim * torch.arange(0, dim, 2))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
