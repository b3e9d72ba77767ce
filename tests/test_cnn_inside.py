"""Looking inside CNNs: every answer is compared with one that is known, by hand or from the formula."""

from __future__ import annotations

import numpy as np
import pytest

from scratch import Tensor
from scratch.activations import ReLU
from scratch.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
)
from scratch.losses import cross_entropy
from scratch.models.cnn import LeNet5, adversarial, inside, receptive_field
from scratch.models.cnn.receptive_field import Box, Field
from scratch.module import Module, Sequential
from scratch.random import manual_seed


def linear_model(channels: int, height: int, width: int, classes: int = 3) -> Sequential:
    return Sequential(Flatten(), Linear(channels * height * width, classes)).to(np.float64)


def small_cnn() -> Sequential:
    parts = [Conv2d(2, 4, 3, padding=1), BatchNorm2d(4), ReLU(), MaxPool2d(2), Dropout(0.5), Conv2d(4, 5, 3), ReLU()]
    return Sequential(*parts, AdaptiveAvgPool2d(1), Flatten(), Linear(5, 3)).to(np.float64)


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def state_of(model: Module) -> tuple:
    arrays = {name: array.copy() for name, array in model.state_dict().items()}
    return arrays, [m.training for m in model.modules()], [(p.requires_grad, p.grad) for p in model.parameters()]


# -- nothing is changed -----------------------------------------------------------------------------------------


