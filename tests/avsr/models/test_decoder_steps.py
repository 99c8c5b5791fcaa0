import torch

from avsr.models.decoder_steps import DecoderSteps
from avsr.models.espnet import build_decoder


def test_a_decoder_says_the_same_step_by_step_and_all_at_once():
    torch.manual_seed(0)
    decoder = build_decoder(7, dim=16, layers=2, heads=2, ff_dim=32, dropout=0.1).eval()
    encoded, lengths = torch.randn(3, 12, 16), torch.tensor([12, 5, 1])
    tokens = torch.randint(1, 7, (3, 4, 6))  # four hypotheses of each utterance
    with torch.no_grad():
        whole, _ = decoder(
            encoded.repeat_interleave(4, 0), lengths.repeat_interleave(4), tokens.flatten(0, 1), torch.full((12,), 6)
        )
        whole = whole.log_softmax(-1).unflatten(0, (3, 4))
        steps = DecoderSteps(decoder, encoded, lengths)
        state = [layer.expand(-1, 4, -1, -1, -1, -1) for layer in steps.start()]
        for n in range(1, 4):
            scores, state = steps(tokens[:, :, :n], state)
            assert torch.allclose(scores, whole[:, :, n - 1], atol=1e-5)
        rest = torch.tensor([2, 0])  # go on with some utterances, and in another order of hypotheses
        order = torch.tensor([3, 1, 1])
        steps.keep(rest)
        scores, _ = steps(tokens[rest][:, order, :4], [layer[rest][:, order] for layer in state])
    assert torch.allclose(scores, whole[rest][:, order, 3], atol=1e-5)
