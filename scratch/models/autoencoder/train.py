"""Train an autoencoder, a VAE, a VQ-VAE with a prior over its codes, or diffusion in an autoencoder's codes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from scratch.data import Batches
from scratch.models.autoencoder import pictures
from scratch.models.autoencoder.elbo import LIKELIHOODS
from scratch.models.autoencoder.latent import GridVAE, LatentDiffusion
from scratch.models.autoencoder.model import VAE, Autoencoder, ConvAutoencoder, ConvVAE
from scratch.models.autoencoder.prior import VQGenerator
from scratch.models.autoencoder.stages import stages
from scratch.models.autoencoder.tasks import draw, load_data, report
from scratch.models.autoencoder.vq import VQVAE
from scratch.module import Module
from scratch.optim import AdamW, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import manual_seed, stream
from scratch.schedules import cosine
from scratch.training import Run, command
from scratch.training.progress import typed


@dataclass
class Settings:
    """What the run depends on; `scratch train autoencoder --FIELD VALUE` changes a field."""

    data: Literal["digits", "mnist", "fashion_mnist"] = "digits"
    """Images to learn from."""
    model: Literal["autoencoder", "vae", "grid_vae", "vq", "latent"] = "vae"
    """What is trained; grid_vae is the first stage of latent alone."""
    network: Literal["dense", "conv"] = "dense"
    """Layers of an autoencoder and a vae; the others are convolutional."""
    hidden: tuple[int, ...] = (256,)
    """Units of each layer of a dense encoder; the decoder has the same in reverse."""
    widths: tuple[int, ...] = (16, 32)
    """Channels of a convolutional encoder, which halves the image with each; the decoder has the same in reverse."""
    latent: int = 20
    """Numbers in z; of grid_vae and latent, channels of the grid."""
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """What the decoder's outputs are: chances of ink, or means about which pixels spread."""
    binarise: bool = True
    """Whether a VAE's images are made black and white at random, anew in each step, as Bernoulli pixels are."""
    beta: float = 1.0
    """Weight of the KL divergence; of vq, of the commitment."""
    noise: float = 0.0
    """Deviation of the noise on the images that an autoencoder is shown; it is asked for them without."""
    shift: int = 0
    """Pixels by which images are moved at random, at most."""
    width: int = 32
    """Channels of the residual blocks of grid_vae, vq and latent."""
    blocks: int = 2
    """Residual blocks on each side of these."""
    codes: int = 128
    """Rows of the codebook."""
    dim: int = 16
    """Numbers of a row."""
    steps: int = 6000
    """Updates of the weights; of vq and latent, of the first stage."""
    batch_size: int = 128
    """Images in each step."""
    lr: float = 2e-3
    """Learning rate at its highest, after the warm-up."""
    second_steps: int = 0
    """Updates of the second stage: of the prior over the codes, of the denoiser."""
    second_lr: float = 2e-3
    """Learning rate of the second stage at its highest."""
    second_width: int = 96
    """Features of a code in the prior, channels of the denoiser."""
    second_depth: int = 3
    """Blocks of the prior, residual blocks on each side of the denoiser."""
    second_shift: int = 0
    """As shift, in the second stage."""
    dropout: float = 0.1
    """Share of features of the prior set to zero at random in every step."""
    T: int = 1000
    """Steps of the denoiser from codes to noise."""
    drop_label: float = 0.1
    """Share of codes whose class is withheld from the denoiser."""
    guidance: float = 1.0
    """The w of classifier-free guidance when the denoiser draws; 0 is none."""
    sampling_steps: int = 50
    """Steps of DDIM when the denoiser draws."""
    temperature: float = 1.0
    """By which the prior's scores are divided when it draws."""
    warmup: int = 200
    """Steps in which a learning rate rises from 0, at most half of all; then it falls along a cosine to 0."""
    weight_decay: float = 0.0
    """Decay of the weights in AdamW, multiplied by the learning rate."""
    clip: float = 1e9
    """Longest gradient, over all parameters together, that is not shortened."""
    samples: int = 1000
    """How many samples the report judges."""
    importance_samples: int = 100
    """Draws of z an image for the importance-weighted bound; 0 leaves it out."""
    evaluate_every: int = 500
    """Steps between two looks at the validation set."""
    save_every: int = 500
    """Steps between two checkpoints."""
    seed: int = 0
    """Where all randomness starts."""
    shards: int = 1
    """Parts that each batch is cut into, one thread each."""

    def __post_init__(self) -> None:
        for name, low in LOWEST.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("dropout", "drop_label"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        for name in ("lr", "second_lr", "beta", "noise", "temperature"):
            if math.isinf(getattr(self, name)):
                raise ValueError(f"{name} must be a number of at least 0, got {getattr(self, name)}")
        if min((*self.hidden, *self.widths)) < 1:
            raise ValueError(f"hidden and widths must be at least 1 each, got {self.hidden} and {self.widths}")
        if self.sampling_steps > self.T:
            raise ValueError(f"sampling_steps must be at most T = {self.T}, got {self.sampling_steps}")
        if (self.model in TWO_STAGES) != (self.second_steps > 0):
            raise ValueError(f"second_steps must be above 0 with {' and '.join(TWO_STAGES)} and 0 with the others, got "
                             f"{self.second_steps} with {self.model}")  # fmt: skip
        if self.binarise and self.likelihood == "gaussian" and self.model in ("vae", "grid_vae"):
            raise ValueError("pixels that are black or white are no Gaussian: with likelihood gaussian, binarise False")


TWO_STAGES = ("vq", "latent")
LOWEST = {"latent": 1, "beta": 0, "noise": 0, "shift": 0, "width": 2, "blocks": 0, "codes": 1, "dim": 1, "steps": 1,
          "batch_size": 1, "lr": 0, "second_steps": 0, "second_lr": 0, "second_width": 8, "second_depth": 1,
          "second_shift": 0, "T": 1, "guidance": 0, "sampling_steps": 1, "temperature": 0, "warmup": 0,
          "weight_decay": 0, "clip": 0, "samples": 2, "importance_samples": 0, "evaluate_every": 1, "save_every": 1,
          "seed": 0, "shards": 1}  # fmt: skip

CONV: dict[str, Any] = {"network": "conv", "batch_size": 64, "shards": 2}

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "quick": {"steps": 2000, "importance_samples": 20},
    "fashion": {"data": "fashion_mnist", "hidden": (400,), "evaluate_every": 1000},
    "ae": {"model": "autoencoder", "steps": 3000},
    "denoising": {**CONV, "model": "autoencoder", "noise": 0.5, "shift": 2, "latent": 32, "steps": 2000},
    "plane": {"latent": 2, "hidden": (256, 128), "steps": 4000},
    "vq": {"model": "vq", "beta": 0.25, "shift": 2, "batch_size": 64, "shards": 2, "steps": 1500, "lr": 4e-3,
           "second_steps": 1200, "second_lr": 3e-3, "second_width": 64, "dropout": 0.0},
}  # fmt: skip


