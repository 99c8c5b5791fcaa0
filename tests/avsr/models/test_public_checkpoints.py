"""Public checkpoints: random weights in their very format, imported, against a twin written from the publication."""

import pytest
import torch
from auto_avsr_twin import Twin, random_weights
from safetensors.torch import save_file
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from avsr import cli
from avsr.errors import InputError
from avsr.models.frontends import VideoFrontend
from avsr.models.public_checkpoints import auto_avsr_tokenizer, import_auto_avsr, load_visual_frontend
from avsr.models.recognizer import Recognizer

TEXTS = ["BIN BLUE AT F TWO NOW", "SET RED IN G SIX AGAIN", "LAY WHITE BY Z ONE SOON", "PLACE GREEN WITH A NINE PLEASE"]
LENGTHS = (9, 6)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """A list of units, in alphabetical order and with one that the sentencepiece model lacks, and the model."""
    folder = tmp_path_factory.mktemp("spm")
    with (folder / "unigram.model").open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS * 3), model_writer=file, model_type="unigram", vocab_size=34, minloglevel=2
        )
    pieces = SentencePieceProcessor(model_file=str(folder / "unigram.model"))
    listed = sorted({piece for text in TEXTS for piece in pieces.encode(text, out_type=str)} | {"Ω"})
    lines = [f"{unit} {number}" for number, unit in enumerate(["<unk>", *listed], start=1)]
    (folder / "units.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "units.txt", folder / "unigram.model", len(lines) + 2


def imported(weights: dict, vocabulary, folder) -> Recognizer:
    torch.save(weights, folder / "public.pth")
    units, pieces, _ = vocabulary
    import_auto_avsr(folder / "public.pth", units, pieces, folder / "checkpoint")
    return Recognizer.from_pretrained(folder / "checkpoint")


def a_batch() -> dict:
    generator = torch.Generator().manual_seed(3)
    longest = max(LENGTHS)
    return {
        "utt_ids": ["one", "two"],
        "lengths": torch.tensor(LENGTHS),
        "waveform": torch.randn(2, longest * 640, generator=generator),  # padding holds noise
        "lips": torch.randint(0, 256, (2, longest, 88, 88), dtype=torch.uint8, generator=generator),
        "has_audio": torch.ones(2, dtype=torch.bool),
        "has_video": torch.ones(2, dtype=torch.bool),
    }


def of_2021(weights: dict) -> dict:
    """The names of Visual Speech Recognition for Multiple Languages: front end and projection within the encoder."""
    moved = {"frontend.": "encoder.frontend.", "proj_encoder.": "encoder.embed.0."}
    for new, old in moved.items():
        weights = {name.replace(new, old, 1) if name.startswith(new) else name: w for name, w in weights.items()}
    return weights


@pytest.mark.parametrize("case", ["lips", "sound", "lips of 2021", "lips with slopes"])
@torch.inference_mode()
def test_an_imported_recogniser_is_the_published_network(case, vocabulary, tmp_path):
    video = case != "sound"
    weights = random_weights(video, vocabulary[2], prelu=case == "lips with slopes")
    model = imported(of_2021(weights) if "2021" in case else weights, vocabulary, tmp_path)
    assert model.config.modalities == ("v" if video else "a") and model.config.layers == 2
    twin, batch = Twin(weights), a_batch()
    encoded, lengths = model.encode(batch)
    tokens = torch.tensor([vocabulary[2] - 1, 4, 7, 2])
    logits, _ = model.decoder(encoded, lengths, tokens.repeat(2, 1), torch.tensor([4, 4]))
    for index, length in enumerate(LENGTHS):
        seen = batch["lips"][index, :length] if video else batch["waveform"][index, : length * 640]
        expected = twin.encode(twin.visual(seen) if video else twin.audio(seen))
        torch.testing.assert_close(encoded[index, :length], expected, atol=1e-4, rtol=1e-4)
        posteriors = twin.linear(expected, "ctc.ctc_lo").log_softmax(dim=-1)
        torch.testing.assert_close(
            model.ctc.log_softmax(encoded[index : index + 1])[0, :length], posteriors, atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(logits[index], twin.decode(tokens, expected), atol=1e-4, rtol=1e-4)


def test_the_tokenizer_has_the_ids_of_the_list(vocabulary):
    units, pieces, size = vocabulary
    tokenizer = auto_avsr_tokenizer(units, pieces)
    numbers = dict(line.rsplit(" ", 1) for line in units.read_text(encoding="utf-8").splitlines())
    model = SentencePieceProcessor(model_file=str(pieces))
    assert len(tokenizer) == size and tokenizer.tokens[int(numbers["Ω"])] == "Ω"
    for text in TEXTS:
        assert tokenizer.encode(text) == [int(numbers[piece]) for piece in model.encode(text, out_type=str)]
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_command_imports_and_says_where(vocabulary, tmp_path, capsys):
    weights = random_weights(True, vocabulary[2], layers=1)
    torch.save({"state_dict": {f"model.{name}": tensor for name, tensor in weights.items()}}, tmp_path / "public.pth")
    options = ["--units", str(vocabulary[0]), "--pieces", str(vocabulary[1]), "--out", str(tmp_path / "out")]
    assert cli.main(["import", "auto_avsr", str(tmp_path / "public.pth"), *options]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    assert Recognizer.from_pretrained(tmp_path / "out").config.mouth_width == pytest.approx(0.469)


def test_what_does_not_fit_is_named(vocabulary, tmp_path):
    weights = random_weights(True, vocabulary[2], layers=1)
    with pytest.raises(InputError, match=r"lack: aux_encoder.after_norm.weight, fusion.fc1.weight; .* one stream"):
        more = {"aux_encoder.after_norm.weight": torch.ones(2), "fusion.fc1.weight": torch.ones(2, 2)}
        imported(weights | more, vocabulary, tmp_path)
    with pytest.raises(InputError, match="no encoder.encoders.0.self_attn.pos_bias_u among frontend.frontend3D.0"):
        imported({k: v for k, v in weights.items() if "pos_bias" not in k}, vocabulary, tmp_path)
    with pytest.raises(InputError, match=r"unexpected: encoder.encoder.encoders.0.gate.weight"):
        imported(weights | {"encoder.encoders.0.gate.weight": torch.ones(2)}, vocabulary, tmp_path)
    with pytest.raises(InputError, match=r"missing: video.trunk.layer4.1.bn2.bias"):
        imported({k: v for k, v in weights.items() if k != "frontend.trunk.layer4.1.bn2.bias"}, vocabulary, tmp_path)
    with pytest.raises(InputError, match=f"{vocabulary[2]} tokens with blank and end, and .* has 9"):
        imported(random_weights(True, 9, layers=1), vocabulary, tmp_path)


def test_files_that_are_something_else_are_refused(vocabulary, tmp_path):
    units, pieces, _ = vocabulary
    with pytest.raises(InputError, match="no such checkpoint"):
        import_auto_avsr(tmp_path / "absent.pth", units, pieces, tmp_path / "out")
    (tmp_path / "bad.pth").write_bytes(b"nothing")
    with pytest.raises(InputError, match="corrupt, or holds more than weights"):
        import_auto_avsr(tmp_path / "bad.pth", units, pieces, tmp_path / "out")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="expected names and tensors, found list"):
        import_auto_avsr(tmp_path / "list.pth", units, pieces, tmp_path / "out")
    (tmp_path / "units.txt").write_text("a 1\nb 3\n")
    with pytest.raises(InputError, match="lines of a unit and its number"):
        auto_avsr_tokenizer(tmp_path / "units.txt", pieces)
    (tmp_path / "units.txt").write_text("a 1\n")
    with pytest.raises(InputError, match="the first unit is 'a'; expected <unk>"):
        auto_avsr_tokenizer(tmp_path / "units.txt", pieces)
    (tmp_path / "units.txt").write_text("<unk> 1\nQQ 2\n")
    with pytest.raises(InputError, match="has none of the units"):
        auto_avsr_tokenizer(tmp_path / "units.txt", pieces)
    with pytest.raises(InputError, match="not a sentencepiece model"):
        auto_avsr_tokenizer(units, units)
    with pytest.raises(InputError, match="cannot be read"):
        auto_avsr_tokenizer(units, tmp_path / "absent.model")


@pytest.mark.parametrize("parent", ["model.encoder", "encoder.w2v_model"])  # Hugging Face's and fairseq's
@torch.inference_mode()
def test_av_huberts_visual_front_end_starts_ours(parent, tmp_path):
    public = random_weights(True, 9, layers=1, prelu=True)
    prefix, path = f"{parent}.feature_extractor_video", tmp_path / "model.safetensors"
    resnet = {name.removeprefix("frontend."): w for name, w in public.items() if name.startswith("frontend.")}
    stored = {f"{prefix}.resnet.{name}": w for name, w in resnet.items()}
    stored |= {f"{prefix}.proj.{part}": public[f"proj_encoder.{part}"] for part in ("weight", "bias")}
    save_file(stored, path)
    twin, lips = Twin(public), a_batch()["lips"][:1]
    same = VideoFrontend(32, kind="resnet18_prelu", channels=[], dropout=0.0).eval()
    load_visual_frontend(same, path)
    expected = twin.linear(twin.visual(lips[0]), "proj_encoder")
    torch.testing.assert_close(same(lips, torch.tensor([9]))[0], expected, atol=1e-4, rtol=1e-4)
    narrower = VideoFrontend(16, kind="resnet18_prelu", channels=[], dropout=0.0).eval()
    before = narrower.project.weight.clone()
    load_visual_frontend(narrower, path)
    assert torch.equal(narrower.project.weight, before)
    assert torch.equal(narrower.trunk.layer4[1].relu2.weight, resnet["trunk.layer4.1.relu2.weight"])
    with pytest.raises(InputError, match=r"unexpected: trunk.relu.weight"):
        load_visual_frontend(VideoFrontend(16, kind="resnet18", channels=[], dropout=0.0), path)
    save_file({"proj.weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"no visual front end \(frontend3D\) among proj.weight"):
        load_visual_frontend(narrower, tmp_path / "other.safetensors")
