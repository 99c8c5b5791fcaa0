"""CodeTalker: speech to the words of a motion prior, frame by frame (Xing et al., CVPR 2023, arXiv 2301.02379).

Written from the paper; `motion_prior` is its first stage. So that methods compare, it hears through the kit's speech
encoder instead of wav2vec 2.0, answers in the kit's basis, and its loss on motion is the student's. The paper decodes
all codes anew after each frame, whose motion may then still change. Here the prior's decoder looks back only: what was
fed back is what is answered, and a step costs the same however long the speech is that is behind it, but for attention.

Letters: B batch, S samples, T video frames, D width, K basis size, N C components times size of a code.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from avsr.errors import InputError
from avsr.models.espnet import padding_mask
from talking3d.face.template import FaceTemplate
from talking3d.models.biased_decoder import BiasedDecoder
from talking3d.models.motion_model import MotionModel, MotionModelConfig
from talking3d.models.motion_prior import MotionCodec, MotionCodecConfig, MotionPrior
from talking3d.models.speaker_styles import SpeakerStyles
from talking3d.models.speech_encoder import SpeechEncoder

SAME = 1e-5  # of the prior's basis and mean, relative to the new model's


@dataclass
class CodeTalkerConfig(MotionModelConfig):
    """What a CodeTalker is made of; stored in its checkpoint."""

    prior: str | None = None  # checkpoint of a trained motion prior; read in training only
    codec: MotionCodecConfig = field(default_factory=MotionCodecConfig)  # the prior's, taken from its checkpoint
    layers: int = 2
    heads: int = 4
    ff_dim: int = 256
    period: int = 25  # frames after which positions repeat and attention falls off by a step
    dropout: float = 0.1
    wrong_past: float = 1.0  # most of another utterance's motion in a training past; 0: the true past, as in the paper
    feature_weight: float = 1.0  # of the features' squared distance from the true motion's codes, against the motion's

    def __post_init__(self):
        super().__post_init__()
        if self.encoder.dim % self.heads:
            raise InputError(f"codetalker.heads ({self.heads}) must divide encoder.dim ({self.encoder.dim})")
        if not 0.0 <= self.wrong_past <= 1.0:
            raise InputError(f"codetalker.wrong_past is a share between 0 and 1, got {self.wrong_past}")


class CodeTalker(MotionModel):
    """Autoregressive transformer decoder over the codes of a frozen motion prior. Arguments as `MotionModel`'s.

    Unknown speakers get the mean of the learned styles. A new one is made by `on_prior`.
    """

    NAME, Config = "codetalker", CodeTalkerConfig

    def __init__(
        self,
        config: CodeTalkerConfig,
        basis: np.ndarray,
        mean: np.ndarray,
        template: FaceTemplate,
        speakers: list[str],
    ):
        super().__init__(config, basis, mean, template, speakers)
        self.encoder = SpeechEncoder(config.encoder)
        self.decoder = BiasedDecoder(
            len(basis),
            dim=config.encoder.dim,
            layers=config.layers,
            heads=config.heads,
            ff_dim=config.ff_dim,
            period=config.period,
            dropout=config.dropout,
            n_speakers=len(speakers),
        )
        self.head = nn.Linear(config.encoder.dim, config.codec.components * config.codec.code_dim)
        self.codec = MotionCodec(config.codec, len(basis)).requires_grad_(False)

    @classmethod
    def on_prior(
        cls,
        config: CodeTalkerConfig,
        basis: np.ndarray,
        mean: np.ndarray,
        template: FaceTemplate,
        speakers: list[str],
    ) -> CodeTalker:
        """A new model on the prior that `config.prior` names. Raises InputError where there is none, or none that fits.

        The prior's basis must be this one: it codes coefficients.
        """
        if config.prior is None:
            raise InputError(
                "codetalker.prior names no motion prior: train one (model: motion_prior), then give "
                "codetalker.prior=CHECKPOINT"
            )
        prior = MotionPrior.from_pretrained(config.prior)
        mine = torch.as_tensor(np.asarray(basis), dtype=torch.float32)
        if prior.basis.shape != mine.shape or (prior.basis - mine).abs().max() > SAME * mine.abs().max():
            raise InputError(
                f"{config.prior} codes motion in another basis of {len(prior.basis)} components than this training's "
                f"{len(mine)}: train both on the same manifests, with the same basis_size"
            )
        model = cls(
            dataclasses.replace(config, codec=prior.config.codec), basis, prior.mean.numpy(), template, speakers
        )
        model.codec.load_state_dict(prior.codec.state_dict())
        return model

    @property
    def styles(self) -> SpeakerStyles:
        """The training speakers' styles."""
        return self.decoder.styles

    def train(self, mode: bool = True) -> CodeTalker:
        """As any module's; the prior stays as it was trained, without dropout."""
        super().train(mode)
        self.codec.eval()
        return self

    def coefficients(self, waveform: Tensor, lengths: Tensor, speakers: Tensor) -> Tensor:
        """waveform (B, S), lengths (B,) in frames, speakers as `MotionModel` has them -> (B, T, K), zero at padding."""
        sound, codes = self.encoder(waveform, lengths), []

        def answer(features: Tensor) -> Tensor:
            codes.append(self.codec.quantise(self.head(features)))
            return self.codec.decode(torch.cat(codes[-self.codec.seen_frames :], dim=1))[:, -1:]

        output = self.mean + self.decoder.speak(sound, speakers, answer)
        return output.masked_fill(padding_mask(lengths, output.shape[1])[:, :, None], 0.0)

    def predict_with_losses(self, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """The coefficients (B, T, K) that the losses are of; and these: `motion_losses`, and in training

        feature: mean squared distance of the features, before they are quantised, from the true motion's codes.

        In eval mode each frame goes on from the model's own motion; in training from the true motion, which is teacher
        forcing as in the paper. A past that is always true is soon copied, and what is copied drifts once the past is
        the model's own. So an utterance's past is mixed with another's, by a share drawn from 0 to `wrong_past`.
        """
        lengths, speakers = batch["lengths"], batch["speakers"]
        if not self.training:
            output = self.coefficients(batch["waveform"], lengths, speakers)
            return output, self.motion_losses(output, batch)
        motion = batch["motion"] - self.mean
        real = ~padding_mask(lengths, motion.shape[1])
        with torch.no_grad():
            wanted = self.codec.quantise(self.codec.encode(motion, lengths))
        wrong = self.config.wrong_past * torch.rand(len(motion), 1, 1, device=motion.device)
        past = torch.lerp(motion, motion.roll(1, dims=0), wrong)
        features = self.head(self.decoder.follow(self.encoder(batch["waveform"], lengths), speakers, past))
        output = self.mean + self.codec.decode(self.codec.quantise(features))
        terms = self.motion_losses(output, batch)
        terms["feature"] = (features - wanted)[real].square().mean()
        terms["loss"] = terms["loss"] + self.config.feature_weight * terms["feature"]
        return output.masked_fill(~real[:, :, None], 0.0), terms
