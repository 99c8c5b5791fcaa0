"""Speech features of weights the user has: wav2vec 2.0, HuBERT or WavLM in Hugging Face's format, at the video's rate.

The folder (or hub id) holds `config.json`, `model.safetensors` or `pytorch_model.bin`, and mostly
`preprocessor_config.json`; fine-tuned and pretraining checkpoints do as well, their heads are left out. torchaudio runs
the networks, so no other package is needed. Baevski et al. (2020), Hsu et al. (2021), Chen et al. (2022).

Letters: B batch, S samples, T video frames, R features a video frame, D width, W the network's width, N layers.
"""

import json
import pickle
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.models import wav2vec2_model, wavlm_model
from torchaudio.models.wav2vec2.utils.import_huggingface import transform_wavlm_encoder_state

from avsr.errors import InputError
from avsr.media.timing import SAMPLE_RATE, SAMPLES_PER_FRAME, samples_of
from avsr.training.checkpoint import find_folder, load_weights, read_weights

KINDS = ("wav2vec2", "hubert", "wavlm")
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
FILES = ("config.json", "preprocessor_config.json", *WEIGHTS_FILES)


@dataclass
class SpeechArchitecture:
    """What a network of these kinds is made of, in the names of Hugging Face's config.json; stored in checkpoints."""

    model_type: str = "wav2vec2"
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    do_stable_layer_norm: bool = False
    feat_extract_norm: str = "group"
    conv_dim: list[int] = field(default_factory=lambda: [512] * 7)
    conv_kernel: list[int] = field(default_factory=lambda: [10, 3, 3, 3, 3, 2, 2])
    conv_stride: list[int] = field(default_factory=lambda: [5, 2, 2, 2, 2, 2, 2])
    conv_bias: bool = False
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    num_buckets: int = 320  # WavLM's relative positions
    max_bucket_distance: int = 800
    feat_proj_dropout: float = 0.0
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.1
    do_normalize: bool = True  # of preprocessor_config.json: waveforms with zero mean and unit variance

    def __post_init__(self):
        if self.model_type not in KINDS:
            raise InputError(f"model_type is {self.model_type!r}; expected {', '.join(KINDS)}")
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride) > 0:
            raise InputError(
                f"conv_dim, conv_kernel and conv_stride must be of one length, got {len(self.conv_dim)}, "
                f"{len(self.conv_kernel)} and {len(self.conv_stride)}"
            )
        if SAMPLES_PER_FRAME % self.hop_samples:
            raise InputError(
                f"the convolutions step by {self.hop_samples} samples, which do not divide the {SAMPLES_PER_FRAME} of "
                "a video frame"
            )

    @property
    def hop_samples(self) -> int:
        """Samples from one feature to the next."""
        hop = 1
        for stride in self.conv_stride:
            hop *= stride
        return hop

    @property
    def field_samples(self) -> int:
        """Samples that a feature is made of, by the convolutions."""
        reach, hop = 1, 1
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            reach, hop = reach + (kernel - 1) * hop, hop * stride
        return reach


