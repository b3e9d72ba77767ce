"""A mixture of experts: the router's choice, gradients through the gates, the balancing loss, and what is counted."""

import numpy as np
import pytest

from scratch import Tensor, gradcheck
from scratch.models.llama import Mixtral
from scratch.models.llama.decoder import Decoder
from scratch.models.llama.experts import Mixture, put_together, take
from scratch.models.llama.inside import read_by, usage
from scratch.models.llama.train import summed_loss
from scratch.optim import AdamW
from scratch.parallel import ShardedLoss
from tests import lockstep
from tests.test_llama import awake, patterns

TINY: dict = {"vocab_size": 11, "hidden_size": 16, "intermediate_size": 6, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 8}  # fmt: skip


def mixture(rng: np.random.Generator, C: int = 5, E: int = 4, k: int = 2) -> Mixture:
    return awake(rng, Mixture(C, 7, E, k)).to(np.float64)


def test_each_token_goes_through_its_two_likeliest_experts(rng):
    """By hand, token by token, with the gates of a softmax over the two chosen scores alone."""
    layer, x = mixture(rng), rng.standard_normal((3, 4, 5))
    y = layer(Tensor(x)).data
    scores = x @ layer.gate.weight.data.T
    for b in range(3):
        for t in range(4):
            chosen = np.argsort(-scores[b, t])[:2]
            g = np.exp(scores[b, t, chosen])
            parts = [layer.experts[e](Tensor(x[b, t][None])).data[0] for e in chosen]
            np.testing.assert_allclose(y[b, t], (g[0] * parts[0] + g[1] * parts[1]) / g.sum(), rtol=1e-10)
    assert layer.routing is not None
    assert (layer.routing.chosen == np.argsort(-scores.reshape(12, 4), axis=1)[:, :2]).all()
    np.testing.assert_allclose(layer.gates(layer.routing).data.sum(axis=1), 1)


def test_planted_faults_are_seen(monkeypatch, rng):
    """Gates as they are, gates of the wrong place, a favourite that is rewarded: none passes for the layer."""
    layer, x = mixture(rng), Tensor(rng.standard_normal((6, 5)))
    right, balance, k = layer(x).data, layer.balance, np.arange(6)[:, None]
    monkeypatch.setattr(Mixture, "gates", lambda self, r: r.p[k, r.chosen])
    assert np.abs(layer(x).data - right).max() > 1e-2
    monkeypatch.undo()
    gates = Mixture.gates
    monkeypatch.setattr(Mixture, "gates", lambda self, r: gates(self, r)[:, ::-1])
    assert np.abs(layer(x).data - right).max() > 1e-2
    layer.zero_grad()
    balance().backward()
    assert layer.gate.weight.grad is not None
    step = layer.gate.weight.grad.copy()
    before = balance().item()
    layer.gate.weight.data -= 0.05 * step
    layer(x)
    down = balance().item()
    layer.gate.weight.data += 0.1 * step  # as a loss of the other sign would go
    layer(x)
    assert down < before < balance().item()


def test_gradients_through_gates_and_experts(rng):
    """Tokens whose choice is far from changing, so that differences see no jump."""
    layer, one = mixture(rng), mixture(rng, k=1)

    def decided(layer, k):
        x = rng.standard_normal((100, 5))
        scores = np.sort(x @ layer.gate.weight.data.T, axis=1)
        return x[scores[:, -k] - scores[:, -k - 1] > 0.01][:6]

    gradcheck(lambda x: layer(x), [decided(layer, 2)], parameters=dict(layer.named_parameters()))
    gradcheck(lambda x: one(x), [decided(one, 1)], parameters={"w": one.experts[0].w1.weight})


def test_gradients_of_the_balancing_loss_and_of_all_together(rng):
    layer, x = mixture(rng), rng.standard_normal((6, 5))

    def balance():
        layer(Tensor(x))
        return layer.balance()

    gradcheck(balance, [], parameters={"gate": layer.gate.weight})
    model, tokens = awake(rng, Mixtral(**{**TINY, "hidden_size": 8, "num_hidden_layers": 1}, num_local_experts=3)), None
    model.to(np.float64)
    tokens = rng.integers(0, 11, (2, 4))
    gradcheck(lambda: summed_loss(model, tokens, tokens, 0.5)[0], [], parameters=dict(model.named_parameters()))


