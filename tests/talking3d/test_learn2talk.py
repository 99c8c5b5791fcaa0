"""The joint objective: every term's gradient, how they are combined, and what doesn't fit."""

import dataclasses

import numpy as np
import pytest
import torch

from avsr.data.text import train_tokenizer
from avsr.errors import InputError
from avsr.models.recognizer import Recognizer, RecognizerConfig
from talking3d.corpus.motion_dataset import collate
from talking3d.face.procedural import procedural_face
from talking3d.face.regions import lip_aperture_mm, lip_width_mm
from talking3d.learn2talk import Learn2Talk, Learn2TalkConfig, combine
from talking3d.models.audio2mesh import Audio2Mesh, Audio2MeshConfig
from talking3d.models.speech_encoder import SpeechEncoderConfig
from talking3d.models.syncnet3d import SyncNet3D, SyncNet3DConfig
from talking3d.render.renderer import lip_shot

N_FRAMES = 20


@pytest.fixture(scope="module")
def face():
    return procedural_face()


@pytest.fixture(scope="module")
def batch(face, tmp_path_factory):
    """Two utterances of noise whose motion is the first four articulators at random, smoothly."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("face") / "face.npz"
    face.save(path)
    items = []
    for i, n_frames in enumerate((N_FRAMES, N_FRAMES + 5)):
        motion = np.cumsum(rng.normal(0, 0.2, (n_frames, 4)), axis=0)
        items.append(
            {
                "utt_id": f"u{i}",
                "waveform": rng.normal(0, 0.1, 640 * n_frames).astype(np.float32),
                "motion": np.abs(motion).clip(0, 1).astype(np.float32),
                "speaker": 0,
                "template": str(path),
            }
        )
    return collate(items)


@pytest.fixture
def student(face):
    torch.manual_seed(0)
    encoder = SpeechEncoderConfig(dim=16, layers=1, heads=2, ff_dim=32, kernel=5, dropout=0.0)
    model = Audio2Mesh(Audio2MeshConfig(encoder=encoder), face.articulation_basis[:4], np.full(4, 0.3), face, ["ann"])
    with torch.no_grad():
        model.head.weight.normal_(std=0.1)
    return model


@pytest.fixture(scope="module")
def expert(face, tmp_path_factory):
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("expert") / "sync"
    config = SyncNet3DConfig(width=16, dim=8, max_offset=4)
    SyncNet3D(config, face, face.articulation_basis[:4, face.region("lips")]).save_pretrained(folder)
    return str(folder)


def reader_of(folder, modalities):
    torch.manual_seed(2)
    tokenizer = train_tokenizer(["a b c"], "word")
    config = RecognizerConfig(
        modalities=modalities,
        vocab_size=len(tokenizer),
        dim=16,
        visual_channels=[4, 4, 4],
        layers=1,
        heads=2,
        ff_dim=16,
        decoder_layers=0,
        kernel=5,
    )
    Recognizer(config).save_pretrained(folder, tokenizer)
    return str(folder)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return reader_of(tmp_path_factory.mktemp("reader") / "v", "v")


@pytest.fixture
def joint(student, expert, reader):
    return Learn2Talk(Learn2TalkConfig(expert=expert, reader=reader, drawn_frames=8), student)


@pytest.mark.parametrize("term", ["sync", "reading", "shape", "dynamics"])
def test_every_terms_gradient_reaches_the_student(joint, batch, term):
    output = joint.student.predict_with_losses(batch)[0]
    value = joint._extra(output, batch)[term]
    value.backward()
    assert value > 0
    reached = {name for name, leaf in joint.student.named_parameters() if leaf.grad is not None and leaf.grad.any()}
    assert {"head.weight", "hidden.weight"} <= reached and any(name.startswith("encoder") for name in reached)
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in joint.student.parameters())


def test_what_is_right_already_costs_nothing(joint, batch):
    terms = joint._extra(batch["motion"].clone(), batch)
    assert terms["reading"].item() == pytest.approx(0, abs=1e-5)
    assert terms["shape"].item() == terms["dynamics"].item() == 0


def test_a_teachers_lips_are_read_where_there_are_some(joint, batch):
    """Lips drawn of the true motion, given as a teacher's, cost what the true motion costs; other lips cost more."""
    (b, frames), face = joint._drawn(batch["lengths"]), joint._painter(batch["templates"][0], torch.device("cpu"))
    joint._drawn = lambda lengths: (b, frames)
    true = joint._offsets(batch["motion"][b, frames])
    drawn = face.lips(true, None, lip_shot(face.template, true.numpy(), None, face.look))
    lips = torch.zeros(*batch["motion"].shape[:2], 96, 96, dtype=torch.uint8)
    lips[b, frames] = (255 * drawn).round().byte()
    same = joint._extra(batch["motion"].clone(), batch | {"lips": lips})["reading"]
    other = joint._extra(batch["motion"].clone(), batch | {"lips": 255 - lips})["reading"]
    assert same.item() < 1e-3 < other.item()


def test_shape_is_the_error_of_gap_and_width(joint, batch, face):
    output = batch["motion"] + 0.1 * torch.randn(batch["motion"].shape, generator=torch.Generator().manual_seed(0))
    errors = []
    for b, n in enumerate(batch["lengths"].tolist()):
        moved, true = (
            np.einsum("tk,kvx->tvx", motion[b, :n].numpy(), face.articulation_basis[:4])
            for motion in (output, batch["motion"])
        )
        errors.append((lip_aperture_mm(face, moved) - lip_aperture_mm(face, true)) ** 2)
        across = [face.verts[v] + motion[:, v] for motion in (moved, true) for v in face.landmarks[[48, 54]]]
        errors.append((1e3 * ((across[1] - across[0]) - (across[3] - across[2]))[:, 0]) ** 2)
    assert joint._shape(output, batch).item() == pytest.approx(np.concatenate(errors).mean(), rel=1e-3)
    assert lip_width_mm(face, moved).std() > 0


