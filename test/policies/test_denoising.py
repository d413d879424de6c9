import torch

from il_robot.policies.denoising import TimeEmbedding, hold_padding


def test_padded_steps_hold_the_last_real_one():
    action = torch.arange(10.0).view(2, 5, 1)
    padded = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 0, 0, 1]], dtype=torch.bool)
    held = hold_padding({'action': action, 'is_pad': padded})
    assert held[..., 0].tolist() == [[0, 1, 1, 1, 1], [5, 5, 7, 8, 8]]
    assert hold_padding({'action': action}) is action


def test_what_stands_in_the_padding_is_never_seen():
    padded = torch.tensor([[True, True, False, True], [True, True, True, True]])
    action = torch.ones(2, 4, 3).masked_fill(padded[..., None], torch.nan)
    held = hold_padding({'action': action, 'is_pad': padded})
    assert held[0, :, 0].tolist() == [0, 0, 1, 1] and held[1].eq(0).all()


def test_times_have_different_embeddings_of_equal_length():
    embedding = TimeEmbedding(16)(torch.arange(101.0))
    torch.testing.assert_close(embedding.norm(dim=-1), torch.full((101,), 8.0).sqrt())
    distance = torch.cdist(embedding, embedding) + 10 * torch.eye(101)
    assert distance.min() > 0.1
