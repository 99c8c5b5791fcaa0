"""The judgement of contacts: padding, its reach, and that it can be learned."""

import math

import pytest
import torch

from talking3d.models.contact_head import ContactHead, contact_loss


def test_padding_changes_nothing():
    torch.manual_seed(0)
    head = ContactHead(8, dropout=0.1).eval()
    features = torch.randn(2, 12, 8)  # not zero at padding, as a front end's are not
    lengths = torch.tensor([7, 12])
    alone = head(features[:1, :7], lengths[:1])
    torch.testing.assert_close(head(features, lengths)[:1, :7], alone)


def test_a_frame_hears_five_frames():
    torch.manual_seed(0)
    head = ContactHead(8, dropout=0.0).eval()
    features, lengths = torch.randn(1, 20, 8), torch.tensor([20])
    other = features.clone()
    other[0, 10] += 1
    changed = (head(features, lengths) != head(other, lengths))[0].nonzero()[:, 0]
    assert changed.tolist() == [8, 9, 10, 11, 12]


def test_a_missed_contact_costs_more():
    log_odds = torch.tensor([-2.0, -2.0])
    loss = contact_loss(log_odds, torch.tensor([True, False]), missed_contact=3.0).item()
    assert loss == pytest.approx((3 * math.log(1 + math.exp(2)) + math.log(1 + math.exp(-2))) / 2, rel=1e-6)
