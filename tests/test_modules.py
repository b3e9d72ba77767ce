"""What every layer keeps to, whatever it computes, and what `Module` does with parameters, buffers and state.

One list of layers, one test for each clause of the contract. A new layer joins by an entry in `LAYERS`;
`test_every_layer_is_in_the_list` says so until it has. The values that a layer computes are tested in a file of its
own, and against PyTorch in test_parity.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pytest

import scratch.layers as layers
from scratch import Buffer, Module, Parameter, Sequential, Tensor, gradcheck, manual_seed, no_grad
from scratch.module import evaluating, observe
from scratch.parallel import replicate
from scratch.random import get_state, stream
from scratch.tape import ancestors
from scratch.tensor import as_tensor


@dataclass(frozen=True)
class Layer:
    """One layer and what is needed to try it.

    make: the layer, small, with sizes that all differ.
    given: what it is called with: shapes of random float32 arrays, which are checked for gradients, or whole arrays.
    state: the keys and shapes of its state_dict, in order.
    wrong: shapes, or whole arrays, that it must refuse in place of its first input.
    """

    make: Callable[[], Module]
    given: tuple
    state: dict[str, tuple[int, ...]] = field(default_factory=dict)
    wrong: tuple = ()

    @property
    def inputs(self) -> tuple:
        """Drawn anew, the same each time, so that no test can change another's."""
        rng = np.random.default_rng(0)
        return tuple(
            (0.5 + rng.standard_normal(each)).astype(np.float32) if isinstance(each, tuple) else each
            for each in self.given
        )


TRACKED = {"running_mean": (3,), "running_var": (3,), "num_batches_tracked": ()}



def attention_state(C: int, prefix: str = "") -> dict[str, tuple[int, ...]]:
    shapes = {
        "in_proj_weight": (3 * C, C), "in_proj_bias": (3 * C,), "out_proj.weight": (C, C), "out_proj.bias": (C,),
    }  # fmt: skip
    return {prefix + name: shape for name, shape in shapes.items()}


def feed_forward_state(C: int, hidden: int, norms: int, prefix: str = "") -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "linear1.weight": (hidden, C), "linear1.bias": (hidden,), "linear2.weight": (C, hidden), "linear2.bias": (C,),
    }  # fmt: skip
    for i in range(1, norms + 1):
        shapes |= {f"norm{i}.weight": (C,), f"norm{i}.bias": (C,)}
    return {prefix + name: shape for name, shape in shapes.items()}



def recurrent_state(rows: int, inputs: int, hidden: int, end: str = "_l0") -> dict[str, tuple[int, ...]]:
    shapes = {"weight_ih": (rows, inputs), "weight_hh": (rows, hidden), "bias_ih": (rows,), "bias_hh": (rows,)}
    return {name + end: shape for name, shape in shapes.items()}