LOOKS = {
    "feature_maps": lambda model, x: inside.feature_maps(model, x, ["0", "3"]),
    "occlusion": lambda model, x: inside.occlusion(model, x, 1, 3, 2),
    "saliency": lambda model, x: inside.saliency(model, x, 1, samples=3),
    "grad_cam": lambda model, x: inside.grad_cam(model, x, 1, "6"),
    "effective": lambda model, x: receptive_field.effective_receptive_field(model, x.shape[1:], "5", samples=2),
    "in_order": lambda model, x: receptive_field.in_order(model, x.shape[1:]),
    "fgsm": lambda model, x: adversarial.fgsm(model, x, [1], 0.1),
    "accuracy": lambda model, x: adversarial.adversarial_accuracy(model, x, [1], [0.1]),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_leaves_the_model_the_image_and_its_gradients_as_they_were(name, rng):
    """Some parts train and some don't, some parameters are frozen, and a gradient is there: all as before."""
    model, x = small_cnn(), rng.normal(size=(1, 2, 9, 8))
    model[1].eval()
    model[0].bias.requires_grad = False
    model[0].weight.grad = np.ones_like(model[0].weight.data)
    before, image = state_of(model), x.copy()
    LOOKS[name](model, x)
    after = state_of(model)
    assert after[1] == before[1] and after[2] == before[2]  # the very same gradient arrays
    for key, array in before[0].items():
        np.testing.assert_array_equal(after[0][key], array)
    np.testing.assert_array_equal(x, image)


def test_a_look_that_fails_leaves_the_model_too(rng):
    model = small_cnn()
    before = state_of(model)
    with pytest.raises(ValueError):
        inside.saliency(model, rng.normal(size=(3, 9, 8)), 1)  # three channels instead of two
    assert state_of(model)[1:] == before[1:] and model.training


def test_dropout_and_batch_statistics_are_those_of_evaluation(rng):
    model, x = small_cnn(), rng.normal(size=(4, 2, 9, 8))
    model.eval()
    expected = model(Tensor(x)).data
    maps = inside.feature_maps(model.train(), x, ["9"])
    np.testing.assert_array_equal(maps["9"], expected)


# -- filters and maps -------------------------------------------------------------------------------------------


def test_filters_are_the_first_convolutions():
    model = small_cnn()
    found = inside.filters(model)
    np.testing.assert_array_equal(found, model[0].weight.data)
    assert not np.shares_memory(found, model[0].weight.data)
    np.testing.assert_array_equal(inside.filters(model[5].weight), model[5].weight.data)
    with pytest.raises(ValueError, match="a model with a Conv2d, got Sequential"):
        inside.filters(linear_model(1, 2, 2))
    with pytest.raises(ValueError, match=r"\(out, in, kh, kw\), got \(2, 3\)"):
        inside.filters(np.zeros((2, 3)))


def test_feature_maps_by_name_in_the_order_of_computation(rng):
    model, x = small_cnn().eval(), rng.normal(size=(2, 2, 9, 8))
    maps = inside.feature_maps(model, x, ["3", "0", "9"])
    assert list(maps) == ["0", "3", "9"]
    h = model[0](Tensor(x))
    np.testing.assert_array_equal(maps["0"], h.data)
    np.testing.assert_array_equal(maps["3"], model[3](model[2](model[1](h))).data)
    everything = inside.feature_maps(model, x)
    assert list(everything) == ["0", "1", "2", "3", "4", "5", "6", "7"]  # what puts out images
    with pytest.raises(ValueError, match="Sequential has no module 'conv1', it has 0, 1, 2"):
        inside.feature_maps(model, x, ["conv1"])


def test_a_module_that_runs_twice_gives_two_maps(rng):
    model, x = LeNet5(), rng.normal(size=(1, 1, 28, 28)).astype(np.float32)
    maps = inside.feature_maps(model, x, ["pool"])
    assert {name: array.shape for name, array in maps.items()} == {"pool": (1, 6, 14, 14), "pool (2)": (1, 16, 5, 5)}


# -- occlusion --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "stride", "value"), [(3, 2, None), (2, 3, 0.5), (5, 1, 0.0), (1, 1, None)])
def test_occlusion_of_a_linear_detector(size, stride, value, monkeypatch, rng):
    """The logits are W·x, so that each hidden patch takes its own known part away."""
    monkeypatch.setattr(inside, "PIXELS", 7 * 6 * 4)  # several passes, the last not full
    model, x = linear_model(2, 7, 6), rng.normal(size=(2, 7, 6))
    weight, bias = model[1].weight.data, model[1].bias.data
    expected = np.empty(((7 - size) // stride + 1, (6 - size) // stride + 1))
    for i, j in np.ndindex(expected.shape):
        hidden = x.copy()
        rows, columns = slice(i * stride, i * stride + size), slice(j * stride, j * stride + size)
        for c in range(2):
            hidden[c, rows, columns] = x[c].mean() if value is None else value
        expected[i, j] = (softmax(weight @ x.ravel() + bias) - softmax(weight @ hidden.ravel() + bias))[1]
    np.testing.assert_allclose(inside.occlusion(model, x, 1, size, stride, value), expected, atol=1e-12)


def test_occlusion_finds_the_one_place_that_counts():
    model = linear_model(1, 12, 12, 2)
    model[1].weight.data[...] = 0
    model[1].weight.data[1].reshape(12, 12)[8:10, 4:6] = 5  # a detector of light there
    x = np.zeros((1, 12, 12))
    x[0, 8:10, 4:6] = 1
    drops = inside.occlusion(model, x, 1, size=2, stride=2, value=0.0)
    assert drops.shape == (6, 6)
    p = softmax(np.array([0, 20.0]) + model[1].bias.data)[1] - softmax(model[1].bias.data)[1]
    expected = np.zeros((6, 6))
    expected[4, 2] = p
    np.testing.assert_allclose(drops, expected, atol=1e-12)
    against = inside.occlusion(model, x, 0, size=2, stride=2, value=0.0)
    np.testing.assert_allclose(against, -expected, atol=1e-12)  # hiding it speaks for the other class


def test_drops_are_shared_out_over_the_pixels_that_were_hidden():
    drops = np.array([[1.0, 3.0], [5.0, 7.0]])
    pixels = inside.per_pixel(drops, (5, 6), size=3, stride=2)  # rows 0–2 and 2–4; columns 0–2, 2–4, none hides 5
    assert pixels.shape == (5, 6)
    with pytest.raises(ValueError, match=r"drops of shape \(2, 3\), got \(2, 2\)"):
        inside.per_pixel(drops, (5, 7), 3, 2)
    expected = [[1, 1, 2, 3, 3, 0], [1, 1, 2, 3, 3, 0], [3, 3, 4, 5, 5, 0], [5, 5, 6, 7, 7, 0], [5, 5, 6, 7, 7, 0]]
    np.testing.assert_allclose(pixels, expected)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x: inside.occlusion(m, x, 1, 7), "a size from 1 to 6 and a stride of at least 1, got 7 and 4"),
        (lambda m, x: inside.occlusion(m, x, 1, 2, 0), "got 2 and 0"),
        (lambda m, x: inside.occlusion(m, x, 3, 2, 2), r"a target among them, got \(\d+, 3\) and 3"),
        (lambda m, x: inside.saliency(m, x, -1), "a target among them"),
        (lambda m, x: inside.saliency(m, np.stack([x, x]), 1), r"saliency expected one image .* got float64 \(2, 2, 7"),
        (lambda m, x: inside.saliency(m, x.astype(int), 1), "of floating-point numbers, got int64"),
        (lambda m, x: inside.grad_cam(m, x, 1, "2"), "has no module '2', it has 0, 1"),
        (lambda m, x: inside.grad_cam(m, x, 1, "0"), r"expected 0 to put out \(1, channels, h, w\), got \(1, 84\)"),
        (lambda m, x: adversarial.fgsm(m, x[None], [1], -0.1), "an epsilon of at least 0, got -0.1"),
        (lambda m, x: adversarial.fgsm(m, x[None], [1, 1], 0.1), r"targets \(N,\), got float64 .* and \(2,\)"),
    ],
)
def test_what_cannot_be_asked(call, words, rng):
    with pytest.raises(ValueError, match=words):
        call(linear_model(2, 7, 6), rng.normal(size=(2, 7, 6)))


