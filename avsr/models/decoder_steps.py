"""An attention decoder's steps for a beam search over a batch of utterances.

Letters: B utterances, K hypotheses, T encoder frames, U tokens, V vocabulary, D width, h heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from avsr.models.espnet import padding_mask


class DecoderSteps:
    """An attention decoder of `build_decoder`, token by token, for K hypotheses of each of B utterances.

    ESPnet's own steps project the encoder's frames anew for every hypothesis and token. Here keys and values of the
    frames are computed once an utterance, those of the tokens once a token.

    Args:
        decoder: in eval mode.
        encoded: (B, T, D); padded frames are not looked at.
        lengths: (B,) frames.
    """

    def __init__(self, decoder: nn.Module, encoded: Tensor, lengths: Tensor):
        self.decoder = decoder
        self.frames = [_keys_and_values(layer.src_attn, encoded) for layer in decoder.decoders]  # (B, 2, h, T, d) each
        self.seen = ~padding_mask(lengths, encoded.shape[1])[:, None, None, :]

    def start(self) -> list[Tensor]:
        """For each layer, the keys and values (B, 1, 2, h, 0, d) of no tokens."""
        return [frames[:, None, :, :, :0] for frames in self.frames]

    def __call__(self, tokens: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Log probabilities (B, K, V) of what follows tokens (B, K, U), and the state with the last of them."""
        n_utts, n_hyps, _ = tokens.shape
        x = self.decoder.embed(tokens.flatten(0, 1))[:, -1:]  # (B K, 1, D)
        new_state = []
        for layer, frames, past in zip(self.decoder.decoders, self.frames, state, strict=True):
            own = layer.norm1(x)
            kept = torch.cat([past, _keys_and_values(layer.self_attn, own).unflatten(0, (n_utts, n_hyps))], dim=-2)
            new_state.append(kept)
            x = x + _attend(layer.self_attn, own, kept.flatten(0, 1), None)
            # an utterance's hypotheses stand side by side as if they were positions of one text
            query = layer.norm2(x).view(n_utts, n_hyps, -1)
            x = x + _attend(layer.src_attn, query, frames, self.seen).view(x.shape)
            x = x + layer.feed_forward(layer.norm3(x))
        logits = self.decoder.output_layer(self.decoder.after_norm(x[:, -1]))
        return logits.log_softmax(dim=-1).view(n_utts, n_hyps, -1), new_state

    def keep(self, utterances: Tensor) -> None:
        """Go on with some of the utterances only: their indices."""
        self.frames = [frames[utterances] for frames in self.frames]
        self.seen = self.seen[utterances]


def _keys_and_values(attention: nn.Module, x: Tensor) -> Tensor:
    """(N, L, D) -> (N, 2, h, L, d) of h heads."""
    both = torch.stack([attention.linear_k(x), attention.linear_v(x)], dim=1)
    return both.unflatten(-1, (attention.h, attention.d_k)).transpose(2, 3)


def _attend(attention: nn.Module, query: Tensor, keys_and_values: Tensor, seen: Tensor | None) -> Tensor:
    """query (N, Q, D) to keys and values (N, 2, h, L, d), where `seen` (N, 1, 1, L) -> (N, Q, D)."""
    heads = attention.linear_q(query).unflatten(-1, (attention.h, attention.d_k)).transpose(1, 2)
    key, value = keys_and_values.unbind(dim=1)
    context = functional.scaled_dot_product_attention(heads, key, value, attn_mask=seen)
    return attention.linear_out(context.transpose(1, 2).flatten(2))
