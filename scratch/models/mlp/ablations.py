"""What each part is there for: the default run with one part taken away or put out of order.

`python -m scratch.models.mlp.ablations` trains them all and prints the table of the README.
"""

from __future__ import annotations

from typing import Any

from scratch.initializers import normal
from scratch.models.mlp.model import MLP
from scratch.models.mlp.train import Settings, train
from scratch.tensor import Tensor
from scratch.training.ablation import command_line, figures_of, head, row
from scratch.training.progress import say


class WithoutReLU(MLP):
    """A chain of affine maps is one affine map."""

    def forward(self, x: Any) -> Tensor:
        h = x.reshape(len(x), -1)
        for layer in self.layers[:-1]:
            h = self.dropout(layer(h))
        return self.layers[-1](h)


class FromZero(MLP):
    """All weights start at 0: every unit of a layer computes the same, and so does every gradient."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for parameter in self.parameters():
            parameter.data[...] = 0


class FromWide(MLP):
    """Weights from N(0, 1): the signal grows by √(in / 2) from layer to layer."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for layer in self.layers:
            layer.weight.data[...] = normal(layer.weight.shape)


ABLATIONS: dict[str, tuple[dict[str, Any], type[MLP]]] = {
    "as it is": ({}, MLP),
    "no shifts": ({"shift": 0}, MLP),
    "no dropout": ({"dropout": 0.0}, MLP),
    "no shifts, no dropout": ({"shift": 0, "dropout": 0.0}, MLP),
    "no hidden layer": ({"hidden": ()}, MLP),
    "no ReLU": ({}, WithoutReLU),
    "weights from 0": ({}, FromZero),
    "weights from N(0, 1)": ({}, FromWide),
    "learning rate 0.2, no clipping": ({"lr": 0.2, "clip": 1e9}, MLP),
}

COLUMNS = ("loss at step 0", "final loss", "test accuracy")


def main() -> None:
    p = command_line(__doc__)
    p.add_argument("--steps", type=int, default=Settings.steps)
    a = p.parse_args()
    rows = [head(COLUMNS)]
    for name, (changes, kind) in ABLATIONS.items():
        settings = Settings(**{"steps": a.steps, "seed": a.seed, **changes})
        figures = figures_of("mlp", name, settings, a.parent, train, kind)
        rows.append(row(name, COLUMNS, figures))
    say("\n" + "\n".join(rows))


if __name__ == "__main__":
    main()
