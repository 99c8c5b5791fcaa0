"""The recogniser: sound, lips or both to text.

    waveform -> AudioFrontend (-> encoder of its own) ─┐
                                                       ├─ fusion -> encoder -> CTC, attention decoder, frame classes
    lips     -> VideoFrontend (-> encoder of its own) ─┘

Encoders are ESPnet's. Without encoders of their own the streams meet early; with most layers in these they meet late.

Letters: B batch, S samples, T video frames, U tokens, D width.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.functional import edit_distance

from avsr.data.text import Tokenizer
from avsr.errors import InputError
from avsr.models.espnet import (
    BLANK,
    attention_loss,
    build_ctc,
    build_decoder,
    ctc_loss,
    padding_mask,
)
from avsr.models.frontends import VideoFrontend
from avsr.models.fusion import build_fusion
from avsr.models.recognizer_card import recognizer_card
from avsr.models.recognizer_parts import STREAMS, RecognizerConfig, build_audio_frontend, build_stream_encoder
from avsr.models.tokenized import save_with_tokenizer, tokenizer_of
from avsr.training.checkpoint import load_pretrained, load_weights
from avsr.training.config import from_dict

NAME = "recognizer"


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
            self.audio = build_audio_frontend(config)
        if "v" in config.modalities:
            self.video = VideoFrontend(
                dim, kind=config.visual_frontend, channels=config.visual_channels, dropout=config.frontend_dropout
            )
        if config.modalities == "av":
            self.fusion = build_fusion(config.fusion, dim=dim, dropout=config.dropout, heads=config.heads)
        self.stream_encoders = nn.ModuleDict(
            {
                m: build_stream_encoder(config, config.stream_layers)
                for m in config.modalities
                if config.stream_layers > 0
            }
        )
        self.encoder = build_stream_encoder(config, config.layers)
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
        return self._meet(self._streams(batch, modality), batch["lengths"]), batch["lengths"]

    def _streams(self, batch: dict, modality: str | None = None) -> dict[str, tuple[Tensor, Tensor]]:
        """Of each stream, a and v, features (B, T, D) and which utterances have it, (B,) bool."""
        has_audio, has_video = self._available(batch, modality)
        streams = {}
        # training runs both front ends always: every parameter has its gradient on every device
        if self.audio is not None and (self.training or has_audio.any()):
            streams["a"] = self.audio(batch["waveform"], batch["lengths"]), has_audio
        if self.video is not None and (self.training or has_video.any()):
            streams["v"] = self.video(batch["lips"], batch["lengths"]), has_video
        for m, encoder in self.stream_encoders.items():
            if m in streams:
                features, has = streams[m]
                streams[m] = encoder(features, batch["lengths"]), has
        return streams

    def _meet(self, streams: dict[str, tuple[Tensor, Tensor]], lengths: Tensor) -> Tensor:
        """The streams' features, of which one may be missing altogether, fused and encoded: (B, T, D)."""
        if self.fusion is None:
            ((features, _),) = streams.values()
        else:
            other = next(iter(streams.values()))
            absent = torch.zeros_like(other[0]), torch.zeros_like(other[1])
            (audio, has_audio), (video, has_video) = (streams.get(m, absent) for m in "av")
            features = self.fusion(audio, video, has_audio, has_video, padding_mask(lengths, audio.shape[1]))
        return self.encoder(features, lengths)

    def forward(self, batch: dict) -> dict[str, Tensor]:
        """Return the losses of a batch: loss, ctc, stream_ctc, att, frame in nats per token or frame; in eval mode ter.

        `batch["progress"]` (0 to 1, absent: 0) is how far training has come. `ter` is greedy CTC's token error rate.
        """
        config = self.config
        lengths, tokens, token_lengths = batch["lengths"], batch["tokens"], batch["token_lengths"]
        said = tokens, token_lengths, batch.get("token_frames")
        streams = self._streams(batch)
        encoded = self._meet(streams, lengths)
        with torch.autocast(encoded.device.type, enabled=False):
            terms = {"ctc": ctc_loss(self.ctc, encoded, lengths, *said)}
            loss = terms["ctc"]
            if config.stream_ctc_weight > 0:
                each = [self._stream_ctc(*stream, lengths, *said) for stream in streams.values()]
                terms["stream_ctc"] = sum(each) / len(each)
                loss = (1 - config.stream_ctc_weight) * loss + config.stream_ctc_weight * terms["stream_ctc"]
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

    def _stream_ctc(self, features: Tensor, has: Tensor, *said: Tensor | None) -> Tensor:
        """CTC loss of one stream's own features, over the utterances that have it."""
        if not has.any():
            return 0.0 * features.sum()
        return ctc_loss(self.ctc, features[has], *(None if part is None else part[has] for part in said))

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
        save_with_tokenizer(
            folder,
            tokenizer,
            name=NAME,
            config=self.config,
            state_dict=self.state_dict(),
            card=recognizer_card(self.config, card_facts or {}, license),
        )

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path) -> Recognizer:
        """Load a checkpoint in eval mode, with its `tokenizer`."""
        checkpoint = load_pretrained(folder_or_hub_id, expect=NAME)
        config = from_dict(RecognizerConfig, checkpoint.config, f"{checkpoint.folder}/config.yaml")
        model = cls(config)
        load_weights(model, checkpoint.state_dict, str(folder_or_hub_id))
        model.tokenizer = tokenizer_of(checkpoint, config.vocab_size)
        return model.eval()