# -- saliency and Grad-CAM --------------------------------------------------------------------------------------


def test_saliency_of_a_linear_model_is_its_weights(rng):
    model, x = linear_model(2, 7, 6), rng.normal(size=(2, 7, 6))
    expected = np.abs(model[1].weight.data[2].reshape(2, 7, 6)).max(axis=0)
    np.testing.assert_allclose(inside.saliency(model, x, 2), expected, rtol=1e-12)
    np.testing.assert_allclose(inside.saliency(model, Tensor(x[None]), 2, samples=5), expected, rtol=1e-12)


class Square(Module):
    """logit_k = Σ x² / 2 + k: its gradient is x."""

    def forward(self, x):
        s = (x * x).sum(axis=(1, 2, 3))
        return (s * 0.5).reshape(-1, 1) + Tensor(np.arange(2.0))


def test_smoothgrad_averages_gradients_of_noisy_copies(monkeypatch, rng):
    monkeypatch.setattr(inside, "PIXELS", 4 * 5 * 3)
    x = rng.normal(size=(1, 4, 5)) * 3
    manual_seed(5)
    found = inside.saliency(Square(), x, 1, samples=7, noise=0.2)
    noise = manual_seed(5).standard_normal((7, 1, 4, 5)) * 0.2 * (x.max() - x.min())
    np.testing.assert_allclose(found, np.abs((x + noise).mean(axis=0))[0], rtol=1e-12)
    np.testing.assert_allclose(inside.saliency(Square(), x, 0), np.abs(x[0]), rtol=1e-12)


