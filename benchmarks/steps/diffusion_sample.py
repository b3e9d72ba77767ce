"""DDPM's U-Net, 32×32, channels 32-64-128, two blocks a level, attention at 8×8: 16 images, 50 steps of DDIM."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CONFIG = {"channels": 1, "widths": (32, 64, 128), "blocks": 2, "classes": 10, "heads": 4, "groups": 8}
IMAGES, SIZE, STEPS = 16, 32, 50
REFERENCE = "PyTorch"


def start() -> tuple[np.ndarray, np.ndarray]:
    """(x_T, labels)"""
    rng = np.random.default_rng(0)
    return rng.standard_normal((IMAGES, 1, SIZE, SIZE)).astype(np.float32), np.arange(IMAGES) % 10


def ours() -> Callable[[], object]:
    from scratch.models.diffusion import UNet
    from scratch.models.diffusion.noise import linear
    from scratch.models.diffusion.sampling import ask, ddim, spaced

    x, labels = start()
    schedule, model = linear(), UNet(**CONFIG).eval()
    denoise, times = ask(model, schedule, labels=labels, limit=1.0), spaced(1000, STEPS)
    return lambda: float(ddim(denoise, x, schedule, times).mean())


def theirs(channels_last: bool) -> Callable[[], object]:
    import torch

    from scratch.models.diffusion.noise import linear
    from tests.twins.diffusion import UNet

    x, labels = (torch.from_numpy(array) for array in start())
    model = UNet(**CONFIG).eval()
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    alpha_bar = linear().alpha_bar
    times = np.rint(np.linspace(0, 1000, STEPS + 1)).astype(int)

    @torch.inference_mode()
    def draw():
        state = x
        for i in range(STEPS, 0, -1):
            now, before = float(alpha_bar[times[i]]), float(alpha_bar[times[i - 1]])
            eps = model(state, torch.full((IMAGES,), int(times[i])), labels)
            x0 = ((state - (1 - now) ** 0.5 * eps) / now**0.5).clamp(-1, 1)
            eps = (state - now**0.5 * x0) / (1 - now) ** 0.5
            state = before**0.5 * x0 + (1 - before) ** 0.5 * eps
        return state.mean().item()

    return draw


CONTENDERS = {
    "scratch": ours,
    "PyTorch": lambda: theirs(channels_last=False),
    "PyTorch, channels last": lambda: theirs(channels_last=True),
}
