"""Run pytest as on another processor: with OpenBLAS's kernel for an older one, without NumPy's newer loops.

    python -m tests.kernels --blas Nehalem --numpy baseline -- -q tests/test_losses.py

Matrix products add up in another order on each kernel, and NumPy's loops round otherwise with and without fused
multiplication: what is right to the last digit on one processor is right to all but a few on another. Both can be
chosen before NumPy is loaded, hence a process of its own. What this processor cannot run ends with SKIPPED and the
reason; all arguments behind `--` are pytest's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib import metadata

SKIPPED = 77  # the exit status by which test programs say so since automake
KERNELS = ("default", "Haswell", "Sandybridge", "Nehalem", "SkylakeX")
# NumPy's newer loops, by the first letters of the features that they need; the names differ from version to version.
FEATURES: dict[str, tuple[str, ...]] = {"all": (), "no AVX-512": ("AVX512", "X86_V4"), "baseline": ("",)}

PROBE = """
import numpy as np, threadpoolctl
from numpy._core import _multiarray_umath as core
a = np.ones((65, 65), np.float32)
assert ((a @ a) == 65).all()
blas = [each["architecture"] for each in threadpoolctl.threadpool_info() if "architecture" in each]
print(*blas[:1] or ["no OpenBLAS"])
print(*(name for name in core.__cpu_dispatch__ if core.__cpu_features__[name]))
"""


def probe(environment: dict[str, str]) -> tuple[str, list[str]]:
    """OpenBLAS's kernel and NumPy's dispatched features in a new process; ("", []) where it does not survive."""
    run = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True)
    if run.returncode:
        return "", []
    blas, features = run.stdout.splitlines()
    return blas, features.split()


def environment(blas: str, numpy: str, threads: int) -> tuple[dict[str, str], str]:
    """The variables of a process that computes so, and the reason why this machine cannot, or ""."""
    count = str(threads)
    chosen = {**os.environ, "OPENBLAS_NUM_THREADS": count, "OMP_NUM_THREADS": count}
    for name in ("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES"):
        chosen.pop(name, None)
    _, features = probe(chosen)
    off = [name for name in features if name.startswith(FEATURES[numpy])] if FEATURES[numpy] else []
    if FEATURES[numpy] and not off:
        return chosen, f"NumPy uses nothing here that '{numpy}' could switch off"
    if off:
        chosen["NPY_DISABLE_CPU_FEATURES"] = " ".join(off)
    if blas != "default":
        chosen["OPENBLAS_CORETYPE"] = blas
    found, left = probe(chosen)
    if not found:
        return chosen, f"this processor cannot run OpenBLAS's kernel {blas}"
    if blas not in ("default", found):
        return chosen, f"OpenBLAS takes its kernel {found} here, not {blas}"
    if set(left) & set(off):
        return chosen, f"NumPy keeps {' '.join(sorted(set(left) & set(off)))}"
    print(f"NumPy {metadata.version('numpy')}, loops for {' '.join(left) or 'its baseline'}; OpenBLAS for {found}; "
          f"BLAS threads in each process: {threads}", flush=True)  # fmt: skip
    return chosen, ""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--blas", choices=KERNELS, default="default")
    parser.add_argument("--numpy", choices=FEATURES, default="all")
    parser.add_argument("--threads", type=int, default=1, help="of BLAS, in each process")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, behind --")
    asked = parser.parse_args(arguments)
    chosen, reason = environment(asked.blas, asked.numpy, asked.threads)
    if reason:
        print(f"SKIPPED: {reason}")
        return SKIPPED
    return subprocess.run([sys.executable, "-m", "pytest", *asked.pytest], env=chosen).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
