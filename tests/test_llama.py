"""Llama: the model against its definition and PyTorch, and the cache against the model."""


import numpy as np
import pytest

from scratch import Tensor, gradcheck
from scratch.activations import silu
from scratch.layers import RMSNorm, rms_norm, rotary
from scratch.losses import cross_entropy
from scratch.models.llama import Llama
from scratch.models.llama.decoder import Decoder
from scratch.models.llama.model import MLP, Attention
from scratch.module import Module
from scratch.optim import AdamW
from scratch.parallel import ShardedLoss
from tests import lockstep
from tests.starts import assert_nearly_uniform

TINY: dict = {"vocab_size": 11, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 8}  # fmt: skip


def awake(rng: np.random.Generator, model: Module) -> Module:
    """Weights large enough that every part matters, norms with scales of their own."""
    for name, parameter in model.named_parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape) * (1.0 if "embed" in name else 0.3)
        if parameter.ndim == 1:
            parameter.data += 1
    return model


def tokens(rng: np.random.Generator, *shape: int, below: int = 11) -> np.ndarray:
    return rng.integers(0, below, shape)


def loss_of(model: Module, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, int]:
    return cross_entropy(model(x).reshape(y.size, -1), y.reshape(-1), reduction="sum"), y.size


# -- the model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"num_key_value_heads": 1, "tie_word_embeddings": False}])
def test_gradients_of_the_whole_model(changes, rng):
    config = {**TINY, "vocab_size": 5, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 7,
              "num_key_value_heads": 2, **changes}  # fmt: skip
    model, x = awake(rng, Llama(**config)).to(np.float64), tokens(rng, 2, 3, below=5)
    gradcheck(lambda: model(x), [], parameters=dict(model.named_parameters()))


CONFIG: dict = {**TINY, "rope_theta": 50.0, "rms_norm_eps": 1e-2, "tie_word_embeddings": False}


