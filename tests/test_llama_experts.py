"""A mixture of experts: the router's choice, gradients through the gates, the balancing loss, and what is counted."""

import numpy as np
import pytest

from scratch import Tensor, gradcheck
from scratch.models.llama import Mixtral
from scratch.models.llama.decoder import Decoder
from scratch.models.llama.experts import MixtureOfExperts, gather_rows, scatter_add_rows
from scratch.models.llama.inside import expert_load, expert_token_counts
from scratch.models.llama.train import summed_loss
from scratch.optim import AdamW
from scratch.parallel import ShardedLoss
from tests import lockstep
from tests.test_llama import awake, patterns

TINY: dict = {"vocab_size": 11, "context_length": 8, "embed_dim": 16, "num_layers": 2, "num_heads": 4,
              "num_kv_heads": 2, "ffn_dim": 6}  # fmt: skip


def mixture(rng: np.random.Generator, C: int = 5, E: int = 4, k: int = 2) -> MixtureOfExperts:
    return awake(rng, MixtureOfExperts(C, 7, E, k)).to(np.float64)


def test_each_token_goes_through_its_two_likeliest_experts(rng):
    """By hand, token by token, with the gates of a softmax over the two chosen scores alone."""
    layer, x = mixture(rng), rng.standard_normal((3, 4, 5))
    y = layer(Tensor(x)).data
    scores = x @ layer.router.weight.data.T
    for b in range(3):
        for t in range(4):
            chosen = np.argsort(-scores[b, t])[:2]
            g = np.exp(scores[b, t, chosen])
            parts = [layer.experts[e](Tensor(x[b, t][None])).data[0] for e in chosen]
            np.testing.assert_allclose(y[b, t], (g[0] * parts[0] + g[1] * parts[1]) / g.sum(), rtol=1e-10)
    assert layer.routing is not None
    assert (layer.routing.selected == np.argsort(-scores.reshape(12, 4), axis=1)[:, :2]).all()
    np.testing.assert_allclose(layer.gates(layer.routing).data.sum(axis=1), 1)


def test_planted_faults_are_seen(monkeypatch, rng):
    """Gates not normalised, gates of the wrong expert, a gradient step of the wrong sign: each is detected."""
    layer, x = mixture(rng), Tensor(rng.standard_normal((6, 5)))
    right, loss_of, k = layer(x).data, layer.load_balancing_loss, np.arange(6)[:, None]
    monkeypatch.setattr(MixtureOfExperts, "gates", lambda self, r: r.probs[k, r.selected])
    assert np.abs(layer(x).data - right).max() > 1e-2
    monkeypatch.undo()
    gates = MixtureOfExperts.gates
    monkeypatch.setattr(MixtureOfExperts, "gates", lambda self, r: gates(self, r)[:, ::-1])
    assert np.abs(layer(x).data - right).max() > 1e-2
    layer.zero_grad()
    loss_of().backward()
    assert layer.router.weight.grad is not None
    step = layer.router.weight.grad.copy()
    before = loss_of().item()
    layer.router.weight.data -= 0.05 * step
    layer(x)
    down = loss_of().item()
    layer.router.weight.data += 0.1 * step  # as a loss of the other sign would go
    layer(x)
    assert down < before < loss_of().item()


def test_gradients_through_gates_and_experts(rng):
    """Tokens whose choice is far from changing, so that differences see no jump."""
    layer, one = mixture(rng), mixture(rng, k=1)

    def decided(layer, k):
        x = rng.standard_normal((100, 5))
        scores = np.sort(x @ layer.router.weight.data.T, axis=1)
        return x[scores[:, -k] - scores[:, -k - 1] > 0.01][:6]

    gradcheck(lambda x: layer(x), [decided(layer, 2)], parameters=dict(layer.named_parameters()))
    gradcheck(lambda x: one(x), [decided(one, 1)], parameters={"w": one.experts[0].gate_proj.weight})


def test_gradients_of_the_balancing_loss_and_of_all_together(rng):
    layer, x = mixture(rng), rng.standard_normal((6, 5))

    def balancing():
        layer(Tensor(x))
        return layer.load_balancing_loss()

    gradcheck(balancing, [], parameters={"router": layer.router.weight})
    model, tokens = awake(rng, Mixtral(**{**TINY, "embed_dim": 8, "num_layers": 1}, num_experts=3)), None
    model.to(np.float64)
    tokens = rng.integers(0, 11, (2, 4))
    gradcheck(lambda: summed_loss(model, tokens, tokens, 0.5)[0], [], parameters=dict(model.named_parameters()))


