"""Recurrence: the fast form equals the plain one in values and gradients, and each planted fault is seen."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from scratch import Tensor, gradcheck, no_grad
from scratch.activations import tanh
from scratch.combine import concatenate
from scratch.layers import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from scratch.layers.linear import linear
from scratch.layers.recurrent import gru, lstm, rnn, sequence
from scratch.layers.recurrent import plain as module
from scratch.layers.recurrent.plain import gru_gates, unroll

T, B, IN, H = 5, 3, 2, 4
MAKERS = {
    "tanh": lambda **k: RNN(IN, H, **k),
    "relu": lambda **k: RNN(IN, H, nonlinearity="relu", **k),
    "lstm": lambda **k: LSTM(IN, H, **k),
    "gru": lambda **k: GRU(IN, H, **k),
}
every_kind = pytest.mark.parametrize("kind", MAKERS)


def made(rng, kind, **options):
    """The layer in float64 with random weights and biases, and random first states."""
    layer = MAKERS[kind](**options).to(np.float64)
    for parameter in layer.parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape)
    shape = (layer.num_layers * layer.directions, B, H)
    return layer, [rng.standard_normal(shape) for _ in range(2 if kind == "lstm" else 1)]


def call(layer, x, *states, lengths=None):
    """Outputs and last states in one vector."""
    y, last = layer(x, states if len(states) == 2 else states[0], lengths)
    last = last if isinstance(last, tuple) else (last,)
    return concatenate([part.reshape(-1) for part in (y, *last)])


def plain(layer, x, *states):
    """The same by the equations of a step: each layer, in each direction, over the outputs of the one before."""
    D, ends = layer.directions, []
    y = x.swapaxes(0, 1) if layer.batch_first else x
    for k in range(layer.num_layers):
        weights, ways = layer.weights(k), []
        for d in range(D):
            own = tuple(s[k * D + d] for s in states)
            half = weights[d * len(weights) // D : (d + 1) * len(weights) // D]
            way, last = unroll(module.STEPS[layer.kind], y[::-1] if d else y, own if len(own) == 2 else own[0], *half)
            ways.append(way[::-1] if d else way)
            ends.append(last if isinstance(last, tuple) else (last,))
        y = concatenate(ways, axis=2)
    y = y.swapaxes(0, 1) if layer.batch_first else y
    finals = [last for each in zip(*ends, strict=True) for last in each]  # all h, then all c
    return concatenate([part.reshape(-1) for part in (y, *finals)])


def with_gradients(function, layer, x, states):
    tensors = [Tensor(a, requires_grad=True) for a in (x, *states)]
    y = function(layer, *tensors)
    layer.zero_grad()
    y.backward(np.random.default_rng(1).standard_normal(y.shape))
    return [y.data, *(t.grad for t in (*tensors, *layer.parameters()))]


def assert_equals_plain(rng, kind, steps=T, **options):
    layer, states = made(rng, kind, **options)
    x = rng.standard_normal((B, steps, IN) if layer.batch_first else (steps, B, IN))
    for a, b in zip(with_gradients(call, layer, x, states), with_gradients(plain, layer, x, states), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@every_kind
@pytest.mark.parametrize("steps", [1, 2, T])
def test_the_fast_form_equals_the_plain_one(kind, steps, rng):
    assert_equals_plain(rng, kind, steps)


@every_kind
@pytest.mark.parametrize("options", [
    {"num_layers": 3}, {"num_layers": 2, "bidirectional": True, "batch_first": True}, {"bias": False},
])  # fmt: skip
def test_layers_and_directions_are_composed_of_plain_ones(kind, options, rng):
    assert_equals_plain(rng, kind, 3, **options)
    layer, states = made(rng, kind, **options)
    x = rng.standard_normal((B, 3, IN) if layer.batch_first else (3, B, IN))
    np.testing.assert_array_equal(call(layer, x, None).data, call(layer, x, *(0 * state for state in states)).data)
    with no_grad():
        x = rng.standard_normal((B, 1, IN) if layer.batch_first else (1, B, IN))
        np.testing.assert_allclose(call(layer, x, *states).data, plain(layer, Tensor(x), *map(Tensor, states)).data)


CELLS = {
    "tanh": RNNCell, "relu": lambda *sizes: RNNCell(*sizes, nonlinearity="relu"), "lstm": LSTMCell, "gru": GRUCell,
}  # fmt: skip


@every_kind
def test_a_cell_is_one_step_of_its_layer_with_a_batch_or_alone(kind, rng):
    layer, states = made(rng, kind)
    cell = CELLS[kind](IN, H).to(np.float64)
    cell.load_state_dict({name.removesuffix("_l0"): array for name, array in layer.state_dict().items()})
    x = rng.standard_normal((B, IN))

    def stepped(x, states):
        after = cell(x, states if kind == "lstm" or states is None else states[0])
        return after if kind == "lstm" else (after,)

    for given in (states, None):
        own = None if given is None else [state[0] for state in given]
        _, *expected = layer(x[None], given if kind == "lstm" or given is None else given[0])
        expected = [part.data[0] for part in (expected[0] if kind == "lstm" else expected)]
        for came, right in zip(stepped(x, own), expected, strict=True):
            np.testing.assert_allclose(came.data, right, rtol=1e-12, atol=1e-13)
        alone = stepped(x[1], None if own is None else [state[1] for state in own])
        for came, right in zip(alone, expected, strict=True):
            assert came.shape == (H,)
            np.testing.assert_allclose(came.data, right[1], rtol=1e-12, atol=1e-13)


@every_kind
@pytest.mark.parametrize("options", [
    {}, {"bias": False, "num_layers": 2}, {"bidirectional": True, "batch_first": True},
])  # fmt: skip
@pytest.mark.parametrize("lengths", [None, [1, 3, 2]])
def test_gradients_equal_finite_differences(kind, options, lengths, rng):
    layer, states = made(rng, kind, **options)
    x = rng.standard_normal((B, 3, IN) if layer.batch_first else (3, B, IN))
    gradcheck(lambda *given: call(layer, *given, lengths=lengths), [x, *states], dict(layer.named_parameters()))


@every_kind
def test_lengths_give_what_each_sequence_gives_alone(kind, rng):
    layer, states = made(rng, kind, num_layers=2, bidirectional=True)
    x, lengths = rng.standard_normal((T, B, IN)), [2, T, 1]
    x[2:, 0] = np.nan  # padding is never looked at
    y, last = layer(x, tuple(states) if len(states) == 2 else states[0], lengths)
    last = last if isinstance(last, tuple) else (last,)
    for b, n in enumerate(lengths):
        own = [s[:, b] for s in states]
        alone, ends = layer(x[:n, b], tuple(own) if len(own) == 2 else own[0])
        np.testing.assert_allclose(y.data[:n, b], alone.data, rtol=1e-12, atol=1e-13)
        assert (y.data[n:, b] == 0).all()
        for all_ends, end in zip(last, ends if isinstance(ends, tuple) else (ends,), strict=True):
            np.testing.assert_allclose(all_ends.data[:, b], end.data, rtol=1e-12, atol=1e-13)


@every_kind
def test_a_text_in_pieces_with_carried_state_gives_the_same_and_the_gradient_ends_at_the_cut(kind, rng):
    layer, _ = made(rng, kind)
    layer.bias_hh_l0.data += 3  # no ReLU without a gradient
    x = Tensor(rng.standard_normal((T, B, IN)), requires_grad=True)
    whole, _ = layer(x)
    first, state = layer(x[:3])
    state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
    second, _ = layer(x[3:], state)
    np.testing.assert_allclose(concatenate([first, second]).data, whole.data, rtol=1e-12, atol=1e-13)
    second.backward(rng.standard_normal(second.shape))
    assert (x.grad[:3] == 0).all() and (x.grad[3:] != 0).any()


def assert_a_step_without_a_tape_equals_the_sequence_operation(rng, kind):
    layer, states = made(rng, kind, num_layers=2, bidirectional=True)
    x = rng.standard_normal((1, B, IN))
    with no_grad():
        came = call(layer, x, *states)
    np.testing.assert_allclose(came.data, call(layer, x, *states).data, rtol=1e-10, atol=1e-12)


@every_kind
def test_a_step_without_a_tape_equals_the_sequence_operation(kind, rng):
    assert_a_step_without_a_tape_equals_the_sequence_operation(rng, kind)


@every_kind
def test_a_tape_that_is_kept_gives_the_same_gradient_twice(kind, rng):
    layer, states = made(rng, kind, bidirectional=True)
    x = Tensor(rng.standard_normal((T, B, IN)), requires_grad=True)
    y = call(layer, x, *states)
    y.backward(np.ones(y.shape), retain_graph=True)
    once = [x.grad.copy(), *(parameter.grad.copy() for parameter in layer.parameters())]
    y.backward(np.ones(y.shape))
    for first, both in zip(once, [x.grad, *(parameter.grad for parameter in layer.parameters())], strict=True):
        np.testing.assert_allclose(both, 2 * first, rtol=1e-12)


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_kinds_are_made_from_their_parts(kind, monkeypatch, rng):
    monkeypatch.setitem(sequence.KINDS, kind, sequence._rnn(relu=kind == "relu"))
    assert_equals_plain(rng, kind)
    test_a_step_without_a_tape_equals_the_sequence_operation(kind, rng)


@every_kind
def test_what_lies_behind_a_sequences_end_reaches_no_gradient(kind, rng):
    """Neither numbers that are none, nor states that overflow there, as a ReLU's may."""
    layer, states = made(rng, kind)
    if kind == "relu":
        layer.weight_hh_l0.data[...] = 1e200
    x, dy = rng.standard_normal((1, B, IN)), rng.standard_normal((1, B, H))
    padded, found = np.concatenate([x, np.full((3, B, IN), np.nan)]), []
    for inputs, lengths in ((x, None), (padded, [1] * B)):
        given = Tensor(inputs, requires_grad=True)
        layer.zero_grad()
        y, _ = layer(given, tuple(states) if kind == "lstm" else states[0], lengths)
        y[:1].backward(dy)
        assert (given.grad[1:] == 0).all()
        found.append([given.grad[:1], *(p.grad for p in layer.parameters())])
    for alone, among_others in zip(*found, strict=True):
        np.testing.assert_allclose(among_others, alone, rtol=1e-12, atol=1e-13)