def plain_scores(w: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """The scores of a model of CONFIG: one query at a time, each with the keys that its head shares, rotations as
    complex numbers."""
    B, T = x.shape

    def norm(h, name):
        return h / np.sqrt((h * h).mean(-1, keepdims=True) + 1e-2) * w[f"{name}.weight"]

    def turn(h, place):  # (B, 4) → the same; 0 with 2, 1 with 3
        z = (h[:, :2] + 1j * h[:, 2:]) * np.exp(1j * place * 50.0 ** (-np.arange(2) / 2))
        return np.concatenate([z.real, z.imag], axis=1)

    h = w["model.embed_tokens.weight"][x]
    for layer in ("model.layers.0", "model.layers.1"):
        a = norm(h, f"{layer}.input_layernorm")
        q, k, v = (a @ w[f"{layer}.self_attn.{name}_proj.weight"].T for name in "qkv")
        assert q.shape[-1] == 16 and k.shape[-1] == v.shape[-1] == 8
        y = np.zeros_like(h)
        for head in range(4):
            mine, its = slice(4 * head, 4 * head + 4), slice(4 * (head // 2), 4 * (head // 2) + 4)
            for t in range(T):
                scores = [(turn(q[:, t, mine], t) * turn(k[:, s, its], s)).sum(1) / 2 for s in range(t + 1)]
                e = np.exp(np.stack(scores, axis=1))
                y[:, t, mine] = (e[..., None] * v[:, : t + 1, its]).sum(1) / e.sum(1)[:, None]
        h = h + y @ w[f"{layer}.self_attn.o_proj.weight"].T
        a = norm(h, f"{layer}.post_attention_layernorm")
        gate, up = (a @ w[f"{layer}.mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        h = h + (gate / (1 + np.exp(-gate)) * up) @ w[f"{layer}.mlp.down_proj.weight"].T
    return norm(h, "model.norm") @ w["lm_head.weight"].T


def test_the_model_is_the_one_of_a_few_plain_lines(rng):
    model, x = awake(rng, Llama(**CONFIG)).to(np.float64), tokens(rng, 3, 7)
    np.testing.assert_allclose(model(x).data, plain_scores(model.state_dict(), x), rtol=1e-10, atol=1e-12)


def pairs_of_neighbours(self, x):
    return rotary(x, base=self.rope_theta)


def turned_the_other_way(self, x):
    return rotary(x, base=self.rope_theta, pairing="halves", positions=np.arange(x.shape[2])[::-1].copy())


def heads_taken_in_turn(self, x):
    """Query head h with keys h mod nkv, where neighbours should share."""
    q, k, v = HEADS(self, x)
    return q[:, [0, 2, 1, 3]], k, v


def values_turned_too(self, x):
    q, k, v = HEADS(self, x)
    return q, k, self.turn(v)


def gate_and_up_exchanged(self, x):
    return self.down_proj(silu(self.up_proj(x)) * self.gate_proj(x))


def not_rescaled(self, x):
    return rms_norm(x, self.normalized_shape, None, self.eps)


def centred_first(self, x):
    return rms_norm(x - x.mean(axis=-1, keepdims=True), self.normalized_shape, self.weight, self.eps)


HEADS = Attention.heads
FAULTS = [
    (Attention, "turn", pairs_of_neighbours),
    (Attention, "turn", turned_the_other_way),
    (Attention, "turn", lambda self, x: x),
    (Attention, "heads", heads_taken_in_turn),
    (Attention, "heads", values_turned_too),
    (MLP, "forward", gate_and_up_exchanged),
    (RMSNorm, "forward", not_rescaled),
    (RMSNorm, "forward", centred_first),
]


@pytest.mark.parametrize(("part", "method", "fault"), FAULTS, ids=[f[2].__name__ for f in FAULTS])
def test_a_planted_fault_is_seen(part, method, fault, monkeypatch, rng):
    """Each is the mistake of somebody; the comparison with the plain lines tells it from the model."""
    model, x = awake(rng, Llama(**CONFIG)).to(np.float64), tokens(rng, 3, 7)
    expected = plain_scores(model.state_dict(), x)
    monkeypatch.setattr(part, method, fault)
    assert np.abs(model(x).data - expected).max() > 1e-2


def test_a_token_sees_nothing_that_comes_after_it(rng):
    model, x = awake(rng, Llama(**TINY)).to(np.float64), tokens(rng, 2, 8)
    before = model(x).data
    for t in range(1, 8):
        other = x.copy()
        other[:, t] = (other[:, t] + 1 + rng.integers(0, 9)) % 11
        after = model(other).data
        np.testing.assert_allclose(after[:, :t], before[:, :t], rtol=1e-11, atol=1e-11)
        assert np.abs(after[:, t:] - before[:, t:]).max(axis=(0, 2)).min() > 1e-3


def test_scores_depend_on_distances_only(rng):
    """Turned by its place plus any offset, every query and key gives the same attention."""
    attention = awake(rng, Llama(**TINY)).model.layers[0].self_attn
    x = Tensor(rng.standard_normal((1, 6, 16)).astype(np.float32))
    q, k, _ = attention.heads(x)
    scores = q.data[:, ::2] @ k.data.swapaxes(2, 3)
    moved = Tensor(np.concatenate([rng.standard_normal((1, 5, 16)).astype(np.float32), x.data], axis=1))
    q, k, _ = attention.heads(moved)
    np.testing.assert_allclose((q.data[:, ::2] @ k.data.swapaxes(2, 3))[..., 5:, 5:], scores, atol=1e-4)


def test_state_keys_and_numbers_of_parameters_are_those_of_published_files():
    """SmolLM2-135M: 134,515,008 with its head tied; Llama 2 7B: 6,738,415,616 untied, from the shapes alone."""
    part = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
            "mlp.up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm"]  # fmt: skip
    names = [f"model.layers.{i}.{name}.weight" for i in range(2) for name in part]
    names = ["model.embed_tokens.weight", *names, "model.norm.weight", "lm_head.weight"]
    assert list(Llama(**TINY).state_dict()) == names
    for V, C, m, n, nh, nkv, tied, count in [
        (49152, 576, 1536, 30, 9, 3, True, 134_515_008),
        (32000, 4096, 11008, 32, 32, 32, False, 6_738_415_616),
    ]:
        small = Llama(V // 64, C // 64 * 2 if nh == 9 else C // 64, m // 64, 1, nh, nkv, 8, tie_word_embeddings=tied)
        shapes = [value.shape for name, value in small.state_dict().items() if "layers" in name and value.ndim == 2]
        assert len(shapes) == 7
        layer = 2 * C * C + 2 * C * (C // nh * nkv) + 3 * C * m + 2 * C
        assert V * C * (1 if tied else 2) + n * layer + C == count


def test_the_default_is_as_large_as_the_gpt_without_its_positions():
    assert Llama().count_parameters() == 795_904
    tied = Llama(**TINY)
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert Llama(**TINY, tie_word_embeddings=False).count_parameters() == tied.count_parameters() + 11 * 16


def test_weights_start_as_those_of_the_gpt(rng):
    model = Llama(num_hidden_layers=8)
    for name, value in model.state_dict().items():
        if value.ndim == 2:
            expected = 0.02 / 4 if "o_proj" in name or "down_proj" in name else 0.02
            assert value.std() == pytest.approx(expected, rel=0.03), name
        else:
            assert np.array_equal(value, np.ones_like(value)), name
    assert_nearly_uniform(model(tokens(rng, 4, 64, below=65)).data, C=128)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: Llama(**TINY)(tokens(rng, 2, 9)), r"T from 1 to 8, its context, got \(2, 9\)"),
        (lambda rng: Llama(**TINY)(tokens(rng, 5)), r"tokens of shape \(B, T\)"),
        (lambda rng: Llama(**TINY)(np.array([[3, 11]])), r"from 0 to 10, got 11 at position \(0, 1\)"),
        (lambda rng: Llama(**{**TINY, "num_attention_heads": 3}), "an even multiple of num_attention_heads"),
        (lambda rng: Llama(**{**TINY, "num_attention_heads": 16}), "an even multiple of num_attention_heads"),
        (lambda rng: Llama(**{**TINY, "num_key_value_heads": 3}), "multiple of num_key_value_heads, got 16, 4 and 3"),
        (lambda rng: Llama(**{**TINY, "num_hidden_layers": 0}), "sizes of at least 1, got vocab_size 11"),
    ],
)
def test_bad_input_is_refused(call, message, rng):
    with pytest.raises(ValueError, match=message):
        call(rng)


def patterns(rng: np.random.Generator, size: int = 6):
    """Batches with something to learn: every second token repeats the one before it."""
    while True:
        x = tokens(rng, size, 9)
        x[:, 1::2] = x[:, :8:2]
        yield x[:, :-1], x[:, 1:]


@pytest.mark.torch
@pytest.mark.parametrize(("tied", "shards"), [(True, 1), (False, 2)])
def test_twenty_steps_in_lockstep_with_pytorch(tied, shards, rng):
    import torch

    from tests.twins.llama import Llama as Twin

    config = {**TINY, "tie_word_embeddings": tied, "rope_theta": 100.0, "rms_norm_eps": 1e-3}
    model, twin = Llama(**config), Twin(**config)
    assert list(model.state_dict()) == list(twin.state_dict())
    lockstep.check(
        model,
        twin,
        AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.99)),
        torch.optim.AdamW(twin.parameters(), lr=1e-2, betas=(0.9, 0.99)),
        patterns(rng),
        ShardedLoss(model, loss_of, shards),
        lambda x, y: torch.nn.functional.cross_entropy(twin(x).flatten(0, 1), y.flatten()),
    )


# -- the cache ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nkv", [1, 2, 4])
def test_the_cache_gives_the_scores_of_the_whole_model(nkv, rng):
    """After every token, up to the last place of the context, and after a prompt at once."""
    model, x = awake(rng, Llama(**{**TINY, "num_key_value_heads": nkv, "rope_theta": 30.0})), tokens(rng, 3, 8)
    expected = model(x).data
    decoder = Decoder(model, 3)
    for t in range(8):
        np.testing.assert_allclose(decoder.read(x[:, t : t + 1]), expected[:, t], rtol=1e-5, atol=1e-5)
    assert decoder.lengths.tolist() == [8, 8, 8] and decoder.layers[0].keys.shape == (3, nkv, 8, 4)
    decoder.reset()
    np.testing.assert_allclose(decoder.read(x[:, :5]), expected[:, 4], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(decoder.read(x[:, 5:]), expected[:, 7], rtol=1e-5, atol=1e-5)


def test_rows_of_different_lengths_go_on_by_different_numbers_of_tokens(rng):
    model, x = awake(rng, Llama(**TINY)), tokens(rng, 3, 8)
    expected, decoder, done = model(x).data, Decoder(model, 3), np.zeros(3, int)
    for counts in ([1, 4, 2], [1, 1, 1], [2, 3, 1]):
        new = np.full((3, max(counts)), 7)  # what is not counted is of no account
        for b, n in enumerate(counts):
            new[b, :n] = x[b, done[b] : done[b] + n]
        done += counts
        np.testing.assert_allclose(decoder.read(new, counts), expected[[0, 1, 2], done - 1], rtol=1e-5, atol=1e-5)


def test_the_decoder_uses_the_models_own_arrays_and_float64_stays_exact(rng):
    model, x = awake(rng, Llama(**TINY)).to(np.float64), tokens(rng, 2, 6)
    decoder = Decoder(model, 2, length=6)
    assert decoder.layers[1].q is model.model.layers[1].self_attn.q_proj.weight.data
    assert decoder.layers[0].keys.shape == (2, 2, 6, 4)
    np.testing.assert_allclose(decoder.read(x), model(x).data[:, -1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda rng, d: d.read(np.array([[1, 2]])), r"shape \(2, T\), T at least 1, got int64 \(1, 2\)"),
        (lambda rng, d: d.read(np.ones((2, 1))), "whole numbers"),
        (lambda rng, d: d.read(np.array([[1], [11]])), "tokens from 0 to 10, got 1 to 11"),
        (lambda rng, d: d.read(tokens(rng, 2, 9)), "9 tokens are more than the length of 8"),
        (lambda rng, d: d.read(tokens(rng, 2, 3), [3, 0]), r"counts of shape \(2,\) from 1 to 3"),
    ],
)
def test_a_decoder_refuses_what_it_cannot_read(read, message, rng):
    with pytest.raises(ValueError, match=message):
        read(rng, Decoder(Llama(**TINY), 2))
    for size, length in ((0, None), (1, 0), (1, 9)):
        with pytest.raises(ValueError, match="a batch_size of at least 1 and a length from 1 to 8"):
            Decoder(Llama(**TINY), size, length)


def test_the_cache_with_scores_whose_exponential_is_no_number(rng):
    """Scores q·k of some thousands: e^1000 overflows, so that the largest of each row has to be taken out."""
    model, x = awake(rng, Llama(**TINY)).to(np.float64), tokens(rng, 2, 6)
    for layer in model.model.layers:
        layer.self_attn.q_proj.weight.data *= 1e4
    with np.errstate(over="raise", invalid="raise"):
        found = Decoder(model, 2).read(x)
    np.testing.assert_allclose(found, model(x).data[:, -1], rtol=1e-9, atol=1e-9)


class Square(Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


def test_the_cache_calls_another_network_as_it_is(rng):
    model, x = awake(rng, Llama(**TINY)).to(np.float64), tokens(rng, 2, 5)
    model.model.layers[1].mlp = Square()
    np.testing.assert_allclose(Decoder(model, 2).read(x), model(x).data[:, -1], rtol=1e-10, atol=1e-12)