def test_a_models_balance_is_the_mean_of_its_layers(rng):
    model = awake(rng, Mixtral(**{**TINY, "num_layers": 3}, num_experts=4))
    model(rng.integers(0, 11, (2, 5)))
    parts = [mixture.load_balancing_loss().item() for mixture in model.mixtures()]
    assert len(set(parts)) == 3 and model.load_balancing_loss().item() == pytest.approx(sum(parts) / 3, rel=1e-6)


def test_with_one_expert_there_is_nothing_to_choose(rng):
    layer, x = mixture(rng, E=1, k=1), rng.standard_normal((3, 5))
    np.testing.assert_allclose(layer(Tensor(x)).data, layer.experts[0](Tensor(x)).data)
    assert layer.load_balancing_loss().item() == pytest.approx(1)


def test_the_balancing_loss_is_one_when_balanced_and_grows_with_the_favourite(rng):
    layer = mixture(rng, C=4)
    layer.router.weight.data[...] = 3 * np.eye(4)
    x = np.concatenate([np.eye(4) + 0.5 * np.roll(np.eye(4), 1, axis=1)] * 3)
    layer(Tensor(x))
    assert layer.load_balancing_loss().item() == pytest.approx(1)  # each expert first once and second once
    layer(Tensor(np.repeat(x[:1], 12, axis=0)))
    p = np.exp(3 * x[0]) / np.exp(3 * x[0]).sum()
    assert layer.load_balancing_loss().item() == pytest.approx(4 * 0.5 * np.sort(p)[-2:].sum())
    assert layer.load_balancing_loss().item() > 1.5
    before = layer.routing.probs.data[0]
    layer.router.weight.requires_grad = True
    layer.load_balancing_loss().backward()
    layer.router.weight.data -= 0.5 * layer.router.weight.grad  # a step down takes from the favourites
    layer(Tensor(np.repeat(x[:1], 12, axis=0)))
    after = layer.routing.probs.data[0]
    assert np.sort(after)[-2:].sum() < np.sort(before)[-2:].sum()


def test_experts_that_were_not_selected_get_no_gradient_from_the_text(rng):
    layer, x = mixture(rng, E=6), rng.standard_normal((2, 5))
    layer(Tensor(x)).sum().backward()
    used = set(layer.routing.selected.reshape(-1).tolist())
    assert 2 <= len(used) <= 4
    for e, expert in enumerate(layer.experts):
        assert (expert.gate_proj.weight.grad is not None) == (e in used)


def test_gathering_and_scattering_rows(rng):
    x = rng.standard_normal((4, 3))
    assert np.array_equal(gather_rows(Tensor(x), np.array([2, 0])).data, x[[2, 0]])
    gradcheck(lambda x: gather_rows(x, np.array([2, 0])), [x])
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((3, 3))
    rows = np.array([1, 3]), np.array([0, 1, 2])
    y = scatter_add_rows(4, [(rows[0], Tensor(a)), (rows[1], Tensor(b))]).data
    np.testing.assert_allclose(y, [b[0], a[0] + b[1], b[2], a[1]])
    gradcheck(lambda a, b: scatter_add_rows(4, [(rows[0], a), (rows[1], b)]), [a, b])


def test_state_keys_and_numbers_of_parameters():
    """Mixtral 8x7B: 46,702,792,704 parameters, from the shapes."""
    model = Mixtral(**TINY, num_experts=3)
    layer = [name for name in model.state_dict() if name.startswith("blocks.1.")]
    parts = ["norm1", "attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.out_proj", "norm2",
             "feed_forward.router"]  # fmt: skip
    parts += [f"feed_forward.experts.{e}.{w}_proj" for e in range(3) for w in ("gate", "up", "down")]
    assert layer == [f"blocks.1.{part}.weight" for part in parts]
    V, C, m, n, E, nkv = 32000, 4096, 14336, 32, 8, 8
    each = 2 * C * C + 2 * C * 128 * nkv + E * 3 * C * m + E * C + 2 * C
    assert 2 * V * C + n * each + C == 46_702_792_704
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"num_experts_per_token.*num_experts.*{k}.*3"):
            Mixtral(**TINY, num_experts=3, num_experts_per_token=k)
    with pytest.raises(ValueError, match="load_balancing_loss"):
        model.load_balancing_loss()