@every_kind
def test_factors_are_kept_for_gradients_alone_and_gradients_are_not_written_into(kind, monkeypatch, rng):
    right, kept = sequence.KINDS[kind], []

    def forward(P, W, states, keep):
        kept.append(keep)
        return right.forward(P, W, states, keep)

    def backward(saved, W, dy, last, dc):
        before = [None if array is None else array.copy() for array in (dy, dc)]
        found = right.backward(saved, W, dy, last, dc)
        for array, copy in zip((dy, dc), before, strict=True):
            assert array is None or (array == copy).all()
        return found

    monkeypatch.setitem(sequence.KINDS, kind, replace(right, forward=forward, backward=backward))
    layer, states = made(rng, kind)
    x = rng.standard_normal((T, B, IN))
    call(layer, x, *states).backward(np.ones((T + len(states)) * B * H))
    with no_grad():
        call(layer, x, *states)
    for parameter in layer.parameters():
        parameter.requires_grad = False
    call(layer, x, *states)
    call(layer, Tensor(x, requires_grad=True), *states)
    assert kept == [True, False, False, True]


@every_kind
def test_a_parameter_that_alone_is_trained_gets_its_gradient(kind, rng):
    layer, states = made(rng, kind)
    x = rng.standard_normal((T, B, IN))
    call(layer, x, *states).sum().backward()
    expected = {name: parameter.grad for name, parameter in layer.named_parameters()}
    for name, parameter in layer.named_parameters():
        layer.zero_grad()
        for other in layer.parameters():
            other.requires_grad = other is parameter
        call(layer, x, *states).sum().backward()
        found = {key: p.grad for key, p in layer.named_parameters() if p.grad is not None}
        assert list(found) == [name]
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)