def test_a_models_balance_is_the_mean_of_its_layers(rng):
    model = awake(rng, Mixtral(**{**TINY, "num_hidden_layers": 3}, num_local_experts=4))
    model(rng.integers(0, 11, (2, 5)))
    parts = [mixture.balance().item() for mixture in model.mixtures()]
    assert len(set(parts)) == 3 and model.balance().item() == pytest.approx(sum(parts) / 3, rel=1e-6)


def test_with_one_expert_there_is_nothing_to_choose(rng):
    layer, x = mixture(rng, E=1, k=1), rng.standard_normal((3, 5))
    np.testing.assert_allclose(layer(Tensor(x)).data, layer.experts[0](Tensor(x)).data)
    assert layer.balance().item() == pytest.approx(1)


def test_the_balancing_loss_is_one_when_balanced_and_grows_with_the_favourite(rng):
    layer = mixture(rng, C=4)
    layer.gate.weight.data[...] = 3 * np.eye(4)
    x = np.concatenate([np.eye(4) + 0.5 * np.roll(np.eye(4), 1, axis=1)] * 3)
    layer(Tensor(x))
    assert layer.balance().item() == pytest.approx(1)  # each expert first once and second once
    layer(Tensor(np.repeat(x[:1], 12, axis=0)))
    p = np.exp(3 * x[0]) / np.exp(3 * x[0]).sum()
    assert layer.balance().item() == pytest.approx(4 * 0.5 * np.sort(p)[-2:].sum()) and layer.balance().item() > 1.5
    before = layer.routing.p.data[0]
    layer.gate.weight.requires_grad = True
    layer.balance().backward()
    layer.gate.weight.data -= 0.5 * layer.gate.weight.grad  # a step down takes from the favourites
    layer(Tensor(np.repeat(x[:1], 12, axis=0)))
    after = layer.routing.p.data[0]
    assert np.sort(after)[-2:].sum() < np.sort(before)[-2:].sum()


def test_experts_that_nobody_chose_get_no_gradient_from_the_text(rng):
    layer, x = mixture(rng, E=6), rng.standard_normal((2, 5))
    layer(Tensor(x)).sum().backward()
    used = set(layer.routing.chosen.reshape(-1).tolist())
    assert 2 <= len(used) <= 4
    for e, expert in enumerate(layer.experts):
        assert (expert.w1.weight.grad is not None) == (e in used)


def test_taking_and_putting_together(rng):
    x = rng.standard_normal((4, 3))
    assert np.array_equal(take(Tensor(x), np.array([2, 0])).data, x[[2, 0]])
    gradcheck(lambda x: take(x, np.array([2, 0])), [x])
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((3, 3))
    rows = np.array([1, 3]), np.array([0, 1, 2])
    y = put_together(4, [(rows[0], Tensor(a)), (rows[1], Tensor(b))]).data
    np.testing.assert_allclose(y, [b[0], a[0] + b[1], b[2], a[1]])
    gradcheck(lambda a, b: put_together(4, [(rows[0], a), (rows[1], b)]), [a, b])


def test_names_and_numbers_of_parameters_are_those_of_mixtral():
    """Mixtral 8x7B: 46,702,792,704 weights, from the shapes."""
    model = Mixtral(**TINY, num_local_experts=3)
    layer = [name for name in model.state_dict() if name.startswith("model.layers.1.")]
    parts = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "input_layernorm",
             "post_attention_layernorm", "block_sparse_moe.gate"]  # fmt: skip
    parts += [f"block_sparse_moe.experts.{e}.{w}" for e in range(3) for w in ("w1", "w2", "w3")]
    assert layer == [f"model.layers.1.{part}.weight" for part in parts]
    V, C, m, n, E, nkv = 32000, 4096, 14336, 32, 8, 8
    each = 2 * C * C + 2 * C * 128 * nkv + E * 3 * C * m + E * C + 2 * C
    assert 2 * V * C + n * each + C == 46_702_792_704
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"num_experts_per_tok from 1 to num_local_experts, got {k} of 3"):
            Mixtral(**TINY, num_local_experts=3, num_experts_per_tok=k)
    with pytest.raises(ValueError, match="there was none"):
        model.balance()


