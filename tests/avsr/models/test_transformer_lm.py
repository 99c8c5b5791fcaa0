"""The transformer language model: what training makes of a small language, step by step as all at once."""

import math
from pathlib import Path

import pytest
import torch

from avsr.data.text import train_tokenizer
from avsr.data.text_dataset import TextDataset, collate_texts
from avsr.errors import InputError
from avsr.models.transformer_lm import LanguageModelSteps, TransformerLM, TransformerLMConfig
from avsr.train import train

CONFIG = Path(__file__).resolve().parents[3] / "egs" / "mini" / "conf" / "transformer_lm.yaml"
TEXTS = ["bin blue now", "set red soon", "bin blue now", "set red soon now"]


def random_model(vocab_size: int = 8) -> TransformerLM:
    torch.manual_seed(0)
    config = TransformerLMConfig(vocab_size=vocab_size, dim=16, layers=2, heads=2, ff_dim=32)
    return TransformerLM(config).eval()


def test_the_loss_does_not_depend_on_padding():
    model = random_model()
    texts = [torch.tensor([2, 3, 4, 5]).numpy(), torch.tensor([6, 2]).numpy()]
    with torch.no_grad():
        together = model(collate_texts(texts))["loss"]
        alone = [model(collate_texts([text]))["loss"] for text in texts]
    assert torch.allclose(together, (5 * alone[0] + 3 * alone[1]) / 8, atol=1e-6)  # <eos> counts as a token
    assert 0.3 < together / math.log(8) < 3


def test_it_says_the_same_step_by_step_and_all_at_once():
    model = random_model()
    tokens = torch.randint(1, 8, (2, 3, 5))
    with torch.no_grad():
        whole = model.net(tokens.flatten(0, 1), None)[0].log_softmax(-1).unflatten(0, (2, 3))
        steps = LanguageModelSteps(model, 2)
        state = [layer.expand(-1, 3, -1, -1) for layer in steps.start()]
        for length in range(1, 6):
            scores, state = steps(tokens[:, :, :length], state)
            assert torch.allclose(scores, whole[:, :, length - 1], atol=1e-5)


def test_a_config_file_trains_one_that_knows_its_language(tmp_path):
    tokenizer = train_tokenizer(TEXTS, "word")
    tokenizer.save(tmp_path / "tokenizer.model")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS * 8))
    folder = train(
        CONFIG,
        [
            f"out={tmp_path / 'run'}", f"data.train=[{tmp_path / 'texts.txt'}]", "data.max_texts=8",
            f"data.valid=[{tmp_path / 'texts.txt'}]", f"data.tokenizer={tmp_path / 'tokenizer.model'}",
            "transformer_lm.dim=32", "transformer_lm.ff_dim=64", "trainer.max_epochs=15", "trainer.lr=0.01",
            "trainer.num_threads=1",
        ],
    )  # fmt: skip
    model = TransformerLM.from_pretrained(folder)
    assert model.tokenizer.tokens == tokenizer.tokens and not model.training
    with torch.no_grad():
        loss = model(collate_texts(list(TextDataset(TEXTS, tokenizer))))["loss"]
    entropy = (math.log(2) * 4 + math.log(2) * 2) / (4 * 3 + 1 + 4)  # which of two begins; whether "now" follows "soon"
    assert entropy < loss < entropy + 0.15
    model.save_pretrained(tmp_path / "copy", tokenizer)
    again = TransformerLM.from_pretrained(tmp_path / "copy")
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), again.parameters(), strict=True))


def test_what_cannot_be_trained_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("model: parrot\n")
    with pytest.raises(InputError, match="unknown model 'parrot'; expected one of recognizer, transformer_lm"):
        train(tmp_path / "config.yaml", [])
    with pytest.raises(InputError, match="dim must be a multiple of heads, got 10 / 4"):
        TransformerLMConfig(dim=10)
    with pytest.raises(InputError, match="a language model needs a vocabulary"):
        TransformerLM(TransformerLMConfig())


def test_a_tokenizer_of_another_training_is_refused(tmp_path):
    tokenizer = train_tokenizer(TEXTS, "word")
    model = TransformerLM(TransformerLMConfig(vocab_size=len(tokenizer) + 1, dim=16, heads=2, ff_dim=16, layers=1))
    model.save_pretrained(tmp_path / "lm", tokenizer)
    with pytest.raises(InputError, match="come from different trainings"):
        TransformerLM.from_pretrained(tmp_path / "lm")
