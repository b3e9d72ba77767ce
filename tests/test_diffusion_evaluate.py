"""What the figures of a model of digits say of models that are known: one that knows an image of each class."""

from dataclasses import replace

import numpy as np
import pytest

from scratch.evaluation import judge
from scratch.models.diffusion import evaluate
from scratch.models.diffusion.noise import SCHEDULES
from scratch.models.diffusion.process import at
from scratch.models.diffusion.sampling import ddpm, spaced
from scratch.models.diffusion.tasks import load_task, to_pixels
from scratch.models.diffusion.train import Settings
from scratch.module import Module
from scratch.tensor import Tensor

SETTINGS = replace(Settings(), T=20, sampling_steps=5, guidance=0.0)
SCHEDULE = SCHEDULES[SETTINGS.schedule](SETTINGS.T)


class Knows(Module):
    """ε of the one image that there is of each class."""

    no_class = 10

    def __init__(self, images):
        self.images = images

    def forward(self, x, t, labels):
        a = at(SCHEDULE.alpha_bar, t, x.data)
        return Tensor((x.data - np.sqrt(a) * self.images[labels % 10]) / np.sqrt(1 - a))


@pytest.fixture(scope="module")
def task():
    return load_task("digits")


def of_each_class(task):
    """A training image of each class that the judge reads rightly."""
    x, y = task.train.inputs[:200], task.train.targets[:200]
    right = judge.labels(to_pixels(x)) == y
    return np.stack([x[np.flatnonzero(right & (y == c))[0]] for c in range(10)])


@pytest.mark.parametrize("ancestral", [False, True])
def test_what_the_model_knows_is_drawn_class_by_class(ancestral, task):
    images = of_each_class(task)
    settings = replace(SETTINGS, samples=263)  # two batches

    def chain(denoise, x, rng):
        return ddpm(denoise, x, SCHEDULE, spaced(SETTINGS.T), rng)

    drawn = task.draw(Knows(images), SCHEDULE, settings, chain if ancestral else None)
    np.testing.assert_allclose(drawn, to_pixels(images)[np.arange(263) % 10], atol=1e-4)
    assert task.judge(drawn, settings)["read as asked"] == 1


def test_quality_is_worst_for_one_class_and_the_floor_for_training_digits(task):
    order = np.concatenate([np.flatnonzero(task.train.targets == c)[:30] for c in range(10)]).reshape(10, 30).T.ravel()
    real = task.judge(to_pixels(task.train.inputs[order]), SETTINGS)
    assert real["read as asked"] > 0.97
    assert real["Fréchet distance"] < 3 * real["Fréchet distance, real"]
    zeros = to_pixels(task.train.inputs[np.resize(np.flatnonzero(task.train.targets == 0), 300)])
    same = task.judge(zeros, SETTINGS)
    assert same["read as asked"] < 0.15 and same["Fréchet distance"] > 10 * real["Fréchet distance"]


def test_a_copied_training_image_is_found(task):
    found = evaluate.copies(to_pixels(task.train.inputs[:200]), task)
    assert found["least"] == 0 and found["median"] < 1e-6 and found["nearer"] == 1
    real = evaluate.copies(to_pixels(task.test.inputs[:200]), task)
    assert real["median"] == real["median, real"] > 1 and real["nearer"] <= 0.01


def test_the_bound_of_one_that_knows_is_what_the_last_noise_and_the_bins_cost(task):
    """Asked for the images that it knows, nothing is lost between: L_t = 0."""
    images = of_each_class(task)
    first = [int(np.flatnonzero((task.train.inputs == image).all(axis=(1, 2, 3)))[0]) for image in images]
    some = replace(task, test=replace(task.train, inputs=images, targets=task.train.targets[first]))
    parts = evaluate.bound(Knows(images), some, SETTINGS, SCHEDULE, 10, times=5)
    assert parts["L_t"] == pytest.approx(0, abs=1e-6)
    assert parts["bits"] == pytest.approx(parts["L_T"] + parts["L_0"])
    other = evaluate.bound(Knows(np.roll(images, 1, axis=0)), some, SETTINGS, SCHEDULE, 10, times=5)
    assert other["L_t"] > 1


def test_of_each_class_the_nearest_is_drawn_above_its_neighbour(task, tmp_path, monkeypatch):
    copied = task.train.inputs[5:6]
    samples = to_pixels(np.concatenate([task.test.inputs[:12], copied, task.test.inputs[12:15]]))  # row 12: of class 2
    seen = []
    monkeypatch.setattr(evaluate.viz, "image_grid", lambda images, titles, **options: seen.append((images, titles)))
    monkeypatch.setattr(evaluate.viz, "save", lambda figure, path: path)
    evaluate.draw_nearest(samples, task, tmp_path / "x.png")
    images, titles = seen[0]
    assert images.shape[0] == len(titles) == 20
    np.testing.assert_array_equal(images[2], samples[12])
    np.testing.assert_allclose(images[12], samples[12], atol=1e-6)
    np.testing.assert_array_equal(images[6:10], samples[6:10])  # of these classes there is one sample each
    assert titles[2] == "0.0" and all(float(title) > 0 for title in titles[3:10])