def test_grad_cam_of_two_channels_by_hand():
    """A = (x, −2x); logit₁ = 3 mean A₀ + ½ mean A₁. So α = (3, ½) / hw, and the heat is ReLU(2x) / hw."""
    model = Sequential(Conv2d(1, 2, 1, bias=False), AdaptiveAvgPool2d(1), Flatten(), Linear(2, 2)).to(np.float64)
    model[0].weight.data[:, 0, 0, 0] = [1, -2]
    model[3].weight.data[...] = [[7, 7], [3, 0.5]]
    x = np.array([[[1.0, -2.0, 0.5], [4.0, -0.25, 0.0]]])
    heat = inside.grad_cam(model, x, 1, "0")
    np.testing.assert_allclose(heat, np.array([[2, 0, 1], [8, 0, 0]]) / 6, rtol=1e-12)
    np.testing.assert_allclose(inside.grad_cam(model, x, 0, "0"), np.maximum(-7 * x[0] / 6, 0), rtol=1e-12)


def test_grad_cam_against_its_formula_by_differences(rng):
    """The gradient of a logit by each map, by central differences of what comes behind the layer."""
    model, x = small_cnn().eval(), 5 * rng.normal(size=(1, 2, 13, 14))
    model[5].weight.data[...] -= model[5].weight.data.mean(axis=(1, 2, 3), keepdims=True)  # maps of both signs
    A = inside.feature_maps(model, x, ["5"])["5"]
    behind, alpha = model[6:], np.zeros(5)
    for k in range(5):
        for i, j in np.ndindex(A.shape[2:]):
            step = np.zeros_like(A)
            step[0, k, i, j] = 1e-6
            alpha[k] += (behind(Tensor(A + step)).data - behind(Tensor(A - step)).data)[0, 2] / 2e-6
    alpha /= A[0, 0].size
    heat = np.maximum((alpha[:, None, None] * A[0]).sum(axis=0), 0)
    np.testing.assert_allclose(inside.grad_cam(model, x, 2, "5"), heat, atol=1e-7)
    assert 0 < (heat > 0).sum() < heat.size and (alpha > 0).any() and (alpha < 0).any()


def test_float32_stays_float32(rng):
    model, x = small_cnn().to(np.float32), rng.normal(size=(2, 9, 8)).astype(np.float32)
    for found in (
        inside.occlusion(model, x, 0, 3, 2, 0.25), inside.saliency(model, x, 0, 3), inside.grad_cam(model, x, 0, "5"),
        inside.per_pixel(inside.occlusion(model, x, 0, 3, 2), (9, 8), 3, 2), adversarial.fgsm(model, x[None], [0], 0.1),
        receptive_field.effective_receptive_field(model, (2, 9, 8), "3"),
    ):  # fmt: skip
        assert found.dtype == np.float32


# -- receptive fields -------------------------------------------------------------------------------------------

