"""GPT: the model against its definition and PyTorch, the cache against the model, and what is drawn from its scores."""

import math
import re

import numpy as np
import pytest

from scratch import Tensor, gradcheck
from scratch.activations import gelu
from scratch.models.gpt import GPT
from scratch.models.gpt.decoder import Decoder, gelu_from_table
from scratch.models.gpt.generate import choose, distribution, generate, padded, stream
from scratch.models.gpt.train import summed_loss
from scratch.optim import AdamW, weight_decay_groups
from scratch.parallel import ShardedLoss
from scratch.random import manual_seed
from scratch.sampling import draw
from tests import lockstep
from tests.starts import assert_nearly_uniform

TINY: dict = {"vocab_size": 11, "context_length": 8, "num_layers": 2, "num_heads": 2, "embed_dim": 12}


def awake(rng: np.random.Generator, model: GPT) -> GPT:
    """Weights large enough that every part matters, norms with scales and shifts of their own."""
    for name, parameter in model.named_parameters():
        width = 1.0 if "embedding" in name else 0.3  # or every text would be one token over and over
        parameter.data[...] = rng.standard_normal(parameter.shape) * width
        if "norm" in name and name.endswith("weight"):
            parameter.data += 1
    return model


def tokens(rng: np.random.Generator, *shape: int, below: int = 11) -> np.ndarray:
    return rng.integers(0, below, shape)


# -- the model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_the_whole_model(bias, rng):
    config = {"vocab_size": 5, "context_length": 4, "num_layers": 2, "num_heads": 2, "embed_dim": 6, "bias": bias}
    model, x = awake(rng, GPT(**config)).to(np.float64), tokens(rng, 2, 3, below=5)
    gradcheck(lambda: model(x), [], parameters=dict(model.named_parameters()))


