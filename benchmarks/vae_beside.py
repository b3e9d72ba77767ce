"""A preset of the VAE trained in PyTorch: from the same first weights, with the same batches, noise and steps.

`python -m benchmarks.vae_beside --preset default --seed 0` prints the figures of the test set that
`scratch train autoencoder` reports, of the weights that PyTorch ended with; both are to lie within one nat.
"""

from __future__ import annotations

import argparse

import numpy as np

from scratch.data import Batches
from scratch.models.autoencoder.model import VAE
from scratch.models.autoencoder.stages import picture_stage
from scratch.models.autoencoder.tasks import error_figures, load_data, vae_figures
from scratch.models.autoencoder.train import PRESETS, Settings, build
from scratch.random import manual_seed, stream
from scratch.schedules import cosine
from scratch.training.settings import with_preset


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--preset", default="default")
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    settings = with_preset(Settings, PRESETS, a.preset)
    settings.seed = a.seed
    model, best = trained(settings)
    model.load_state_dict(best)
    test = load_data(settings).test
    figures = vae_figures(model, test, settings.binarise, settings.importance_samples) | {
        "squared error": error_figures(model, test)["squared error"]
    }
    print(f"PyTorch, preset {a.preset}, seed {a.seed}: " + ", ".join(f"{k} {v:.4f}" for k, v in figures.items()))


def trained(settings: Settings) -> tuple[VAE, dict[str, np.ndarray]]:
    """The model of the settings, and the weights that PyTorch gives it, with the lowest validation loss."""
    import torch

    from tests.twins.autoencoder import VAE as Twin

    manual_seed(settings.seed)
    data, model = load_data(settings), build(settings, 10)
    assert isinstance(model, VAE)
    stage = picture_stage(model, settings)
    twin = Twin(latent=settings.latent, hidden=settings.hidden, gaussian=settings.likelihood == "gaussian",
                widths=settings.widths if settings.network == "conv" else ())  # fmt: skip
    twin.load_state_dict({name: torch.tensor(value) for name, value in model.state_dict().items()})
    optimizer = torch.optim.AdamW(twin.parameters(), weight_decay=settings.weight_decay)
    rate = cosine(settings.lr, settings.steps, warmup=min(settings.warmup, settings.steps // 2))
    batches = Batches(*data.train.arrays, batch_size=settings.batch_size, seed=settings.seed, drop_last=True)
    best, lowest = {}, np.inf
    for step in range(settings.steps):
        with stream(settings.seed, step):
            x, eps = (torch.from_numpy(array) for array in stage.prepare(*next(batches)))
        loss = twin.loss(x, eps, settings.beta)
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()
        if (step + 1) % settings.evaluate_every == 0 or step + 1 == settings.steps:
            weights = {name: value.numpy().copy() for name, value in twin.state_dict().items()}
            model.load_state_dict(weights)
            if (found := stage.figure(data.validation)) < lowest:
                best, lowest = weights, found
    return model, best


if __name__ == "__main__":
    main()
