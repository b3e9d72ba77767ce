"""The multilayer perceptron: equal to the same network written by hand, and in lockstep with PyTorch."""

import re
from importlib import resources

import numpy as np
import pytest

from scratch import Tensor, gradcheck
from scratch.data import Batches, load_digits, random_shift
from scratch.losses import cross_entropy
from scratch.models.mlp import MLP, by_hand, pictures
from scratch.models.mlp.sample import load_weights
from scratch.models.mlp.train import Settings, summed_loss, train
from scratch.optim import AdamW, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import generator, manual_seed, stream
from scratch.training import Run, checkpoint, evaluate
from scratch.weights import load_metadata
from tests import lockstep


def weights_of(model: MLP) -> by_hand.Weights:
    return [(layer.weight.data.copy(), layer.bias.data.copy()) for layer in model.layers]


@pytest.mark.parametrize("hidden", [(), (7,), (7, 5), (6, 5, 4)])
def test_by_hand_gives_the_gradients_of_the_tape(hidden, rng):
    model = MLP(8, hidden, 3).to(np.float64)
    x, y = rng.standard_normal((9, 8)), rng.integers(0, 3, 9)
    weights = weights_of(model)
    logits, inputs = by_hand.forward(weights, x)
    loss, dlogits = by_hand.cross_entropy(logits, y)
    gradients = by_hand.backward(weights, inputs, dlogits)

    taped = cross_entropy(model(Tensor(x)), y)
    taped.backward()
    np.testing.assert_allclose(loss, taped.item(), rtol=1e-14)
    assert len(gradients) == len(model.layers)
    for (dW, db), layer in zip(gradients, model.layers, strict=True):
        np.testing.assert_allclose(dW, layer.weight.grad, rtol=1e-11, atol=1e-15)
        np.testing.assert_allclose(db, layer.bias.grad, rtol=1e-11, atol=1e-15)


def test_by_hand_learns_the_digits():
    """200 steps of plain gradient descent; a sign or a transpose gone wrong stays near 10 %."""
    data = load_digits()
    weights = weights_of(MLP(784, (64,), 10))
    batches = Batches(*data.train.arrays, batch_size=64, seed=0)
    first = by_hand.step(weights, *next(batches), lr=0.2)
    for _ in range(200):
        last = by_hand.step(weights, *next(batches), lr=0.2)
    assert abs(first - np.log(10)) < 0.1 and last < 0.6
    logits, _ = by_hand.forward(weights, data.validation.inputs)
    assert (logits.argmax(axis=1) == data.validation.targets).mean() > 0.85


def test_a_step_by_hand_goes_against_the_gradient(rng):
    x, y = rng.standard_normal((5, 4)), np.array([0, 2, 1, 1, 0])
    weights = weights_of(MLP(4, (6,), 3).to(np.float64))
    before = [(W.copy(), b.copy()) for W, b in weights]
    logits, inputs = by_hand.forward(weights, x)
    expected, dlogits = by_hand.cross_entropy(logits, y)
    gradients = by_hand.backward(weights, inputs, dlogits)
    assert by_hand.step(weights, x, y, lr=0.3) == expected
    for new, old, gradient in zip(weights, before, gradients, strict=True):
        for after, start, slope in zip(new, old, gradient, strict=True):
            np.testing.assert_allclose(after, start - 0.3 * slope, rtol=1e-13)


def test_by_hand_is_safe_from_overflow():
    loss, dlogits = by_hand.cross_entropy(np.array([[1e4, -1e4, 0.0]]), np.array([1]))
    assert loss == 2e4
    np.testing.assert_allclose(dlogits, [[1, -1, 0]], atol=1e-300)


def test_gradients_of_the_whole_model(rng):
    model = MLP(5, (6, 4), 3).to(np.float64)
    gradcheck(model, [rng.standard_normal((7, 5))], parameters=dict(model.named_parameters()))