def test_dropout_leaves_the_first_layer_what_it_reads(rng):
    layer = GRU(IN, H, num_layers=2, dropout=1.0)
    x = rng.standard_normal((T, B, IN)).astype(np.float32)
    y, (first, _) = layer(x)
    other, (again, _) = layer(2 * x)
    np.testing.assert_array_equal(y.data, other.data)  # the second layer reads zeros
    assert (first.data != again.data).all()


def test_dropout_acts_between_layers_and_only_while_training(rng):
    layer = LSTM(IN, H, num_layers=2, dropout=0.5)
    x = rng.standard_normal((T, B, IN)).astype(np.float32)
    assert (layer(x)[0].data != layer(x)[0].data).any()
    layer.eval()
    assert (layer(x)[0].data == layer(x)[0].data).all()
    with pytest.warns(UserWarning, match="between layers"):
        GRU(IN, H, dropout=0.5)


@pytest.mark.parametrize("Layer", [RNN, LSTM, GRU, RNNCell, LSTMCell, GRUCell])
def test_initial_weights_lie_within_one_over_the_root_of_hidden(Layer):
    for parameter in Layer(50, 64).parameters():
        assert 0.11 < parameter.data.max() <= 1 / 8 and 0.11 < -parameter.data.min() <= 1 / 8


