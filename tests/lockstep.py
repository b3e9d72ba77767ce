"""A model and its PyTorch twin train side by side: equal weights, equal batches, equal losses, step after step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from scratch.module import Module

# (optimiser, the twin's, batches, loss of a batch, the twin's)
Player = tuple[Any, Any, Iterator[tuple[np.ndarray, ...]], Callable[..., Any], Callable[..., Any]]


def check(
    model: Module,
    twin: Any,
    optimizer: Any,
    twin_optimizer: Any,
    batches: Iterator[tuple[np.ndarray, ...]],
    loss_of: Callable[..., Any],
    twin_loss: Callable[..., Any],
    steps: int = 20,
    rtol: float = 1e-9,
) -> None:
    """Train both in float64 for `steps` steps; losses agree to `rtol` relative, and so do the weights at the end.

    The optimisers must have been made for the two models; both models are cast to float64 here, in place.
    """
    import torch

    model.to(np.float64)
    twin.double().load_state_dict({name: torch.tensor(value) for name, value in model.state_dict().items()})
    first = None
    for step in range(steps):
        batch = next(batches)
        loss, other = loss_of(*batch), twin_loss(*(torch.tensor(array) for array in batch))
        np.testing.assert_allclose(loss.item(), other.item(), rtol=rtol, err_msg=f"loss at step {step}")
        for each, its_loss in ((optimizer, loss), (twin_optimizer, other)):
            each.zero_grad()
            its_loss.backward()
            each.step()
        first = loss.item() if first is None else first
    assert abs(loss.item() - first) > 1e-3, "nothing was learned, so nothing was compared"
    for name, value in twin.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], value.numpy(), rtol=1e-7, atol=1e-9, err_msg=name)


def check_players(model: Module, twin: Any, players: Sequence[Player], steps: int = 20, rtol: float = 1e-9) -> None:
    """The same for a game: in each step every player in turn gets a batch, a loss and an update of its own weights."""
    import torch

    model.to(np.float64)
    twin.double().load_state_dict({name: torch.tensor(value) for name, value in model.state_dict().items()})
    first: dict[int, float] = {}
    for step in range(steps):
        for i, (optimizer, twin_optimizer, batches, loss_of, twin_loss) in enumerate(players):
            batch = next(batches)
            loss, other = loss_of(*batch), twin_loss(*(torch.tensor(array) for array in batch))
            np.testing.assert_allclose(loss.item(), other.item(), rtol=rtol, err_msg=f"player {i} at step {step}")
            for each, its_loss in ((optimizer, loss), (twin_optimizer, other)):
                each.zero_grad()
                its_loss.backward()
                each.step()
            first.setdefault(i, loss.item())
            assert step + 1 < steps or abs(loss.item() - first[i]) > 1e-3, f"player {i} learned nothing"
    for name, value in twin.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], value.numpy(), rtol=1e-7, atol=1e-9, err_msg=name)
