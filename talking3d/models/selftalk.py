"""SelfTalk: a student whose lips must be read as what its speech says (Peng et al., ACM MM 2023, arXiv 2306.10799).

                    sound ── recognised ──▶ text
                      │                      ▲
                   decoder                   │       the two ways to the text shall agree ("commutative diagram"):
                      ▼                      │       in what is read, and in the features that it is read from
                    motion ── its lips read ─┘

Written from the paper, with these differences. It hears through the kit's speech encoder and answers in the kit's
basis, and its losses on motion are the student's, so that methods compare. The paper recognises speech by a frozen
wav2vec 2.0 and reads lips for its transcript; here the recognising branch learns with the rest, from the manifest's
text. And it knows the speakers' styles, as its rivals do.

Letters: B batch, S samples, T video frames, D width, K basis size, U characters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from avsr.data.text import SPACE, Tokenizer, normalize_text
from avsr.errors import InputError
from avsr.models.espnet import IGNORE, build_ctc, build_encoder, ctc_loss, padding_mask
from talking3d.face.template import FaceTemplate
from talking3d.models.motion_model import MotionModel, MotionModelConfig
from talking3d.models.speaker_styles import SpeakerStyles
from talking3d.models.speech_encoder import SpeechEncoder

MM = 1000.0


@dataclass
class SelfTalkConfig(MotionModelConfig):
    """What a SelfTalk is made of; stored in its checkpoint."""

    heads: int = 4
    ff_dim: int = 256
    dropout: float = 0.1
    reader_layers: int = 1  # of the lip reader
    kernel: int = 5  # frames that the lip reader's convolutions see; odd
    alphabet: str = "'abcdefghijklmnopqrstuvwxyz"  # besides the space between words
    heard_weight: float = 0.5  # of the CTC loss of speech, in nats a character
    read_weight: float = 0.5  # of the CTC loss of lips
    latent_weight: float = 0.5  # of the distance between the features that lips and speech are read from

    def __post_init__(self):
        super().__post_init__()
        if self.encoder.dim % self.heads:
            raise InputError(f"selftalk.heads ({self.heads}) must divide encoder.dim ({self.encoder.dim})")


class SelfTalk(MotionModel):
    """Transformer decoder layer over all frames at once; in training with a recogniser of its speech and of its lips.

    Unknown speakers get the mean of the learned styles. Arguments as `MotionModel`'s.
    """

    NAME, Config = "selftalk", SelfTalkConfig

    def __init__(
        self,
        config: SelfTalkConfig,
        basis: np.ndarray,
        mean: np.ndarray,
        template: FaceTemplate,
        speakers: list[str],
    ):
        super().__init__(config, basis, mean, template, speakers)
        dim = config.encoder.dim
        self.encoder = SpeechEncoder(config.encoder)
        self.styles = SpeakerStyles(len(speakers), dim)
        self.decoder = nn.TransformerDecoderLayer(dim, config.heads, config.ff_dim, config.dropout, batch_first=True)
        self.head = nn.Linear(dim, len(basis))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.lip_map = nn.Linear(3 * len(template.region("lips")), dim)
        self.lip_norm = nn.LayerNorm(dim)
        self.reader = build_encoder(
            "conformer",
            dim=dim,
            layers=config.reader_layers,
            heads=config.heads,
            ff_dim=config.ff_dim,
            kernel=config.kernel,
            dropout=config.dropout,
        )
        self.hear = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim))
        self.tokenizer = Tokenizer("char", [SPACE, *config.alphabet])
        self.ctc = build_ctc(len(self.tokenizer), dim)  # of both branches

    def coefficients(self, waveform: Tensor, lengths: Tensor, speakers: Tensor) -> Tensor:
        """waveform (B, S), lengths (B,) in frames, speakers as `MotionModel` has them -> (B, T, K), zero at padding."""
        return self._speak(self.encoder(waveform, lengths), lengths, speakers)

    def _speak(self, sound: Tensor, lengths: Tensor, speakers: Tensor) -> Tensor:
        padding = padding_mask(lengths, sound.shape[1])
        features = self.decoder(
            sound + self.styles(speakers)[:, None],
            sound,
            tgt_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return (self.mean + self.head(features)).masked_fill(padding[:, :, None], 0.0)

    def read_lips(self, coefficients: Tensor, lengths: Tensor) -> Tensor:
        """The lip reader's features (B, T, D) of motion (B, T, K): what the lips' vertices, in mm, look like to it."""
        lips = MM * self.basis[:, self.template.region("lips")].flatten(1)  # (K, 3 U)
        seen = functional.linear(coefficients, self.lip_map.weight @ lips.T, self.lip_map.bias)
        return self.reader(self.lip_norm(seen), lengths)

    def predict_with_losses(self, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """The coefficients (B, T, K) that the losses are of; and these: `motion_losses`, and

        heard, read: CTC losses of the text by the speech and by the lips of the answer, in nats a character.
        latent: mean squared distance of the lips' features from the speech's, which stay where they are.
        """
        lengths = batch["lengths"]
        tokens, token_lengths = self._tokens(batch)
        sound = self.encoder(batch["waveform"], lengths)
        output = self._speak(sound, lengths, batch["speakers"])
        heard, read = self.hear(sound), self.read_lips(output, lengths)
        real = ~padding_mask(lengths, output.shape[1])
        terms = self.motion_losses(output, batch)
        terms["heard"], terms["read"] = (
            ctc_loss(self.ctc, features, lengths, tokens, token_lengths) for features in (heard, read)
        )
        terms["latent"] = (read - heard.detach())[real].square().mean()
        for name in ("heard", "read", "latent"):
            terms["loss"] = terms["loss"] + getattr(self.config, f"{name}_weight") * terms[name]
        return output, terms

    def _tokens(self, batch: dict) -> tuple[Tensor, Tensor]:
        """The batch's texts as characters (B, U), padded, and their lengths (B,)."""
        encoded = []
        for utt_id, text in zip(batch["utt_ids"], batch["texts"], strict=True):
            if text is None:
                raise InputError(f"{utt_id}: its row has no text, which selftalk learns to read: give one")
            try:
                encoded.append(torch.tensor(self.tokenizer.encode(normalize_text(text))))
            except InputError as error:
                raise InputError(f"{utt_id}: {error}") from error
        device = batch["lengths"].device
        token_lengths = torch.tensor([len(tokens) for tokens in encoded], device=device)
        return pad_sequence(encoded, batch_first=True, padding_value=IGNORE).to(device), token_lengths