def test_the_model_is_the_one_of_a_few_plain_lines(rng):
    """One head after the other, with the softmax of the past alone, so that no mask and no packing can go wrong."""
    model, x = awake(rng, GPT(**TINY)).to(np.float64), tokens(rng, 3, 7)
    w = model.state_dict()

    def norm(h, name):
        h = h - h.mean(-1, keepdims=True)
        return h / np.sqrt((h * h).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(h, name):
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    h = w["token_embedding.weight"][x] + w["position_embedding.weight"][:7]
    for block in ("blocks.0", "blocks.1"):
        z, y = norm(h, f"{block}.norm1"), np.zeros_like(h)
        for head in (slice(0, 6), slice(6, 12)):
            q, k, v = (linear(z, f"{block}.attention.{part}_proj")[..., head] for part in "qkv")
            for t in range(7):
                e = np.exp((q[:, t, None] * k[:, : t + 1]).sum(-1) / math.sqrt(6))
                y[:, t, head] = (e[..., None] * v[:, : t + 1]).sum(1) / e.sum(1)[:, None]
        h = h + linear(y, f"{block}.attention.out_proj")
        z = gelu(Tensor(linear(norm(h, f"{block}.norm2"), f"{block}.feed_forward.up_proj"))).data
        h = h + linear(z, f"{block}.feed_forward.down_proj")
    expected = norm(h, "norm") @ w["token_embedding.weight"].T
    np.testing.assert_allclose(model(x).data, expected, rtol=1e-10, atol=1e-12)


def test_a_token_sees_nothing_that_comes_after_it(rng):
    model, x = awake(rng, GPT(**TINY)).to(np.float64), tokens(rng, 2, 8)
    before = model(x).data
    for t in range(1, 8):
        other = x.copy()
        other[:, t] = (other[:, t] + 1 + rng.integers(0, 9)) % 11
        after = model(other).data
        np.testing.assert_allclose(after[:, :t], before[:, :t], rtol=1e-11, atol=1e-11)
        assert np.abs(after[:, t:] - before[:, t:]).max(axis=(0, 2)).min() > 1e-3


def test_numbers_of_parameters_are_those_of_nanogpt():
    """Its shakespeare_char models, without position embeddings: 0.80M for the small one, 10.65M for the larger one."""
    small, large = GPT(65, 64, 128, 4, 4, bias=False), GPT(65, 256, 384, 6, 6, bias=False)
    assert small.count_parameters() == 804_096
    assert small.count_parameters() - small.position_embedding.weight.size == 795_904
    assert large.count_parameters() - large.position_embedding.weight.size == 10_646_784


def test_state_keys():
    parts = ["norm1.weight", *(f"attention.{part}_proj.weight" for part in ("q", "k", "v", "out")), "norm2.weight",
             "feed_forward.up_proj.weight", "feed_forward.down_proj.weight"]  # fmt: skip
    layers = [f"blocks.{i}.{part}" for i in range(2) for part in parts]
    ends = ["token_embedding.weight", "position_embedding.weight", *layers, "norm.weight", "lm_head.weight"]
    assert list(GPT(**TINY, bias=False).state_dict()) == ends
    assert GPT(**TINY).state_dict()["blocks.1.attention.q_proj.bias"].shape == (12,)


def test_the_head_is_the_embedding_also_after_loading_and_casting(rng):
    model, other = GPT(**TINY), GPT(**TINY)
    assert model.lm_head.weight is model.token_embedding.weight
    other.load_state_dict(awake(rng, model).state_dict())
    other.to(np.float64)
    assert other.lm_head.weight is other.token_embedding.weight
    np.testing.assert_allclose(other(np.array([[1, 2]])).data, model(np.array([[1, 2]])).data, rtol=1e-4, atol=1e-4)


def test_weights_start_as_gpt_2_starts(rng):
    model = GPT(65, 64, 128, 8, 4)
    for name, value in model.state_dict().items():
        if value.ndim == 2:
            expected = 0.02 / math.sqrt(16) if "out_proj" in name or "down_proj" in name else 0.02
            assert value.std() == pytest.approx(expected, rel=0.03), name
            assert abs(value.mean()) < 4 * expected / math.sqrt(value.size), name
        else:
            assert np.array_equal(value, np.full_like(value, "weight" in name)), name
    assert_nearly_uniform(model(tokens(rng, 4, 64, below=65)).data, C=128)


def test_dropout_acts_in_training_only_and_in_the_attention_too(rng):
    model, x = awake(rng, GPT(**TINY, dropout=0.4)), tokens(rng, 2, 8)
    assert not np.array_equal(model(x).data, model(x).data)
    model.dropout.p = 0.0
    for block in model.blocks:
        block.attention.residual_dropout.p = block.feed_forward.dropout.p = 0.0
    assert not np.array_equal(model(x).data, model(x).data)
    model.eval()
    assert np.array_equal(model(x).data, model(x).data)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: GPT(**TINY)(tokens(rng, 2, 9)), r"T ≤ 8.*\(2, 9\)"),
        (lambda rng: GPT(**TINY)(np.zeros((2, 0), int)), r"T ≤ 8.*\(2, 0\)"),
        (lambda rng: GPT(**TINY)(tokens(rng, 5)), r"\(B, T\).*\(5,\)"),
        (lambda rng: GPT(**TINY)(np.array([[3, 11]])), r"from 0 to 10, got 11 at position \(0, 1\)"),
        (lambda rng: GPT(**TINY)(np.array([[-1, 3]])), r"from 0 to 10, got -1 at position \(0, 0\)"),
        (lambda rng: GPT(**TINY)(np.ones((1, 2), np.float32)), "whole numbers"),
        (lambda rng: GPT(**{**TINY, "num_heads": 5}), "embed_dim.*num_heads.*12.*5"),
        (lambda rng: GPT(**{**TINY, "num_layers": 0}), "at least 1.*vocab_size 11, context_length 8, num_layers 0"),
        (lambda rng: GPT(**TINY, dropout=1.5), "from 0 to 1, got 1.5"),
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
@pytest.mark.parametrize(("bias", "shards"), [(True, 1), (False, 2)])
def test_twenty_steps_in_lockstep_with_pytorch(bias, shards, rng):
    """Weights from the twin's initial state, decay on matrices only, as `train` has it."""
    import torch

    from tests.twins.gpt import GPT as Twin

    model, twin = GPT(**TINY, bias=bias), Twin(**TINY, bias=bias)
    assert list(model.state_dict()) == list(twin.state_dict())
    groups = [
        {"params": [p for p in twin.parameters() if p.ndim == dimension], "weight_decay": decay}
        for dimension, decay in ((2, 0.1), (1, 0.0))
    ]
    lockstep.check(
        model,
        twin,
        AdamW(weight_decay_groups(model, 0.1), lr=1e-2, betas=(0.9, 0.99)),
        torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.99)),
        patterns(rng),
        ShardedLoss(model, summed_loss, shards),
        lambda x, y: torch.nn.functional.cross_entropy(twin(x).flatten(0, 1), y.flatten()),
    )


