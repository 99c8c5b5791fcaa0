"""A transformer language model of a tokenizer's tokens (ESPnet's).

Letters: B utterances or texts, K hypotheses of each, U tokens, V vocabulary, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from avsr.data.text import Tokenizer
from avsr.errors import InputError
from avsr.models.espnet import IGNORE, build_language_model
from avsr.models.tokenized import save_with_tokenizer, tokenizer_of
from avsr.training.checkpoint import load_pretrained, load_weights, model_card
from avsr.training.config import from_dict

NAME = "transformer_lm"


@dataclass
class TransformerLMConfig:
    """What a language model is made of; stored in its checkpoint."""

    vocab_size: int = 0  # tokens, blank and <sos/eos> included; 0: filled in from the tokenizer
    dim: int = 128
    layers: int = 2
    heads: int = 4
    ff_dim: int = 512
    dropout: float = 0.1

    def __post_init__(self):
        if self.dim % self.heads:
            raise InputError(f"dim must be a multiple of heads, got {self.dim} / {self.heads}")


class TransformerLM(nn.Module):
    """Log probabilities of a text's next token (Vaswani et al., 2017, the decoder's half without a source)."""

    def __init__(self, config: TransformerLMConfig):
        super().__init__()
        if config.vocab_size < 3:
            raise InputError(f"a language model needs a vocabulary, got vocab_size={config.vocab_size}")
        self.config = config
        self.tokenizer: Tokenizer | None = None
        self.net = build_language_model(
            config.vocab_size,
            dim=config.dim,
            layers=config.layers,
            heads=config.heads,
            ff_dim=config.ff_dim,
            dropout=config.dropout,
        )

    def forward(self, batch: dict) -> dict[str, Tensor]:
        """`loss`: cross-entropy in nats per token, <eos> included, of `tokens` (B, U) padded with -1."""
        tokens, lengths = batch["tokens"], batch["token_lengths"]
        eos = self.config.vocab_size - 1
        targets = functional.pad(tokens, (0, 1), value=IGNORE).scatter(1, lengths[:, None], eos)
        inputs = functional.pad(tokens, (1, 0), value=eos)
        logits, _ = self.net(inputs.masked_fill(inputs == IGNORE, eos), None)  # causal: padding comes last
        return {"loss": functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE)}

    def save_pretrained(self, folder: str | Path, tokenizer: Tokenizer, card_facts: dict | None = None) -> None:
        """Write a checkpoint folder: weights, config, tokenizer and model card."""
        save_with_tokenizer(
            folder,
            tokenizer,
            name=NAME,
            config=self.config,
            state_dict=self.state_dict(),
            card=model_card(NAME, self.config, card_facts or {}),
        )

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path) -> TransformerLM:
        """Load a checkpoint in eval mode, with its `tokenizer`."""
        checkpoint = load_pretrained(folder_or_hub_id, expect=NAME)
        model = cls(from_dict(TransformerLMConfig, checkpoint.config, f"{checkpoint.folder}/config.yaml"))
        load_weights(model, checkpoint.state_dict, str(folder_or_hub_id))
        model.tokenizer = tokenizer_of(checkpoint, model.config.vocab_size)
        return model.eval()


class LanguageModelSteps:
    """A language model, token by token, as a scorer of the beam search over `n_utts` utterances."""

    def __init__(self, model: TransformerLM, n_utts: int):
        self.net = model.net
        self.empty = next(model.parameters()).new_zeros(n_utts, 1, 0, model.config.dim)

    def start(self) -> list[Tensor]:
        """For each layer, what it has made of no tokens (B, 1, 0, D)."""
        return [self.empty for _ in self.net.encoder.encoders]

    def __call__(self, tokens: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Log probabilities (B, K, V) of what follows tokens (B, K, U), and the state with the last of them."""
        past = torch.ones(tokens.shape[-1], tokens.shape[-1], dtype=torch.bool, device=tokens.device).tril()[None]
        embedded = self.net.embed(tokens.flatten(0, 1))
        hidden, _, state = self.net.encoder.forward_one_step(
            embedded, past, cache=[layer.flatten(0, 1) for layer in state]
        )
        logits = self.net.decoder(hidden[:, -1])
        shape = tokens.shape[:2]
        return logits.log_softmax(dim=-1).unflatten(0, shape), [layer.unflatten(0, shape) for layer in state]

    def keep(self, utterances: Tensor) -> None:
        """Nothing here belongs to an utterance."""
