"""Speech to features at the motion's rate: a front end (the recogniser's, or pretrained) and an ESPnet encoder.

Letters: B batch, S samples, T video frames, D width.
"""

from dataclasses import dataclass, replace

from torch import Tensor, nn

from avsr.models.espnet import build_encoder
from avsr.models.frontends import AudioFrontend
from avsr.models.recognizer import Recognizer
from avsr.models.recognizer_parts import RecognizerConfig
from avsr.models.view import ViewConfig, audio_view, encoder_view
from avsr.training.checkpoint import CONFIG_FILE, find_folder
from talking3d.models.pretrained_speech import FILES, PretrainedSpeech, SpeechArchitecture, read_architecture
from talking3d.models.recognizer_speech import RecognizerSpeech


@dataclass
class SpeechEncoderConfig(ViewConfig):
    """Log-mel, two strided convolutions to 25 Hz, then a small conformer.

    It hears the whole utterance, or as far as `attention_` and `statistics_` say, which makes streaming possible. With
    `pretrained` another network's features take the place of the first two (`pretrained_speech.py`, of a recogniser
    `recognizer_speech.py`); its weights become part of the checkpoint, which needs the folder no more.
    """

    dim: int = 128
    encoder: str = "conformer"  # conformer or e_branchformer
    layers: int = 2
    heads: int = 4
    ff_dim: int = 256
    kernel: int = 11  # frames that an encoder's convolution sees; odd
    dropout: float = 0.1
    freq_masks: int = 2  # SpecAugment in training
    freq_mask_bins: int = 10
    time_masks: int = 1
    time_mask_frames: int = 6  # mel frames: longer gaps hide whole phones, which then cannot be predicted
    pretrained: str | None = None  # folder or hub id: wav2vec 2.0, HuBERT, WavLM (Hugging Face), or our recogniser
    finetune: bool = False  # train it too (of the former, the transformer)
    architecture: SpeechArchitecture | None = None  # of the former; read from there, and kept in checkpoints
    recognizer: RecognizerConfig | None = None  # of the latter, likewise

    @property
    def view_frames(self) -> tuple[int, int] | None:
        """Video frames before and after its own that a feature depends on; None where it depends on all."""
        if self.attention is None or self.statistics is None or self.pretrained is not None:
            return None
        sound = audio_view(self.statistics)
        encoder = encoder_view(self.encoder, self.layers, self.kernel, self.attention)
        return sound[0] + encoder[0], sound[1] + encoder[1]


class SpeechEncoder(nn.Module):
    """waveform -> (B, T, D) features, one a video frame; an utterance's are the same alone and in a padded batch.

    With `pretrained` it takes that network's weights; with its `architecture` too, as checkpoints have it, none yet.
    """

    def __init__(self, config: SpeechEncoderConfig):
        super().__init__()
        in_checkpoint = config.architecture is not None or config.recognizer is not None
        if config.pretrained is not None and not in_checkpoint:
            config = replace(config, **_network_in(config.pretrained))
        self.config = config
        self.frontend = _front_end(config)
        if config.pretrained is not None and not in_checkpoint:
            self.frontend.load_weights_of(config.pretrained)
        self.encoder = build_encoder(
            config.encoder,
            dim=config.dim,
            layers=config.layers,
            heads=config.heads,
            ff_dim=config.ff_dim,
            kernel=config.kernel,
            dropout=config.dropout,
            attention=config.attention,
        )

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """waveform (B, S) at 16 kHz, lengths (B,) in video frames -> (B, T, D), zero at padded frames."""
        return self.encoder(self.frontend(waveform, lengths), lengths)


def _front_end(config: SpeechEncoderConfig) -> nn.Module:
    """A module (waveform, lengths) -> (B, T, D), T the longest length."""
    if config.recognizer is not None:
        return RecognizerSpeech(config.dim, config.recognizer, dropout=config.dropout, finetune=config.finetune)
    if config.pretrained is not None:
        return PretrainedSpeech(config.dim, config.architecture, dropout=config.dropout, finetune=config.finetune)
    return AudioFrontend(
        config.dim,
        dropout=config.dropout,
        spec_augment={
            "freq_masks": config.freq_masks,
            "freq_width": config.freq_mask_bins,
            "time_masks": config.time_masks,
            "time_width": config.time_mask_frames,
        },
        statistics=config.statistics,
    )


def _network_in(folder_or_hub_id: str) -> dict:
    """What a network is made of, under its name in the config: a checkpoint of this kit has a config.yaml."""
    if (find_folder(folder_or_hub_id, (*FILES, CONFIG_FILE)) / CONFIG_FILE).is_file():
        return {"recognizer": Recognizer.from_pretrained(folder_or_hub_id).config}
    return {"architecture": read_architecture(folder_or_hub_id)}