LAYERS = {
    "Linear": Layer(
        lambda: layers.Linear(3, 4), ((2, 5, 3),), {"weight": (4, 3), "bias": (4,)}, ((2, 4), ()),
    ),
    "Linear without bias": Layer(lambda: layers.Linear(3, 4, bias=False), ((5, 3),), {"weight": (4, 3)}, ((3, 5),)),
    "Embedding": Layer(
        lambda: layers.Embedding(6, 4), (np.array([[1, 5, 1], [0, 1, 5]]),), {"weight": (6, 4)},
        (np.array([0, 6]), np.array([-1]), np.array([1.0])),
    ),
    "Embedding with padding": Layer(
        # without the padding row: it takes part in y, but receives no gradient
        lambda: layers.Embedding(6, 4, padding_idx=2), (np.array([[1, 5, 1], [0, 1, 5]]),), {"weight": (6, 4)},
        (np.array([0, 6]),),
    ),
    "LayerNorm": Layer(lambda: layers.LayerNorm(5), ((2, 3, 5),), {"weight": (5,), "bias": (5,)}, ((5, 3), (), (1,))),
    "LayerNorm of two axes": Layer(
        lambda: layers.LayerNorm((3, 5)), ((2, 3, 5),), {"weight": (3, 5), "bias": (3, 5)}, ((2, 5, 3), (5,)),
    ),
    "LayerNorm without bias": Layer(lambda: layers.LayerNorm(5, bias=False), ((3, 5),), {"weight": (5,)}, ((5, 3),)),
    "LayerNorm, fixed": Layer(lambda: layers.LayerNorm(5, elementwise_affine=False), ((3, 5),), {}, ((5, 3),)),
    "RMSNorm": Layer(lambda: layers.RMSNorm(5), ((2, 3, 5),), {"weight": (5,)}, ((5, 3), (), (1,))),
    "RMSNorm, fixed": Layer(lambda: layers.RMSNorm(5, elementwise_affine=False), ((3, 5),), {}, ((5, 3),)),
    "GroupNorm": Layer(
        lambda: layers.GroupNorm(2, 6), ((3, 6, 5),), {"weight": (6,), "bias": (6,)}, ((3, 5, 6), (6,), (3, 2)),
    ),
    "GroupNorm, fixed": Layer(lambda: layers.GroupNorm(3, 6, affine=False), ((2, 6, 4, 5),), {}, ((6, 3),)),
    "BatchNorm1d": Layer(
        lambda: layers.BatchNorm1d(3), ((5, 3),), {"weight": (3,), "bias": (3,), **TRACKED},
        ((3, 5), (3,), (2, 3, 4, 5)),
    ),
    "BatchNorm1d of sequences": Layer(
        lambda: layers.BatchNorm1d(3, affine=False), ((4, 3, 5),), TRACKED, ((4, 5, 3),),
    ),
    "BatchNorm1d, untracked": Layer(
        lambda: layers.BatchNorm1d(3, track_running_stats=False), ((5, 3),), {"weight": (3,), "bias": (3,)}, ((3, 5),),
    ),
    "BatchNorm2d": Layer(
        lambda: layers.BatchNorm2d(3), ((2, 3, 4, 5),), {"weight": (3,), "bias": (3,), **TRACKED},
        ((2, 4, 3, 5), (2, 3, 4), (3, 4, 5)),
    ),
    "Conv2d": Layer(
        lambda: layers.Conv2d(3, 4, (3, 2), (2, 1), padding=(1, 2)), ((2, 3, 5, 6),),
        {"weight": (4, 3, 3, 2), "bias": (4,)}, ((3, 5, 6), (2, 5, 6, 3), (2, 4, 5, 6), (2, 3, 0, 6), ()),
    ),
    "Conv2d in groups": Layer(
        lambda: layers.Conv2d(4, 6, 2, padding="same", dilation=(1, 2), groups=2, bias=False), ((2, 4, 3, 5),),
        {"weight": (6, 2, 2, 2)}, ((2, 2, 3, 5),),
    ),
    "Conv2d, depthwise, padded on two sides": Layer(
        lambda: layers.Conv2d(3, 6, 3, padding=((1, 0), (0, 2)), groups=3), ((2, 3, 4, 5),),
        {"weight": (6, 1, 3, 3), "bias": (6,)}, ((2, 3, 1, 5),),
    ),
    "Conv1d": Layer(
        lambda: layers.Conv1d(3, 4, 3, 2, 1), ((2, 3, 7),), {"weight": (4, 3, 3), "bias": (4,)},
        ((3, 7), (2, 7, 3), (2, 3, 7, 7), (2, 3, 0)),
    ),
    "ConvTranspose2d": Layer(
        lambda: layers.ConvTranspose2d(4, 6, (3, 2), (3, 2), 1, (2, 0), groups=2), ((2, 4, 3, 5),),
        {"weight": (4, 3, 3, 2), "bias": (6,)}, ((4, 3, 5), (2, 3, 5, 4), (2, 4, 0, 5), (2, 4, 3, 1)),
    ),
    "ConvTranspose1d": Layer(
        lambda: layers.ConvTranspose1d(3, 4, 3, 2, dilation=2, bias=False), ((2, 3, 5),), {"weight": (3, 4, 3)},
        ((3, 5), (2, 5, 3), (2, 3, 5, 5)),
    ),
    "GroupNorm of images": Layer(
        lambda: layers.GroupNorm(2, 6), ((2, 6, 4, 5),), {"weight": (6,), "bias": (6,)}, ((2, 5, 6, 4),),
    ),
    "InstanceNorm1d": Layer(
        lambda: layers.InstanceNorm1d(3), ((2, 3, 5),), {}, ((2, 5, 3), (3,), (2, 3, 4, 5)),
    ),
    "InstanceNorm1d without a batch": Layer(
        lambda: layers.InstanceNorm1d(3, affine=True), ((3, 5),), {"weight": (3,), "bias": (3,)}, ((5, 3),),
    ),
    "InstanceNorm2d": Layer(
        lambda: layers.InstanceNorm2d(3, affine=True, track_running_stats=True), ((2, 3, 4, 5),),
        {"weight": (3,), "bias": (3,), **TRACKED}, ((2, 4, 3, 5), (3, 4), (2, 2, 3, 4, 5)),
    ),
    "Dropout": Layer(lambda: layers.Dropout(0.3), ((4, 5),)),
    "Dropout2d": Layer(lambda: layers.Dropout2d(0.3), ((3, 4, 2, 5),), {}, ((3, 4), (3, 4, 5))),
    "Flatten": Layer(layers.Flatten, ((2, 3, 4),), {}, ((2,), ())),
    "Unflatten": Layer(lambda: layers.Unflatten(1, (3, 4)), ((2, 12),), {}, ((2, 11), (2, 24), (12,))),
    "Identity": Layer(layers.Identity, ((2, 3),)),
    "MaxPool2d": Layer(lambda: layers.MaxPool2d(2), ((2, 3, 5, 4),), {}, ((5, 4), (2, 3, 1, 4), (3, 0, 4))),
    "MaxPool2d, overlapping": Layer(
        lambda: layers.MaxPool2d((3, 2), 2, 1, ceil_mode=True), ((2, 3, 6, 5),), {}, ((6, 5),),
    ),
    "MaxPool1d": Layer(lambda: layers.MaxPool1d(3, 2, dilation=2), ((2, 3, 8),), {}, ((8,), (2, 3, 4), (2, 3, 8, 8))),
    "AvgPool2d": Layer(lambda: layers.AvgPool2d(2), ((2, 3, 5, 4),), {}, ((5, 4), (2, 3, 1, 4))),
    "AvgPool2d, overlapping": Layer(
        lambda: layers.AvgPool2d((3, 2), 2, 1, count_include_pad=False), ((2, 3, 6, 5),), {}, ((6, 5),),
    ),
    "AvgPool1d": Layer(lambda: layers.AvgPool1d(3, 2, 1), ((2, 3, 8),), {}, ((8,), (2, 3, 8, 8))),
    "AdaptiveMaxPool2d": Layer(lambda: layers.AdaptiveMaxPool2d((2, None)), ((2, 3, 5, 4),), {}, ((5, 4),)),
    "AdaptiveAvgPool2d": Layer(lambda: layers.AdaptiveAvgPool2d(1), ((2, 3, 5, 4),), {}, ((5, 4), (2, 3, 0, 4))),
    "AdaptiveAvgPool2d, overlapping": Layer(lambda: layers.AdaptiveAvgPool2d((3, 5)), ((2, 3, 7, 4),), {}, ((5, 4),)),
    "Upsample": Layer(lambda: layers.Upsample(scale_factor=2), ((2, 3, 5, 4),), {}, ((3, 5, 4), (2, 3, 0, 4))),
    "Upsample, nearest": Layer(lambda: layers.Upsample((7, 3)), ((2, 3, 5, 4),), {}, ((2, 3, 4, 5, 5),)),
    "Upsample, bilinear": Layer(
        lambda: layers.Upsample(scale_factor=(1.5, 3.0), mode="bilinear"), ((2, 3, 5, 4),), {}, ((3, 5, 4),),
    ),
    "RNN": Layer(
        lambda: layers.RNN(3, 4), ((5, 2, 3), (1, 2, 4)), recurrent_state(4, 3, 4),
        ((5, 2, 4), (3,), (5, 2, 2, 3), (0, 2, 3), (5, 3)),
    ),
    "RNN of two layers, ReLU, both directions": Layer(
        lambda: layers.RNN(3, 2, 2, "relu", bias=False, batch_first=True, dropout=0.3, bidirectional=True),
        ((2, 4, 3),),
        {f"weight_{side}_l{k}{end}": (2, columns) for k in (0, 1) for end in ("", "_reverse")
         for side, columns in (("ih", 3 + k), ("hh", 2))},
        ((2, 3, 4),),
    ),
    "LSTM": Layer(
        lambda: layers.LSTM(3, 2, bias=False, bidirectional=True), ((4, 2, 3),),
        {f"weight_{side}_l0{end}": (8, n) for end in ("", "_reverse") for side, n in (("ih", 3), ("hh", 2))},
        ((4, 2, 2), (3,)),
    ),
    "LSTM, batch first": Layer(
        lambda: layers.LSTM(3, 2, batch_first=True), ((2, 4, 3),), recurrent_state(8, 3, 2), ((2, 3, 4),),
    ),
    "GRU": Layer(
        lambda: layers.GRU(3, 2), ((4, 2, 3), (1, 2, 2)), recurrent_state(6, 3, 2), ((4, 2, 2), (3,), (4, 3, 3)),
    ),
    "RNNCell": Layer(
        lambda: layers.RNNCell(3, 4, nonlinearity="relu"), ((2, 3), (2, 4)), recurrent_state(4, 3, 4, ""),
        ((2, 4), (3, 3), (1, 2, 3)),
    ),
    "LSTMCell": Layer(lambda: layers.LSTMCell(3, 2), ((5, 3),), recurrent_state(8, 3, 2, ""), ((5, 2),)),
    "GRUCell": Layer(
        lambda: layers.GRUCell(3, 2), ((5, 3), (5, 2)), recurrent_state(6, 3, 2, ""), ((5, 2), (4, 3)),
    ),
    "PixelShuffle": Layer(lambda: layers.PixelShuffle(2), ((3, 8, 5, 4),), {}, ((3, 6, 5, 4), (8, 5, 4))),
    "PixelUnshuffle": Layer(lambda: layers.PixelUnshuffle(2), ((3, 5, 6, 4),), {}, ((3, 5, 6, 3), (3, 5, 5, 4))),
    "MultiheadAttention": Layer(
        lambda: layers.MultiheadAttention(6, 2, batch_first=True), ((2, 4, 6), (2, 3, 6), (2, 3, 6)),
        attention_state(6), ((2, 4, 5), (3, 4, 6), (6,)),
    ),
    "MultiheadAttention of other widths, dropout": Layer(
        lambda: layers.MultiheadAttention(6, 3, 0.3, False, kdim=5, vdim=4), ((4, 2, 6), (3, 2, 5), (3, 2, 4)),
        {"q_proj_weight": (6, 6), "k_proj_weight": (6, 5), "v_proj_weight": (6, 4), "out_proj.weight": (6, 6)},
        ((4, 3, 6), (2, 6)),
    ),
    "TransformerEncoderLayer": Layer(
        lambda: layers.TransformerEncoderLayer(6, 2, 4, batch_first=True), ((2, 3, 6),),
        {**attention_state(6, "self_attn."), **feed_forward_state(6, 4, 2)}, ((2, 3, 5), (6,)),
    ),
    "TransformerDecoderLayer": Layer(
        lambda: layers.TransformerDecoderLayer(4, 2, 3, 0.2), ((3, 2, 4), (5, 2, 4)),
        {**attention_state(4, "self_attn."), **attention_state(4, "multihead_attn."), **feed_forward_state(4, 3, 3)},
        ((3, 2, 5), (3, 3, 4), (4,)),
    ),
    "TransformerEncoder": Layer(
        lambda: layers.TransformerEncoder(layers.TransformerEncoderLayer(3, 1, 2), 1, layers.LayerNorm(3)),
        ((4, 2, 3),),
        {**attention_state(3, "layers.0.self_attn."), **feed_forward_state(3, 2, 2, "layers.0."),
         "norm.weight": (3,), "norm.bias": (3,)}, ((4, 2, 5),),
    ),
    "TransformerDecoder": Layer(
        lambda: layers.TransformerDecoder(layers.TransformerDecoderLayer(3, 1, 2, 0, bias=False), 1),
        ((4, 2, 3), (5, 2, 3)),
        {f"layers.0.{name}": shape
         for name, shape in {**attention_state(3, "self_attn."), **attention_state(3, "multihead_attn."),
                             **feed_forward_state(3, 2, 3)}.items() if name.endswith("weight")}, ((4, 2, 5),),
    ),
    "SinusoidalPositions": Layer(
        lambda: layers.SinusoidalPositions(5, 6), ((2, 4, 6),), {}, ((2, 4, 5), (2, 6, 6), (6,)),
    ),
    "LearnedPositions": Layer(
        lambda: layers.LearnedPositions(4, 6), ((2, 4, 6),), {"weight": (4, 6)}, ((2, 4, 5), (2, 5, 6), (6,)),
    ),
    "RotaryPositions": Layer(lambda: layers.RotaryPositions(), ((2, 3, 5, 4),), {}, ((2, 3), (4,))),
    "RotaryPositions of halves": Layer(lambda: layers.RotaryPositions(100, "halves"), ((2, 5, 6),), {}, ((2, 3),)),
}  # fmt: skip

