"""How far two right answers may lie apart: sums of the same products, added up in another order."""

from __future__ import annotations

import numpy as np


def apart(n: int, a: np.ndarray, b: np.ndarray) -> float:
    """A tolerance for Σ aᵢ bᵢ over n terms, computed twice: 2 γₙ Σ |aᵢ bᵢ|, γₙ = n u / (1 − n u) (Higham 2002, §3.1).

    u is half the machine epsilon of the coarser dtype; Σ |aᵢ bᵢ| is at most n max |a| max |b|. BLAS chooses the order
    by processor, by number of threads and by the shape of the whole product: a slice of a product need not equal the
    product of slices to the last digit.
    """
    u = max(np.finfo(a.dtype).eps, np.finfo(b.dtype).eps) / 2
    return float(2 * n * u / (1 - n * u) * n * np.abs(a).max() * np.abs(b).max())