def build(settings: Settings, classes: int) -> Module:
    """The model that the settings name."""
    s, likelihood = settings, LIKELIHOODS[settings.likelihood]()
    if s.model == "vq":
        first = VQVAE(codes=s.codes, dim=s.dim, width=s.width, blocks=s.blocks, likelihood=likelihood)
        return VQGenerator(first, classes, s.second_depth, 4, s.second_width, s.dropout)
    if s.model in ("latent", "grid_vae"):
        grid = GridVAE(latent=s.latent, width=s.width, blocks=s.blocks, likelihood=likelihood)
        return grid if s.model == "grid_vae" else LatentDiffusion(grid, (s.second_width,), s.second_depth, classes)
    if s.network == "conv":
        conv = ConvAutoencoder if s.model == "autoencoder" else ConvVAE
        return conv(latent=s.latent, widths=s.widths, likelihood=likelihood)
    dense = Autoencoder if s.model == "autoencoder" else VAE
    return dense(latent=s.latent, hidden=s.hidden, likelihood=likelihood)


def train(settings: Settings, run: Run, make: Callable[[Settings, int], Module] = build) -> None:
    """The whole run, from the data to the report; `make` lets `ablations.py` put another model in its place."""
    manual_seed(settings.seed)
    data = load_data(settings)

    model = make(settings, data.train.classes)
    parts = stages(model, settings)  # one, or two: images to codes, and then a model of the codes
    optimizers = [AdamW(stage.trained.parameters(), weight_decay=settings.weight_decay) for stage in parts]
    losses = [ShardedLoss(stage.trained, stage.loss, settings.shards) for stage in parts]
    rates = [cosine(stage.lr, stage.steps, warmup=min(settings.warmup, stage.steps // 2)) for stage in parts]
    batches = Batches(*data.train.arrays, batch_size=settings.batch_size, seed=settings.seed, drop_last=True)

    run.track(model=model, batches=batches, **{f"optimizer_{i}": each for i, each in enumerate(optimizers)})
    sizes = " / ".join(f"{len(part):,}" for part in data)
    ink = ("784 ln 2", 784 * math.log(2)) if settings.likelihood == "bernoulli" else None
    run.introduce(f"{settings.data}: {sizes} to learn from, to choose by, to report", model, first_loss=ink)

    second = parts[0].steps  # the step at which the second stage begins
    for step in run.steps(sum(stage.steps for stage in parts), settings.save_every):
        i = int(step >= second)
        stage, step_of_stage = parts[i], step - second * i
        if step == second:
            model.load_state_dict(run.best)  # it builds on the best of the first
            run.best_value = math.inf
            stage.begin(data.train)

        x, y = next(batches)
        with stream(settings.seed, step):  # noise, shifts and dropout are functions of seed and step
            batch = stage.prepare(x, y)
            loss = losses[i](*batch)
        run.require_finite(loss, stage.trained, *batch[: stage.inputs])

        optimizers[i].zero_grad()
        loss.backward()
        clip_grad_norm_(stage.trained.parameters(), settings.clip)
        optimizers[i].lr = rates[i](step_of_stage)
        optimizers[i].step()

        run.log(step, loss=loss.item(), lr=optimizers[i].lr)
        if (step_of_stage + 1) % settings.evaluate_every == 0 or step_of_stage + 1 == stage.steps:
            run.evaluated(step, model, loss=stage.figure(data.validation))

    model.load_state_dict(run.best)  # the weights with the lowest validation loss; only now the test set is read
    model.eval()
    samples = draw(model, settings, data.train.classes)
    results = report(model, data, settings, samples)
    drawn = pictures.draw_all(run.folder, run.history(), model, data, samples, settings)
    run.finish(results, drawn, then=f"scratch sample autoencoder --run {typed(run.folder)}")


if __name__ == "__main__":
    command.main("autoencoder")
