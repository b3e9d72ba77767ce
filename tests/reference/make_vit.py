"""Freeze what small random Vision Transformers of `transformers` compute, and their weights under its names.

    pip install torch==2.13.0 transformers==5.24.0
    python -m tests.reference.make_vit

Two models, ViTModel and Dinov2Model. Each is kept under the names of its files, which are also those of all published
ones; for ViTModel the names in memory, which are others since version 5, are kept too. Hidden states are kept for
images of the model's own size and of another one, with interpolated positions.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "vit.npz"
SIZES = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 12, "patch_size": 4,
         "num_channels": 2, "intermediate_size": 20, "mlp_ratio": 2}  # fmt: skip


def models() -> dict[str, Any]:
    from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

    return {"vit": ViTModel(ViTConfig(**SIZES)), "dinov2": Dinov2Model(Dinov2Config(**SIZES, layerscale_value=0.5))}


def main() -> None:
    import torch
    from safetensors.numpy import load_file

    torch.manual_seed(0)
    frozen: dict[str, np.ndarray] = {}
    for name, model in models().items():
        with torch.no_grad():  # so that every part matters
            for parameter in model.parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape) + (parameter.ndim == 1) * 0.5)
        with tempfile.TemporaryDirectory() as folder:
            model.eval().save_pretrained(folder)
            frozen |= {f"{name}/file/{key}": a for key, a in load_file(Path(folder) / "model.safetensors").items()}
            frozen[f"{name}/config"] = np.array((Path(folder) / "config.json").read_text(encoding="utf-8"))
        if name == "vit":
            frozen |= {f"{name}/memory/{key}": a.numpy() for key, a in model.state_dict().items()}
        for kind, size in (("own", (12, 12)), ("other", (20, 16))):
            x = torch.randn(2, 2, *size)
            options = {"interpolate_pos_encoding": True} if name == "vit" and kind == "other" else {}
            with torch.no_grad():
                y = model(x, output_hidden_states=True, **options)
            states = torch.stack(y.hidden_states).numpy()
            frozen |= {f"{name}/{kind}/x": x.numpy(), f"{name}/{kind}/states": states,
                       f"{name}/{kind}/last": y.last_hidden_state.numpy()}  # fmt: skip
    np.savez_compressed(FILE, **frozen)
    print(f"{FILE.name}: {len(frozen)} arrays, {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
