"""What a recogniser is made of: its config, and the parts that are built by it.

Letters: B batch, S samples, T video frames, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from avsr.errors import InputError
from avsr.media.lips import MOUTH_WIDTH
from avsr.models.espnet import build_encoder
from avsr.models.filterbank_frontend import FilterbankFrontend
from avsr.models.frontends import CONTEXT_FRAMES, AudioFrontend
from avsr.models.fusion import CROSS_FRAMES
from avsr.models.transformer_encoder import TransformerEncoder
from avsr.models.view import ViewConfig, audio_view, encoder_view
from avsr.models.waveform_frontend import WaveformFrontend

STREAMS = {"a": "audio", "v": "video", "av": "audio and video"}
LOG_MEL_KINDS = ("conv1d", "conv2d")  # front ends of sound whose view can be bounded


@dataclass
class RecognizerConfig(ViewConfig):
    """What a recogniser is made of; stored in its checkpoint. A bounded view makes streaming possible."""

    modalities: str = "av"  # a, v or av: the front ends it has
    vocab_size: int = 0  # tokens, blank and <sos/eos> included; 0: filled in from the tokenizer
    n_labels: int = 0  # frame classes beside silence; 0: no frame-level loss
    longest_s: float | None = None  # utterance of its training, filled in from the data; None: not known
    dim: int = 144
    audio_frontend: str = "conv1d"  # conv1d, conv2d (log-mel), resnet1d (waveform) or filterbank
    visual_frontend: str = "small"  # small, resnet18, resnet18_swish or resnet18_prelu
    visual_channels: list[int] = field(default_factory=lambda: [24, 48, 96])  # of the small one
    mouth_width: float = MOUTH_WIDTH  # of the lip crops it was trained with, as a share of their width
    encoder: str = "conformer"  # conformer, e_branchformer or transformer
    stream_layers: int = 0  # that sound and lips have each of their own
    layers: int = 3  # after they have met
    fusion: str = "gated"  # gated, concat, concat_norm (AV-HuBERT) or cross_attention
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
    stream_ctc_weight: float = 0.0  # of the same CTC on each stream's own encoder (intermediate CTC)
    label_smoothing: float = 0.1
    frame_weight: float = 1.0  # of the frame-level cross-entropy at the start of training
    frame_until: float = 0.6  # share of training by which that weight has fallen to 0

    @property
    def view_frames(self) -> tuple[int, int] | None:
        """Video frames before and after its own that a frame's posteriors depend on; None where they depend on all."""
        hears = "a" in self.modalities
        if self.attention is None or (hears and self.statistics is None):
            return None
        views = [audio_view(self.statistics)] if hears else []
        views += [(CONTEXT_FRAMES // 2, CONTEXT_FRAMES // 2)] if "v" in self.modalities else []
        encoders = encoder_view(self.encoder, self.stream_layers + self.layers, self.kernel, self.attention)
        meeting = CROSS_FRAMES if self.modalities == "av" and self.fusion == "cross_attention" else 0
        return tuple(max(view[side] for view in views) + encoders[side] + meeting for side in (0, 1))

    def __post_init__(self):
        super().__post_init__()
        if self.modalities not in STREAMS:
            raise InputError(f"unknown modalities {self.modalities!r}; expected a, v or av")
        if self.attention is not None and self.encoder == "transformer":
            raise InputError("the transformer attends to all frames: leave attention_past and attention_future null")
        if self.statistics is not None and self.audio_frontend not in LOG_MEL_KINDS:
            raise InputError(
                "statistics_past_s and statistics_future_s bound how log-mel is normalised, which "
                f"{self.audio_frontend} does not have: leave them null"
            )
        if self.layers < 1 or self.stream_layers < 0:
            raise InputError(
                f"a recogniser needs layers >= 1 and stream_layers >= 0, got {self.layers}, {self.stream_layers}"
            )
        if self.stream_ctc_weight > 0 and self.stream_layers == 0:
            raise InputError("stream_ctc_weight needs streams with encoders of their own: stream_layers is 0")
        for name in (
            "ctc_weight",
            "stream_ctc_weight",
            "frame_until",
            "drop_audio",
            "drop_video",
            "dropout",
            "frontend_dropout",
        ):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name} is a share between 0 and 1, got {getattr(self, name)}")
        if self.drop_audio + self.drop_video > 1.0:
            raise InputError(f"drop_audio + drop_video is {self.drop_audio + self.drop_video}: no stream would be left")


def build_audio_frontend(config: RecognizerConfig) -> nn.Module:
    """waveform (B, S), lengths (B,) in video frames -> (B, T, D), by `config.audio_frontend`."""
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
        statistics=config.statistics,
        spec_augment={
            "freq_masks": config.freq_masks,
            "freq_width": config.freq_mask_bins,
            "time_masks": config.time_masks,
            "time_width": config.time_mask_frames,
        },
    )


def build_stream_encoder(config: RecognizerConfig, layers: int) -> nn.Module:
    """features (B, T, D), lengths (B,) -> (B, T, D), by `config.encoder`, of so many layers."""
    sizes = dict(dim=config.dim, layers=layers, heads=config.heads, ff_dim=config.ff_dim, dropout=config.dropout)
    if config.encoder == "transformer":
        return TransformerEncoder(**sizes)
    return build_encoder(
        config.encoder,
        **sizes,
        kernel=config.kernel,
        ff_activation=config.ff_activation,
        attention=config.attention,
    )
