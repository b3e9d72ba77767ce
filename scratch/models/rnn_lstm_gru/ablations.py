"""What each part is there for: the adding problem with one part of the LSTM or of its training taken away.

`python -m scratch.models.rnn_lstm_gru.ablations` trains them all and prints the table of the README.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scratch.activations import tanh
from scratch.combine import stack
from scratch.initializers import uniform
from scratch.layers.linear import linear
from scratch.models.rnn_lstm_gru.model import SequenceClassifier
from scratch.models.rnn_lstm_gru.train import PRESETS, Settings, Task, build, train
from scratch.module import Module
from scratch.tensor import Tensor
from scratch.training.ablation import command_line, figures_of, head, row
from scratch.training.progress import say

Make = Callable[[Settings, Task], Any]


def forget_bias(value: float) -> Make:
    """The forget gate's bias starts at this value, the other gates' at 0."""

    def make(settings: Settings, task: Task) -> Any:
        model: Any = build(settings, task)
        H = settings.hidden
        model.recurrence.bias_ih_l0.data[...] = 0
        model.recurrence.bias_ih_l0.data[H : 2 * H] = value
        return model

    return make


def as_pytorch_starts(settings: Settings, task: Task) -> Any:
    """All weights and biases from U(−1/√H, 1/√H): U not orthogonal, the forget gate near ½."""
    model: Any = build(settings, task)
    bound = settings.hidden**-0.5
    for parameter in model.recurrence.parameters():
        parameter.data[...] = uniform(parameter.shape, -bound, bound)
    return model


class Ungated(Module):
    """An LSTM whose gates are all open: c' = c + tanh(W x + U h + b),  h' = tanh c'. Its cell can't forget or wait."""

    def __init__(self, layer: Any):
        H = layer.hidden_size
        self.weight_ih, self.weight_hh = layer.weight_ih_l0, layer.weight_hh_l0
        self.bias = layer.bias_ih_l0
        for parameter in (self.weight_ih, self.weight_hh, self.bias):
            parameter.data = parameter.data[2 * H : 3 * H].copy()  # the proposal's rows

    def forward(self, x: Any, hx: Any = None, lengths: Any = None) -> tuple[Tensor, Any]:
        x = x if isinstance(x, Tensor) else Tensor(x)
        h = c = Tensor(np.zeros((x.shape[0], len(self.bias)), x.dtype))
        outputs, from_x = [], linear(x, self.weight_ih, self.bias)
        for t in range(x.shape[1]):
            c = c + tanh(from_x[:, t] + linear(h, self.weight_hh))
            h = tanh(c)
            outputs.append(h)
        return stack(outputs, axis=1), (h.reshape(1, *h.shape), c.reshape(1, *c.shape))

    directions = 1


def without_gates(settings: Settings, task: Task) -> SequenceClassifier:
    model: Any = build(settings, task)
    model.recurrence = Ungated(model.recurrence)
    return model


BASE: dict[str, Any] = {**PRESETS["adding"], "length": 50, "remember": 50, "steps": 600, "evaluate_every": 200}
ABLATIONS: dict[str, tuple[dict[str, Any], Make]] = {
    "as it is": ({}, build),
    "forget bias 0": ({}, forget_bias(0.0)),
    "forget bias 1": ({}, forget_bias(1.0)),
    "forget bias 3": ({}, forget_bias(3.0)),
    "first weights as in PyTorch": ({}, as_pytorch_starts),
    "no clipping": ({"clip": 1e9}, build),
    "no clipping, learning rate 0.1": ({"clip": 1e9, "lr": 0.1}, build),
    "clipping, learning rate 0.1": ({"lr": 0.1}, build),
    "no gates": ({}, without_gates),
    "GRU": ({"kind": "gru"}, build),
    "GRU, biases 0": ({"kind": "gru", "remember": 0}, build),
    "RNN": ({"kind": "rnn", "remember": 0}, build),
    "RNN, no clipping": ({"kind": "rnn", "remember": 0, "clip": 1e9}, build),
}
COLUMNS = ("loss at step 0", "final loss", "test MSE")


def measure(name: str, changes: dict[str, Any], make: Make, seed: int, steps: int, parent: Path) -> dict[str, float]:
    """The figures of one run; those of a run that broke off are missing."""
    settings = Settings(**{**BASE, "steps": steps, "seed": seed, **changes})
    return figures_of("rnn_lstm_gru", name, settings, parent, train, make)


def main() -> None:
    p = command_line(__doc__)
    p.add_argument("--steps", type=int, default=BASE["steps"])
    a = p.parse_args()
    rows = [head(COLUMNS)]
    for name, (changes, make) in ABLATIONS.items():
        figures = measure(name, changes, make, a.seed, a.steps, a.parent)
        rows.append(row(name, COLUMNS, figures))
    say("\n" + "\n".join(rows))


if __name__ == "__main__":
    main()