def test_the_cache_gives_the_scores_of_the_whole_model(rng):
    model, x = awake(rng, Mixtral(**TINY)), rng.integers(0, 11, (2, 8))
    expected, decoder = model(x).data, Decoder(model, 2)
    np.testing.assert_allclose(decoder.read(x[:, :4]), expected[:, 3], rtol=1e-5, atol=1e-5)
    for t in range(4, 8):
        np.testing.assert_allclose(decoder.read(x[:, t : t + 1]), expected[:, t], rtol=1e-5, atol=1e-5)


def test_what_is_counted(rng):
    model, text = awake(rng, Mixtral(**TINY, num_local_experts=4)), rng.integers(0, 11, 45)
    counts = read_by(model, text)
    assert counts.shape == (2, 4, 11) and counts.sum() == 2 * 2 * 40
    np.testing.assert_array_equal(counts[0].sum(axis=0), 2 * np.bincount(text[:40], minlength=11))
    shares = usage(model, text)
    np.testing.assert_allclose(shares, counts.sum(axis=2) / 80)
    model(text[:40].reshape(5, 8))
    np.testing.assert_array_equal(counts[1].sum(axis=1), np.bincount(model.mixtures()[1].routing.chosen.reshape(-1),
                                                                     minlength=4))  # fmt: skip
    assert read_by(model, text[:5]).sum() == 2 * 2 * 5  # shorter than a window


def test_shards_balance_over_the_whole_batch(rng):
    model, (x, y) = awake(rng, Mixtral(**TINY)).to(np.float64), next(patterns(rng))
    gradients = []
    for shards in (1, 2, 3):
        model.zero_grad()
        loss = ShardedLoss(model, lambda m, x, y: summed_loss(m, x, y, 0.7), shards)(x, y)
        loss.backward()
        gradients.append([loss.data, *(p.grad for p in model.parameters())])
    for one, other in zip(gradients[0] * 2, gradients[1] + gradients[2], strict=True):
        if one is None or other is None:
            assert one is other is None
        else:
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("shards", [1, 2])
def test_twenty_steps_in_lockstep_with_pytorch(shards, rng):
    """The twin sends every token through every expert. All are used in each step, or it would decay what we leave."""
    import torch

    from tests.twins.llama import Mixtral as Twin

    config = {**TINY, "num_local_experts": 3, "num_experts_per_tok": 2}
    model, twin = Mixtral(**config), Twin(**config)
    assert sorted(model.state_dict()) == sorted(twin.state_dict())
    lockstep.check(
        model,
        twin,
        AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.99)),
        torch.optim.AdamW(twin.parameters(), lr=1e-2, betas=(0.9, 0.99)),
        patterns(rng),
        ShardedLoss(model, lambda m, x, y: summed_loss(m, x, y, 0.3), shards),
        lambda x, y: torch.nn.functional.cross_entropy(twin(x).flatten(0, 1), y.flatten()) + 0.3 * twin.balance(),
    )


def test_an_expert_is_gated_by_its_third_matrix(rng):
    """y = (silu(x W₁ᵀ) ∘ x W₃ᵀ) W₂ᵀ with every number written out."""
    expert, x = mixture(rng).experts[0], rng.standard_normal((4, 5))
    gate, up = x @ expert.w1.weight.data.T, x @ expert.w3.weight.data.T
    expected = (gate / (1 + np.exp(-gate)) * up) @ expert.w2.weight.data.T
    np.testing.assert_allclose(expert(Tensor(x)).data, expected, rtol=1e-12)
