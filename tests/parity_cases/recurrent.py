"""RNN, LSTM and GRU over layers, directions, biases, initial states and lengths; outputs and last states together."""

import numpy as np

from scratch.combine import concatenate
from scratch.layers import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from tests.parity import Case

IN, H, T, B = 3, 4, 5, 2


def flat(y, states, join):
    """All that comes out, in one vector, so that one random gradient reaches outputs and last states together."""
    states = states if isinstance(states, tuple) else (states,)
    return join([part.reshape(-1) for part in (y, *states)])


def layer_case(rng, ours, *arguments, lengths=None, states=True, **options):
    D, L = 1 + options.get("bidirectional", False), options.get("num_layers", 1)
    count = 0 if not states else 2 if ours is LSTM else 1
    first = options.get("batch_first", False)
    shape = (B, T, IN) if first else (T, B, IN)

    def given(states):
        return None if not states else tuple(states) if len(states) == 2 else states[0]

    class Ours(ours):
        def forward(self, x, *states):
            return flat(*super().forward(x, given(states), lengths), concatenate)

    def theirs():
        import torch
        from torch import nn
        from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

        class Theirs(getattr(nn, ours.__name__)):
            def forward(self, x, *states):
                if lengths is not None:
                    x = pack_padded_sequence(x, torch.tensor(lengths), first, enforce_sorted=False)
                y, last = super().forward(x, given(states))
                if lengths is not None:
                    y, _ = pad_packed_sequence(y, first, total_length=T)
                return flat(y, last, torch.cat)

        return Theirs(IN, H, *arguments, **options)

    shown = [*map(str, arguments), *(f"{key}={value}" for key, value in options.items())]
    title = f"{ours.__name__}({', '.join(shown)}), {'states' if states else 'no states'}, lengths {lengths}"
    inputs = (rng.standard_normal(shape), *(rng.standard_normal((L * D, B, H)) for _ in range(count)))
    return Case(title, inputs, lambda: Ours(IN, H, *arguments, **options), theirs, module=True)


def cell_case(rng, ours, **options):
    class Ours(ours):
        def forward(self, x, *states):
            y = super().forward(x, states if len(states) == 2 else states[0])
            return concatenate(y) if isinstance(y, tuple) else y

    def theirs():
        import torch
        from torch import nn

        class Theirs(getattr(nn, ours.__name__)):
            def forward(self, x, *states):
                y = super().forward(x, states if len(states) == 2 else states[0])
                return torch.cat(y) if isinstance(y, tuple) else y

        return Theirs(IN, H, **options)

    states = (rng.standard_normal((B, H)) for _ in range(2 if ours is LSTMCell else 1))
    inputs = (rng.standard_normal((B, IN)), *states)
    return Case(f"{ours.__name__} {options}", inputs, lambda: Ours(IN, H, **options), theirs, module=True)


def cases():
    rng = np.random.default_rng(12)
    return [
        *(layer_case(rng, kind) for kind in (RNN, LSTM, GRU)),
        *(layer_case(rng, kind, bias=False, states=False) for kind in (RNN, LSTM, GRU)),
        *(layer_case(rng, kind, num_layers=2, bidirectional=True) for kind in (RNN, LSTM, GRU)),
        *(layer_case(rng, kind, bidirectional=True, batch_first=True, lengths=[3, 5]) for kind in (RNN, LSTM, GRU)),
        *(layer_case(rng, kind, num_layers=2, lengths=[4, 1]) for kind in (LSTM, GRU)),
        layer_case(rng, RNN, nonlinearity="relu", num_layers=2),
        cell_case(rng, RNNCell),
        cell_case(rng, RNNCell, nonlinearity="relu"),
        cell_case(rng, LSTMCell),
        cell_case(rng, LSTMCell, bias=False),
        cell_case(rng, GRUCell),
        cell_case(rng, GRUCell, bias=False),
    ]