class PretrainedSpeech(nn.Module):
    """waveform -> (B, T, D): all layers' features, weighed (SUPERB, Yang et al., 2021), a video frame's joined.

    Features are centred where they are said to be: the sound is padded by half of what the convolutions' field is wider
    than their hop, so that a frame's R features lie in its own samples. Utterances are heard one by one, as group
    normalisation over time (the base models) would hear the padding of a batch. The networks hear all of an utterance.

    Args:
        dim: width D.
        architecture: of `read_architecture`.
        finetune: train the transformer too; the convolutions keep their weights, as usual.
    """

    def __init__(self, dim: int, architecture: SpeechArchitecture, *, dropout: float, finetune: bool):
        super().__init__()
        self.architecture = architecture
        self.finetune = finetune
        self.network = _build(architecture)
        self.network.requires_grad_(finetune)
        self.network.feature_extractor.requires_grad_(False)
        self.layer_weights = nn.Parameter(torch.zeros(architecture.num_hidden_layers))
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(SAMPLES_PER_FRAME // architecture.hop_samples * architecture.hidden_size, dim)

    def train(self, mode: bool = True):
        """As `nn.Module`'s; a network that is not trained drops nothing."""
        super().train(mode)
        self.network.train(mode and self.finetune)
        return self

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """waveform (B, S) at 16 kHz, lengths (B,) in video frames -> (B, T, D), T the longest length."""
        frames = [self._frames(sound, length) for sound, length in zip(waveform, lengths.tolist(), strict=True)]
        return self.project(self.dropout(nn.utils.rnn.pad_sequence(frames, batch_first=True)))

    def _frames(self, sound: Tensor, n_frames: int) -> Tensor:
        """One utterance (S,) -> (n_frames, R W)."""
        sound = functional.pad(sound, (0, max(0, samples_of(n_frames) - len(sound))))[: samples_of(n_frames)].float()
        if self.architecture.do_normalize:
            sound = (sound - sound.mean()) / (sound.var(correction=0) + 1e-7).sqrt()
        missing = self.architecture.field_samples - self.architecture.hop_samples
        sound = functional.pad(sound, (missing // 2, missing - missing // 2))
        with torch.set_grad_enabled(self.finetune and torch.is_grad_enabled()):
            layers, _ = self.network.extract_features(sound[None])  # N of (1, R T, W)
            layers = torch.stack([functional.layer_norm(layer[0], layer.shape[-1:]) for layer in layers])
        return torch.einsum("n,nfw->fw", self.layer_weights.softmax(0), layers).reshape(n_frames, -1)

    def load_weights_of(self, folder_or_hub_id: str | Path) -> None:
        """Take the network's weights of a folder or hub id; InputError where they are missing or do not fit."""
        folder = find_folder(folder_or_hub_id, FILES)
        path = next((folder / name for name in WEIGHTS_FILES if (folder / name).is_file()), None)
        if path is None:
            raise InputError(f"{folder}: no weights; expected {' or '.join(WEIGHTS_FILES)}")
        stored = read_weights(path) if path.suffix == ".safetensors" else _read_bin(path)
        load_weights(self.network, _to_torchaudio(stored, self.architecture), path)


def read_architecture(folder_or_hub_id: str | Path) -> SpeechArchitecture:
    """Read config.json and preprocessor_config.json.

    Raises InputError: no such folder or hub id, no readable config.json, another kind of model, variants of HuBERT that
    torchaudio lacks, another sample rate than 16 kHz.
    """
    folder = find_folder(folder_or_hub_id, FILES)
    config = _read_json(folder / "config.json")
    if config.get("model_type") not in KINDS:
        raise InputError(
            f"{folder}/config.json: model_type is {config.get('model_type')!r}; expected {', '.join(KINDS)}"
        )
    for key, usual in (("feat_proj_layer_norm", True), ("conv_pos_batch_norm", False)):
        if config.get(key, usual) != usual:
            raise InputError(f"{folder}/config.json: {key} is {config[key]}; only models with {usual} can be used")
    known = {key: config[key] for key in (f.name for f in fields(SpeechArchitecture)) if key in config}
    path = folder / "preprocessor_config.json"
    preprocessor = _read_json(path) if path.is_file() else {}
    if preprocessor.get("sampling_rate", SAMPLE_RATE) != SAMPLE_RATE:
        raise InputError(f"{path}: the model hears {preprocessor['sampling_rate']} Hz; expected {SAMPLE_RATE}")
    known["do_normalize"] = preprocessor.get("do_normalize", True)
    try:
        return SpeechArchitecture(**known)
    except InputError as error:
        raise InputError(f"{folder}/config.json: {error}") from error


def _build(a: SpeechArchitecture) -> nn.Module:
    shared = dict(
        extractor_mode=f"{a.feat_extract_norm}_norm",
        extractor_conv_layer_config=list(zip(a.conv_dim, a.conv_kernel, a.conv_stride, strict=True)),
        extractor_conv_bias=a.conv_bias,
        encoder_embed_dim=a.hidden_size,
        encoder_projection_dropout=a.feat_proj_dropout,
        encoder_pos_conv_kernel=a.num_conv_pos_embeddings,
        encoder_pos_conv_groups=a.num_conv_pos_embedding_groups,
        encoder_num_layers=a.num_hidden_layers,
        encoder_num_heads=a.num_attention_heads,
        encoder_attention_dropout=a.attention_dropout,
        encoder_ff_interm_features=a.intermediate_size,
        encoder_ff_interm_dropout=a.activation_dropout,
        encoder_dropout=a.hidden_dropout,
        encoder_layer_norm_first=a.do_stable_layer_norm,
        encoder_layer_drop=0.0,
        aux_num_out=None,
    )
    if a.model_type == "wavlm":
        return wavlm_model(**shared, encoder_num_buckets=a.num_buckets, encoder_max_distance=a.max_bucket_distance)
    return wav2vec2_model(**shared)


def _to_torchaudio(stored: dict[str, Tensor], architecture: SpeechArchitecture) -> dict[str, Tensor]:
    """Hugging Face's names to torchaudio's; heads, quantisers and mask embeddings are left out."""
    prefix = f"{architecture.model_type}."
    parts: dict[str, dict[str, Tensor]] = {"feature_extractor": {}, "feature_projection": {}, "encoder": {}}
    for name, tensor in stored.items():
        part, _, rest = name.removeprefix(prefix).partition(".")
        if part in parts:
            # weight normalisation's parameters were called weight_g and weight_v before torch 2
            rest = rest.replace("conv.weight_g", "conv.parametrizations.weight.original0")
            parts[part][rest.replace("conv.weight_v", "conv.parametrizations.weight.original1")] = tensor
    if architecture.model_type == "wavlm":
        try:
            transform_wavlm_encoder_state(parts["encoder"], architecture.num_hidden_layers)
        except KeyError as error:
            raise InputError(f"the weights lack encoder.{error.args[0]}: they are not a whole WavLM") from error
    places = {"feature_extractor": "feature_extractor", "feature_projection": "encoder.feature_projection"}
    places["encoder"] = "encoder.transformer"
    return {f"{places[part]}.{name}": tensor for part, held in parts.items() for name, tensor in held.items()}


def _read_bin(path: Path) -> dict[str, Tensor]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(f"{path}: corrupt, or holds more than weights: download it again") from error


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a model in Hugging Face's format") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys and values")
    return content
