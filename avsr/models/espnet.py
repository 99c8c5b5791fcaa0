"""The one door to ESPnet: its encoders, decoder, CTC, SpecAugment, language model and beam search, and nothing else.

Only low-level modules come in (`espnet2.asr.*`, `espnet.nets.*`): its tasks and command lines reach for the network
when they are imported. Written for the PyPI release 202511.

Letters: B batch, T encoder frames, U tokens, D width.
"""

import contextlib
import copy
import io
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from avsr.errors import InputError

BLANK = 0  # ESPnet's id of the CTC blank; <sos/eos> is the last id
IGNORE = -1  # padding of `tokens`
UNSAID = -1e4  # logit of a token where it must not be said; -inf has no gradient


@contextlib.contextmanager
def _espnet() -> Iterator[None]:
    """Around every import from ESPnet, one of which prints a line about Flash Attention to stdout."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except ImportError as error:
        raise InputError(
            f"ESPnet cannot be imported ({error}); recognition models need it: pip install espnet==202511"
        ) from error


def padding_mask(lengths: Tensor, n_frames: int) -> Tensor:
    """True where a frame is padding: lengths (B,) -> (B, n_frames) bool."""
    return torch.arange(n_frames, device=lengths.device) >= lengths[:, None]


class PaddedEncoder(nn.Module):
    """An ESPnet encoder whose output for an utterance does not depend on the padding beside it.

    ESPnet masks padded frames in the attention only; its depthwise convolutions read them, and the last frames of a
    short utterance come out different in every batch. Here every convolution along time gets zeros there, which is what
    it gets past the end of an utterance that stands alone.

    `attention` is the frames before and after its own that a frame attends to in each layer; None: all of them.
    """

    def __init__(self, encoder: nn.Module, attention: tuple[int, int] | None = None):
        super().__init__()
        self.encoder = encoder
        self.attention = attention
        self._padding: Tensor | None = None  # (B, T) bool, of the batch in flight
        for module in encoder.modules():
            if isinstance(module, nn.Conv1d) and module.kernel_size[0] > 1:
                module.register_forward_pre_hook(self._silence_padding)
            if attention is not None and hasattr(module, "forward_attention"):
                module.register_forward_pre_hook(self._narrow_attention)

    def _silence_padding(self, _module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0].masked_fill(self._padding[:, None, :], 0.0),)  # (B, D, T)

    def _narrow_attention(self, _module: nn.Module, inputs: tuple) -> tuple:
        """ESPnet's encoders take a mask of keys (B, 1, T) only; its attention modules take one of pairs (B, T, T)."""
        *query_key_value_positions, mask = inputs
        past, future = self.attention
        frames = torch.arange(mask.shape[-1], device=mask.device)
        ahead = frames - frames[:, None]  # (T, T): of each query's own frame
        return (*query_key_value_positions, mask & (ahead >= -past) & (ahead <= future))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Encode features (B, T, D) of `lengths` (B,) frames -> (B, T, D) float32, zero at padded frames."""
        self._padding = padding_mask(lengths, features.shape[1])
        # float32: ESPnet would otherwise round its table of positions to the input's precision, for good
        encoded, _, _ = self.encoder(features.float(), lengths, masks=self._padding)
        encoded = encoded.masked_fill(self._padding[:, :, None], 0.0)
        self._padding = None
        return encoded.float()


def build_encoder(
    kind: str,
    *,
    dim: int,
    layers: int,
    heads: int,
    ff_dim: int,
    kernel: int,
    dropout: float,
    attention: tuple[int, int] | None = None,
    ff_activation: str = "swish",
) -> PaddedEncoder:
    """Build ESPnet's Conformer (Gulati et al., 2020) or E-Branchformer (Kim et al., 2022) with relative positions.

    Args:
        kind: "conformer" or "e_branchformer".
        dim: width D of input and output.
        ff_dim: inner width of the feed-forward modules (and of the gating MLP).
        kernel: frames that a convolution sees; odd.
        attention: frames before and after its own that a frame attends to in each layer; None: all.
        ff_activation: "swish", or "relu" as in Auto-AVSR, of the feed-forward modules.
    """
    if ff_activation not in ("swish", "relu"):
        raise InputError(f"unknown ff_activation {ff_activation!r}; expected swish or relu")
    if kernel % 2 == 0 or dim % heads:
        raise InputError(f"the encoder needs an odd kernel and a dim that heads divide, got {kernel}, {dim} / {heads}")
    shared = dict(
        input_size=dim,
        output_size=dim,
        attention_heads=heads,
        linear_units=ff_dim,
        num_blocks=layers,
        dropout_rate=dropout,
        positional_dropout_rate=dropout,
        attention_dropout_rate=dropout,
        input_layer=None,
        rel_pos_type="latest",
    )
    if kind == "conformer":
        with _espnet():
            from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
        encoder = ConformerEncoder(**shared, macaron_style=True, cnn_module_kernel=kernel)
    elif kind == "e_branchformer":
        with _espnet():
            from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder
        encoder = EBranchformerEncoder(
            **shared,
            cgmlp_linear_units=ff_dim,
            cgmlp_conv_kernel=kernel,
            use_ffn=True,
            macaron_ffn=True,
            merge_conv_kernel=kernel,
        )
    else:
        raise InputError(f"unknown encoder {kind!r}; expected conformer, e_branchformer (recognisers: transformer)")
    if ff_activation == "relu":
        for layer in encoder.encoders:
            layer.feed_forward.activation = layer.feed_forward_macaron.activation = nn.ReLU()
    return PaddedEncoder(encoder, attention)


def build_decoder(vocab_size: int, *, dim: int, layers: int, heads: int, ff_dim: int, dropout: float) -> nn.Module:
    """Build ESPnet's transformer decoder over `vocab_size` tokens."""
    with _espnet():
        from espnet2.asr.decoder.transformer_decoder import TransformerDecoder
    return TransformerDecoder(
        vocab_size=vocab_size,
        encoder_output_size=dim,
        attention_heads=heads,
        linear_units=ff_dim,
        num_blocks=layers,
        dropout_rate=dropout,
        positional_dropout_rate=dropout,
        self_attention_dropout_rate=dropout,
        src_attention_dropout_rate=dropout,
        use_flash_attn=False,
    )


