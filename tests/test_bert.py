"""BERT: the model against its definition and PyTorch."""

import math

import numpy as np
import pytest

from scratch import Tensor, gradcheck
from scratch.activations import gelu
from scratch.losses import cross_entropy
from scratch.models.bert import Bert, BertForMaskedLM
from scratch.module import Module
from scratch.optim import AdamW
from scratch.parallel import ShardedLoss
from tests import lockstep
from tests.starts import assert_nearly_uniform

TINY: dict = {"vocab_size": 11, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
              "intermediate_size": 20, "max_position_embeddings": 8}  # fmt: skip


def awake(rng: np.random.Generator, model: Module) -> Module:
    """Weights large enough that every part matters, norms with scales and shifts of their own."""
    for name, parameter in model.named_parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape) * (1.0 if "embeddings" in name else 0.3)
        if "LayerNorm" in name and name.endswith("weight"):
            parameter.data += 1
    return model


def tokens(rng: np.random.Generator, *shape: int, below: int = 11) -> np.ndarray:
    return rng.integers(0, below, shape)


def padding(*lengths: int, T: int) -> np.ndarray:
    return (np.arange(T) < np.array(lengths)[:, None]).astype(np.int64)


# -- the model ----------------------------------------------------------------------------------------------------


def test_gradients_of_the_whole_model(rng):
    config = {**TINY, "vocab_size": 5, "hidden_size": 6, "intermediate_size": 7, "max_position_embeddings": 4}
    model, x = awake(rng, BertForMaskedLM(**config)).to(np.float64), tokens(rng, 2, 4, below=5)
    mask, types = padding(4, 3, T=4), tokens(rng, 2, 4, below=2)
    gradcheck(lambda: model(x, mask, types), [], parameters=dict(model.named_parameters()))
    plain = awake(rng, Bert(**{**config, "num_hidden_layers": 1})).to(np.float64)
    gradcheck(lambda: plain.pooled(plain(x, mask)), [], parameters=dict(plain.named_parameters()))


