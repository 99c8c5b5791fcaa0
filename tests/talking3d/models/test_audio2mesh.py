"""The student: losses against plain vertex arithmetic, padding, windows, styles, checkpoints, and that it learns."""

import dataclasses

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from avsr.media.audio import read_audio
from avsr.media.timing import FPS
from talking3d.corpus.articulation import CLOSED_GAP_MM
from talking3d.corpus.motion_dataset import UNKNOWN, collate, fit_motion_basis
from talking3d.face.motion import Motion
from talking3d.face.regions import lip_aperture_mm
from talking3d.metrics import lve_mm
from talking3d.models.audio2mesh import Audio2Mesh, Audio2MeshConfig
from talking3d.models.speech_encoder import SpeechEncoderConfig

TINY = Audio2MeshConfig(
    encoder=SpeechEncoderConfig(
        dim=16, layers=1, heads=2, ff_dim=32, kernel=5, dropout=0.0, freq_mask_bins=0, time_masks=0
    )
)


def _student(dataset, face, config=TINY):
    torch.manual_seed(0)
    basis = fit_motion_basis(dataset.rows, 8)
    model = Audio2Mesh(config, basis, dataset.mean_motion(), face, ["ann", "bob"])
    with torch.no_grad():  # the head starts at zero: give it something to say
        model.head.weight.normal_(std=0.3)
    return model.eval()


def _vertices(model, coefficients):
    return np.einsum("tk,kvx->tvx", coefficients.astype(np.float64), model.basis.numpy().astype(np.float64))


def test_losses_are_those_of_the_vertices(dataset, tiny_face):
    """The Gram matrix's short cut against loops over frames and vertices."""
    model = _student(dataset, tiny_face)
    batch = collate([dataset[i] for i in (0, 5, 9)])
    with torch.no_grad():
        terms = model(batch)
        predicted = model.coefficients(batch["waveform"], batch["lengths"], batch["speakers"])
        judgements = model._hear(batch["waveform"], batch["lengths"], batch["speakers"])[1:]
    config = model.config
    weights = np.ones(64)
    weights[tiny_face.regions["lips"]] = model.config.lip_weight
    weights /= weights.sum()
    vertex, velocity, closure, coefficient, contact, worst = [], [], [], [], [], []
    for b, length in enumerate(batch["lengths"].tolist()):
        pred = _vertices(model, predicted[b, :length].numpy())
        true = _vertices(model, batch["motion"][b, :length].numpy())
        pred_gap, true_gap = lip_aperture_mm(tiny_face, pred), lip_aperture_mm(tiny_face, true)
        for t, gap in enumerate(true_gap):
            odds = [log_odds[b, t].exp().item() for log_odds in judgements]
            contact.append(sum(config.missed_contact * np.log1p(1 / o) if gap <= 0.5 else np.log1p(o) for o in odds))
        coefficient += np.square(predicted[b, :length] - batch["motion"][b, :length]).mean(1).tolist()
        for t in range(length):
            vertex.append(
                sum(w * 1e6 * np.square(p - q).sum() for w, p, q in zip(weights, pred[t], true[t], strict=True))
            )
            worst.append(max(1e3 * np.linalg.norm(pred[t, v] - true[t, v]) for v in tiny_face.regions["lips"]))
            weight = np.exp(-max(true_gap[t], 0) / model.config.closure_mm)
            closure.append(weight * (pred_gap[t] - true_gap[t]) ** 2)
        for t in range(1, length):
            step = (pred[t] - pred[t - 1]) - (true[t] - true[t - 1])
            velocity.append(sum(w * 1e6 * np.square(s).sum() for w, s in zip(weights, step, strict=True)))
    assert terms["vertex"].item() == pytest.approx(np.mean(vertex), rel=1e-4)
    assert terms["velocity"].item() == pytest.approx(np.mean(velocity), rel=1e-4)
    assert terms["closure"].item() == pytest.approx(np.mean(closure), rel=1e-4)
    assert terms["lve_mm"].item() == pytest.approx(np.mean(worst), rel=1e-4)
    assert terms["coefficient"].item() == pytest.approx(np.mean(coefficient), rel=1e-4)
    assert terms["contact"].item() == pytest.approx(np.mean(contact), rel=1e-4)
    total = np.mean(vertex) + config.velocity_weight * np.mean(velocity)
    total += config.closure_weight * np.mean(closure) + config.coefficient_weight * np.mean(coefficient)
    total += config.contact_weight * np.mean(contact)
    assert terms["loss"].item() == pytest.approx(total, rel=1e-4)


