"""What comes back of an image, what the model draws by itself, and where codes lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scratch import viz
from scratch.data import Splits
from scratch.models.autoencoder import inside
from scratch.models.autoencoder.latent import LatentDiffusion
from scratch.models.autoencoder.model import VAE
from scratch.models.autoencoder.prior import VQGenerator
from scratch.models.autoencoder.tasks import noisy, reconstructions
from scratch.models.autoencoder.vq import perplexity

COLUMNS = 12


def draw_all(
    folder: Path, log: Sequence[Mapping[str, Any]], model: Any, data: Splits,
    samples: tuple[np.ndarray, np.ndarray] | None, settings: Any,
) -> list[Path]:  # fmt: skip
    """Draw everything into the run folder and return the files."""
    first = getattr(model, "first", model)
    figures = curves(log, settings) | {"reconstructions": before_and_after(first, data, settings.noise)}
    if samples is not None:
        figures["samples"] = viz.image_grid(samples[0][:80], columns=10, limits=(0, 1), title=title_of(model))
    if isinstance(model, VQGenerator):
        codes = model.codes(data.test.inputs)
        figures["usage"] = viz.bars(
            np.sort(inside.usage(codes, model.K))[::-1], x="code, the most used first", y="share of all places",
            title=f"use of the codebook: perplexity {perplexity(codes, model.K):.0f}",
            reference=(1 / model.K, "all alike"),
        )  # fmt: skip
    elif not isinstance(model, LatentDiffusion) and len(model.code) == 1:
        figures |= code_pictures(model, data)
    return [viz.save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def curves(log: Sequence[Mapping[str, Any]], settings: Any) -> dict[str, Any]:
    """The loss of each stage against the step."""
    second = settings.steps
    first = [line for line in log if line["step"] < second or "validation_loss" in line and line["step"] <= second]
    reference = (784 * math.log(2), "784 ln 2") if settings.likelihood == "bernoulli" else None
    drawn = {"curves": viz.loss_curves(first, title=f"{settings.data}, {settings.model}: loss of an image",
                                       loss_label="nats an image", reference=reference)}  # fmt: skip
    rest = [line for line in log if line["step"] > second or "loss" in line and line["step"] == second]
    if any("loss" in line for line in rest):
        label = "cross-entropy of a code (nats)" if settings.model == "vq" else "squared error of the noise"
        drawn["second_curves"] = viz.loss_curves(rest, title="second stage", loss_label=label)
    return drawn


def before_and_after(first: Any, data: Splits, deviation: float) -> Any:
    """Two rows of test images, what the model was shown of them, and what came back."""
    x = data.test.inputs[:COLUMNS]
    shown = noisy(x, deviation, np.random.default_rng(0)) if deviation else x
    rows = [x, *([shown] if deviation else []), reconstructions(first, shown)]
    names = "image, with noise, back" if deviation else "image, back"
    return viz.image_grid(np.concatenate(rows), columns=COLUMNS, limits=(0, 1), title=f"from the top: {names}")


def title_of(model: Any) -> str:
    if isinstance(model, VQGenerator):
        return "codes written by the prior, decoded; a column is a class"
    if isinstance(model, LatentDiffusion):
        return "codes drawn by diffusion, decoded; a column is a class"
    return "z drawn from N(0, 1), decoded"


def code_pictures(model: Any, data: Splits) -> dict[str, Any]:
    """Where the codes of test images lie, the plane of images of a two-number code, a line between two images."""
    test, names = data.test, data.test.class_names
    z = inside.codes_of(model, test.inputs)
    if model.code == (2,):
        points, title, axes = z, "codes of test images", ("z₁", "z₂")
    else:
        points, share = inside.principal_plane(z)
        title, axes = f"codes of test images, {100 * share:.0f} % of their variance", ("first axis", "second axis")
    figures = {"codes": viz.class_scatter(points, test.targets, names, title=title, axis_names=axes)}
    if model.code == (2,) and isinstance(model, VAE):
        figures["plane"] = viz.image_grid(inside.plane(model), columns=15, limits=(0, 1), cell=0.45,
                                          title="images of z over the plane")  # fmt: skip
    rows = [inside.interpolation(model, z[i], z[i + 1], COLUMNS) for i in range(0, 8, 2)]
    figures["interpolation"] = viz.image_grid(np.concatenate(rows), columns=COLUMNS, limits=(0, 1),
                                              title="along the line between two codes")  # fmt: skip
    if isinstance(model, VAE):
        kl = inside.kl_of_axes(model, test.inputs)
        figures["axes"] = viz.bars(np.sort(kl)[::-1], title=f"nats in each number of z: {kl.sum():.1f} in all",
                                   x="number of z, the fullest first", y="KL (nats)")  # fmt: skip
    return figures