def test_images_are_taken_as_rows_of_numbers_and_other_sizes_refused(rng):
    model = MLP(12, (5,), 3)
    x = rng.standard_normal((2, 1, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(model(Tensor(x)).data, model(Tensor(x.reshape(2, 12))).data)
    assert list(model.state_dict()) == ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]
    with pytest.raises(ValueError, match=r"Linear\(in_features=12.*expected shape \(\.\.\., 12\), got \(2, 11\)"):
        model(Tensor(np.ones((2, 11), np.float32)))


def test_dropout_acts_in_training_only(rng):
    model = MLP(12, (50,), 3, dropout=0.5)
    x = Tensor(rng.standard_normal((4, 12)).astype(np.float32))
    assert not np.array_equal(model(x).data, model(x).data)
    model.eval()
    assert np.array_equal(model(x).data, model(x).data)


def test_the_training_loop_is_the_loop_that_it_says(tmp_path, monkeypatch):
    """Six steps of `train` against the same six written out here: shifts, dropout, clipping, schedule, decay."""
    settings = Settings(hidden=(6,), steps=6, evaluate_every=6, warmup=2, clip=0.5, lr=0.01, batch_size=32)
    manual_seed(settings.seed)
    data = load_digits().train
    model = MLP(784, (6,), 10, dropout=0.2)
    optimizer = AdamW(model.parameters(), weight_decay=0.1)
    batches = Batches(*data.arrays, batch_size=32, seed=0)
    norms = []
    for step, rate in enumerate([0.005, 0.01, 0.01, 0.01 * 0.853553390593, 0.005, 0.01 * 0.146446609407]):
        x, y = next(batches)
        with stream(0, step):
            x = random_shift(x.reshape(-1, 28, 28), 2, generator()).reshape(32, 784)
            loss = cross_entropy(model(Tensor(x)), y, reduction="sum") / 32.0
        optimizer.zero_grad()
        loss.backward()
        norms.append(clip_grad_norm_(model.parameters(), 0.5))
        optimizer.lr = rate
        optimizer.step()
    assert max(norms) > 0.5  # or clipping would not be seen

    monkeypatch.setattr(pictures, "draw_all", lambda *arguments: [])
    run = Run.create("mlp", settings, folder=tmp_path / "run")
    train(settings, run)
    _, arrays = checkpoint.load(tmp_path / "run" / "checkpoint.safetensors")
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(arrays[f"model.{name}"], value, rtol=1e-6, atol=1e-8, err_msg=name)


def test_the_shipped_weights_give_the_accuracy_on_their_card():
    """In 16 bits; the card was written from the run in 32."""
    path = resources.files("scratch.models.mlp") / "weights.safetensors"
    card, test = load_metadata(path), load_digits().test
    model, settings = load_weights(path)
    assert settings == Settings() and "scratch train mlp --preset default --seed 0" in card["made by"]
    share = float(re.search(r"test accuracy ([\d.]+) %", card["figures"])[1]) / 100
    assert abs(evaluate(model, *test.arrays)["accuracy"] - share) < 0.002
    assert share > 0.94


def train_beside_pytorch(model, loss_of):
    """20 steps of AdamW on the digits, here with `loss_of(x, y)` and in PyTorch with the mean cross-entropy."""
    import torch

    from tests.twins.mlp import MLP as Twin

    data, twin = load_digits().train, Twin(784, (20, 15), 10)
    lockstep.check(
        model,
        twin,
        AdamW(model.parameters(), lr=1e-2),
        torch.optim.AdamW(twin.parameters(), lr=1e-2),
        Batches(data.inputs.astype(np.float64), data.targets, batch_size=32, seed=0),
        loss_of,
        lambda x, y: torch.nn.functional.cross_entropy(twin(x), y),
    )


@pytest.mark.torch
@pytest.mark.parametrize("shards", [1, 2])
def test_twenty_steps_in_lockstep_with_pytorch(shards):
    model = MLP(784, (20, 15), 10)
    train_beside_pytorch(model, ShardedLoss(model, summed_loss, shards))


@pytest.mark.torch
def test_lockstep_notices_a_loss_that_is_a_little_wrong():
    model = MLP(784, (20, 15), 10)
    with pytest.raises(AssertionError):
        train_beside_pytorch(model, lambda x, y: cross_entropy(model(Tensor(x)), y, label_smoothing=1e-6))
