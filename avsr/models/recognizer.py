"""The recogniser: sound, lips or both to text.

    waveform -> AudioFrontend ─┐
                               ├─ GatedFusion -> ESPnet encoder -> CTC, attention decoder, frame classes
    lips     -> VideoFrontend ─┘

Letters: B batch, S samples, T video frames, U tokens, D width.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.functional import edit_distance

from avsr.data.text import Tokenizer, load_tokenizer
from avsr.errors import InputError
from avsr.media.lips import MOUTH_WIDTH
from avsr.models.espnet import (
    BLANK,
    attention_loss,
    build_ctc,
    build_decoder,
    build_encoder,
    ctc_loss,
)
from avsr.models.filterbank_frontend import FilterbankFrontend
from avsr.models.frontends import AudioFrontend, VideoFrontend
from avsr.models.fusion import ConcatNormFusion, GatedFusion
from avsr.models.recognizer_card import recognizer_card
from avsr.models.transformer_encoder import TransformerEncoder
from avsr.models.waveform_frontend import WaveformFrontend
from avsr.training.checkpoint import load_pretrained, load_weights, save_pretrained
from avsr.training.config import from_dict

NAME = "recognizer"
FUSIONS = {"gated": GatedFusion, "concat_norm": ConcatNormFusion}
STREAMS = {"a": "audio", "v": "video", "av": "audio and video"}


@dataclass
class RecognizerConfig:
    """What a recogniser is made of; stored in its checkpoint."""

    modalities: str = "av"  # a, v or av: the front ends it has
    vocab_size: int = 0  # tokens, blank and <sos/eos> included; 0: filled in from the tokenizer
    n_labels: int = 0  # frame classes beside silence; 0: no frame-level loss
    longest_s: float | None = None  # utterance of its training, filled in from the data; None: not known
    dim: int = 144
    audio_frontend: str = "conv1d"  # conv1d, conv2d (log-mel), resnet1d (waveform) or filterbank
    visual_frontend: str = "small"  # small, resnet18, resnet18_swish or resnet18_prelu
    visual_channels: list[int] = field(default_factory=lambda: [24, 48, 96])  # of the small one
    mouth_width: float = MOUTH_WIDTH  # of the lip crops it was trained with, as a share of their width
    fusion: str = "gated"  # gated or concat_norm (AV-HuBERT)
    encoder: str = "conformer"  # conformer, e_branchformer or transformer
    layers: int = 3
    heads: int = 4
    ff_dim: int = 288
    ff_activation: str = "swish"  # swish or relu, in the encoder's feed-forward modules
    kernel: int = 15  # frames
    decoder_layers: int = 1  # 0: CTC alone
    decoder_ff_dim: int = 288
    dropout: float = 0.1
    frontend_dropout: float = 0.3
    freq_masks: int = 2  # SpecAugment
    freq_mask_bins: int = 15
    time_masks: int = 2
    time_mask_frames: int = 20  # mel frames
    drop_audio: float = 0.2  # modality dropout: share of training utterances that are left without sound
    drop_video: float = 0.1
    ctc_weight: float = 0.5
    label_smoothing: float = 0.1
    frame_weight: float = 1.0  # of the frame-level cross-entropy at the start of training
    frame_until: float = 0.6  # share of training by which that weight has fallen to 0

    def __post_init__(self):
        if self.modalities not in STREAMS:
            raise InputError(f"unknown modalities {self.modalities!r}; expected a, v or av")
        if self.fusion not in FUSIONS:
            raise InputError(f"unknown fusion {self.fusion!r}; expected {' or '.join(FUSIONS)}")
        for name in ("ctc_weight", "frame_until", "drop_audio", "drop_video", "dropout", "frontend_dropout"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name} is a share between 0 and 1, got {getattr(self, name)}")
        if self.drop_audio + self.drop_video > 1.0:
            raise InputError(f"drop_audio + drop_video is {self.drop_audio + self.drop_video}: no stream would be left")


def _audio_frontend(config: RecognizerConfig) -> nn.Module:
    if config.audio_frontend == "resnet1d":
        return WaveformFrontend(
            config.dim,
            dropout=config.frontend_dropout,
            time_masks=config.time_masks,
            time_mask_mels=config.time_mask_frames,
        )
    if config.audio_frontend == "filterbank":
        return FilterbankFrontend(config.dim, dropout=config.frontend_dropout)
    return AudioFrontend(
        config.dim,
        kind=config.audio_frontend,
        dropout=config.frontend_dropout,
        spec_augment={
            "freq_masks": config.freq_masks,
            "freq_width": config.freq_mask_bins,
            "time_masks": config.time_masks,
            "time_width": config.time_mask_frames,
        },
    )


class Recognizer(nn.Module):
    """Audio-visual speech recogniser with joint CTC and attention (Watanabe et al., 2017; Petridis et al., 2018).

    Frame-level classes (words or phones with known times) steer the first part of training: a small model that learns
    when and what together needs many times the steps.

    An utterance's output in eval mode is the same alone and in a padded batch.
    """

    def __init__(self, config: RecognizerConfig):
        super().__init__()
        if config.vocab_size < 3:
            raise InputError(f"a recogniser needs a vocabulary, got vocab_size={config.vocab_size}")
        self.config = config
        self.tokenizer: Tokenizer | None = None
        dim = config.dim
        self.audio = self.video = self.fusion = self.decoder = self.frame_head = None
        if "a" in config.modalities:
            self.audio = _audio_frontend(config)
        if "v" in config.modalities:
            self.video = VideoFrontend(
                dim, kind=config.visual_frontend, channels=config.visual_channels, dropout=config.frontend_dropout
            )
        if config.modalities == "av":
            self.fusion = FUSIONS[config.fusion](dim, config.dropout)
        sizes = dict(dim=dim, layers=config.layers, heads=config.heads, ff_dim=config.ff_dim, dropout=config.dropout)
        if config.encoder == "transformer":
            self.encoder = TransformerEncoder(**sizes)
        else:
            self.encoder = build_encoder(
                config.encoder, **sizes, kernel=config.kernel, ff_activation=config.ff_activation
            )
        self.ctc = build_ctc(config.vocab_size, dim)
        if config.decoder_layers > 0:
            self.decoder = build_decoder(
                config.vocab_size,
                dim=dim,
                layers=config.decoder_layers,
                heads=config.heads,
                ff_dim=config.decoder_ff_dim,
                dropout=config.dropout,
            )
        if config.n_labels > 0:
            self.frame_head = nn.Linear(dim, config.n_labels + 1)

    def usable(self, modality: str | None) -> str:
        """The streams to decode with, "a", "v" or "av"; None: all that the model was made for. InputError otherwise."""
        if modality is None:
            return self.config.modalities
        if modality not in STREAMS or not set(modality) <= set(self.config.modalities):
            made_for = STREAMS[self.config.modalities]
            raise InputError(f"this model was made for {made_for}; it cannot decode with modality {modality!r}")
        return modality

    def _available(self, batch: dict, modality: str | None) -> tuple[Tensor, Tensor]:
        """Which utterances have sound and lips that may be used: two (B,) bool."""
        modality = self.usable(modality)
        has_audio = batch["has_audio"] & ("a" in modality)
        has_video = batch["has_video"] & ("v" in modality)
        if self.training and self.config.modalities == "av":
            chance = torch.rand(len(has_audio), device=has_audio.device)
            drop_audio = chance < self.config.drop_audio
            drop_video = chance > 1.0 - self.config.drop_video
            has_audio, has_video = has_audio & ~(drop_audio & has_video), has_video & ~(drop_video & has_audio)
        bare = ~(has_audio | has_video)
        if bare.any():
            names = [name for name, lacks in zip(batch["utt_ids"], bare.tolist(), strict=True) if lacks]
            wanted = STREAMS[modality].replace(" and ", " or ")
            raise InputError(f"{', '.join(names[:3])}: there is no {wanted}, and modality {modality!r} needs it")
        return has_audio, has_video

    def encode(self, batch: dict, modality: str | None = None) -> tuple[Tensor, Tensor]:
        """Encode a batch with all its streams, or with those of `modality` ("a", "v" or "av") alone.

        Returns:
            (B, T, D) at 25 frames a second, zero at padding, and the lengths (B,) in frames.
        """
        has_audio, has_video = self._available(batch, modality)
        lengths = batch["lengths"]
        # training runs both front ends always: every parameter has its gradient on every device
        audio = video = None
        if self.audio is not None and (self.training or has_audio.any()):
            audio = self.audio(batch["waveform"], lengths)
        if self.video is not None and (self.training or has_video.any()):
            video = self.video(batch["lips"], lengths)
        if self.fusion is None:
            features = video if audio is None else audio
        else:
            audio = torch.zeros_like(video) if audio is None else audio
            video = torch.zeros_like(audio) if video is None else video
            features = self.fusion(audio, video, has_audio, has_video)
        return self.encoder(features, lengths), lengths

    def forward(self, batch: dict) -> dict[str, Tensor]:
        """Return the losses of a batch: loss, ctc, att and frame in nats per token or frame; in eval mode ter too.

        `batch["progress"]` (0 to 1, absent: 0) is how far training has come. `ter` is greedy CTC's token error rate.
        """
        config = self.config
        encoded, lengths = self.encode(batch)
        tokens, token_lengths = batch["tokens"], batch["token_lengths"]
        with torch.autocast(encoded.device.type, enabled=False):
            terms = {"ctc": ctc_loss(self.ctc, encoded, lengths, tokens, token_lengths)}
            loss = terms["ctc"]
            if self.frame_head is not None:
                terms["frame"] = self._frame_loss(encoded, batch["frame_labels"])
        if self.decoder is not None:
            terms["att"] = attention_loss(self.decoder, encoded, lengths, tokens, token_lengths, config.label_smoothing)
            loss = config.ctc_weight * loss + (1.0 - config.ctc_weight) * terms["att"]
        if self.frame_head is not None:
            remaining = max(0.0, 1.0 - batch.get("progress", 0.0) / max(config.frame_until, 1e-9))
            loss = loss + config.frame_weight * remaining * terms["frame"]
        terms["loss"] = loss
        if not self.training:
            terms["ter"] = self._token_error_rate(encoded, lengths, tokens, token_lengths)
        return terms

    def _frame_loss(self, encoded: Tensor, frame_labels: Tensor) -> Tensor:
        logits = self.frame_head(encoded).flatten(0, 1)
        known = (frame_labels >= 0).sum().clamp(min=1)  # a batch may lack alignments altogether
        return functional.cross_entropy(logits, frame_labels.flatten(), ignore_index=-100, reduction="sum") / known

    def greedy(self, encoded: Tensor, lengths: Tensor) -> list[tuple[list[int], float]]:
        """Best CTC path of each utterance, blanks and repeats removed, with its log probability."""
        scores, path = self.ctc.log_softmax(encoded).float().max(dim=-1)  # (B, T) each
        hypotheses = []
        for utterance_scores, utterance_path, length in zip(scores, path, lengths.tolist(), strict=True):
            collapsed = torch.unique_consecutive(utterance_path[:length])
            hypotheses.append((collapsed[collapsed != BLANK].tolist(), float(utterance_scores[:length].sum())))
        return hypotheses

    def _token_error_rate(self, encoded: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> Tensor:
        errors = sum(
            edit_distance(hyp, ref[:n])
            for (hyp, _), ref, n in zip(
                self.greedy(encoded, lengths), tokens.tolist(), token_lengths.tolist(), strict=True
            )
        )
        return encoded.new_tensor(errors / int(token_lengths.sum()))

    def save_pretrained(
        self,
        folder: str | Path,
        tokenizer: Tokenizer,
        card_facts: dict | None = None,
        license: str = "apache-2.0",
    ) -> None:
        """Write a checkpoint folder in Hugging Face Hub layout: weights, config, tokenizer and model card.

        license: of the weights, in the Hub's names ("apache-2.0", "other", …).
        """
        with tempfile.TemporaryDirectory() as scratch:
            tokenizer_file = Path(scratch) / "tokenizer.model"
            tokenizer.save(tokenizer_file)
            save_pretrained(
                folder,
                name=NAME,
                config=self.config,
                state_dict=self.state_dict(),
                files={"tokenizer.model": tokenizer_file},
                card=recognizer_card(self.config, card_facts or {}, license),
            )

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path) -> Recognizer:
        """Load a checkpoint in eval mode, with its `tokenizer`."""
        checkpoint = load_pretrained(folder_or_hub_id, expect=NAME)
        config = from_dict(RecognizerConfig, checkpoint.config, f"{checkpoint.folder}/config.yaml")
        model = cls(config)
        load_weights(model, checkpoint.state_dict, str(folder_or_hub_id))
        model.tokenizer = load_tokenizer(Path(checkpoint.folder) / "tokenizer.model")
        if len(model.tokenizer) != config.vocab_size:
            raise InputError(
                f"{checkpoint.folder}: tokenizer.model has {len(model.tokenizer)} tokens and the model "
                f"{config.vocab_size}; they come from different trainings"
            )
        return model.eval()