def test_large_numbers_saturate_without_a_warning():
    for make in (LSTM, GRU):
        y, _ = make(IN, H)(np.full((2, B, IN), 1e4, np.float32))
        assert np.isfinite(y.data).all()


# -- gates ---------------------------------------------------------------------------------------------------------

B_IH = {"lstm": np.array([0.1, -0.5, 0.8, 1.7]), "gru": np.array([0.1, -0.5, 0.8])}
B_HH = {"lstm": np.array([0.2, 0.6, -0.3, 0.4]), "gru": np.array([0.2, 0.6, -1.3])}


def one_unit(kind, x, h, c):
    """h' (and c') with the weights 0.3 and 0.9 in every gate, and biases that tell the gates apart."""
    sigma = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    of_x, of_h = 0.3 * x + B_IH[kind], 0.9 * h + B_HH[kind]
    if kind == "lstm":
        i, f, g, o = of_x + of_h
        c = sigma(f) * c + sigma(i) * np.tanh(g)
        return [sigma(o) * np.tanh(c), c]
    (r, z), m = sigma(of_x[:2] + of_h[:2]), of_h[2]
    return [(1 - z) * np.tanh(of_x[2] + r * m) + z * h]


def with_one_unit(module, kind):
    module.to(np.float64)
    values = {"weight_ih": 0.3, "weight_hh": 0.9, "bias_ih": B_IH[kind], "bias_hh": B_HH[kind]}
    for name, parameter in module.named_parameters():
        value = np.broadcast_to(values[name.removesuffix("_l0")], len(parameter))
        parameter.data[...] = value.reshape(parameter.shape)
    return module


def assert_gates_have_their_places(kind, taped):
    """i, f, g, o; r, z, n, where r is multiplied with W_hn h + b_hn, after the product."""
    layer = with_one_unit(LSTM(1, 1) if kind == "lstm" else GRU(1, 1), kind)
    x, h, c = 0.7, -0.4, 1.3
    states = [np.full((1, 1, 1), state) for state in ((h, c) if kind == "lstm" else (h,))]
    with nullcontext() if taped else no_grad():
        _, *came = call(layer, np.full((1, 1, 1), x), *states).data
    np.testing.assert_allclose(came, one_unit(kind, x, h, c), rtol=1e-12)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("taped", [True, False])
def test_gates_have_their_places(kind, taped):
    assert_gates_have_their_places(kind, taped)


