"""What llama.cpp's own reader makes of random blocks: python -m tests.reference.make_gguf   (gguf==0.19.0)"""

from __future__ import annotations

from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "gguf.npz"
SCALES = {2: [0], 3: [0, 2], 6: [0], 7: [0, 2], 8: [0], 14: [208]}  # where float16 lie in a block
SIZES = {2: 18, 3: 20, 6: 22, 7: 24, 8: 34, 14: 210}


def main() -> None:
    from gguf import GGMLQuantizationType, dequantize

    rng = np.random.default_rng(0)
    frozen: dict[str, np.ndarray] = {}
    for kind, size in SIZES.items():
        raw = rng.integers(0, 256, (5, size), dtype=np.uint8)
        for at in SCALES[kind]:
            raw[:, at : at + 2] = rng.normal(size=(5, 1)).astype("<f2").view(np.uint8)
        frozen[f"{kind}/raw"], frozen[f"{kind}/values"] = raw, dequantize(raw, GGMLQuantizationType(kind)).reshape(-1)
    np.savez_compressed(FILE, **frozen)
    print(f"{FILE.name}: {len(frozen)} arrays, {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