def test_the_cache_gives_the_scores_of_the_whole_model(rng):
    model, x = awake(rng, Mixtral(**TINY)), rng.integers(0, 11, (2, 8))
    expected, decoder = model(x).data, Decoder(model, 2)
    np.testing.assert_allclose(decoder.read(x[:, :4]), expected[:, 3], rtol=1e-5, atol=1e-5)
    for t in range(4, 8):
        np.testing.assert_allclose(decoder.read(x[:, t : t + 1]), expected[:, t], rtol=1e-5, atol=1e-5)


def test_what_is_counted(rng):
    model, text = awake(rng, Mixtral(**TINY, num_experts=4)), rng.integers(0, 11, 45)
    counts = expert_token_counts(model, text)
    assert counts.shape == (2, 4, 11) and counts.sum() == 2 * 2 * 40
    np.testing.assert_array_equal(counts[0].sum(axis=0), 2 * np.bincount(text[:40], minlength=11))
    shares = expert_load(model, text)
    np.testing.assert_allclose(shares, counts.sum(axis=2) / 80)
    model(text[:40].reshape(5, 8))
    np.testing.assert_array_equal(counts[1].sum(axis=1), np.bincount(model.mixtures()[1].routing.selected.reshape(-1),
                                                                     minlength=4))  # fmt: skip
    assert expert_token_counts(model, text[:5]).sum() == 2 * 2 * 5  # shorter than a window


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
    """The twin computes every expert for every token. All are used in each step: it would decay unused ones."""
    import torch

    from tests.twins.llama import Mixtral as Twin

    config = {**TINY, "num_experts": 3, "num_experts_per_token": 2}
    model, twin = Mixtral(**config), Twin(**config)
    assert sorted(model.state_dict()) == sorted(twin.state_dict())

    def twin_loss(x, y):
        loss = torch.nn.functional.cross_entropy(twin(x).flatten(0, 1), y.flatten())
        return loss + 0.3 * twin.load_balancing_loss()

    lockstep.check(
        model,
        twin,
        AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.99)),
        torch.optim.AdamW(twin.parameters(), lr=1e-2, betas=(0.9, 0.99)),
        patterns(rng),
        ShardedLoss(model, lambda m, x, y: summed_loss(m, x, y, 0.3), shards),
        twin_loss,
    )


def test_experts_have_the_size_the_dropout_and_the_initial_weights_of_the_network_that_they_replace():
    model = Mixtral(11, 8, 32, 8, 4, 2, 300, dropout=0.25, bias=True, num_experts=3)
    for mixture in model.mixtures():
        assert mixture.router.bias is None and len(mixture.experts) == 3
        for expert in mixture.experts:
            assert expert.gate_proj.weight.shape == expert.up_proj.weight.shape == (300, 32)
            assert expert.gate_proj.bias.shape == (300,) and expert.dropout.p == 0.25
            assert expert.gate_proj.weight.data.std() == pytest.approx(0.02, rel=0.05)
            assert expert.down_proj.weight.data.std() == pytest.approx(0.02 / 4, rel=0.05)
        assert mixture.router.weight.data.std() == pytest.approx(0.02, rel=0.3)
    assert len(model.mixtures()) == 8


def test_the_cache_has_no_dropout_and_leaves_the_models_mode(rng):
    model, x = awake(rng, Mixtral(**TINY, dropout=0.5)), rng.integers(0, 11, (2, 6))
    scores = Decoder(model, 2).read(x)
    assert all(module.training for module in model.modules())
    model.eval()
    np.testing.assert_allclose(scores, model(x).data[:, -1], rtol=1e-5, atol=1e-5)


def test_an_expert_is_gated_by_its_gate_matrix(rng):
    """y = (silu(x W_gateᵀ) ∘ x W_upᵀ) W_downᵀ with every number written out."""
    expert, x = mixture(rng).experts[0], rng.standard_normal((4, 5))
    gate, up = x @ expert.gate_proj.weight.data.T, x @ expert.up_proj.weight.data.T
    expected = (gate / (1 + np.exp(-gate)) * up) @ expert.down_proj.weight.data.T
    np.testing.assert_allclose(expert(Tensor(x)).data, expected, rtol=1e-12)