def test_gates_have_their_places_in_cells():
    x, h, c = (np.full((1, 1), value) for value in (0.7, -0.4, 1.3))
    came = with_one_unit(LSTMCell(1, 1), "lstm")(x, (h, c))
    np.testing.assert_allclose([part.item() for part in came], one_unit("lstm", 0.7, -0.4, 1.3), rtol=1e-12)
    came = with_one_unit(GRUCell(1, 1), "gru")(x, h)
    np.testing.assert_allclose(came.item(), one_unit("gru", 0.7, -0.4, None), rtol=1e-12)


@pytest.mark.parametrize(("kind", "order"), [
    ("lstm", [1, 0, 2, 3]), ("lstm", [0, 2, 1, 3]), ("lstm", [0, 1, 3, 2]), ("gru", [1, 0, 2]), ("gru", [0, 2, 1]),
])  # fmt: skip
def test_gates_in_another_order_are_seen(kind, order, monkeypatch):
    """In the sequence operation and in the plain step, each against the formulas: both could be wrong alike."""
    right = sequence.KINDS[kind]
    step = lambda x, state, *weights: right.step(x, state, *(w[order] for w in weights))  # noqa: E731
    monkeypatch.setitem(sequence.KINDS, kind, replace(right, order=tuple(order[k] for k in right.order), step=step))
    for taped in (True, False):
        with pytest.raises(AssertionError):
            assert_gates_have_their_places(kind, taped)


def reset_before_the_product(x, h, w_ih, w_hh, b_ih, b_hh):
    r, z, _ = gru_gates(x, h, w_ih, w_hh, b_ih, b_hh)
    H = h.shape[1]
    n = tanh(linear(x, w_ih[2 * H :], b_ih[2 * H :]) + linear(r * h, w_hh[2 * H :], b_hh[2 * H :]))
    return n + z * (h - n)


def test_a_reset_gate_before_the_product_is_seen(monkeypatch, rng):
    monkeypatch.setitem(module.STEPS, "gru", reset_before_the_product)
    with pytest.raises(AssertionError):
        assert_equals_plain(rng, "gru")


# -- planted faults ----------------------------------------------------------------------------------------------

FAULTS = [
    (lstm, "lstm", "ORDER = (0, 1, 3, 2)", "ORDER = (0, 1, 2, 3)"),  # gate order
    (lstm, "lstm", "        dc *= forget[t]\n", ""),  # the forget gate's path
    (lstm, "lstm", "        dc += part\n", ""),  # what comes to c through h
    (lstm, "lstm", "        dh += dy[t]\n", "        dh = dy[t].copy()\n"),  # a term through time
    (lstm, "lstm", "np.subtract(i, of_a[2], out=of_a[2])", "of_a[2][...] = i"),  # tanh' of g
    (lstm, "lstm", "np.subtract(o, of_c, out=of_c)", "of_c[...] = o"),  # tanh' of c
    (lstm, "lstm", "np.multiply(f, cs[t], out=v)", "np.multiply(f, cs[t - 1], out=v)"),  # the wrong c
    (gru, "gru", "np.multiply(of_a[3], r, out=of_a[0])", "of_a[0][...] = of_a[3]"),  # the reset gate's place
    (gru, "gru", "np.multiply(r, m, out=n)", "n[...] = m"),
    (gru, "gru", "np.multiply(r, m, out=n)", "n[...] = r * (m - W[2 * H :, -1:]) + W[2 * H :, -1:]"),
    (gru, "gru", "        dh *= update[t]\n", "        dh *= 0\n"),
    (gru, "gru", "        dh += through\n", ""),
    (gru, "gru", "W[2 * H :], W[: 2 * H]", "W[:H], W[H:]"),  # gate order on the way back
    (gru, "gru", "n = gates[:, :H] * from_h[:, 2 * H :]", "n = from_h[:, 2 * H :].copy()"),  # the step of generation
    (lstm, "lstm", "c = a[:, H : 2 * H] * c", "c = a[:, H : 2 * H] + c"),
    (rnn, "tanh", "a += affine(states[0], *weights[1::2])", "a += 0"),
    (rnn, "tanh", "else 1 - h * h", "else 1 + 0 * h"),  # tanh'
    (rnn, "tanh", "h = saved[0][1:, :H]", "h = saved[0][:-1, :H]"),  # peeking at the wrong h
    (rnn, "tanh", "np.matmul(transposed, da[t], out=dh)", "dh[...] = 0"),
]