def build_language_model(
    vocab_size: int, *, dim: int, layers: int, heads: int, ff_dim: int, dropout: float
) -> nn.Module:
    """Build ESPnet's transformer language model over `vocab_size` tokens."""
    with _espnet():
        from espnet2.lm.transformer_lm import TransformerLM
    return TransformerLM(
        vocab_size=vocab_size,
        pos_enc="sinusoidal",
        embed_unit=dim,
        att_unit=dim,
        head=heads,
        unit=ff_dim,
        layer=layers,
        dropout_rate=dropout,
        positional_dropout_rate=dropout,
        attention_dropout_rate=dropout,
    )


def build_ctc(vocab_size: int, dim: int) -> nn.Module:
    """Build ESPnet's CTC head. Its own dropout would also run in eval mode, so it is off."""
    with _espnet():
        from espnet2.asr.ctc import CTC
    return CTC(odim=vocab_size, encoder_output_size=dim, dropout_rate=0.0)


def build_spec_augment(*, freq_masks: int, freq_width: int, time_masks: int, time_width: int) -> nn.Module | None:
    """Build ESPnet's SpecAugment (Park et al., 2019) without time warp: (B, L, 80), lengths -> the same, masked by 0.

    Args:
        freq_masks, freq_width: how many bands are masked, and the widest in mel bins.
        time_masks, time_width: how many stretches are masked, and the longest in mel frames.

    Returns None where nothing is to be masked.
    """
    if freq_masks == 0 and time_masks == 0:
        return None
    with _espnet():
        from espnet2.asr.specaug.specaug import SpecAug
    return SpecAug(
        apply_time_warp=False,
        apply_freq_mask=freq_masks > 0,
        num_freq_mask=freq_masks,
        freq_mask_width_range=(0, freq_width + 1),
        apply_time_mask=time_masks > 0,
        num_time_mask=time_masks,
        time_mask_width_range=(0, time_width + 1),
    )


def ctc_loss(
    ctc: nn.Module,
    encoded: Tensor,
    lengths: Tensor,
    tokens: Tensor,
    token_lengths: Tensor,
    token_frames: Tensor | None = None,
) -> Tensor:
    """CTC loss in nats per token: encoded (B, T, D), tokens (B, U) padded with -1 -> scalar.

    With `token_frames` (B, U, 2), only the paths count that say each token at or after its first frame and before its
    second (Senior et al., 2015): an encoder that hears all says it anywhere else.
    """
    if token_frames is None:
        per_utterance = ctc(encoded, lengths, tokens, token_lengths)  # ESPnet's: sum over the batch / B
        return per_utterance * len(tokens) / token_lengths.sum()
    logits = ctc.ctc_lo(encoded).float()
    n_frames = logits.shape[1]
    frames = torch.arange(n_frames, device=logits.device)[None, :, None]
    now = (frames >= token_frames[:, None, :, 0]) & (frames < token_frames[:, None, :, 1])  # (B, T, U)
    ids = tokens.clamp(min=0)[:, None, :].expand(-1, n_frames, -1)
    allowed = torch.zeros_like(logits).scatter_add_(2, ids, now.to(logits.dtype)) > 0
    allowed[:, :, BLANK] = True
    # p(token) = p(token | allowed) p(allowed): torch's CTC gradient holds for probabilities that sum to one
    possible = logits.masked_fill(~allowed, UNSAID)
    in_frame = ~padding_mask(lengths, n_frames)
    lost = (logits.logsumexp(dim=-1) - possible.logsumexp(dim=-1)).masked_select(in_frame).sum()
    log_probs = possible.log_softmax(dim=-1).transpose(0, 1)
    paths = functional.ctc_loss(
        log_probs, tokens.clamp(min=0), lengths, token_lengths, reduction="sum", zero_infinity=True
    )
    return (paths + lost) / token_lengths.sum()