def test_lips_close_where_they_are_judged_to_touch(dataset, tiny_face):
    model = _student(dataset, tiny_face)
    waveform = dataset[0]["waveform"]

    def gaps(log_odds):
        with torch.no_grad():
            model.contact.project.weight.zero_()
            model.contact.project.bias.fill_(log_odds)
        return lip_aperture_mm(tiny_face, _vertices(model, model.predict(waveform)))

    apart, undecided, touching = gaps(-20.0), gaps(0.0), gaps(20.0)
    assert apart.min() > 5
    np.testing.assert_allclose(touching, CLOSED_GAP_MM, atol=1e-3)
    np.testing.assert_allclose(undecided, (apart + CLOSED_GAP_MM) / 2, atol=1e-3)
    batch = collate([dataset[0], dataset[9]])
    with torch.no_grad():
        padded = model.coefficients(batch["waveform"], batch["lengths"], batch["speakers"])
    assert padded[0, :25].any() and not padded[0, 25:].any()


def test_lips_that_are_pressed_stay_pressed(dataset, tiny_face):
    model = _student(dataset, tiny_face)
    pressed = (-3.0 - model.rest_gap) * model.opening  # opening is the direction of 1 mm
    coefficients = pressed.expand(1, 4, -1)
    closed = model._close_lips(coefficients, torch.full((1, 4), 20.0))
    torch.testing.assert_close(closed, coefficients)


def test_closing_costs_least(dataset, tiny_face):
    model = _student(dataset, tiny_face)
    rng = np.random.default_rng(0)

    def cost(d):
        weights = np.ones(64)
        weights[tiny_face.regions["lips"]] = model.config.lip_weight
        moved_mm2 = 1e6 * np.square(_vertices(model, d[None])[0]).sum(-1)
        return np.average(moved_mm2, weights=weights) + model.config.coefficient_weight * np.square(d).mean()

    opening, gap = model.opening.numpy().astype(np.float64), model.gap.numpy().astype(np.float64)
    assert gap @ opening == pytest.approx(1.0, rel=1e-5)
    for _ in range(20):
        other = opening + rng.normal(0, 0.1, len(gap))
        assert cost(other / (gap @ other)) >= cost(opening) - 1e-6


def test_only_the_judgement_learns_from_contacts(dataset, tiny_face):
    """In training the motion is compared before its lips are closed; a missed contact costs more than a false one."""
    config = dataclasses.replace(TINY, style_drop=0.0)
    model = _student(dataset, tiny_face, config).train()
    batch = collate([dataset[0], dataset[1]])
    vertex = []
    for log_odds in (-3.0, 3.0):
        with torch.no_grad():
            model.contact.project.bias.fill_(log_odds)
        vertex.append(model(batch)["vertex"].item())
    assert vertex[0] == pytest.approx(vertex[1], rel=1e-6)
    closed = {**batch, "motion": (-model.rest_gap * model.opening).expand_as(batch["motion"])}
    with torch.no_grad():
        for head in (model.contact, model.sound_contact):
            head.project.weight.zero_()
            head.project.bias.zero_()
    assert model(closed)["contact"].item() == pytest.approx(config.missed_contact * model(batch)["contact"].item())


