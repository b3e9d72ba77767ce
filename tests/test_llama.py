"""Llama: the model against its definition and PyTorch, the cache against the model, and both against the GPT."""

import difflib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from scratch import Tensor, gradcheck
from scratch.activations import silu
from scratch.layers import Dropout, RMSNorm, rms_norm, rotary, scaled_dot_product_attention, split_heads
from scratch.losses import cross_entropy
from scratch.models.gpt import GPT
from scratch.models.gpt import model as gpt_model
from scratch.models.llama import Llama
from scratch.models.llama import model as llama_model
from scratch.models.llama.decoder import Decoder
from scratch.models.llama.model import Attention, FeedForward
from scratch.models.llama.published import with_untied_output
from scratch.module import Module
from scratch.optim import AdamW
from scratch.parallel import ShardedLoss
from tests import lockstep
from tests.starts import assert_nearly_uniform

TINY: dict = {"vocab_size": 11, "context_length": 8, "embed_dim": 16, "num_layers": 2, "num_heads": 4,
              "num_kv_heads": 2, "ffn_dim": 20}  # fmt: skip


def awake(rng: np.random.Generator, model: Module) -> Module:
    """Weights large enough that every part matters, norms with scales of their own."""
    for name, parameter in model.named_parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape) * (1.0 if "embedding" in name else 0.3)
        if parameter.ndim == 1:
            parameter.data += 1
    return model


def tokens(rng: np.random.Generator, *shape: int, below: int = 11) -> np.ndarray:
    return rng.integers(0, below, shape)


def loss_of(model: Module, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, int]:
    return cross_entropy(model(x).reshape(y.size, -1), y.reshape(-1), reduction="sum"), y.size


# -- the model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"num_kv_heads": 1}, {"bias": True}])
def test_gradients_of_the_whole_model(changes, rng):
    config = {**TINY, "vocab_size": 5, "embed_dim": 8, "num_heads": 2, "ffn_dim": 7, "num_kv_heads": 2, **changes}
    untied = "num_kv_heads" in changes
    model = with_untied_output(Llama(**config)) if untied else Llama(**config)
    model, x = awake(rng, model).to(np.float64), tokens(rng, 2, 3, below=5)
    gradcheck(lambda: model(x), [], parameters=dict(model.named_parameters()))


CONFIG: dict = {**TINY, "rope_base": 50.0, "norm_eps": 1e-2}


def config_model(rng: np.random.Generator) -> Module:
    return awake(rng, with_untied_output(Llama(**CONFIG))).to(np.float64)


