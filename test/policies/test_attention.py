import pytest
import torch
from torch import nn

from il_robot.policies.attention import (
    Attention,
    DecoderLayer,
    Dropout,
    EncoderLayer,
    FeedForward,
    LayerConfig,
    keep_mask,
    sinusoid,
)

D, HEADS, HIDDEN = 16, 4, 24


def layer(dropout=0.0, pre_norm=False):
    return LayerConfig(D, HEADS, HIDDEN, dropout, pre_norm)


def copy_attention(ours, reference):
    """Into a torch.nn.MultiheadAttention."""
    with torch.no_grad():
        parts = (ours.query, ours.key, ours.value)
        reference.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        reference.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
    reference.out_proj.load_state_dict(ours.out.state_dict())


def copy_layer(ours, reference, pairs):
    for mine, theirs in (('feed_forward.inner', 'linear1'), ('feed_forward.outer', 'linear2'),
                         *pairs):
        reference.get_submodule(theirs).load_state_dict(ours.get_submodule(mine).state_dict())


def randomise(module):
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize('share', [0.1, 0.5])
def test_keep_mask_drops_its_share_and_repeats_with_the_seed(share):
    like = torch.empty(101, 1003)
    mask = keep_mask(like, share)
    assert mask.shape == like.shape and mask.dtype == like.dtype
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert float(1 - mask.mean()) == pytest.approx(share, abs=0.006)  # 4 standard deviations
    torch.manual_seed(0)
    assert torch.equal(keep_mask(like, share), mask)
    assert keep_mask(like, 0.0).all()


def test_dropout_keeps_the_mean_and_is_off_when_running():
    x = torch.ones(1000, 100)
    dropout = Dropout(0.2)
    assert float(dropout(x).mean()) == pytest.approx(1, abs=0.01)
    assert dropout.eval()(x) is x


def test_sinusoid_is_the_papers():
    table = sinusoid(5, D)
    assert table.shape == (5, D)
    for position, i in ((0, 0), (3, 1), (4, 7)):
        angle = torch.tensor(position / 10_000 ** (2 * i / D))
        torch.testing.assert_close(table[position, 2 * i], angle.sin())
        torch.testing.assert_close(table[position, 2 * i + 1], angle.cos())


@pytest.mark.parametrize('training', [False, True])
def test_attention_is_torchs(training):
    # so small a share drops nothing, but takes the way with dropout
    ours = randomise(Attention(layer(dropout=1e-9))).train(training)
    reference = nn.MultiheadAttention(D, HEADS, batch_first=True)
    copy_attention(ours, reference)
    queries, keys, values = torch.randn(3, 2, D), torch.randn(3, 5, D), torch.randn(3, 5, D)
    ignored = torch.zeros(3, 5, dtype=torch.bool)
    ignored[1, 3:] = True
    mask = torch.zeros(3, 1, 1, 5).masked_fill(ignored[:, None, None], -torch.inf)
    expected, _ = reference(queries, keys, values, key_padding_mask=ignored)
    torch.testing.assert_close(ours(queries, keys, values, mask), expected)
    expected, _ = reference(queries[:1].expand(3, -1, -1), keys, values)
    torch.testing.assert_close(ours(queries[:1], keys, values), expected)


def test_feed_forward_with_dropout_has_the_plain_formulas_value_and_gradients():
    ours = randomise(FeedForward(layer(dropout=0.3)))
    x = torch.randn(3, 4, D, requires_grad=True)

    torch.manual_seed(5)
    value = ours(x)
    gradients = torch.autograd.grad(value.square().sum(), [x, *ours.parameters()])

    torch.manual_seed(5)
    hidden = ours.inner(x).relu()
    hidden = hidden * keep_mask(hidden.flatten(0, 1), 0.3).view_as(hidden) / 0.7
    plain = ours.outer(hidden)
    expected = torch.autograd.grad(plain.square().sum(), [x, *ours.parameters()])
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('pre_norm', [False, True])
def test_encoder_layer_is_torchs(pre_norm):
    ours = randomise(EncoderLayer(layer(pre_norm=pre_norm)))
    reference = nn.TransformerEncoderLayer(
        D, HEADS, HIDDEN, dropout=0.0, batch_first=True, norm_first=pre_norm)
    copy_attention(ours.attention, reference.self_attn)
    copy_layer(ours, reference, [('norm1', 'norm1'), ('norm2', 'norm2')])
    x, positions = torch.randn(3, 5, D), torch.zeros(5, D)
    torch.testing.assert_close(ours(x, positions), reference(x))


@pytest.mark.parametrize('pre_norm', [False, True])
def test_decoder_layer_is_torchs(pre_norm):
    ours = randomise(DecoderLayer(layer(pre_norm=pre_norm), first=False))
    reference = nn.TransformerDecoderLayer(
        D, HEADS, HIDDEN, dropout=0.0, batch_first=True, norm_first=pre_norm)
    copy_attention(ours.self_attention, reference.self_attn)
    copy_attention(ours.attention, reference.multihead_attn)
    copy_layer(ours, reference, [(f'norm{i}', f'norm{i}') for i in (1, 2, 3)])
    x, memory = torch.randn(3, 5, D), torch.randn(3, 2, D)
    value = ours(x, torch.zeros(5, D), memory, memory)
    torch.testing.assert_close(value, reference(x, memory))


@pytest.mark.parametrize('pre_norm', [False, True])
def test_tokens_not_asked_for_are_not_needed(pre_norm):
    ours = randomise(EncoderLayer(layer(pre_norm=pre_norm)))
    x, positions = torch.randn(3, 5, D), torch.randn(5, D)
    torch.testing.assert_close(ours(x, positions, count=2), ours(x, positions)[:, :2])


def test_positions_reach_keys_and_queries_but_no_values():
    ours = randomise(EncoderLayer(layer()))
    same = torch.randn(1, 1, D).expand(1, 4, D)  # equal tokens: equal values
    output = ours(same, torch.randn(4, D))
    torch.testing.assert_close(output, output[:, :1].expand(1, 4, D))
