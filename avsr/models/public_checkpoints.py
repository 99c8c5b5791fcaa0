"""Public checkpoints of other kits, as recognisers of this one.

Auto-AVSR (Ma et al., 2023, and the checkpoints of Visual Speech Recognition for Multiple Languages in the same form):
whole recognisers of lips or of sound. AV-HuBERT (Shi et al., 2022): all before its decoder, or its visual front end
alone, for training to start from.
The checkpoints have licences of their own, some of which allow research only.
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from avsr.data.text import Tokenizer
from avsr.errors import InputError
from avsr.models.frontends import VideoFrontend
from avsr.models.recognizer import Recognizer, RecognizerConfig
from avsr.training.checkpoint import load_weights, read_weights

MOUTH_WIDTH = 0.469  # of Auto-AVSR's crops: the mean face's mouth is 45 of 96 pixels wide
PIECE_NORMAL, PIECE_UNKNOWN, PIECE_UNUSED = 1, 2, 5  # sentencepiece's types of pieces

# names of a visual ResNet-18's parts, below its prefix, in the order in which they are tried
_VISUAL = (
    (r"frontend3D\.0\.", "trunk.conv1."),
    (r"frontend3D\.1\.", "trunk.bn1."),
    (r"frontend3D\.2\.", "trunk.relu."),
    (r"trunk\.", "trunk."),
)
# AV-HuBERT's encoder: fairseq's names to Hugging Face's, which are torchaudio's too
_AV_HUBERT = (
    (r"\.pos_conv\.0\.", ".pos_conv_embed.conv."),
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
    (r"\.self_attn\.", ".attention."),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
)
_AUTO_AVSR = (
    (r"encoder\.frontend\.", "frontend."),  # before 2023 front end and projection were parts of the encoder
    (r"encoder\.embed\.0\.", "proj_encoder."),
    (r"(encoder\..*\.)pointwise_cov([12])\.", r"\1pointwise_conv\2."),
)


def import_auto_avsr(path: str | Path, units: str | Path, pieces: str | Path, out: str | Path) -> None:
    """Write the checkpoint folder of a recogniser with the weights of an Auto-AVSR .pth of lips or of sound.

    units: its list of units ("unit id" lines, unigram5000_units.txt); pieces: the sentencepiece model beside it.
    The audio-visual checkpoints (two encoders, fused after them) and those with the legacy relative positions of 2021
    have another architecture. The latter cannot be told from their weights: see rel_pos_type in their model.json.

    Raises InputError: a file that is missing or holds something else, weights that don't fit (the first are named), a
    number of units that isn't the weights'.
    """
    stored = {}
    for name, tensor in _read_state_dict(path).items():
        for pattern, ours in _AUTO_AVSR:
            name = re.sub(f"^{pattern}", ours, name)
        stored[name] = tensor
    config = _auto_avsr_config(stored, path)
    tokenizer = auto_avsr_tokenizer(units, pieces)
    if len(tokenizer) != config.vocab_size:
        raise InputError(
            f"{units}: {len(tokenizer)} tokens with blank and end, and {path} has {config.vocab_size}; give the units "
            "that it was trained with"
        )
    model = Recognizer(config)
    load_weights(model, _auto_avsr_weights(stored, config, path), path)
    facts = {
        "trained by": "others, with Auto-AVSR; its licence and that of its data hold",
        "imported from": Path(path).name,
    }
    model.save_pretrained(out, tokenizer, facts, license="other")


def auto_avsr_tokenizer(units: str | Path, pieces: str | Path) -> Tokenizer:
    """A sentencepiece tokenizer whose ids are those of a list of units, one "unit id" a line, <unk> being 1.

    Units that the model never makes keep their ids; pieces that the list lacks are taken out of the model.
    """
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    listed = [line.rsplit(" ", 1) for line in _read(units).decode("utf-8", "replace").splitlines()]
    if not listed or any(len(pair) != 2 or pair[1] != str(n) for n, pair in enumerate(listed, start=1)):
        raise InputError(f"{units}: expected lines of a unit and its number, from 1 on")
    if listed[0][0] != "<unk>":
        raise InputError(f"{units}: the first unit is {listed[0][0]!r}; expected <unk>")
    model = sentencepiece_model_pb2.ModelProto()
    try:
        model.ParseFromString(_read(pieces))
    except DecodeError as error:
        raise InputError(f"{pieces}: not a sentencepiece model") from error
    known = {piece.piece: piece.score for piece in model.pieces if piece.type == PIECE_NORMAL}
    wanted = [unit for unit, _ in listed[1:]]
    if not known.keys() & set(wanted):
        raise InputError(f"{pieces}: has none of the units of {units}; they belong to different models")
    del model.pieces[:]
    model.pieces.add(piece="<unk>", score=0.0, type=PIECE_UNKNOWN)
    for unit in wanted:
        model.pieces.add(piece=unit, score=known.get(unit, 0.0), type=PIECE_NORMAL if unit in known else PIECE_UNUSED)
    spec = model.trainer_spec
    spec.unk_id, spec.bos_id, spec.eos_id, spec.pad_id, spec.vocab_size = 0, -1, -1, -1, len(listed)
    kind = {1: "unigram", 2: "bpe"}.get(spec.model_type)
    if kind is None:
        raise InputError(f"{pieces}: expected a sentencepiece model of unigram or BPE pieces")
    return Tokenizer(kind, wanted, model.SerializeToString())


def load_visual_frontend(frontend: VideoFrontend, path: str | Path) -> None:
    """Start a ResNet-18 front end from that of a public checkpoint: AV-HuBERT's (fairseq's names or Hugging Face's)
    or Auto-AVSR's. The projection behind it is taken too where it has this width, else left as it is.

    Raises InputError where the file holds no such front end, or one of another activation.
    """
    stored = _read_state_dict(path)
    prefix = next((name.split("frontend3D.")[0] for name in stored if "frontend3D.0." in name), None)
    if prefix is None:
        raise InputError(f"{path}: no visual front end (frontend3D) among {_first(stored)}")
    weights = _visual_weights(
        {name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)}
    )
    own = frontend.state_dict()
    outside = prefix.removesuffix("resnet.") if prefix.endswith("resnet.") else prefix.removesuffix("frontend.")
    for name in ("weight", "bias"):
        found = next((stored[key] for key in (f"{outside}proj.{name}", f"{outside}proj_encoder.{name}",
                                              f"{outside}embed.0.{name}") if key in stored), None)  # fmt: skip
        fits = found is not None and found.shape == own[f"project.{name}"].shape
        weights[f"project.{name}"] = found if fits else own[f"project.{name}"]
    load_weights(frontend, weights, path)


def load_av_hubert(model: Recognizer, path: str | Path) -> None:
    """Start a recogniser's front ends, fusion and encoder from AV-HuBERT, pretrained or fine-tuned.

    The model has modalities av, audio_frontend filterbank, visual_frontend resnet18_prelu, fusion concat_norm and
    encoder transformer, of the checkpoint's sizes. Its CTC and decoder keep their weights: AV-HuBERT has no CTC, and
    the positions of its decoder are others. Raises InputError where that is not so, naming what does not fit.
    """
    stored = _read_state_dict(path)
    prefix = next((name.split("post_extract_proj.")[0] for name in stored if "post_extract_proj.weight" in name), None)
    if prefix is None:
        raise InputError(f"{path}: not AV-HuBERT: no post_extract_proj among {_first(stored)}")
    own = {name: w for name, w in model.state_dict().items() if name.split(".")[0] in ("ctc", "decoder", "frame_head")}
    resnet, weights = {}, {}
    places = {
        "feature_extractor_audio.proj.": "audio.project.",
        "feature_extractor_video.proj.": "video.project.",
        "layer_norm.": "fusion.norm.",
        "post_extract_proj.": "fusion.mix.",
        "encoder.": "encoder.encoder.",
    }
    for name, tensor in stored.items():
        rest = name.removeprefix(prefix)
        if not name.startswith(prefix):
            continue
        if rest.startswith("feature_extractor_video.resnet."):
            resnet[rest.removeprefix("feature_extractor_video.resnet.")] = tensor
            continue
        place = next((place for place in places if rest.startswith(place)), None)
        if place is not None:
            renamed = places[place] + rest.removeprefix(place)
            for pattern, ours in _AV_HUBERT:
                renamed = re.sub(pattern, ours, renamed)
            weights[renamed] = tensor
    weights |= {f"video.{name}": tensor for name, tensor in _visual_weights(resnet).items()}
    load_weights(model, weights | own, path)


def _auto_avsr_config(stored: Mapping[str, Tensor], path: str | Path) -> RecognizerConfig:
    """What the checkpoint's shapes say of its architecture."""

    def shape(name: str) -> torch.Size:
        if name not in stored:
            raise InputError(f"{path}: not an Auto-AVSR recogniser: no {name} among {_first(stored)}")
        return stored[name].shape

    def layers(part: str) -> int:
        numbers = {int(found[1]) for name in stored if (found := re.match(rf"{part}\.(\d+)\.", name))}
        return len(numbers)

    foreign = [name for name in stored if name.split(".")[0] not in _PARTS]
    if foreign:
        raise InputError(
            f"{path}: parts that this kit's recognisers lack: {_first(foreign)}; checkpoints of one stream can be read"
        )
    video = "frontend.frontend3D.0.weight" in stored
    swish = "frontend.frontend3D.2.weight" not in stored
    n_layers, n_decoder = layers(r"encoder\.encoders"), layers(r"decoder\.decoders")
    return RecognizerConfig(
        modalities="v" if video else "a",
        vocab_size=shape("ctc.ctc_lo.weight")[0],
        dim=shape("proj_encoder.weight")[0],
        audio_frontend="resnet1d",
        visual_frontend="resnet18_swish" if swish else "resnet18_prelu",
        mouth_width=MOUTH_WIDTH,
        encoder="conformer",
        layers=n_layers,
        heads=shape("encoder.encoders.0.self_attn.pos_bias_u")[0],
        ff_dim=shape("encoder.encoders.0.feed_forward.w_1.weight")[0],
        ff_activation="relu",
        kernel=shape("encoder.encoders.0.conv_module.depthwise_conv.weight")[-1],
        decoder_layers=n_decoder,
        decoder_ff_dim=shape("decoder.decoders.0.feed_forward.w_1.weight")[0] if n_decoder else 0,
        ctc_weight=0.1,
    )