def test_dynamics_is_what_the_upper_face_moves_too_much_or_too_little(joint, batch, face):
    output = 1.5 * batch["motion"]
    expected = []
    for b, n in enumerate(batch["lengths"].tolist()):
        spreads = []
        for motion in (output, batch["motion"]):
            offsets_mm = 1e3 * np.einsum("tk,kvx->tvx", motion[b, :n].numpy(), face.articulation_basis[:4])
            spreads.append((offsets_mm[:, face.region("upper_face")] ** 2).sum(-1).std(0))
        expected.append(np.abs(spreads[0] - spreads[1]).mean())
    assert joint._dynamics(output, batch).item() == pytest.approx(np.mean(expected), rel=1e-3)
    assert max(expected) > 0


def test_teachers_are_frozen_and_not_part_of_the_model(joint, batch):
    before = {name: value.clone() for name, value in joint._teachers["reader"].state_dict().items()}
    joint.train()
    joint(batch)["loss"].backward()
    assert not joint._teachers["reader"].training and not joint._teachers["expert"].training
    assert all(leaf.grad is None for teacher in joint._teachers.values() for leaf in teacher.parameters())
    after = joint._teachers["reader"].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(name.startswith("student.") for name in joint.state_dict())


def test_the_loss_is_the_students_with_the_combined_gradient(joint, batch):
    """At the student's output the gradient is the vertex losses' and each term's share of its size."""
    joint.train()
    caught = {}
    predict = joint.student.predict_with_losses

    def watched(batch):
        output, terms = predict(batch)
        output.retain_grad()
        caught["output"], caught["loss"] = output, terms["loss"]
        return output, terms

    joint.student.predict_with_losses = watched
    torch.manual_seed(5)
    terms = joint(batch)
    assert terms["loss"].item() == pytest.approx(caught["loss"].item())
    base = torch.autograd.grad(caught["loss"], caught["output"], retain_graph=True)[0]
    caught["output"].grad = None
    terms["loss"].backward()
    added = caught["output"].grad - base
    shares = sum(getattr(joint.config, f"{term}_share") for term in ("sync", "reading", "shape", "dynamics"))
    assert 0 < added.norm() <= shares * base.norm() * 1.001
    assert (added * base).sum() >= -1e-6 * base.norm() ** 2  # nothing undoes the vertex losses


def test_combining_gradients():
    base = torch.tensor([3.0, 4.0])
    along, across, against = torch.tensor([30.0, 40.0]), torch.tensor([-0.4, 0.3]), torch.tensor([-3.0, -3.0])
    assert torch.allclose(combine(base, [(0.1, along)], True), torch.tensor([0.3, 0.4]))
    assert torch.allclose(combine(base, [(0.2, across)], True), torch.tensor([-0.8, 0.6]))
    harmonious = combine(base, [(0.5, against)], True)
    assert abs(harmonious @ base) < 1e-5 and harmonious.norm() == pytest.approx(2.5)
    assert torch.allclose(combine(base, [(0.5, against)], False), 2.5 * against / against.norm())
    assert not combine(base, [(0.5, torch.zeros(2))], True).any()
    assert torch.allclose(combine(base, [(0.1, along), (0.2, across)], True), torch.tensor([-0.5, 1.0]))


def test_evaluation_adds_the_terms_to_the_students(joint, batch):
    joint.eval()
    with torch.no_grad():
        terms = joint(batch)
        alone = joint.student(batch)
    assert terms["loss"] == alone["loss"] and {"sync", "reading", "shape", "dynamics", "lve_mm"} <= terms.keys()


def test_its_checkpoint_is_a_student(joint, batch, tmp_path):
    joint.save_pretrained(tmp_path / "student", joint.state_dict())
    again = Audio2Mesh.from_pretrained(tmp_path / "student")
    waveform = batch["waveform"][0].numpy()
    assert np.allclose(again.predict(waveform), joint.student.eval().predict(waveform), atol=1e-6)


def test_a_reader_that_cannot_read_lips(student, tmp_path):
    deaf = reader_of(tmp_path / "a", "a")
    with pytest.raises(InputError, match="cannot read lips: it was made for 'a'"):
        Learn2Talk(Learn2TalkConfig(reader=deaf), student)


def test_an_expert_of_another_topology(student, face, tmp_path):
    other = dataclasses.replace(face, faces=face.faces[:-1])
    basis = face.articulation_basis[:4, face.region("lips")]
    SyncNet3D(SyncNet3DConfig(width=16, dim=8), other, basis).save_pretrained(tmp_path / "sync")
    with pytest.raises(InputError, match="judges another topology than the student's 'procedural'"):
        Learn2Talk(Learn2TalkConfig(expert=str(tmp_path / "sync")), student)


@pytest.mark.parametrize(
    "bad, match", [({"sync_share": -0.1}, "must not be negative"), ({"drawn_frames": 4}, "above 4")]
)
def test_settings_out_of_range(bad, match):
    with pytest.raises(InputError, match=match):
        Learn2TalkConfig(**bad)
