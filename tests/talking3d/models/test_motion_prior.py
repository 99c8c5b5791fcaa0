"""The motion prior: codes against a loop, what its decoder sees, gradients through codes, padding, dead codes."""

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from talking3d.corpus.motion_dataset import collate, fit_motion_basis
from talking3d.generators import load_generator
from talking3d.models.motion_prior import MotionCodec, MotionCodecConfig, MotionPrior, MotionPriorConfig

CODEC = MotionCodecConfig(components=3, code_dim=4, codes=16, dim=16, layers=2, heads=2, ff_dim=32, kernel=5, reach=4)
TINY = MotionPriorConfig(codec=CODEC)


@pytest.fixture
def codec():
    torch.manual_seed(0)
    return MotionCodec(CODEC, 2).eval()


def _model(dataset, face):
    torch.manual_seed(0)
    return MotionPrior(TINY, fit_motion_basis(dataset.rows, 8), dataset.mean_motion(), face, ["ann", "bob"])


def test_codes_are_the_nearest_by_a_loop(codec):
    features = codec.encode(torch.randn(2, 9, 2), torch.tensor([9, 9]))
    indices, book = codec.nearest(features), codec.codebook.weight
    codes = codec.quantise(features)
    for b in range(2):
        for t in range(9):
            for n in range(3):
                word = features[b, t, 4 * n : 4 * n + 4]
                expected = min(range(16), key=lambda e: (word - book[e]).norm().item())
                assert indices[b, t, n] == expected
                torch.testing.assert_close(codes[b, t, 4 * n : 4 * n + 4], book[expected])


def test_the_gradient_passes_through_the_codes_as_if_they_were_the_features(codec):
    features = torch.randn(1, 6, 12, requires_grad=True)
    weights = torch.randn(1, 6, 12)
    (codec.quantise(features) * weights).sum().backward()
    torch.testing.assert_close(features.grad, weights)


def test_a_decoded_frame_sees_its_last_codes_and_no_others(codec):
    assert codec.seen_frames == 5 + 2 * 3
    codes = torch.randn(1, 30, 12)
    with torch.no_grad():
        whole = codec.decode(codes)
        moved = codes.clone()
        moved[:, 14] += 1.0
        changed = (codec.decode(moved) - whole).abs().amax(-1)[0] > 1e-7
        assert changed.nonzero()[:, 0].tolist() == list(range(14, 14 + codec.seen_frames))
        for t in (3, 10, 11, 29):  # so a frame can be decoded alone
            first = max(0, t + 1 - codec.seen_frames)
            torch.testing.assert_close(codec.decode(codes[:, first : t + 1])[:, -1], whole[:, t], atol=1e-6, rtol=1e-5)


def test_motion_alone_is_coded_as_in_a_padded_batch(dataset, tiny_face):
    model, batch, one = _model(dataset, tiny_face).eval(), collate([dataset[0], dataset[9]]), collate([dataset[0]])
    with torch.no_grad():
        together, alone = model.predict_with_losses(batch)[0], model.predict_with_losses(one)[0]
    torch.testing.assert_close(together[:1, : alone.shape[1]], alone, atol=1e-5, rtol=1e-4)
    assert not together[0, alone.shape[1] :].any()


def test_it_learns_with_all_its_parameters(dataset, tiny_face):
    model, batch = _model(dataset, tiny_face).train(), collate([dataset[i] for i in range(6)])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        terms = model(batch)
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["vertex"].item())
    assert losses[-1] < 0.3 * losses[0]
    assert all(leaf.grad is not None and leaf.grad.any() for leaf in model.parameters())
    assert 1 < terms["perplexity"] <= 16


def test_codes_out_of_use_move_to_where_motion_is(dataset, tiny_face):
    model, batch = _model(dataset, tiny_face).train(), collate([dataset[i] for i in range(6)])
    with torch.no_grad():
        model.codec.codebook.weight[3:] = 100.0  # beyond every feature
    for _ in range(200):
        model(batch | {"progress": 0.9})
    assert (model.codec.codebook.weight[3:] == 100.0).all()  # late in training they stay
    for _ in range(200):
        model(batch | {"progress": 0.1})
    assert (model.codec.codebook.weight.abs() < 10.0).all()
    assert model.codec.nearest(model.codec.encode(batch["motion"] - model.mean, batch["lengths"])).unique().numel() > 3


def test_saved_and_loaded_it_codes_the_same(dataset, tiny_face, tmp_path):
    model, batch = _model(dataset, tiny_face).eval(), collate([dataset[4]])
    model.save_pretrained(tmp_path / "prior")
    again = MotionPrior.from_pretrained(tmp_path / "prior")
    with torch.no_grad():
        assert torch.equal(again.predict_with_losses(batch)[0], model.predict_with_losses(batch)[0])
    assert np.array_equal(again.basis, model.basis)


def test_it_speaks_nothing(dataset, tiny_face, tmp_path):
    _model(dataset, tiny_face).save_pretrained(tmp_path / "prior")
    with pytest.raises(InputError, match="holds a 'motion_prior', which makes no motion; expected audio2mesh"):
        load_generator(tmp_path / "prior")


@pytest.mark.parametrize(
    "wrong, message",
    [({"reach": 0}, "at least one component, code, layer and frame of reach"), ({"code_dim": 1}, "code_dim is 1")],
)
def test_a_codec_of_nothing(wrong, message):
    with pytest.raises(InputError, match=message):
        MotionCodecConfig(**wrong)