def plain_scores(w: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """The logits of an untied model of CONFIG: one query at a time, each with the keys that its head shares, rotations
    as complex numbers."""
    B, T = x.shape

    def norm(h, name):
        return h / np.sqrt((h * h).mean(-1, keepdims=True) + 1e-2) * w[f"{name}.weight"]

    def rotate(h, position):  # (B, 4) → the same; 0 with 2, 1 with 3
        z = (h[:, :2] + 1j * h[:, 2:]) * np.exp(1j * position * 50.0 ** (-np.arange(2) / 2))
        return np.concatenate([z.real, z.imag], axis=1)

    h = w["token_embedding.weight"][x]
    for block in ("blocks.0", "blocks.1"):
        a = norm(h, f"{block}.norm1")
        q, k, v = (a @ w[f"{block}.attention.{name}_proj.weight"].T for name in "qkv")
        assert q.shape[-1] == 16 and k.shape[-1] == v.shape[-1] == 8
        y = np.zeros_like(h)
        for head in range(4):
            mine, its = slice(4 * head, 4 * head + 4), slice(4 * (head // 2), 4 * (head // 2) + 4)
            for t in range(T):
                scores = [(rotate(q[:, t, mine], t) * rotate(k[:, s, its], s)).sum(1) / 2 for s in range(t + 1)]
                e = np.exp(np.stack(scores, axis=1))
                y[:, t, mine] = (e[..., None] * v[:, : t + 1, its]).sum(1) / e.sum(1)[:, None]
        h = h + y @ w[f"{block}.attention.out_proj.weight"].T
        a = norm(h, f"{block}.norm2")
        gate, up = (a @ w[f"{block}.feed_forward.{name}_proj.weight"].T for name in ("gate", "up"))
        h = h + (gate / (1 + np.exp(-gate)) * up) @ w[f"{block}.feed_forward.down_proj.weight"].T
    return norm(h, "norm") @ w["lm_head.weight"].T


def test_the_model_is_the_one_of_a_few_plain_lines(rng):
    model, x = config_model(rng), tokens(rng, 3, 7)
    np.testing.assert_allclose(model(x).data, plain_scores(model.state_dict(), x), rtol=1e-10, atol=1e-12)


def attention_with(rotate=lambda attention, x: attention.rotary(x), values=lambda attention, v: v, heads=slice(None)):
    """Attention.forward with a fault."""

    def forward(self, x):
        q = rotate(self, split_heads(self.q_proj(x), self.num_heads))[:, heads]
        k = rotate(self, split_heads(self.k_proj(x), self.num_kv_heads))
        v = values(self, split_heads(self.v_proj(x), self.num_kv_heads))
        y = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.out_proj(y.swapaxes(1, 2).reshape(x.shape))

    return forward


def reversed_positions(attention, x):
    positions = np.arange(x.shape[2])[::-1].copy()
    return rotary(x, base=attention.rotary.base, pairing="halves", positions=positions)


def gate_and_up_exchanged(self, x):
    return self.down_proj(silu(self.up_proj(x)) * self.gate_proj(x))


def without_weight(self, x):
    return rms_norm(x, self.normalized_shape, None, self.eps)


def mean_subtracted(self, x):
    return rms_norm(x - x.mean(axis=-1, keepdims=True), self.normalized_shape, self.weight, self.eps)


FAULTS = {
    "interleaved pairs": (Attention, attention_with(lambda a, x: rotary(x, base=a.rotary.base))),
    "reversed positions": (Attention, attention_with(reversed_positions)),
    "no rotation": (Attention, attention_with(lambda a, x: x)),
    "query head h with key head h mod nkv": (Attention, attention_with(heads=[0, 2, 1, 3])),
    "rotated values": (Attention, attention_with(values=lambda a, v: a.rotary(v))),
    "gate and up exchanged": (FeedForward, gate_and_up_exchanged),
    "norm without its weight": (RMSNorm, without_weight),
    "norm that subtracts the mean": (RMSNorm, mean_subtracted),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_seen(name, monkeypatch, rng):
    """Common mistakes: the comparison with the plain lines detects each of them."""
    model, x = config_model(rng), tokens(rng, 3, 7)
    expected = plain_scores(model.state_dict(), x)
    monkeypatch.setattr(Attention, "forward", attention_with())  # without a fault
    np.testing.assert_allclose(model(x).data, expected, rtol=1e-10, atol=1e-12)
    part, fault = FAULTS[name]
    monkeypatch.setattr(part, "forward", fault)
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
    """Moved by any offset, every query and key gives the same attention score."""
    attention = awake(rng, Llama(**TINY)).blocks[0].attention

    def scores(x):
        q = attention.rotary(split_heads(attention.q_proj(x), 4)).data
        k = attention.rotary(split_heads(attention.k_proj(x), 2)).data
        return q[:, ::2] @ k.swapaxes(2, 3)

    x = Tensor(rng.standard_normal((1, 6, 16)).astype(np.float32))
    moved = Tensor(np.concatenate([rng.standard_normal((1, 5, 16)).astype(np.float32), x.data], axis=1))
    np.testing.assert_allclose(scores(moved)[..., 5:, 5:], scores(x), atol=1e-4)


def test_state_keys_and_numbers_of_parameters():
    """SmolLM2-135M: 134,515,008 with tied weights; Llama 2 7B: 6,738,415,616 untied, from the shapes alone."""
    part = ["norm1", "attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.out_proj", "norm2",
            "feed_forward.gate_proj", "feed_forward.up_proj", "feed_forward.down_proj"]  # fmt: skip
    names = [f"blocks.{i}.{name}.weight" for i in range(2) for name in part]
    assert list(Llama(**TINY).state_dict()) == ["token_embedding.weight", *names, "norm.weight", "lm_head.weight"]
    for V, C, m, n, nh, nkv, tied, count in [
        (49152, 576, 1536, 30, 9, 3, True, 134_515_008),
        (32000, 4096, 11008, 32, 32, 32, False, 6_738_415_616),
    ]:
        width = C // 64 * 2 if nh == 9 else C // 64
        small = Llama(V // 64, 8, width, 1, nh, nkv, m // 64)
        shapes = [value.shape for name, value in small.state_dict().items() if "blocks" in name and value.ndim == 2]
        per_block = 2 * width**2 + 2 * width * (width // nh * nkv) + 3 * width * (m // 64)
        assert len(shapes) == 7 and sum(a * b for a, b in shapes) == per_block
        block = 2 * C * C + 2 * C * (C // nh * nkv) + 3 * C * m + 2 * C
        assert V * C * (1 if tied else 2) + n * block + C == count


def test_the_default_is_as_large_as_the_gpt_without_its_positions():
    assert Llama().count_parameters() == 795_904
    assert GPT(bias=False).count_parameters() == 795_904 + 64 * 128
    tied = Llama(**TINY)
    assert tied.lm_head.weight is tied.token_embedding.weight
    assert with_untied_output(Llama(**TINY)).count_parameters() == tied.count_parameters() + 11 * 16
    biases = (2 * 16 + 2 * 8) + (2 * 20 + 16)  # q, out; k, v; gate, up; down
    assert Llama(**TINY, bias=True).count_parameters() == tied.count_parameters() + 2 * biases


def test_initial_weights_have_the_gpts_distribution(rng):
    model = Llama(num_layers=8)
    for name, value in model.state_dict().items():
        if value.ndim == 2:
            expected = 0.02 / 4 if "out_proj" in name or "down_proj" in name else 0.02
            assert value.std() == pytest.approx(expected, rel=0.03), name
        else:
            assert np.array_equal(value, np.ones_like(value)), name
    assert_nearly_uniform(model(tokens(rng, 4, 64, below=65)).data, C=128)


def test_dropout_acts_in_training_only_and_at_the_gpts_positions(rng):
    model, x = awake(rng, Llama(**TINY, dropout=0.5)), tokens(rng, 2, 8)
    plain = awake(rng, Llama(**TINY))
    plain.load_state_dict(model.state_dict())
    assert np.abs(model(x).data - plain(x).data).max() > 1e-2
    model.eval()
    assert np.array_equal(model(x).data, plain(x).data)
    gpt = GPT(11, 8, 16, 2, 4, dropout=0.5)
    places = [[name for name, part in m.named_modules() if isinstance(part, Dropout)] for m in (model, gpt)]
    assert places[0] == places[1] and len(places[0]) == 7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: Llama(**TINY)(tokens(rng, 2, 9)), r"8.*\(2, 9\)"),
        (lambda rng: Llama(**TINY)(tokens(rng, 5)), r"\(5,\)"),
        (lambda rng: Llama(**TINY)(np.array([[3, 11]])), r"0 to 10.*11.*\(0, 1\)"),
        (lambda rng: Llama(**{**TINY, "num_heads": 3}), "embed_dim.*num_heads.*16.*3"),
        (lambda rng: Llama(**{**TINY, "num_heads": 16}), "embed_dim.*num_heads.*16.*16"),  # an odd head size
        (lambda rng: Llama(**{**TINY, "num_kv_heads": 3}), "num_heads.*num_kv_heads.*4.*3"),
        (lambda rng: Llama(**{**TINY, "num_kv_heads": 0}), "num_heads.*num_kv_heads.*4.*0"),
        (lambda rng: Llama(**{**TINY, "num_layers": 0}), "vocab_size.*11.*num_layers.*0"),
    ],
)
def test_bad_input_is_refused(call, message, rng):
    with pytest.raises(ValueError, match=message):
        call(rng)


def changes_from_the_gpt() -> list[str]:
    """`diff scratch/models/gpt/model.py scratch/models/llama/model.py`, without line numbers."""
    before, after = (inspect.getsource(module).splitlines() for module in (gpt_model, llama_model))
    lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]  # without the two file names
    return [line for line in lines if not line.startswith("@@")]


def test_the_model_differs_from_the_gpt_in_at_most_100_lines():
    assert 0 < len(changes_from_the_gpt()) <= 100


def test_the_page_shows_the_differences_from_the_gpt():
    page = (Path(llama_model.__file__).parent / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```diff\n(.*?)```", page, re.DOTALL)
    assert [line for line in block.splitlines() if not line.startswith("@@")] == changes_from_the_gpt()


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

    config = {**TINY, "rope_base": 100.0, "norm_eps": 1e-3}
    model, twin = Llama(**config), Twin(**config)
    if not tied:
        model = with_untied_output(model)
        twin.lm_head.weight = torch.nn.Parameter(torch.zeros_like(twin.lm_head.weight))
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


@pytest.mark.parametrize(("nkv", "bias"), [(1, False), (2, False), (4, False), (2, True)])
def test_the_cache_gives_the_scores_of_the_whole_model(nkv, bias, rng):
    """After every token, up to the last position of the context, and after a prompt at once."""
    model, x = awake(rng, Llama(**{**TINY, "num_kv_heads": nkv, "rope_base": 30.0, "bias": bias})), tokens(rng, 3, 8)
    expected = model(x).data
    decoder = Decoder(model, 3)
    for t in range(8):
        np.testing.assert_allclose(decoder.read(x[:, t : t + 1]), expected[:, t], rtol=1e-5, atol=1e-5)
    assert decoder.lengths.tolist() == [8, 8, 8] and decoder.blocks[0].keys.shape == (3, nkv, 8, 4)
    decoder.reset()
    np.testing.assert_allclose(decoder.read(x[:, :5]), expected[:, 4], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(decoder.read(x[:, 5:]), expected[:, 7], rtol=1e-5, atol=1e-5)


def test_rows_of_different_lengths_go_on_by_different_numbers_of_tokens(rng):
    model, x = awake(rng, Llama(**TINY)), tokens(rng, 3, 8)
    expected, decoder, done = model(x).data, Decoder(model, 3), np.zeros(3, int)
    for counts in ([1, 4, 2], [1, 1, 1], [2, 3, 1]):
        new = np.full((3, max(counts)), 7)  # padding is not read
        for b, n in enumerate(counts):
            new[b, :n] = x[b, done[b] : done[b] + n]
        done += counts
        np.testing.assert_allclose(decoder.read(new, counts), expected[[0, 1, 2], done - 1], rtol=1e-5, atol=1e-5)


def test_the_decoder_uses_the_models_own_arrays_and_float64_stays_exact(rng):
    model, x = awake(rng, Llama(**TINY)).to(np.float64), tokens(rng, 2, 6)
    decoder = Decoder(model, 2, length=6)
    assert decoder.blocks[1].q.weight is model.blocks[1].attention.q_proj.weight.data
    assert decoder.blocks[0].keys.shape == (2, 2, 6, 4)
    np.testing.assert_allclose(decoder.read(x), model(x).data[:, -1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda rng, d: d.read(np.array([[1, 2]])), r"\(2, T\).*int64 \(1, 2\)"),
        (lambda rng, d: d.read(np.ones((2, 1))), "float64"),
        (lambda rng, d: d.read(np.array([[1], [11]])), "0 to 10.* 1 to 11"),
        (lambda rng, d: d.read(tokens(rng, 2, 9)), "9.* 8"),
        (lambda rng, d: d.read(tokens(rng, 2, 3), [3, 0]), r"\(2,\).* 1 to 3"),
    ],
)
def test_a_decoder_refuses_what_it_cannot_read(read, message, rng):
    with pytest.raises(ValueError, match=message):
        read(rng, Decoder(Llama(**TINY), 2))
    for size, length in ((0, None), (1, 0), (1, 9)):
        with pytest.raises(ValueError, match=f"batch_size.*length from 1 to 8.*{size}"):
            Decoder(Llama(**TINY), size, length)


def test_the_cache_with_scores_whose_exponential_is_no_number(rng):
    """Scores q·k of some thousands: e^1000 overflows, so the largest of each row has to be subtracted."""
    model, x = awake(rng, Llama(**TINY)).to(np.float64), tokens(rng, 2, 6)
    for block in model.blocks:
        block.attention.q_proj.weight.data *= 1e4
    with np.errstate(over="raise", invalid="raise"):
        found = Decoder(model, 2).read(x)
    np.testing.assert_allclose(found, model(x).data[:, -1], rtol=1e-9, atol=1e-9)


class Square(Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


def test_the_cache_calls_another_network_as_it_is(rng):
    model, x = awake(rng, Llama(**TINY)).to(np.float64), tokens(rng, 2, 5)
    model.blocks[1].feed_forward = Square()
    np.testing.assert_allclose(Decoder(model, 2).read(x), model(x).data[:, -1], rtol=1e-10, atol=1e-12)
