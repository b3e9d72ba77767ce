"""Scores and samples that are no numbers: an error that says so, with step and row, from every sampler and search."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from scratch.models.autoencoder.model import VAE
from scratch.models.autoencoder.prior import VQGenerator
from scratch.models.autoencoder.tasks import draw as draw_images
from scratch.models.autoencoder.vq import VQVAE
from scratch.models.diffusion import flow
from scratch.models.diffusion.noise import linear
from scratch.models.diffusion.sampling import ask, ddim, ddpm, heun, inpaint, spaced
from scratch.models.gan.tasks import drawn
from scratch.models.gpt import GPT
from scratch.models.gpt import generate as gpt
from scratch.models.llama import Llama
from scratch.models.llama import generate as llama
from scratch.models.llama.experts import Mixtral
from scratch.models.rnn_lstm_gru import generate as rnn
from scratch.models.rnn_lstm_gru import seq2seq
from scratch.models.rnn_lstm_gru.model import LanguageModel
from scratch.models.transformer import Transformer, beam_search, greedy
from scratch.module import Module
from scratch.sampling import check_finite, check_scores, draw
from scratch.tensor import Tensor

INF, NAN = np.inf, np.nan
BAD = [(NAN, "row 1 .* token 2 has nan"), (INF, "row 1 .* token 2 has inf"), (-INF, "row 1 are -inf for every token")]
CHOICES = [{"temperature": 0.0}, {"temperature": 1.0}, {"top_k": 2}, {"top_p": 0.9}, {"top_k": 3, "top_p": 0.5}]


def scores_with(value: float, dtype: type = np.float64) -> np.ndarray:
    logits = np.array([[1.0, 2, 3, 4], [4, 3, 2, 1]], dtype)
    if value == -INF:
        logits[1] = value
    else:
        logits[1, 2] = value
    return logits


# -- scores -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("value", "words"), BAD)
def test_scores_that_choose_no_token(value, words, dtype, rng):
    logits = scores_with(value, dtype)
    for options in CHOICES:
        full = {"temperature": 1.0, "top_k": None, "top_p": None} | options
        with pytest.raises(ValueError, match=f"step 7: the scores of {words}"):
            gpt.choose(logits, **full, rng=rng, step=7)
        with pytest.raises(ValueError, match=f"^the scores of {words}"):
            gpt.distribution(logits, **options)
    for temperature in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"the scores of {words}"):
            rnn.distribution(logits, temperature)
    check_scores(logits, rows=np.array([True, False]))  # a row that has ended does not count


def test_a_forbidden_token_has_probability_zero(rng):
    logits = np.array([[-INF, 2, 1, -INF], [-INF, -INF, -INF, 5]])
    e = 1 / (1 + np.exp(-1))
    for module in (gpt, rnn):
        np.testing.assert_allclose(module.distribution(logits), [[0, e, 1 - e, 0], [0, 0, 0, 1]], rtol=1e-14)
    np.testing.assert_allclose(gpt.distribution(logits, top_k=3), gpt.distribution(logits), rtol=1e-14)
    drawn_tokens = {tuple(gpt.choose(logits, 1.0, None, None, rng)) for _ in range(50)}
    assert drawn_tokens == {(1, 3), (2, 3)}
    assert gpt.choose(logits, 0.0, None, None, rng).tolist() == [1, 3]


@pytest.mark.parametrize("module", [gpt, rnn])
def test_a_temperature_near_zero_takes_the_likeliest(module):
    p = module.distribution(np.array([[1.0, 3, 2], [5, 5, -INF]]), 5e-324)
    np.testing.assert_array_equal(p, [[0, 1, 0], [0.5, 0.5, 0]])


@pytest.mark.parametrize("row", [[NAN, 1.0], [0.0, 0.0], [INF, 1.0]])
def test_probabilities_without_a_sum(row, rng):
    with pytest.raises(ValueError, match="row 1 has the sum"):
        draw(np.array([[0.5, 0.5], row]), rng)
    assert draw(np.array([[0.0, 1.0], [0.25, 0.0]]), rng).tolist() == [1, 0]


def test_top_k_is_a_whole_number():
    for k in (2.5, 0, "2"):
        with pytest.raises(ValueError, match=f"top_k must be a whole number of at least 1, got {k}"):
            gpt.distribution(np.zeros((1, 3)), top_k=k)


# -- language models --------------------------------------------------------------------------------------------


def language_models():
    sizes = {"vocab_size": 11, "context_length": 8, "embed_dim": 8, "num_layers": 1, "num_heads": 2,
             "num_kv_heads": 1, "ffn_dim": 12}  # fmt: skip
    yield gpt.generate, GPT(vocab_size=11, context_length=8, num_layers=1, num_heads=1, embed_dim=8)
    yield llama.generate, Llama(**sizes)
    yield llama.generate, Mixtral(**sizes, num_experts=2)


@pytest.mark.parametrize("options", CHOICES)
@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("value", [NAN, INF])
def test_language_models_say_that_their_scores_are_no_numbers(options, cache, value):
    for generate, model in language_models():
        embedding = model.lm_head.weight.data  # tied: the token 5 is read as NaN, and scored as NaN after any other
        embedding[5] = value
        with np.errstate(all="ignore"), pytest.raises(ValueError, match="step 0: the scores of row 0 .* or too large"):
            generate(model, [[3, 4], [1]], 5, **options, cache=cache)
        with np.errstate(all="ignore"):
            assert generate(model, [[3]], 0, cache=cache)[0].tolist() == [3]  # nothing is chosen, nothing fails


def test_the_step_is_named():
    """NaN at the fourth place: the prompt has two tokens, so that the third score is the first that sees it."""
    model = GPT(vocab_size=11, context_length=8, num_layers=1, num_heads=1, embed_dim=8)
    model.position_embedding.weight.data[3] = NAN
    for cache in (True, False):
        with np.errstate(all="ignore"), pytest.raises(ValueError, match="step 2: the scores of row 0"):
            gpt.generate(model, [[3, 4], [1]], 5, temperature=0, cache=cache)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_recurrent_networks(temperature):
    model = LanguageModel(5, "gru", 3, 4)
    model.output.bias.data[2] = NAN
    with pytest.raises(ValueError, match="step 0: the scores of row 0 .* token 2 has nan"):
        rnn.generate(model, [[1, 2]], 3, temperature=temperature)
    for model_class in (seq2seq.BahdanauSeq2Seq, seq2seq.LuongSeq2Seq):
        pairs = model_class(5, 4, 6)
        pairs.output.bias.data[2] = NAN
        with pytest.raises(ValueError, match="step 0: the scores of row 0 .* token 2 has nan"):
            seq2seq.greedy(pairs, [[3, 4], [3, 0]])


@pytest.mark.parametrize("cache", [True, False])
def test_greedy_and_beam_search(cache):
    model = Transformer(vocab_size=9, d_model=8, nhead=2)
    model.positions.table = np.array(model.positions.table)
    model.positions.table[1] = NAN  # read at the second step
    searches = (lambda: greedy(model, source, 5, cache=cache), lambda: beam_search(model, source, 3, 0.6, 5, cache))
    source = np.array([[3], [4]])
    for search in searches:
        with np.errstate(all="ignore"), pytest.raises(ValueError, match="step 1: the scores of row 0"):
            search()


class Written(Module):
    """A model whose scores are a table (step, row, V), whatever it reads."""

    pad, max_length, training = 0, 4, False

    def __init__(self, table):
        self.table = np.asarray(table, float)

    def encode(self, source):
        return Tensor(np.zeros((len(source), 1, 1))), np.zeros((len(source), 1), bool)

    def decode(self, target, memory, padding):
        rows = np.arange(len(target)) * self.table.shape[1] // len(target)  # hypotheses of a source stand together
        return Tensor(self.table[: target.shape[1], rows].swapaxes(0, 1))


def test_rows_that_have_ended_may_have_any_scores():
    """Row 0 ends at once; its NaN afterwards is nobody's. In row 1 it is an error of the second step."""
    end, on = [0.0, 0, 9, 0], [0.0, 0, 0, 9]
    table = [[end, on], [[NAN] * 4, on], [[NAN] * 4, end]]
    assert greedy(Written(table), [[3], [3]], cache=False).tolist() == [[2, 0, 0], [3, 3, 2]]
    assert beam_search(Written(table), [[3], [3]], 1, cache=False).tokens[:, 0].tolist() == [[2, 0, 0], [3, 3, 2]]
    table[1][1] = [0, INF, 0, 0]
    for search in (lambda m: greedy(m, [[3], [3]], cache=False), lambda m: beam_search(m, [[3], [3]], 1, cache=False)):
        with pytest.raises(ValueError, match="step 1: the scores of row 1 .* token 1 has inf"):
            search(Written(table))
    with pytest.raises(ValueError, match="step 1: the scores of row 0"):  # of width 2, one of row 0 goes on
        beam_search(Written(table), [[3], [3]], 2, cache=False)


