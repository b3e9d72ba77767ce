"""What is read with a cache equals what the whole model gives, for rows that go on by any numbers of tokens."""

from __future__ import annotations

import numpy as np
import pytest

from scratch import no_grad
from scratch.models.gpt import GPT
from scratch.models.gpt.decoder import Decoder as GPTDecoder
from scratch.models.llama import Llama
from scratch.models.llama.decoder import Decoder as LlamaDecoder
from scratch.models.llama.experts import Mixtral
from scratch.models.llama.generate import Cached
from scratch.models.rnn_lstm_gru.seq2seq import BahdanauSeq2Seq, LuongSeq2Seq
from scratch.models.transformer import Transformer
from scratch.models.transformer.cache import CachedDecoder
from scratch.models.transformer.decoding import RecomputingDecoder

V, CONTEXT = 11, 9
SIZES = {"vocab_size": V, "context_length": CONTEXT, "embed_dim": 8, "num_layers": 2, "num_heads": 2,
         "num_kv_heads": 1, "ffn_dim": 12}  # fmt: skip


def made(kind: str, rng: np.random.Generator):
    """A model in float64 whose scores differ clearly, and a decoder's class."""
    if kind == "gpt":
        model = GPT(vocab_size=V, context_length=CONTEXT, num_layers=2, num_heads=2, embed_dim=8)
    else:
        model = Llama(**SIZES) if kind == "llama" else Mixtral(**SIZES, num_experts=3)
    model = model.to(np.float64)
    for parameter in model.parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape) * 0.5
    model.eval()
    return model, GPTDecoder if kind == "gpt" else LlamaDecoder


def alone(model, text):
    with no_grad():
        return model(np.array([text])).data[0, -1]


def patterns(rng: np.random.Generator, B: int, length: int):
    """Counts of a few reads that fit into `length`, the last often filling it; and how wide each read is."""
    left = np.full(B, length)
    while left.min() > 0:
        counts = np.array([rng.integers(1, n + 1) for n in left])
        yield counts, int(counts.max() + rng.integers(0, 4))
        left -= counts


@pytest.mark.parametrize("kind", ["gpt", "llama", "mixtral"])
def test_rows_go_on_by_any_counts(kind, rng):
    """Forty patterns of counts: padding that is wider than what is left, caches that are full, a reset between."""
    model, decoder_class = made(kind, rng)
    tolerance = 1e-6 if kind == "gpt" else 1e-11  # GELU's table: 2.4e-8 each
    full = 0
    for pattern in range(40):
        B = int(rng.integers(1, 5))
        length = CONTEXT if kind == "gpt" else int(rng.integers(1, CONTEXT + 1))
        decoder = decoder_class(model, B) if kind == "gpt" else decoder_class(model, B, length)
        for _ in range(2):
            texts: list[list[int]] = [[] for _ in range(B)]
            for counts, width in patterns(rng, B, length):
                tokens = rng.integers(0, V, (B, width))
                for row, n in enumerate(counts):
                    texts[row] += tokens[row, :n].tolist()
                    tokens[row, n:] = rng.choice([-100, -1, 0, V, 10**6])  # padding is not read
                scores = decoder.read(tokens, counts)
                for row, text in enumerate(texts):
                    np.testing.assert_allclose(scores[row], alone(model, text), rtol=tolerance, atol=tolerance,
                                               err_msg=f"pattern {pattern}, row {row}, {len(text)} tokens")  # fmt: skip
                    full += len(text) == length and width > counts[row]
            np.testing.assert_array_equal(decoder.lengths, [len(text) for text in texts])
            decoder.reset()
    assert full > 20