def attention_loss(
    decoder: nn.Module, encoded: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor, smoothing: float
) -> Tensor:
    """Cross-entropy of the decoder's next tokens in nats per token, <eos> included, with label smoothing."""
    with _espnet():
        from espnet.nets.pytorch_backend.transformer.add_sos_eos import add_sos_eos
    eos = decoder.output_layer.out_features - 1
    inputs, targets = add_sos_eos(tokens, eos, eos, IGNORE)  # (B, U + 1) each
    logits, _ = decoder(encoded, lengths, inputs, token_lengths + 1)  # (B, U + 1, vocabulary)
    return functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE, label_smoothing=smoothing
    )


@torch.no_grad()
def espnet_beam_search(
    encoded: Tensor,
    *,
    ctc: nn.Module,
    decoder: nn.Module | None,
    vocab_size: int,
    beam_size: int,
    ctc_weight: float,
    length_bonus: float,
    pre_beam: bool = True,
) -> list[tuple[list[int], float]]:
    """Decode one utterance by ESPnet's batch beam search; `avsr.search.beam` is compared with it.

    Args:
        encoded: (T, D), without padding.
        decoder: None decodes with CTC prefix scores alone.
        ctc_weight: share of the CTC scores; the decoder has the rest.
        length_bonus: added per token.
        pre_beam: CTC scores only the decoder's best 1.5 x beam_size tokens.

    Returns:
        Token ids without <sos/eos> and scores (log, higher is better) of all ended hypotheses, best first.
    """
    with _espnet():
        from espnet.nets.batch_beam_search import BatchBeamSearch
        from espnet.nets.scorers.ctc import CTCPrefixScorer
        from espnet.nets.scorers.length_bonus import LengthBonus

    class PrefixScorer(CTCPrefixScorer):
        """ESPnet scores what CTC cannot emit -1e10 and takes it back a step later; here such a path stays dead."""

        def batch_score_partial(self, y, ids, state, x):
            scores, state = super().batch_score_partial(y, ids, state, x)
            return scores.masked_fill(scores < -1e9, float("-inf")), state

    eos = vocab_size - 1
    if decoder is None:
        ctc_weight = 1.0
    search = BatchBeamSearch(
        scorers={"decoder": decoder, "ctc": PrefixScorer(ctc, eos), "length_bonus": LengthBonus(vocab_size)},
        weights={"decoder": 1.0 - ctc_weight, "ctc": ctc_weight, "length_bonus": length_bonus},
        beam_size=min(beam_size, vocab_size),
        vocab_size=vocab_size,
        sos=eos,
        eos=eos,
        pre_beam_score_key="full" if pre_beam and ctc_weight < 1.0 else None,
    )
    return [([token for token in one.yseq.tolist() if token != eos], float(one.score)) for one in search(encoded)]


def espnet_asr_model(
    encoder: PaddedEncoder, decoder: nn.Module, ctc: nn.Module, ctc_weight: float, label_smoothing: float
) -> nn.Module:
    """ESPnet's own model of copies of these parts, its encoder as ESPnet has it; training is compared with it.

    Called with features (B, T, D), their lengths, tokens (B, U) padded with -1 and theirs, it returns the loss first.
    """
    with _espnet():
        from espnet2.asr.espnet_model import ESPnetASRModel

    own = copy.deepcopy(encoder.encoder)
    for module in own.modules():
        module._forward_pre_hooks.clear()
    vocab_size = decoder.output_layer.out_features
    return ESPnetASRModel(
        vocab_size=vocab_size,
        token_list=[str(token) for token in range(vocab_size)],
        frontend=None,
        specaug=None,
        normalize=None,
        preencoder=None,
        encoder=own,
        postencoder=None,
        decoder=copy.deepcopy(decoder),
        ctc=copy.deepcopy(ctc),
        joint_network=None,
        ctc_weight=ctc_weight,
        lsm_weight=label_smoothing,
        report_cer=False,
        report_wer=False,
    )