def test_the_model_is_the_one_of_a_few_plain_lines(rng):
    """Text by text without its padding, one head after the other: no mask can go wrong."""
    model, x, lengths = awake(rng, BertForMaskedLM(**TINY)).to(np.float64), tokens(rng, 3, 7), (7, 4, 1)
    types = tokens(rng, 3, 7, below=2)
    w = model.state_dict()

    def norm(h, name):
        h = h - h.mean(-1, keepdims=True)
        return h / np.sqrt((h * h).mean(-1, keepdims=True) + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(h, name):
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    came, e = model(x, padding(*lengths, T=7), types).data, "bert.embeddings"
    for row, (text, kinds, n) in enumerate(zip(x, types, lengths, strict=True)):
        h = w[f"{e}.word_embeddings.weight"][text[:n]] + w[f"{e}.position_embeddings.weight"][:n]
        h = norm(h + w[f"{e}.token_type_embeddings.weight"][kinds[:n]], f"{e}.LayerNorm")
        for layer in ("bert.encoder.layer.0", "bert.encoder.layer.1"):
            q, k, v = (linear(h, f"{layer}.attention.self.{name}") for name in ("query", "key", "value"))
            y = np.zeros_like(h)
            for head in (slice(0, 6), slice(6, 12)):
                p = np.exp(q[:, head] @ k[:, head].T / math.sqrt(6))
                y[:, head] = p / p.sum(1, keepdims=True) @ v[:, head]
            h = norm(h + linear(y, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
            inner = gelu(Tensor(linear(h, f"{layer}.intermediate.dense"))).data
            h = norm(h + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        h = gelu(Tensor(linear(h, "cls.predictions.transform.dense"))).data
        h = norm(h, "cls.predictions.transform.LayerNorm")
        expected = h @ w[f"{e}.word_embeddings.weight"].T + w["cls.predictions.bias"]
        np.testing.assert_allclose(came[row, :n], expected, rtol=1e-9, atol=1e-10)


def test_every_token_sees_all_others_and_no_padding(rng):
    model, x = awake(rng, BertForMaskedLM(**TINY)).to(np.float64), tokens(rng, 2, 8)
    before, mask = model(x).data, padding(6, 6, T=8)
    hidden = model(x, mask).data
    for t in range(8):
        other = x.copy()
        other[:, t] = (other[:, t] + 1 + rng.integers(0, 9)) % 11
        assert np.abs(model(other).data - before).max(axis=(0, 2)).min() > 1e-3
        same = np.abs(model(other, mask).data - hidden)[:, :6].max()
        assert same < 1e-11 if t >= 6 else same > 1e-3
    np.testing.assert_allclose(hidden[:, :6], model(x[:, :6]).data, atol=1e-11)
    np.testing.assert_array_equal(model(x, np.ones_like(x)).data, before)


def shifted(mask, shape):
    """The mask of the key before: the first token is hidden with the last padding."""
    return np.roll(np.asarray(mask) == 1, 1, axis=1)[:, None, None, :]


def turned_round(mask, shape):
    """True for padding, as in PyTorch's modules."""
    return (np.asarray(mask) == 0)[:, None, None, :]


def queries_for_keys(mask, shape):
    return (np.asarray(mask) == 1)[:, None, :, None]


@pytest.mark.parametrize("fault", [shifted, turned_round, queries_for_keys, lambda mask, shape: None])
def test_a_planted_fault_in_the_mask_is_seen(fault, monkeypatch, rng):
    """A padded text differs then from the same text alone."""
    model, x, mask = awake(rng, BertForMaskedLM(**TINY)), tokens(rng, 2, 8), padding(6, 5, T=8)
    alone = [model(row[None, :n]).data[0] for row, n in zip(x, (6, 5), strict=True)]
    for planted in (False, True):
        if planted:
            monkeypatch.setattr("scratch.models.bert.model.keys_that_count", fault)
        came = model(x, mask).data
        off = max(np.abs(came[i, : len(row)] - row).max() for i, row in enumerate(alone))
        assert (off > 1e-2) == planted


def test_positions_can_be_given(rng):
    """The second half of a text, at its own places, is the text of which only the second half counts."""
    model, x = awake(rng, BertForMaskedLM(**TINY)).to(np.float64), tokens(rng, 2, 8)
    later = np.tile(np.arange(4, 8), (2, 1))
    mask = np.repeat([[0, 0, 0, 0, 1, 1, 1, 1]], 2, axis=0)
    np.testing.assert_allclose(model(x[:, 4:], position_ids=later).data, model(x, mask).data[:, 4:], atol=1e-11)
    with pytest.raises(ValueError, match=r"position_ids of shape \(2, 8\), got \(2, 4\)"):
        model(x, position_ids=later)


def test_only_the_places_asked_for_are_scored(rng):
    model, x = awake(rng, BertForMaskedLM(**TINY)).to(np.float64), tokens(rng, 3, 8)
    places = rng.random((3, 8)) < 0.3
    np.testing.assert_allclose(model(x, places=places).data, model(x).data[places], rtol=1e-11, atol=1e-11)


def test_state_keys_and_numbers_of_parameters_are_those_of_published_files():
    """bert-base-uncased: 109,482,240 with its pooler, from the shapes; all-MiniLM-L6-v2: 22,713,216."""
    names = list(Bert(**TINY).state_dict())
    assert names[:5] == ["embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight",
                         "embeddings.token_type_embeddings.weight", "embeddings.LayerNorm.weight",
                         "embeddings.LayerNorm.bias"]  # fmt: skip
    layer = [f"{part}.{kind}" for part in ("attention.self.query", "attention.self.key", "attention.self.value",
             "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense",
             "output.LayerNorm") for kind in ("weight", "bias")]  # fmt: skip
    assert names[5:21] == [f"encoder.layer.0.{name}" for name in layer]
    assert names[37:] == ["pooler.dense.weight", "pooler.dense.bias"]
    assert list(BertForMaskedLM(**TINY).state_dict())[-7:] == [
        "cls.predictions.transform.dense.weight", "cls.predictions.transform.dense.bias",
        "cls.predictions.transform.LayerNorm.weight", "cls.predictions.transform.LayerNorm.bias",
        "cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "cls.predictions.bias",
    ]  # fmt: skip
    for V, C, width, n, count in ((30522, 768, 3072, 12, 109_482_240), (30522, 384, 1536, 6, 22_713_216)):
        each = 4 * (C * C + C) + 2 * C * width + width + C + 4 * C
        assert V * C + 512 * C + 2 * C + 2 * C + n * each + C * C + C == count
    C, width, V, places = 12, 20, 11, 8
    each = 4 * (C * C + C) + 2 * C * width + width + C + 4 * C
    assert Bert(**TINY).count_parameters() == V * C + places * C + 4 * C + 2 * each + C * C + C


def test_the_head_is_the_embedding_and_its_bias_has_two_names(rng):
    model, other = awake(rng, BertForMaskedLM(**TINY)), BertForMaskedLM(**TINY)
    other.load_state_dict(model.state_dict())
    other.to(np.float64)
    head = other.cls["predictions"]
    assert head.decoder.weight is other.bert.embeddings.word_embeddings.weight and head.bias is head.decoder.bias
    np.testing.assert_allclose(other(np.array([[1, 2]])).data, model(np.array([[1, 2]])).data, rtol=1e-4, atol=1e-4)


def test_weights_start_as_berts_start(rng):
    model = BertForMaskedLM()
    for name, value in model.state_dict().items():
        if value.ndim == 2:
            assert value.std() == pytest.approx(0.02, rel=0.1), name
        else:
            assert np.array_equal(value, np.full_like(value, "LayerNorm.weight" in name)), name
    assert_nearly_uniform(model(tokens(rng, 4, 64, below=65)).data, C=96)


def test_dropout_acts_in_training_only_and_in_the_attention_too(rng):
    for changes in ({"hidden_dropout_prob": 0.4}, {"attention_probs_dropout_prob": 0.4}):
        model, x = awake(rng, Bert(**TINY, **changes)), tokens(rng, 2, 8)
        assert not np.array_equal(model(x).data, model(x).data)
        model.eval()
        assert np.array_equal(model(x).data, model(x).data)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: Bert(**TINY)(tokens(rng, 2, 9)), r"T from 1 to 8, got \(2, 9\)"),
        (lambda rng: Bert(**TINY)(tokens(rng, 5)), r"input_ids of shape \(B, T\)"),
        (lambda rng: Bert(**TINY)(np.array([[3, 11]])), r"from 0 to 10, got 11 at position \(0, 1\)"),
        (lambda rng: Bert(**TINY)(tokens(rng, 2, 4), np.ones((2, 3))), r"attention_mask of shape \(2, 4\)"),
        (lambda rng: Bert(**TINY)(tokens(rng, 2, 4), np.full((2, 4), -1e4)), "with 1 for tokens and 0 for padding"),
        (lambda rng: Bert(**TINY)(tokens(rng, 2, 4), padding(4, 0, T=4)), "leaves a text without tokens"),
        (
            lambda rng: Bert(**TINY)(tokens(rng, 2, 4), None, tokens(rng, 2, 3)),
            r"token_type_ids of shape \(2, 4\), got \(2, 3\)",
        ),
        (lambda rng: Bert(**TINY)(tokens(rng, 2, 4), None, np.full((2, 4), 2)), "from 0 to 1, got 2"),
        (lambda rng: Bert(**{**TINY, "num_attention_heads": 5}), "a multiple of num_attention_heads, got 12 and 5"),
        (lambda rng: Bert(**{**TINY, "num_hidden_layers": 0}), "sizes of at least 1, got vocab_size 11"),
        (lambda rng: BertForMaskedLM(**TINY).bert.pooled(Tensor(np.ones((1, 1, 12)))), "without a pooling layer"),
    ],
)
def test_bad_input_is_refused(call, message, rng):
    with pytest.raises(ValueError, match=message):
        call(rng)


def gaps(rng: np.random.Generator, size: int = 6):
    """Batches with something to learn: every second token repeats the one before it; one of each text is hidden."""
    while True:
        x = tokens(rng, size, 8, below=10)
        x[:, 1::2] = x[:, ::2]
        y, places = x.copy(), np.zeros((size, 8), bool)
        places[np.arange(size), rng.integers(0, 6, size)] = True
        x[places] = 10
        yield x, y, places, padding(*rng.integers(6, 9, size), T=8)


@pytest.mark.torch
@pytest.mark.parametrize("shards", [1, 2])
def test_twenty_steps_in_lockstep_with_pytorch(shards, rng):
    import torch

    from tests.twins.bert import BertForMaskedLM as Twin

    model, twin = BertForMaskedLM(**TINY), Twin(**TINY)
    assert sorted(model.state_dict()) == sorted(twin.state_dict())

    def loss_of(model, x, y, places, mask):
        return cross_entropy(model(x, mask, places=places), y[places], reduction="sum"), int(places.sum())

    lockstep.check(
        model,
        twin,
        AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.99)),
        torch.optim.AdamW(twin.parameters(), lr=1e-2, betas=(0.9, 0.99)),
        gaps(rng),
        ShardedLoss(model, loss_of, shards),
        lambda x, y, places, mask: torch.nn.functional.cross_entropy(twin(x, mask, places=places), y[places]),
    )


@pytest.mark.torch
def test_features_and_the_pooled_first_token_are_pytorchs(rng):
    import torch

    from tests.twins.bert import Bert as Twin

    model, twin = awake(rng, Bert(**TINY)), Twin(**TINY)
    twin.load_state_dict({name: torch.tensor(value) for name, value in model.state_dict().items()})
    x, mask, types = tokens(rng, 3, 8), padding(8, 5, 2, T=8), tokens(rng, 3, 8, below=2)
    features = model(x, mask, types)
    with torch.no_grad():
        theirs = twin(*map(torch.tensor, (x, mask, types)))
        np.testing.assert_allclose(features.data, theirs.numpy(), atol=1e-4)
        np.testing.assert_allclose(model.pooled(features).data, twin.pooled(theirs).numpy(), atol=1e-4)