_PARTS = ("frontend", "proj_encoder", "encoder", "decoder", "ctc")


def _auto_avsr_weights(stored: Mapping[str, Tensor], config: RecognizerConfig, path: str | Path) -> dict[str, Tensor]:
    """Their names to ours."""
    stream = {"v": "video", "a": "audio"}[config.modalities]
    weights, frontend = {}, {}
    for name, tensor in stored.items():
        part, _, rest = name.partition(".")
        if part == "frontend":
            frontend[rest] = tensor
        elif part == "proj_encoder":
            weights[f"{stream}.project.{rest}"] = tensor
        else:
            weights[f"encoder.{name}" if part == "encoder" else name] = tensor
    if config.modalities == "v":
        frontend = _visual_weights(frontend)
    return weights | {f"{stream}.{name}": tensor for name, tensor in frontend.items()}


def _visual_weights(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A visual ResNet-18's names to ours; its 3D stem is a 2D convolution over stacks of five pictures."""
    weights = {}
    for name, tensor in stored.items():
        for pattern, ours in _VISUAL:
            if re.match(pattern, name):
                weights[re.sub(f"^{pattern}", ours, name)] = tensor[:, 0] if tensor.ndim == 5 else tensor
                break
        else:
            weights[name] = tensor
    return weights


def _read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Weights by name, out of safetensors or a pickle of tensors, which may lie one level deeper."""
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_weights(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; check the path")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(
            f"{path}: corrupt, or holds more than weights; save its state dict alone: "
            "torch.save(torch.load(FILE, weights_only=False)['model'], OUT)"
        ) from error
    for key in ("model_state_dict", "state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise InputError(f"{path}: expected names and tensors, found {type(content).__name__}")
    return {name.removeprefix("model."): tensor for name, tensor in content.items()}


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _first(names, limit: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