# -- the cache --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_the_cache_gives_the_scores_of_the_whole_model(bias, rng):
    """After every token, up to the last place of the context."""
    model, x = awake(rng, GPT(**TINY, bias=bias)), tokens(rng, 3, 8)
    expected = model(x).data
    decoder = Decoder(model, 3)
    for t in range(8):
        np.testing.assert_allclose(decoder.read(x[:, t : t + 1]), expected[:, t], rtol=1e-5, atol=1e-5)
    assert decoder.lengths.tolist() == [8, 8, 8]
    decoder.reset()
    np.testing.assert_allclose(decoder.read(x), expected[:, -1], rtol=1e-5, atol=1e-5)


def test_rows_of_different_lengths_go_on_by_different_numbers_of_tokens(rng):
    model, x = awake(rng, GPT(**TINY)), tokens(rng, 3, 8)
    expected, decoder = model(x).data, Decoder(model, 3)
    done = np.zeros(3, int)
    for counts in ([1, 4, 2], [1, 1, 1], [2, 3, 1], [1, 0, 1]):
        rows = np.flatnonzero(counts)
        if len(rows) < 3:  # a row that has ended: the others alone, in a decoder of their own
            part = Decoder(model, len(rows))
            T = int(done[rows].max())
            padded = np.where(np.arange(T) < done[rows, None], x[rows, :T], 0)
            part.read(padded, done[rows])
            logits = part.read(x[rows, done[rows]][:, None])
            np.testing.assert_allclose(logits, expected[rows, done[rows]], rtol=1e-5, atol=1e-5)
            continue
        new = np.full((3, max(counts)), 7)  # what is not counted is of no account
        for b, n in enumerate(counts):
            new[b, :n] = x[b, done[b] : done[b] + n]
        done += counts
        np.testing.assert_allclose(decoder.read(new, counts), expected[[0, 1, 2], done - 1], rtol=1e-5, atol=1e-5)


def test_the_cache_is_made_once_and_float64_stays_exact(rng):
    model, x = awake(rng, GPT(**TINY)).to(np.float64), tokens(rng, 2, 8)
    decoder = Decoder(model, 2)
    arrays = [decoder.blocks[0].keys, decoder.blocks[1].values]
    assert arrays[0].shape == (2, 2, 8, 6) and arrays[0].dtype == np.float64
    decoder.read(x[:, :3])
    logits = decoder.read(x[:, 3:])
    assert arrays[0] is decoder.blocks[0].keys and arrays[1] is decoder.blocks[1].values
    np.testing.assert_allclose(logits, model(x).data[:, -1], rtol=1e-6, atol=1e-6)  # GELU's table: 2.4e-8 each


def test_reading_changes_nothing_in_the_model(rng):
    model = awake(rng, GPT(**TINY, bias=False))
    before = {name: value.copy() for name, value in model.state_dict().items()}
    generate(model, [tokens(rng, 3), tokens(rng, 8)], 6)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert model.training