@pytest.mark.parametrize(("where", "kind", "before", "after"), FAULTS)
def test_a_planted_fault_is_seen(where, kind, before, after, monkeypatch, rng):
    source = Path(where.__file__).read_text(encoding="utf-8")
    assert source.count(before) == 1, before
    faulty = ModuleType("faulty")
    exec(compile(source.replace(before, after), "faulty", "exec"), faulty.__dict__)
    changes = {"forward": faulty.forward, "backward": faulty.backward, "step": faulty.step}
    if kind == "tanh":
        changes = {
            "forward": lambda P, W, states, keep: faulty.forward(P, W, states, False),
            "backward": lambda *a: faulty.backward(*a, relu=False),
            "step": lambda *a: faulty.step(*a, relu=False),
        }
    elif kind == "lstm":
        changes["order"] = faulty.ORDER
    monkeypatch.setitem(sequence.KINDS, kind, replace(sequence.KINDS[kind], **changes))
    with pytest.raises(AssertionError):
        assert_equals_plain(rng, kind)
        assert_a_step_without_a_tape_equals_the_sequence_operation(rng, kind)


# -- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lengths", "message"), [
    ([0, 2, 3], "lengths from 1 to 5 steps, got 0 to 3"),
    ([1, 2, 6], "lengths from 1 to 5 steps, got 1 to 6"),
    ([1, 2], "lengths as 3 whole numbers"),
    ([1.0, 2.0, 3.0], "lengths as 3 whole numbers"),
])  # fmt: skip
def test_wrong_lengths_are_refused(lengths, message):
    with pytest.raises(ValueError, match=message):
        LSTM(IN, H)(np.zeros((T, B, IN), np.float32), lengths=lengths)


def test_wrong_states_and_arguments_are_refused():
    x, h = np.zeros((T, B, IN), np.float32), np.zeros((1, B, H), np.float32)
    both = LSTM(IN, H, num_layers=3, bidirectional=True)
    with pytest.raises(ValueError, match=r"h_0 of shape \(6, 3, 4\), 6 = 3 layers × 2 directions, got \(1, 3, 4\)"):
        both(x, (h, h))
    with pytest.raises(ValueError, match=r"state as \(h, c\), got ndarray"):
        both(x, h)
    with pytest.raises(ValueError, match=r"GRU.*expected shape \(T, B, 2\)"):
        GRU(IN, H)(np.zeros((T, B, 7), np.float32))
    for shape in ((T, B, 1, IN), (IN,), (0, B, IN), (T, 0, IN)):
        with pytest.raises(ValueError, match=r"GRU.*expected shape \(T, B, 2\) or \(T, 2\) without an axis of 0, got"):
            GRU(IN, H)(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="proj_size=0, got 2"):
        LSTM(IN, H, proj_size=2)
    with pytest.raises(ValueError, match="'tanh' or 'relu', got 'gelu'"):
        RNN(IN, H, nonlinearity="gelu")
    with pytest.raises(ValueError, match="at least 1, got 2, 0 and 1 layers"):
        GRU(IN, 0)
    with pytest.raises(ValueError, match="probability from 0 to 1, got 2"):
        GRU(IN, H, num_layers=2, dropout=2)
    with pytest.raises(ValueError, match=r"c of shape \(3, 4\), got \(1, 3, 4\)"):
        LSTMCell(IN, H)(x[0], (h[0], h))
    for wrong in (x, x[0, :, :1], x[0, 0, :1], x[0, 0, 0]):
        with pytest.raises(ValueError, match=r"GRUCell.* expected shape \(B, 2\) or \(2,\), got"):
            GRUCell(IN, H)(wrong)
    for wrong, came in ((h[0, :2], "ndarray"), ([h[0]] * 3, "3 of them")):
        with pytest.raises(ValueError, match=rf"state as \(h, c\), got {came}"):
            LSTMCell(IN, H)(x[0], wrong)
