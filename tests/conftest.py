"""What every test relies on: fixed randomness, no network, no window, and the rules of the marker `torch`."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # also for the processes that tests start

hypothesis.settings.register_profile(
    "scratch",
    deadline=None,  # nothing here asserts a time
    derandomize=True,  # the same examples everywhere, so that a failure is everybody's failure
    database=None,
    max_examples=60,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("scratch")

TORCH_IS_HERE = importlib.util.find_spec("torch") is not None
IMPORTS_TORCH = re.compile(r"""^\s*(import torch\b|from torch\b)|importorskip\(["']torch\b""", re.MULTILINE)


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("SCRATCH_REQUIRE_TORCH") == "1" and not TORCH_IS_HERE:
        raise pytest.UsageError("SCRATCH_REQUIRE_TORCH=1, but torch is not installed: pip install torch==2.13.0")


# First of all hooks, so that `-m torch` selects among the markers given here.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `torch` where PyTorch is missing; mark every other test of a file that imports it.

    The second half lets `-m torch` miss nothing: a file that imports PyTorch in a helper is run whole.
    """
    skip = pytest.mark.skip(reason="PyTorch is not installed (make parity installs it)")
    imports_torch: dict[Path, bool] = {}
    for item in items:
        if item.get_closest_marker("torch") is not None:
            if not TORCH_IS_HERE:
                item.add_marker(skip)
            continue
        if item.path not in imports_torch:
            text = item.path.read_text(encoding="utf-8")
            imports_torch[item.path] = IMPORTS_TORCH.search(text) is not None
        if imports_torch[item.path]:
            item.add_marker("torch")


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Every test starts from seed 0, whichever tests ran before it and in whichever process."""
    from scratch.random import manual_seed

    manual_seed(0)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that leaves the machine is a fault of the test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in ("localhost", "127.0.0.1", "::1"):
            raise RuntimeError(f"a test tried to reach {address} over the network")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