def test_gelu_from_a_table():
    x = np.concatenate([np.linspace(-9, 9, 100_001), [-1e4, -50, 50, 1e4, 0]])
    np.testing.assert_allclose(gelu_from_table(x), gelu(Tensor(x)).data, rtol=0, atol=3e-8)
    single = x.astype(np.float32)
    y = gelu_from_table(single)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, gelu(Tensor(single)).data, rtol=3e-7, atol=3e-7)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda rng, d: d.read(np.array([[1, 2]])), r"shape \(2, T\), T at least 1, got int64 \(1, 2\)"),
        (lambda rng, d: d.read(np.zeros((2, 0), int)), "T at least 1"),
        (lambda rng, d: d.read(np.ones((2, 1))), "whole numbers"),
        (lambda rng, d: d.read(np.array([[1], [11]])), "tokens from 0 to 10, got 1 to 11"),
        (lambda rng, d: d.read(np.array([[1], [-1]])), "tokens from 0 to 10, got -1 to 1"),
        (lambda rng, d: d.read(tokens(rng, 2, 9)), "9 tokens are more than the context of 8"),
        (
            lambda rng, d: (d.read(tokens(rng, 2, 5), [5, 2]), d.read(tokens(rng, 2, 4))),
            "9 tokens are more than the context of 8",
        ),
        (lambda rng, d: d.read(tokens(rng, 2, 3), [3, 0]), r"counts of shape \(2,\) from 1 to 3"),
        (lambda rng, d: d.read(tokens(rng, 2, 3), [4, 1]), r"counts of shape \(2,\) from 1 to 3"),
        (lambda rng, d: d.read(tokens(rng, 2, 3), [1]), r"counts of shape \(2,\)"),
    ],
)
def test_a_decoder_refuses_what_it_cannot_read(read, message, rng):
    with pytest.raises(ValueError, match=message):
        read(rng, Decoder(GPT(**TINY), 2))
    with pytest.raises(ValueError, match="batch_size of at least 1, got 0"):
        Decoder(GPT(**TINY), 0)


# -- generation -------------------------------------------------------------------------------------------------


def test_cached_and_recomputed_texts_are_the_same_also_beyond_the_context(rng):
    model, prompts = awake(rng, GPT(**TINY)), [tokens(rng, 1), tokens(rng, 5), tokens(rng, 8), tokens(rng, 13)]
    cached = generate(model, prompts, 12, temperature=0)
    plain = generate(model, prompts, 12, temperature=0, cache=False)
    for prompt, text, other in zip(prompts, cached, plain, strict=True):
        np.testing.assert_array_equal(text, other)
        np.testing.assert_array_equal(text[: len(prompt)], prompt)
        assert len(text) == len(prompt) + 12
    drawn = [generate(model, prompts, 12, rng=np.random.default_rng(3), cache=cache) for cache in (True, False)]
    assert all(np.array_equal(a, b) for a, b in zip(*drawn, strict=True))


def test_prompts_of_different_lengths_in_one_batch_go_on_as_each_alone(rng):
    prompts = [tokens(rng, 2), tokens(rng, 7), tokens(rng, 4), tokens(rng, 1)]
    for _ in range(20):  # until one goes on with several texts: rows that change places would be seen
        model = awake(rng, GPT(**TINY))
        together = generate(model, prompts, 6, temperature=0)
        if len({tuple(text[-6:].tolist()) for text in together}) > 2:
            break
    else:
        raise AssertionError("all models write the same after different prompts")
    for prompt, text in zip(prompts, together, strict=True):
        np.testing.assert_array_equal(text, generate(model, [prompt], 6, temperature=0)[0])


def test_beyond_the_context_the_last_tokens_are_read_as_if_they_were_the_whole_text(rng):
    model = awake(rng, GPT(**TINY))
    (text,) = generate(model, [tokens(rng, 6)], 9, temperature=0)
    for t in range(8, 15):
        assert text[t] == model(text[None, t - 8 : t]).data[0, -1].argmax()


def test_a_stream_yields_tokens_as_they_come(rng):
    model, prompts = awake(rng, GPT(**TINY)), [tokens(rng, 3), tokens(rng, 5)]
    texts = generate(model, prompts, 7, rng=np.random.default_rng(1))
    flowing = stream(model, prompts, 7, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(next(flowing), [text[-7] for text in texts])
    np.testing.assert_array_equal(np.stack(list(flowing), axis=1), [text[-6:] for text in texts])
    assert list(stream(model, prompts, 0)) == []


def test_texts_are_the_same_for_the_same_seed(rng):
    model, prompts = awake(rng, GPT(**TINY)), [tokens(rng, 3)]
    manual_seed(5)
    first = generate(model, prompts, 20)[0]
    manual_seed(5)
    assert np.array_equal(generate(model, prompts, 20)[0], first)
    assert not np.array_equal(generate(model, prompts, 20)[0], first)


LOGITS = np.log([[0.5, 0.25, 0.15, 0.1]])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.5, 0.25, 0.15, 0.1]),
        ({"temperature": 0.5}, np.array([25, 6.25, 2.25, 1]) / 34.5),  # p² over its sum
        ({"temperature": 2.0}, np.sqrt([0.5, 0.25, 0.15, 0.1]) / np.sqrt([0.5, 0.25, 0.15, 0.1]).sum()),
        ({"top_k": 2}, [2 / 3, 1 / 3, 0, 0]),
        ({"top_k": 9}, [0.5, 0.25, 0.15, 0.1]),
        ({"top_p": 0.5}, [1, 0, 0, 0]),
        ({"top_p": 0.6}, [2 / 3, 1 / 3, 0, 0]),
        ({"top_p": 0.01}, [1, 0, 0, 0]),
        ({"top_p": 1.0}, [0.5, 0.25, 0.15, 0.1]),
        ({"top_k": 3, "top_p": 0.8}, [2 / 3, 1 / 3, 0, 0]),  # of three: 5/9, 5/18, 1/6
        ({"temperature": 0}, [1, 0, 0, 0]),
    ],
)
def test_distributions(options, expected):
    order = np.array([2, 0, 3, 1])
    rows = np.concatenate([LOGITS + 7, LOGITS[:, order] - 1000]).astype(np.float64)
    np.testing.assert_allclose(distribution(rows, **options), [expected, np.array(expected)[order]], atol=1e-9)