@pytest.mark.parametrize("kind", ["gpt", "llama"])
def test_counts_that_are_refused_leave_the_cache_as_it_was(kind, rng):
    model, decoder_class = made(kind, rng)
    decoder = decoder_class(model, 2)
    decoder.read([[1, 2], [3, 4]], [2, 1])
    for tokens, counts, words in (
        ([[1, 2], [3, 4]], [0, 1], "from 1 to 2, got"), ([[1, 2], [3, 4]], [3, 1], "from 1 to 2"),
        ([[1, 2], [3, 4]], [1.0, 1.0], "from 1 to 2"), ([[1, 2], [3, 4]], [1], r"shape \(2,\)"),
        ([[1, 99], [3, 4]], [2, 1], "tokens from 0 to 10, got 1 to 99"),
        ([[1] * 8, [1] * 8], [8, 8], "10 tokens are more than the .* of 9"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            decoder.read(tokens, counts)
    np.testing.assert_array_equal(decoder.lengths, [2, 1])
    scores = decoder.read([[5, -1], [6, 7]], np.array([1, 2], np.uint8))
    np.testing.assert_allclose(scores[0], alone(model, [1, 2, 5]), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(scores[1], alone(model, [3, 6, 7]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["gpt", "llama"])
def test_a_text_of_nan_leaves_nothing_behind(kind, rng):
    """0 · NaN is NaN: a value left in a place that a shorter row must not see would still count."""
    model, decoder_class = made(kind, rng)
    rows = model.token_embedding.weight
    rows.data[7] = np.nan
    if kind == "gpt":
        model.lm_head.weight = type(rows)(rng.standard_normal(rows.shape))
    else:
        model.lm_head.weight = type(rows)(np.nan_to_num(rows.data))
    decoder = decoder_class(model, 2)
    with np.errstate(invalid="ignore"):
        assert np.isnan(decoder.read([[1, 2, 7], [1, 2, 7]])).all()
    decoder.reset()
    scores = decoder.read([[1, 2, 3], [4, -1, -1]], [3, 1])
    for row, text in enumerate([[1, 2, 3], [4]]):
        np.testing.assert_allclose(scores[row], alone(model, text), rtol=1e-6, atol=1e-6)


def test_a_llamas_cache_is_as_long_as_its_texts(rng):
    model, _ = made("llama", rng)
    model.context_length = 10**9
    decoder = Cached(model, [[1, 2], [3]], new=4).decoder
    assert decoder.length == 6 and decoder.blocks[0].keys.shape[2] == 6


@pytest.mark.parametrize("width", [1, 3])
def test_the_cache_of_an_encoder_and_decoder(width, rng):
    """Sources padded at any end or in the middle, to the last place, hypotheses that change places."""
    sizes = {"vocab_size": V, "d_model": 8, "nhead": 2, "dim_feedforward": 12, "max_length": 7}
    model = Transformer(**sizes, num_encoder_layers=1, num_decoder_layers=2).to(np.float64).eval()
    for parameter in model.parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape) * 0.5
    for _ in range(8):
        source = rng.integers(1, V, (4, 6))
        source[0, 3:] = source[1, :2] = source[2, 1:4] = 0
        readers = CachedDecoder(model, source, width), RecomputingDecoder(model, source, width)
        for _ in range(7):
            token = rng.integers(0, V, 4 * width)  # the token of padding is one of them
            ours, theirs = (reader.read(token) for reader in readers)
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11)
            keep = (np.arange(4)[:, None] * width + rng.integers(0, width, (4, width))).reshape(-1)
            for reader in readers:
                reader.keep(keep)
        with pytest.raises(ValueError, match="T from 1 to 0, got shape"):
            readers[0].read(token)


def test_rows_that_a_cache_has_not():
    model = Transformer(vocab_size=V, d_model=8, nhead=2).eval()
    reader = CachedDecoder(model, [[3, 4], [5, 0]], width=2)
    for tokens in ([1], [1, 1], [[1, 1, 1, 1]]):
        with pytest.raises(ValueError, match=r"shape \(4,\), got"):
            reader.read(np.array(tokens))
    reader.read(np.ones(4, int))
    for rows in ([0, 1, 2], [0, 2, 2, 3], [0, 1, 2, 4], [-1, 0, 2, 3]):  # another source's row, another memory
        with pytest.raises(ValueError, match="each among the 2 of its source"):
            reader.keep(np.array(rows))


@pytest.mark.parametrize("model_class", [BahdanauSeq2Seq, LuongSeq2Seq])
def test_padding_before_a_token_of_a_source(model_class):
    """The encoder reads the first tokens of each row, as many as there are: others would be left out without a word."""
    model = model_class(V, 4, 6)
    for source in ([[3, 4, 0], [0, 3, 4]], [[3, 4, 5], [3, 0, 4]]):
        with pytest.raises(ValueError, match=r"behind the tokens, row 1 of source has it before one: \[[03]"):
            model.encode(source)
    assert model.encode([[3, 4, 0], [3, 0, 0]])[1].shape == (2, 6)