every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
in_both_modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def is_float(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def randomised(layer: Layer, dtype: type = np.float32) -> Module:
    """The layer with random parameters and buffers, so that none hides behind ones and zeros."""
    module, draw = layer.make().to(dtype), np.random.default_rng(1)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dtype.kind == "f":
            tensor.data[...] = draw.uniform(0.5, 1.5, tensor.shape)
    return module


def tensors(layer: Layer, dtype: type = np.float32, requires_grad: bool = True) -> list:
    return [Tensor(v.astype(dtype), requires_grad) if is_float(v) else v for v in layer.inputs]


def run(module: Module, *inputs: object) -> Tensor:
    """The first output, with the same noise at every call."""
    with stream(seed=0, step=0):
        y = module(*inputs)
    return as_tensor(y[0] if isinstance(y, tuple) else y)


def upstream(y: Tensor) -> np.ndarray:
    return np.random.default_rng(2).standard_normal(y.shape).astype(y.dtype)


def has_gradient(layer: Layer) -> bool:
    return bool(layer.state) or any(is_float(value) for value in layer.inputs)


# -- the list ----------------------------------------------------------------------------------------------------


def test_every_layer_is_in_the_list():
    exported = {
        each for each in map(vars(layers).get, layers.__all__) if isinstance(each, type) and issubclass(each, Module)
    }
    tried = {type(layer.make()) for layer in LAYERS.values()}
    missing = sorted(each.__name__ for each in exported - tried)
    assert not missing, f"add these layers to LAYERS of tests/test_modules.py: {missing}"


# -- state -------------------------------------------------------------------------------------------------------


@every_layer
def test_state_has_pytorchs_keys_and_shapes(layer):
    module = layer.make()
    assert [(name, value.shape) for name, value in module.state_dict().items()] == list(layer.state.items())
    assert all(value.dtype == np.float32 for value in module.state_dict().values() if value.dtype.kind == "f")


@every_layer
def test_state_makes_another_instance_compute_the_same(layer):
    manual_seed(1)
    first = randomised(layer).eval()
    manual_seed(2)
    second = layer.make().eval()
    second.load_state_dict({name: value.copy() for name, value in first.state_dict().items()})
    for name, value in first.state_dict().items():
        np.testing.assert_array_equal(second.state_dict()[name], value)
    with no_grad():
        np.testing.assert_array_equal(run(first, *layer.inputs).data, run(second, *layer.inputs).data)


@every_layer
def test_loading_names_what_is_missing_unexpected_and_of_another_shape_and_changes_nothing(layer):
    module = randomised(layer)
    before = {name: value.copy() for name, value in module.state_dict().items()}
    state = {name: np.zeros((*value.shape, 2)) for name, value in before.items()} | {"intruder": np.zeros(2)}
    absent = next(iter(before), None)
    state.pop(absent, None)
    with pytest.raises(ValueError, match="unexpected: intruder") as error:
        module.load_state_dict(state)
    message = str(error.value)
    assert message.startswith(type(module).__name__)
    assert absent is None or f"missing: {absent}" in message
    for name, value in list(before.items())[1:]:
        assert f"{name}: expected shape {value.shape}, got {(*value.shape, 2)}" in message
    for name, value in module.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


# -- dtype -------------------------------------------------------------------------------------------------------


@every_layer
@in_both_modes
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept_forward_and_backward(layer, training, dtype):
    module, inputs = randomised(layer, dtype).train(training), tensors(layer, dtype)
    y = run(module, *inputs)
    assert y.dtype == dtype
    if not has_gradient(layer):
        return
    returned = spy(y)
    y.backward(upstream(y))
    assert all(gradient.dtype == dtype for gradient in returned)
    for tensor in (*module.parameters(), *(v for v in inputs if isinstance(v, Tensor))):
        assert tensor.grad is not None and tensor.grad.dtype == dtype and tensor.grad.shape == tensor.shape
    assert all(buffer.dtype in (dtype, np.int64) for buffer in module.buffers())


def spy(y: Tensor) -> list[np.ndarray]:
    """The gradients that the operations on y's tape will return, before the engine casts them."""
    returned: list[np.ndarray] = []
    for node in ancestors(y):
        if node._backward is not None:
            node._backward = lambda dy, inner=node._backward: _kept(inner(dy), returned)
    return returned


def _kept(gradients: tuple, returned: list) -> tuple:
    returned += [gradient for gradient in gradients if gradient is not None]
    return gradients


# -- gradients ---------------------------------------------------------------------------------------------------


@every_layer
@in_both_modes
def test_gradients_equal_finite_differences(layer, training):
    if not has_gradient(layer):
        pytest.skip("nothing to differentiate")
    module = randomised(layer, np.float64).train(training)
    inputs = [v.astype(np.float64) if is_float(v) else v for v in layer.inputs]
    gradcheck(lambda *given: run(module, *given), inputs, dict(module.named_parameters()))


@every_layer
@in_both_modes
def test_inputs_parameters_and_upstream_gradient_stay_as_they_were(layer, training):
    module, inputs = randomised(layer).train(training), tensors(layer)
    arrays = [v.data if isinstance(v, Tensor) else v for v in inputs] + [p.data for p in module.parameters()]
    if not training:
        arrays += [buffer.data for buffer in module.buffers()]
    before = [array.copy() for array in arrays]
    y = run(module, *inputs)
    if has_gradient(layer):
        dy = upstream(y)
        kept = dy.copy()
        y.backward(dy)
        np.testing.assert_array_equal(dy, kept)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@every_layer
@in_both_modes
def test_the_order_in_memory_changes_no_value(layer, training):
    """Columns first, and every second element of a larger array: nothing may rely on contiguous memory."""
    results = []
    for arrange in (np.ascontiguousarray, np.asfortranarray, _strided):
        module = randomised(layer, np.float64).train(training)
        inputs = [Tensor(arrange(v.astype(np.float64)), True) if is_float(v) else arrange(v) for v in layer.inputs]
        y = run(module, *inputs)
        results.append([y.data])
        if has_gradient(layer):
            y.backward(arrange(upstream(y)))
            leaves = (*inputs, *module.parameters())
            results[-1] += [leaf.grad for leaf in leaves if isinstance(leaf, Tensor)]
    for other in results[1:]:
        for came, expected in zip(other, results[0], strict=True):
            np.testing.assert_allclose(came, expected, rtol=1e-12, atol=1e-13)


def _strided(array: np.ndarray) -> np.ndarray:
    wide = np.zeros(tuple(2 * n for n in array.shape), array.dtype)
    wide[tuple(slice(None, None, 2) for _ in array.shape)] = array
    return wide[tuple(slice(None, None, 2) for _ in array.shape)]


@every_layer
@in_both_modes
def test_what_is_frozen_costs_no_gradient_work(layer, training):
    """Every pattern of frozen tensors: a frozen one is given no gradient, or at most dy itself, the others the same.

    Of many tensors, each alone frozen and each alone free: the patterns would be thousands.
    """
    module, inputs = randomised(layer, np.float64).train(training), tensors(layer, np.float64)
    leaves = [v for v in inputs if isinstance(v, Tensor)] + list(module.parameters())
    full = _gradients(module, inputs, leaves)
    for pattern in patterns(len(leaves)):
        for leaf, requires_grad in zip(leaves, pattern, strict=True):
            leaf.requires_grad = requires_grad
        for came, expected, requires_grad in zip(
            _gradients(module, inputs, leaves), full, pattern, strict=True
        ):
            assert (came is not None) == requires_grad
            if requires_grad:
                np.testing.assert_array_equal(came, expected)


def patterns(count: int) -> Iterable[tuple[bool, ...]]:
    if count <= 7:
        return itertools.product([True, False], repeat=count)
    return [tuple((i == each) == alone for i in range(count)) for each in range(count) for alone in (True, False)]


def _gradients(module: Module, inputs: list, leaves: list[Tensor]) -> list:
    y = run(module, *inputs)
    if y.requires_grad:
        for node in ancestors(y):
            if node._backward is not None:
                node._backward = lambda dy, node=node, inner=node._backward: _thrifty(node._parents, dy, inner(dy))
        y.backward(upstream(y))
    gradients = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    return gradients


def _thrifty(parents: tuple, dy: np.ndarray, gradients: tuple) -> tuple:
    for parent, gradient in zip(parents, gradients, strict=True):
        assert parent.requires_grad or gradient is None or np.shares_memory(gradient, dy)
    return gradients


# -- manners --------------------------------------------------------------------------------------------------------


@every_layer
def test_a_wrong_input_is_a_value_error_that_names_the_layer(layer):
    module = layer.make()
    for wrong in layer.wrong:
        bad = np.zeros(wrong, np.float32) if isinstance(wrong, tuple) else wrong
        with pytest.raises(ValueError, match=type(module).__name__):
            module(bad, *layer.inputs[1:])


@every_layer
def test_repr_is_the_call_that_makes_the_layer(layer):
    module = layer.make()
    if not list(module.children()):
        made = eval(repr(module), vars(layers))
        assert type(made) is type(module) and repr(made) == repr(module)
        assert [(n, v.shape) for n, v in made.state_dict().items()] == list(layer.state.items())


@every_layer
def test_training_and_evaluation_reach_it_inside_other_modules(layer):
    module = layer.make()
    outer = Sequential(layers.Identity(), Sequential(module))
    assert module.training
    outer.eval()
    assert not any(part.training for part in outer.modules())
    outer.train()
    assert all(part.training for part in outer.modules())


@every_layer
def test_evaluation_draws_nothing_and_repeats_itself(layer):
    module = randomised(layer).eval()
    with no_grad():
        state = get_state()
        first, second = module(*layer.inputs), module(*layer.inputs)
    assert get_state() == state
    first, second = (as_tensor(y[0] if isinstance(y, tuple) else y) for y in (first, second))
    np.testing.assert_array_equal(first.data, second.data)


# -- Module: the walk over what it is made of --------------------------------------------------------------------


def parameter(*values: float) -> Parameter:
    return Parameter(np.array(values, np.float32))


class Part(Module):
    """A product with one parameter, beside a buffer."""

    def __init__(self, value: float = 1.0):
        self.weight = parameter(value)
        self.seen = Buffer(np.array(0, np.int64))

    def forward(self, x):
        return x * self.weight


class Whole(Module):
    """Parts in every kind of container, one part under two names, and a way back from a part to the whole."""

    def __init__(self):
        self.first = Part(1)
        self.blocks = [Part(2), Part(3)]
        self.table = {"z": Part(4), "a": (parameter(5), "not a parameter", None, [Part(6)])}
        self.again = self.first
        self.number = 7
        self.first.whole = self
        self.last = parameter(8, 8)

    def forward(self, x):
        return self.blocks[1](self.first(x))


NAMES = [
    "first.weight", "blocks.0.weight", "blocks.1.weight", "table.z.weight", "table.a.0", "table.a.3.0.weight", "last",
]  # fmt: skip


def test_parameters_are_found_in_lists_dicts_and_tuples_in_the_order_of_assignment():
    whole = Whole()
    assert [name for name, _ in whole.named_parameters()] == NAMES
    assert [p.data[0] for p in whole.parameters()] == [1, 2, 3, 4, 5, 6, 8]
    assert whole.count_parameters() == 8


def test_a_shared_part_counts_once_and_is_in_the_state_under_both_names():
    whole = Whole()
    state = whole.state_dict()
    assert [name for name in state if not name.endswith("seen")] == [*NAMES[:-1], "again.weight", "last"]
    assert state["again.weight"] is state["first.weight"] is whole.first.weight.data
    assert [name for name, _ in whole.named_modules()] == [
        "", "first", "blocks.0", "blocks.1", "table.z", "table.a.3.0",
    ]  # fmt: skip


def test_a_buffer_is_state_but_not_a_parameter():
    part = Part()
    assert list(part.state_dict()) == ["weight", "seen"]
    assert [name for name, _ in part.named_parameters()] == ["weight"]
    assert list(part.buffers()) == [part.seen] and not part.seen.requires_grad


def test_a_plain_tensor_is_neither():
    part = Part()
    part.scratchpad = Tensor(np.ones(3, np.float32), requires_grad=True)
    assert list(part.state_dict()) == ["weight", "seen"] and part.count_parameters() == 1


def test_children_are_those_directly_inside():
    whole = Whole()
    assert [name for name, _ in whole.named_children()] == [
        "first", "blocks.0", "blocks.1", "table.z", "table.a.3.0", "again",
    ]  # fmt: skip
    assert list(Sequential(Part(), Sequential(Part())).children())[1][0].weight.data == 1


def test_cycles_end_for_every_walk():
    whole = Whole()
    whole.itself = whole
    whole.blocks.append(whole.blocks)
    assert whole.count_parameters() == 8
    assert whole.eval().first.training is False
    assert "Whole(" in repr(whole) and "(first): Part()" in repr(whole)
    whole.load_state_dict(whole.state_dict())
    whole.zero_grad()


def test_apply_reaches_every_module_once_parts_before_the_whole():
    whole, visited = Whole(), []
    assert whole.apply(visited.append) is whole
    assert visited[-1] is whole and len(visited) == len(set(map(id, visited))) == 6


# -- Module: state -----------------------------------------------------------------------------------------------


def test_loading_writes_into_the_arrays_and_never_binds_new_ones():
    model = Sequential(layers.Linear(3, 4), layers.BatchNorm1d(4))
    arrays, view = model.state_dict(), model[0].weight.data[1]
    state = {name: np.full(value.shape, 2.0) for name, value in arrays.items()}
    model.load_state_dict(state)
    assert all(value is arrays[name] for name, value in model.state_dict().items())
    assert (view == 2).all()
    assert model[0].weight.dtype == np.float32 and model[1].num_batches_tracked.dtype == np.int64
    state["0.weight"][:] = 9
    assert (model[0].weight.data == 2).all()  # a copy, not the caller's array


def test_loading_takes_tensors_and_lists_and_unless_strict_what_fits():
    model = Sequential(layers.Linear(2, 1))
    model.load_state_dict({"0.weight": Tensor(np.array([[1.0, 2.0]])), "0.bias": [3]})
    assert model(np.array([[10, 100]], np.float32)).data == 213
    model.load_state_dict({"0.bias": [4], "intruder": [1, 2]}, strict=False)
    assert model[0].bias.data == 4 and model[0].weight.data[0, 1] == 2
    with pytest.raises(ValueError, match=r"0.bias: expected shape \(1,\), got \(2,\)"):
        model.load_state_dict({"0.bias": [4, 4]}, strict=False)


def test_to_changes_floating_point_state_only_and_drops_gradients():
    model = Sequential(layers.Linear(3, 4), layers.BatchNorm1d(4))
    y = model(np.ones((2, 3), np.float32))
    y.backward(np.ones_like(y.data))
    assert model.to(np.float64) is model
    assert {p.dtype for p in model.parameters()} == {np.dtype(np.float64)}
    assert model[1].running_mean.dtype == np.float64 and model[1].num_batches_tracked.dtype == np.int64
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(ValueError, match="int32"):
        model.to(np.int32)


def test_freezing_and_forgetting_gradients():
    model = Sequential(Part(2), Part(3))
    assert model.requires_grad_(False) is model
    assert not model(Tensor(np.ones(1, np.float32))).requires_grad
    model[1].requires_grad_(True)
    model(np.ones(1, np.float32) * Tensor(np.ones(1, np.float32))).backward()
    assert model[0].weight.grad is None and model[1].weight.grad == 2
    model.zero_grad()
    assert model[1].weight.grad is None


# -- Module: calling, watching, showing --------------------------------------------------------------------------


def test_sequential_has_pytorchs_keys_and_behaves_like_a_list():
    model = Sequential(layers.Linear(3, 4), layers.Identity(), layers.Linear(4, 2))
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert len(model) == 3 and model[-1] is list(model)[2]
    assert isinstance(model[:2], Sequential) and model[:2][0] is model[0]
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_array_equal(model(x).data, model[2](model[0](x)).data)
    with pytest.raises(ValueError, match="position 1, got function"):
        Sequential(layers.Identity(), layers.flatten)


def test_observe_sees_every_module_after_its_forward_and_only_inside_the_block():
    model, seen = Sequential(Part(2), Sequential(Part(3))), []
    x = Tensor(np.ones(1, np.float32))
    with observe(lambda module, inputs, output: seen.append((module, inputs[0].item(), output.item()))):
        model(x)
    model(x)
    assert seen == [(model[0], 1, 2), (model[1][0], 2, 6), (model[1], 2, 6), (model, 1, 6)]


def test_observers_nest_and_survive_an_error():
    outer, inner = [], []
    note = {name: lambda module, *_, to=to: to.append(module) for name, to in (("outer", outer), ("inner", inner))}
    part = Part()
    with observe(note["outer"]):
        with pytest.raises(ValueError, match="Linear"), observe(note["inner"]):
            layers.Linear(2, 2)(part(np.ones(3, np.float32) * Tensor(np.ones(3, np.float32))))
        part(Tensor(np.ones(1, np.float32)))
    assert inner == [part] and outer == [part]


def test_repr_draws_the_tree():
    model = Sequential(layers.Linear(3, 4), Sequential(layers.Dropout(0.1)))
    assert repr(model) == (
        "Sequential(\n"
        "  (0): Linear(in_features=3, out_features=4, bias=True)\n"
        "  (1): Sequential(\n"
        "    (0): Dropout(p=0.1)\n"
        "  )\n"
        ")"
    )


def test_a_module_without_forward_says_so():
    class Unfinished(Module):
        pass

    with pytest.raises(NotImplementedError, match="Unfinished"):
        Unfinished()(1)


# -- what functions are given ------------------------------------------------------------------------------------

FLOATING = {
    "linear": lambda x: layers.linear(x, Parameter(np.ones((2, 4), np.float32))),
    "layer_norm": lambda x: layers.layer_norm(x, 4),
    "rms_norm": lambda x: layers.rms_norm(x, 4),
    "group_norm": lambda x: layers.group_norm(x, 2),
    "batch_norm": lambda x: layers.batch_norm(x, training=True),
    "dropout": lambda x: layers.dropout(x, 0.5),
    "scaled_dot_product_attention": lambda x: layers.scaled_dot_product_attention(x, x, x),
    "packed_attention": lambda x: layers.packed_attention(x[None], x[None], x[None], num_heads=2),
    "rotary": layers.rotary,
}


@pytest.mark.parametrize("name", FLOATING)
def test_integers_are_refused_where_they_would_silently_become_float64(name):
    assert FLOATING[name](np.ones((3, 4), np.float32)).dtype == np.float32
    with pytest.raises(ValueError, match=f"{name} expected a floating-point input, got dtype int64"):
        FLOATING[name](np.ones((3, 4), np.int64))


@pytest.mark.parametrize("sizes", [(1, -1, 3), (-1, 1, 3), (4, -1), (-1,), (2, 3, -1, 2), (12, 1, -1)])
def test_unflatten_finds_the_missing_size_also_beside_axes_of_size_1_and_without_examples(sizes):
    full = tuple(-12 // math.prod(sizes) if size == -1 else size for size in sizes)
    x = np.arange(24.0).reshape(2, 12)
    y = layers.Unflatten(1, sizes)(x)
    assert y.shape == (2, *full)
    np.testing.assert_array_equal(layers.Flatten()(y).data, x)
    assert layers.Unflatten(1, sizes)(x[:0]).shape == (0, *full)


def test_linear_and_embedding_say_which_shape_they_expected():
    with pytest.raises(ValueError, match=r"linear expected x of shape \(\.\.\., 4\), got \(2, 8\)"):
        layers.linear(np.ones((2, 8), np.float32), Parameter(np.ones((3, 4), np.float32)))
    with pytest.raises(ValueError, match=r"linear expected x of shape \(\.\.\., 4\), got \(\)"):
        layers.linear(1.0, Parameter(np.ones((3, 4), np.float32)))
    with pytest.raises(ValueError, match=r"weight of shape \(V, C\), got \(3,\)"):
        layers.embedding(np.array([0]), np.ones(3, np.float32))


@pytest.mark.parametrize("make", [
    lambda: layers.Linear(2, 3), lambda: layers.BatchNorm1d(2), lambda: layers.GroupNorm(1, 2),
    lambda: layers.LayerNorm(2), lambda: layers.RMSNorm(2),
])  # fmt: skip
def test_lists_are_taken_as_float32_arrays_are(make):
    rows, layer = [[1.0, 2.0], [3.0, 5.0]], make()
    y = layer(rows)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y.data, layer(np.array(rows, np.float32)).data)


# -- two parts of one name ---------------------------------------------------------------------------------------


class Holder(Module):
    def __init__(self, a):
        self.a = a


def one(kind=Parameter):
    return kind(np.zeros(1, np.float32))


COLLIDING = {
    "a dot": ({"b.c": one(), "b": {"c": one()}}, "'a' / 'b.c' and 'a' / 'b' / 'c'", "a.b.c"),
    "a number and its text": ({0: one(), "0": one()}, "'a' / 0 and 'a' / '0'", "a.0"),
    "a list and its text": ({"b": [one()], "b.0": one()}, "'a' / 'b' / 0 and 'a' / 'b.0'", "a.b.0"),
    "inside a module": ({"b.a": one(), "b": Holder(one())}, "'a' / 'b.a' and 'a' / 'b' / 'a'", "a.b.a"),
    "a parameter and a buffer": ({0: one(), "0": one(Buffer)}, "'a' / 0 and 'a' / '0'", "a.0"),
    "modules without parameters": ({0: layers.Identity(), "0": layers.Identity()}, "'a' / 0 and 'a' / '0'", "a.0"),
}  # fmt: skip


@pytest.mark.parametrize("case", COLLIDING)
def test_two_parts_of_one_dotted_name_are_refused(case):
    a, places, name = COLLIDING[case]
    model = Holder(a)
    walks = [
        model.state_dict, lambda: list(model.named_parameters()), lambda: list(model.named_buffers()), model.parameters,
        lambda: list(model.modules()), lambda: model.load_state_dict({}), lambda: replicate(model),
        lambda: model.to(np.float16), lambda: Sequential(layers.Linear(1, 1), model).state_dict(),
    ]  # fmt: skip
    for walk in walks:
        with pytest.raises(ValueError) as raised:  # noqa: PT011
            list(walk())
        assert places.rsplit(" and ", 1)[1] in str(raised.value) and name in str(raised.value)
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        model.state_dict()
    assert places in str(raised.value)


def test_a_dotted_key_and_one_part_under_one_name_twice_are_no_fault():
    p, q = one(), one()
    assert list(Holder({"b.c": p, "b": {"d": q}}).state_dict()) == ["a.b.c", "a.b.d"]
    assert list(Holder({"b.c": p, "b": {"c": p}}).state_dict()) == ["a.b.c"]


def test_evaluating_restores_each_modules_own_mode():
    model = Sequential(layers.Linear(2, 2), layers.Dropout(0.5), layers.Linear(2, 2))
    frozen = list(model.modules())[2]
    frozen.training = False
    x = Tensor(np.ones((1, 2), np.float32), requires_grad=True)
    with pytest.raises(KeyError), evaluating(model):
        assert not any(m.training for m in model.modules())
        assert not model(x).requires_grad
        raise KeyError
    assert [m.training for m in model.modules()] == [m is not frozen for m in model.modules()]
    assert model(x).requires_grad