def test_lve_of_the_model_is_the_metric(dataset, tiny_face):
    model = _student(dataset, tiny_face)
    batch = collate([dataset[2], dataset[8]])
    with torch.no_grad():
        reported = model(batch)["lve_mm"].item()
        predicted = model.coefficients(batch["waveform"], batch["lengths"], batch["speakers"]).numpy()
    pairs = [
        (_vertices(model, predicted[b, :n]), _vertices(model, batch["motion"][b, :n].numpy()))
        for b, n in enumerate(batch["lengths"].tolist())
    ]
    assert reported == pytest.approx(lve_mm(pairs, tiny_face.regions["lips"]), rel=1e-4)


def test_an_utterance_alone_is_what_it_is_in_a_padded_batch(dataset, tiny_face):
    model = _student(dataset, tiny_face)
    batch = collate([dataset[0], dataset[9]])
    with torch.no_grad():
        together = model.coefficients(batch["waveform"], batch["lengths"], batch["speakers"])
        one = collate([dataset[0]])
        alone = model.coefficients(one["waveform"], one["lengths"], one["speakers"])
    torch.testing.assert_close(together[:1, :25], alone, atol=1e-4, rtol=1e-4)
    assert not together[0, 25:].any()
    speaker = dataset.rows[0]["speaker"]
    np.testing.assert_allclose(model.predict(dataset[0]["waveform"], speaker), alone[0], atol=1e-4)


def test_an_unknown_speaker_has_the_average_style(dataset, tiny_face):
    model = _student(dataset, tiny_face)
    waveform = dataset[0]["waveform"]
    before = model.predict(waveform)
    assert not np.allclose(model.predict(waveform, "ann"), model.predict(waveform, "bob"))
    with torch.no_grad():
        model.styles.weight[:] = model.styles.weight.mean(0)
    np.testing.assert_allclose(model.predict(waveform, "ann"), before, atol=1e-5)


def test_long_speech_is_predicted_in_windows(dataset, tiny_face):
    """Where a model hears all. Windows agree with one pass as far as surroundings do, and join without a jump."""
    config = dataclasses.replace(TINY, window_s=4.0, context_s=1.0)
    model = _student(dataset, tiny_face, config)
    waveform = np.concatenate([dataset[i]["waveform"] for i in range(10)])
    windowed = model.predict(waveform)
    n_frames = len(waveform) // 640
    assert windowed.shape == (n_frames, 2)
    model.config = TINY
    whole = model.predict(waveform)
    assert np.corrcoef(whole[:, 0], windowed[:, 0])[0, 1] > 0.95
    jumps, usual = np.abs(np.diff(windowed, axis=0)).max(), np.abs(np.diff(whole, axis=0)).max()
    assert jumps < 1.5 * usual


