"""The decoder that speaks frame by frame: biases, positions, and the parallel pass against the loop."""

import numpy as np
import pytest
import torch
from torch import nn

from talking3d.corpus.motion_dataset import UNKNOWN
from talking3d.models.biased_decoder import BiasedDecoder, BiasedLayer, alibi_slopes, past_bias, periodic_positions


def test_biases_forget_by_periods_and_hide_the_future():
    bias = past_bias(alibi_slopes(2), 20, 20, period=8)
    assert bias.shape == (2, 20, 20)
    for head, slope in enumerate((2.0**-4, 2.0**-8)):
        for now in range(20):
            for then in range(20):
                expected = -np.inf if then > now else -slope * ((now - then) // 8)
                assert bias[head, now, then].item() == expected
    assert torch.equal(past_bias(alibi_slopes(2), 20, 1, period=8), bias[:, -1:])


def test_positions_repeat_with_the_period():
    positions = periodic_positions(24, 16, 8, torch.device("cpu"))
    assert torch.equal(positions[:8], positions[8:16]) and not torch.equal(positions[0], positions[1])
    assert positions[3, 0].item() == pytest.approx(np.sin(3)) and positions[3, 1].item() == pytest.approx(np.cos(3))


@pytest.mark.parametrize("layers", [1, 3])
def test_following_its_own_answer_it_feels_the_same(layers):
    """All frames at once, with masks, are the frame-by-frame loop: layers above the first see what those below saw."""
    torch.manual_seed(0)
    decoder = BiasedDecoder(4, dim=16, layers=layers, heads=2, ff_dim=32, period=8, dropout=0.1, n_speakers=2).eval()
    head, sound, speakers = nn.Linear(16, 4), torch.randn(3, 20, 16), torch.tensor([0, 1, UNKNOWN])
    with torch.no_grad():
        motion = decoder.speak(sound, speakers, head)
        followed = head(decoder.follow(sound, speakers, motion))
    assert motion.std() > 0.1
    torch.testing.assert_close(followed, motion, atol=1e-5, rtol=1e-4)


def test_a_layer_is_two_attentions_and_a_feed_forward_network():
    """As the papers draw it, by torch's own attention; each frame of motion may attend to its own sound only."""
    torch.manual_seed(0)
    layer = BiasedLayer(16, 2, 32, dropout=0.1).eval()
    frames, sound = torch.randn(3, 12, 16), torch.randn(3, 12, 16)
    bias = past_bias(alibi_slopes(2), 12, 12, period=4)
    own = torch.full((12, 12), -torch.inf).fill_diagonal_(0.0)
    with torch.no_grad():
        quick = layer(frames, *layer.keys_values(frames), layer.hear(sound), bias)
        seen = layer.self_attention(frames, frames, frames, attn_mask=bias.repeat(3, 1, 1))[0]
        slow = layer.norms[0](frames + seen)
        slow = layer.norms[1](slow + layer.cross_attention(slow, sound, sound, attn_mask=own)[0])
        slow = layer.norms[2](slow + layer.feed_forward(slow))
    torch.testing.assert_close(quick, slow, atol=1e-5, rtol=1e-4)