# name: (its layers, the size of the field, the jump)
STACKS = {
    "one 3×3": (lambda: [Conv2d(1, 4, 3)], (3, 3), (1, 1)),
    "three 3×3": (
        lambda: [Conv2d(1, 4, 3, padding=1), ReLU(), Conv2d(4, 4, 3), ReLU(), Conv2d(4, 2, 3)], (7, 7), (1, 1)
    ),
    # at its corner less than a millionth of what counts in the middle
    "eight 3×3": (lambda: [Conv2d(1, 1, 3, padding=1) for _ in range(8)], (17, 17), (1, 1)),
    "stride": (
        lambda: [Conv2d(1, 4, 3, stride=2, padding=1), Conv2d(4, 4, 3), Conv2d(4, 2, 3, stride=2)], (11, 11), (4, 4)
    ),
    "dilation": (
        lambda: [Conv2d(1, 4, 3), Conv2d(4, 4, 3, dilation=2), Conv2d(4, 2, 3, dilation=3)], (13, 13), (1, 1)
    ),
    "dilated by 1, 2, 4 behind a stride": (
        lambda: [Conv2d(1, 4, 2, stride=2), Conv2d(4, 4, 3, dilation=2, padding=2)], (10, 10), (2, 2)
    ),
    "pooling": (
        lambda: [Conv2d(1, 6, 3, padding=1), ReLU(), MaxPool2d(2), Conv2d(6, 4, 3), AvgPool2d(2)], (10, 10), (4, 4)
    ),
    "pooling that overlaps": (lambda: [Conv2d(1, 6, 5, padding=2), MaxPool2d(3, 2), Conv2d(6, 3, 1)], (7, 7), (2, 2)),
    "unequal sides": (
        lambda: [Conv2d(1, 4, (3, 5), stride=(2, 1)), Conv2d(4, 3, (1, 3), dilation=(4, 2))], (3, 9), (2, 1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_the_measured_receptive_field_is_the_theoretical(name):
    make, size, jump = STACKS[name]
    layers = make()
    fields = receptive_field.theoretical_receptive_field(layers)
    assert fields[-1] == Field(size, jump)
    model = Sequential(*layers).to(np.float64)
    box = receptive_field.receptive_field(model, (1, 33, 35))
    assert (box.height, box.width) == size
    height, width = inside.feature_maps(model, np.zeros((1, 1, 33, 35)), [""])[""].shape[2:]
    middle = (height // 2, width // 2)
    beside = receptive_field.receptive_field(model, (1, 33, 35), unit=(middle[0] - 1, middle[1] + 1))
    assert (beside.top - box.top, beside.left - box.left) == (-jump[0], jump[1])


def test_the_recursion_with_numbers_and_layer_by_layer():
    """AlexNet's, as Araujo et al. (2019) list them: 195 pixels behind the last pooling, a jump of 32."""
    alexnet = [(11, 4, 1), (3, 2, 1), (5, 1, 1), (3, 2, 1), (3, 1, 1), (3, 1, 1), (3, 1, 1), (3, 2, 1)]
    sizes = [field.size[0] for field in receptive_field.theoretical_receptive_field(alexnet)]
    assert sizes == [11, 19, 51, 67, 99, 131, 163, 195]
    assert receptive_field.theoretical_receptive_field(alexnet)[-1].jump == (32, 32)
    pairs = [((11, 3), (4, 1), 1), (3, (2, 3), (1, 2))]
    assert receptive_field.theoretical_receptive_field(pairs) == [Field((11, 3), (4, 1)), Field((19, 7), (8, 3))]
    with pytest.raises(ValueError, match=r"a module or \(kernel, stride, dilation\), got \(3, 1\)"):
        receptive_field.theoretical_receptive_field([(3, 1)])


def test_layers_in_the_order_in_which_they_run():
    """LeNet-5 has one pooling, which runs behind each convolution: 5, 6, 14, 16 pixels."""
    chain = receptive_field.in_order(LeNet5(), (1, 28, 28))
    assert [type(layer).__name__ for layer in chain] == ["Conv2d", "MaxPool2d", "Conv2d", "MaxPool2d"]
    assert [field.size[0] for field in receptive_field.theoretical_receptive_field(chain)] == [5, 6, 14, 16]
    box = receptive_field.receptive_field(LeNet5().to(np.float64), (1, 28, 28), "pool", samples=64)
    assert (box.height, box.width) == (16, 16)


def test_the_effective_field_of_equal_weights_is_the_convolution_of_boxes():
    """n 3×3 kernels of equal weights: the gradient is the box 1 1 1 convolved n times with itself, a bell."""
    for n in (1, 2, 5):
        layers = [Conv2d(1, 1, 3, bias=False) for _ in range(n)]
        for layer in layers:
            layer.weight.data[...] = 1
        model = Sequential(*layers).to(np.float64)
        found = receptive_field.effective_receptive_field(model, (1, 21, 21), samples=3)
        line = np.ones(1)
        for _ in range(n):
            line = np.convolve(line, np.ones(3))
        start = (21 - 2 * n) // 2 - 0
        expected = np.zeros((21, 21))
        expected[start : start + len(line), start : start + len(line)] = np.outer(line, line) / line.max() ** 2
        np.testing.assert_allclose(found, expected, atol=1e-12)
        # the variance of n boxes of 3 adds up: n · (9 − 1) / 12, so the side grows as √n
        assert abs(receptive_field.spread(found) - np.sqrt(8 * n)) < 1e-9


def test_dead_and_constant_layers_see_nothing():
    model = Sequential(Conv2d(1, 2, 3), ReLU()).to(np.float64)
    model[0].bias.data[...] = -1e6
    assert receptive_field.receptive_field(model, (1, 9, 9)) == Box(0, 0, 0, 0)
    with pytest.raises(ValueError, match="a unit within 7 rows and 7 columns, got"):
        receptive_field.receptive_field(model, (1, 9, 9), unit=(7, 0))
    with pytest.raises(ValueError, match="expected the model to put out"):
        receptive_field.receptive_field(linear_model(1, 9, 9), (1, 9, 9))


# -- adversarial examples ---------------------------------------------------------------------------------------


def test_fgsm_of_a_linear_model_is_epsilon_times_the_sign(monkeypatch, rng):
    """∂L/∂x = (p − y) W, and every pixel moves by ε along its sign."""
    monkeypatch.setattr(inside, "PIXELS", 7 * 6 * 2)
    model, x, t = linear_model(2, 7, 6), rng.normal(size=(5, 2, 7, 6)), np.array([0, 2, 1, 1, 0])
    weight, bias = model[1].weight.data, model[1].bias.data
    p = softmax(x.reshape(5, -1) @ weight.T + bias)
    gradient = ((p - np.eye(3)[t]) @ weight).reshape(x.shape)
    moved = adversarial.fgsm(model, x, t, 0.25)
    np.testing.assert_array_equal(moved, x + 0.25 * np.sign(gradient))
    np.testing.assert_array_equal(adversarial.fgsm(model, x, t, 0.0), x)
    cut = adversarial.fgsm(model, x, t, 0.25, limits=(-1.0, 1.5))
    np.testing.assert_array_equal(cut, np.clip(x + 0.25 * np.sign(gradient), -1, 1.5))


def test_fgsm_raises_the_loss_and_lowers_the_accuracy(rng):
    model, x = small_cnn(), rng.normal(size=(40, 2, 9, 8))
    model.eval()
    t = rng.integers(0, 3, 40)
    losses = []
    for epsilon in (0, 0.01, 0.05):
        moved = adversarial.fgsm(model, x, t, epsilon)
        losses.append(float(cross_entropy(model(Tensor(moved)), Tensor(t)).data))
    assert losses[0] < losses[1] < losses[2]


def test_accuracy_against_epsilon(rng):
    model, x = linear_model(2, 7, 6), rng.normal(size=(40, 2, 7, 6))
    t = model(Tensor(x)).data.argmax(axis=1)  # so that at ε = 0 all are right
    assert len(set(t)) == 3
    epsilons = [0.0, 0.02, 0.1, 1.0]
    shares = adversarial.adversarial_accuracy(model, x, t, epsilons)
    by_hand = [(model(Tensor(adversarial.fgsm(model, x, t, e))).data.argmax(axis=1) == t).mean() for e in epsilons]
    assert shares == by_hand
    assert shares[0] == 1 and shares[0] > shares[1] > shares[2] >= shares[3] == 0
    # Between limits that are one number, every image is that number, and the bias alone decides.
    constant = int(model[1].bias.data.argmax())
    assert adversarial.adversarial_accuracy(model, x, t, [1.0], limits=(0, 0)) == [(t == constant).mean()]


def test_the_field_of_wide_convolutions_is_as_sharp_as_that_of_narrow_ones():
    """Sixteen channels are computed by a faster algorithm, whose rounding reaches over the field's edge."""
    model = LeNet5(channels=(16, 32), padding=2)
    manual_seed(0)
    assert receptive_field.receptive_field(model, (1, 28, 28), "convolutions.1", samples=64) == Box(8, 8, 14, 14)