def test_a_beam_with_forbidden_tokens():
    """−∞ for a token: it is never written, and the log-probability is that of the others."""
    table = [[[-INF, -INF, -INF, 0.0]], [[-INF, -INF, 1.0, 1.0]], [[-INF, -INF, 0.0, -INF]]]
    beams = beam_search(Written(table), [[3]], 2, alpha=0, cache=False)
    assert beams.tokens[0].tolist() == [[3, 2, 0], [3, 3, 2]]
    np.testing.assert_allclose(beams.scores[0], [-np.log(2)] * 2, rtol=1e-12)


# -- images and points ------------------------------------------------------------------------------------------


class Constant(Module):
    """A network that says `value`, whatever it is asked."""

    noise, no_class = 2, 3

    def __init__(self, value: float):
        self.value = value

    def forward(self, x, *_):
        return Tensor(np.full(x.shape, self.value, np.float32))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_samplers_of_images(value, rng):
    schedule, x = linear(8), rng.standard_normal((3, 2)).astype(np.float32)
    times = spaced(8)
    for limit in (None, 1.0):
        denoise = ask(Constant(value), schedule, limit=limit)
        for sample in (lambda d: ddpm(d, x, schedule, times, rng), lambda d: ddim(d, x, schedule, times),
                       lambda d: heun(d, x, schedule, times),
                       lambda d: inpaint(d, x, np.ones_like(x), schedule, times, rng)):  # fmt: skip
            with pytest.raises(ValueError, match="output at t = 8 has NaN or infinite values in row 0"):
                sample(denoise)
    for rule in (flow.euler, flow.heun):
        with pytest.raises(ValueError, match="velocity at t = 1 has NaN or infinite values in row 0"):
            rule(flow.velocity(Constant(value)), x, 4)
    with pytest.raises(ValueError, match="generator's output has NaN or infinite values in row 0"):
        drawn(Constant(value), 3, seed=0)
    check_finite(x, "it")
    x[2, 1] = value
    with pytest.raises(ValueError, match="it has NaN or infinite values in row 2"):
        check_finite(x, "it")


def test_autoencoders():
    settings = SimpleNamespace(samples=3, seed=0, temperature=1.0)
    model = VAE((1, 4, 4), latent=2, hidden=(3,))
    list(model.decoder.parameters())[-1].data[...] = NAN
    with pytest.raises(ValueError, match="decoder's picture has NaN or infinite values in row 0"):
        draw_images(model, settings, 2)
    first = VQVAE((1, 8, 8), width=4, blocks=1, codes=5, dim=3)
    model = VQGenerator(first, classes=2, num_layers=1, num_heads=1, embed_dim=8)
    model.eval()
    assert draw_images(model, settings, 2)[0].shape == (3, 1, 8, 8)
    model.prior.position_embedding.weight.data[2] = NAN
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="step 2: the scores of row 0"):
        draw_images(model, settings, 2)


def test_a_token_of_probability_zero_is_not_drawn_by_a_zero():
    """U(0, 1) includes 0: the first token with a probability is meant, not the first token."""
    zeros = SimpleNamespace(random=np.zeros)
    assert draw(np.array([[0.0, 0.0, 0.5, 0.5], [0.25, 0.75, 0.0, 0.0]]), zeros).tolist() == [2, 0]