def test_of_equally_likely_tokens_the_first_ones_are_kept():
    np.testing.assert_allclose(distribution(np.zeros((1, 4)), top_k=2), [[0.5, 0.5, 0, 0]])
    np.testing.assert_allclose(distribution(np.zeros((1, 4)), top_p=0.5), [[0.5, 0.5, 0, 0]])


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7}, {"top_k": 3}, {"temperature": 1.5, "top_p": 0.8}])
def test_draws_have_the_frequencies_of_their_distribution(options):
    """χ² of 20,000 draws against p, below its 99.9 % quantile for at most 3 degrees of freedom; none where p is 0."""
    p = distribution(LOGITS, **options)[0]
    n, source = 20_000, np.random.default_rng(7)
    settings = {"temperature": 1.0, "top_k": None, "top_p": None} | options
    drawn = choose(np.repeat(LOGITS, n, axis=0), **settings, rng=source)
    counts = np.bincount(drawn, minlength=4)
    kept = p > 0
    assert counts[~kept].sum() == 0
    assert ((counts[kept] - n * p[kept]) ** 2 / (n * p[kept])).sum() < 16.27


def test_draws_stay_inside_and_rows_have_draws_of_their_own():
    p = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert draw(p, np.random.default_rng(0)).tolist() == [1, 2]
    assert len(set(draw(np.full((50, 10), 0.1), np.random.default_rng(0)).tolist())) > 5

    class Highest:
        def random(self, shape):
            return np.full(shape, np.nextafter(1, 0))

    assert draw(np.array([[0.3, 0.3, 0.4, 0.0]]), Highest()).tolist() == [2]