@pytest.mark.parametrize("n_samples", [1, 639, 640, 641, 5_000])
def test_any_length(dataset, tiny_face, n_samples):
    waveform = np.random.default_rng(0).uniform(-0.1, 0.1, n_samples).astype(np.float32)
    predicted = _student(dataset, tiny_face).predict(waveform)
    assert predicted.shape == (-(-n_samples // 640), 2)
    assert np.isfinite(predicted).all()


def test_styles_are_dropped_in_training(dataset, tiny_face):
    config = dataclasses.replace(TINY, style_drop=1.0)
    model = _student(dataset, tiny_face, config).train()
    batch = collate([dataset[0], dataset[1]])
    unknown = {**batch, "speakers": torch.full((2,), UNKNOWN)}
    assert model(batch)["loss"].item() == pytest.approx(model(unknown)["loss"].item(), rel=1e-6)
    model.eval()
    assert model(batch)["loss"].item() != pytest.approx(model(unknown)["loss"].item(), rel=1e-6)


def test_motion_becomes_the_templates_own_articulation(dataset, tiny_face):
    model = _student(dataset, tiny_face)
    coefficients = model.predict(dataset[0]["waveform"])
    motion = model.motion(coefficients, tiny_face)
    assert motion.coefficients.shape == (25, 3)
    np.testing.assert_allclose(motion.offsets_for(tiny_face), _vertices(model, coefficients), atol=1e-7)
    stiff = dataclasses.replace(
        tiny_face, articulation_basis=tiny_face.articulation_basis[2:], articulation_names=("blink",)
    )
    motion = model.motion(coefficients, stiff)
    assert motion.coefficients is None
    np.testing.assert_allclose(motion.offsets, _vertices(model, coefficients), atol=1e-7)


def test_checkpoint_comes_back_whole(dataset, tiny_face, tmp_path):
    model = _student(dataset, tiny_face)
    model.save_pretrained(tmp_path / "checkpoint", facts={"trained on": "a buzz"})
    again = Audio2Mesh.from_pretrained(tmp_path / "checkpoint")
    waveform = dataset[3]["waveform"]
    np.testing.assert_array_equal(again.predict(waveform, "bob"), model.predict(waveform, "bob"))
    assert again.template.topology_hash == tiny_face.topology_hash
    assert again.template.name == tiny_face.name
    assert again.speakers == ["ann", "bob"]
    card = (tmp_path / "checkpoint" / "README.md").read_text()
    assert tiny_face.topology_hash in card and "a buzz" in card


def test_an_incomplete_checkpoint_is_an_error(dataset, tiny_face, tmp_path):
    _student(dataset, tiny_face).save_pretrained(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "speakers.json").unlink()
    with pytest.raises(InputError, match="lacks speakers.json"):
        Audio2Mesh.from_pretrained(tmp_path / "checkpoint")


def test_it_learns_to_follow_the_sound(dataset, tiny_face):
    """Overfitting ten utterances: a third of the mean motion's error, which the sound of others doesn't reach."""
    torch.manual_seed(0)
    model = Audio2Mesh(TINY, fit_motion_basis(dataset.rows, 8), dataset.mean_motion(), tiny_face, ["ann", "bob"])
    batch = collate([dataset[i] for i in range(10)])
    with torch.no_grad():
        model.contact.project.bias.fill_(-5.0)  # apart
    baseline = model.eval()(batch)["lve_mm"].item()  # the head starts at zero: the mean motion
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(batch)["loss"].backward()
        optimizer.step()
    model.eval()
    learned = model(batch)["lve_mm"].item()
    assert learned < baseline / 3
    swapped = {**batch, "waveform": batch["waveform"].flip(0)}
    assert model(swapped)["lve_mm"].item() > 2 * learned


def test_unknown_style_is_an_error(dataset, tiny_face):
    with pytest.raises(InputError, match="unknown style 'eve'; this checkpoint knows ann, bob"):
        _student(dataset, tiny_face).predict(dataset[0]["waveform"], "eve")


def test_silent_speech_is_an_error(dataset, tiny_face):
    with pytest.raises(InputError, match="silent"):
        _student(dataset, tiny_face).predict(np.zeros(16_000, np.float32))


def test_a_template_of_another_topology_is_an_error(dataset, tiny_face):
    model = _student(dataset, tiny_face)
    other = dataclasses.replace(tiny_face, faces=tiny_face.faces[:-1], name="other")
    with pytest.raises(InputError, match="not 'other'"):
        model.motion(np.zeros((4, 2)), other)


def test_a_basis_of_another_template_is_an_error(tiny_face):
    with pytest.raises(InputError, match="moves 10 vertices, the template sheet has 64"):
        Audio2Mesh(TINY, np.ones((2, 10, 3)), np.zeros(2), tiny_face, ["ann"])


def test_windows_shorter_than_their_overlap_are_an_error():
    with pytest.raises(InputError, match="window_s"):
        Audio2MeshConfig(window_s=3.0, context_s=2.0)


def test_recorded_speech_moves_the_face(dataset, tiny_face, shared):
    waveform = read_audio(shared / "speech" / "utterances" / "spk1_snt1.wav")
    motion = _student(dataset, tiny_face).motion(_student(dataset, tiny_face).predict(waveform), tiny_face)
    assert isinstance(motion, Motion) and motion.fps == FPS
    assert motion.coefficients.std() > 0