def test_the_model_draws_from_its_own_probabilities(rng):
    """The frequencies of first tokens, 4,000 rows at once, against softmax of the model's scores."""
    model, prompt = awake(rng, GPT(**TINY)), tokens(rng, 4)
    texts = generate(model, [prompt] * 4000, 1, temperature=0.8, top_k=5, rng=np.random.default_rng(2))
    p = distribution(model(prompt[None]).data[:, -1], 0.8, 5)[0]
    counts = np.bincount([text[-1] for text in texts], minlength=11)
    assert counts[p == 0].sum() == 0
    assert ((counts[p > 0] - 4000 * p[p > 0]) ** 2 / (4000 * p[p > 0])).sum() < 18.47  # 99.9 %, 4 degrees


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([], {}, "at least one prompt"),
        ([[1], []], {}, "prompt 1 is empty"),
        ([[1, 2], [3, 11]], {}, "prompt 1 expected tokens from 0 to 10, got 11 at 1"),
        ([[-1]], {}, "prompt 0 expected tokens from 0 to 10, got -1 at 0"),
        ([[0.5]], {}, "prompt 0 must be whole numbers"),
        ([[[1]]], {}, "prompt 0 must be whole numbers of shape (T,)"),
        ([[1]], {"temperature": -1}, "temperature must be a number of at least 0, got -1"),
        ([[1]], {"temperature": math.nan}, "temperature must be"),
        ([[1]], {"top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
        ([[1]], {"top_p": 0}, "top_p must be above 0 and at most 1, got 0"),
        ([[1]], {"top_p": 1.5}, "top_p must be above 0 and at most 1, got 1.5"),
        ([[1]], {"max_new_tokens": -1}, "max_new_tokens must be at least 0, got -1"),
    ],
)
def test_generation_refuses_what_makes_no_sense(prompts, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        stream(GPT(**TINY), prompts, **{"max_new_tokens": 2, **options})


# -- values that single changed expressions would move -----------------------------------------------------------------


def test_the_cache_with_scores_whose_exponential_is_no_number(rng):
    """Scores q·k of some thousands: e^1000 overflows, so that the largest of each row has to be taken out."""
    model, x = awake(rng, GPT(**TINY)).to(np.float64), tokens(rng, 2, 6)
    for block in model.blocks:
        block.attention.q_proj.weight.data *= 1e4
    with np.errstate(over="raise", invalid="raise"):
        found = Decoder(model, 2).read(x)
    np.testing.assert_allclose(found, model(x).data[:, -1], rtol=1e-6, atol=1e-6)


def test_a_decoder_forgets_a_value_that_was_no_number(rng):
    model, x = awake(rng, GPT(**TINY)).to(np.float64), tokens(rng, 2, 3)
    decoder = Decoder(model, 2)
    expected = decoder.read(x, [1, 3])
    for block in decoder.blocks:
        block.values[...] = np.nan
    decoder.reset()
    np.testing.assert_array_equal(decoder.read(x, [1, 3]), expected)


def test_gelu_from_a_table_beyond_its_ends():
    """Exactly 0 and x: not the pieces' own last digits, which a large x would multiply."""
    x = np.array([-1e6, -9.0, 9.0, 1e6])
    np.testing.assert_array_equal(gelu_from_table(x), [0, 0, 9, 1e6])
    inner = np.array([-7.9994, -7.9991])  # the second piece has its own slope and start
    np.testing.assert_allclose(gelu_from_table(inner), gelu(Tensor(inner)).data, rtol=0.02, atol=0)


@pytest.mark.parametrize("cache", [True, False])
def test_what_is_read_for_each_token(cache, rng, monkeypatch):
    """A prompt, one token at a time up to the context, then whole windows; nothing after the last token."""
    model, lengths = awake(rng, GPT(**TINY)), []
    read, forward = Decoder.read, GPT.forward
    monkeypatch.setattr(Decoder, "read", lambda self, x, *c: lengths.append(np.shape(x)[1]) or read(self, x, *c))
    monkeypatch.setattr(GPT, "forward", lambda self, x: lengths.append(-np.shape(x)[1]) or forward(self, x))
    generate(model, [tokens(rng, 6)], 5, temperature=0, cache=cache)
    assert lengths == ([6, 1, 1, 8, 8] if cache else [-6, -7, -8, -8, -8])
    lengths.clear()
    generate(model, [tokens(rng, 6)], 1, temperature=0, cache=cache)
    assert lengths == ([6] if cache else [-6])


def test_recomputing_leaves_out_dropout_and_the_mode_as_it_was(rng):
    model, prompt = awake(rng, GPT(**TINY, dropout=0.5)), [tokens(rng, 4)]
    for training in (True, False):
        model.train(training)
        np.testing.assert_array_equal(generate(model, prompt, 4, temperature=0, cache=False),
                                      generate(model, prompt, 4, temperature=0))  # fmt: skip
        assert model.training == training


def test_shorter_texts_are_filled_up_with_token_0():
    rows, counts = padded([[3], [4, 5, 6], [7, 8]])
    assert rows.tolist() == [[3, 0, 0], [4, 5, 6], [7, 8, 0]] and counts.tolist() == [1, 3, 2]


def test_rows_one_token_apart_go_on_by_one_token_each(rng):
    """Two positions that differ by 1 are not one position."""
    model, x = awake(rng, GPT(**TINY)).to(np.float64), tokens(rng, 2, 5)
    decoder = Decoder(model, 2)
    decoder.read(x[:, :3], [2, 3])
    expected = model(x).data
    for b_read in ([2, 3], [3, 4]):
        new = np.array([[x[0, b_read[0]]], [x[1, b_read[1]]]])
        np.testing.assert_allclose(decoder.read(new), expected[[0, 1], b_read], rtol=1e-6, atol=1e-6)
