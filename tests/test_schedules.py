"""Schedules against PyTorch's schedulers, frozen and live; the ends and the peaks by hand; what must be refused."""

import math
from functools import cache

import numpy as np
import pytest

from scratch import schedules
from tests.reference import make_optim

NAMES = list(make_optim.make_schedules())


frozen = cache(make_optim.load)


def rates(name):
    schedule, _ = make_optim.make_schedules()[name]
    return np.array([schedule(step) for step in range(make_optim.STEPS)])


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_frozen_rates_of_pytorch(name):
    np.testing.assert_allclose(rates(name), frozen()["schedules"][name], rtol=1e-12, atol=1e-15)


@pytest.mark.torch
@pytest.mark.parametrize("name", NAMES)
def test_equals_pytorch_here(name):
    np.testing.assert_allclose(rates(name), make_optim.rates_theirs(name), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_steps_may_come_in_any_order(name):
    schedule, _ = make_optim.make_schedules()[name]
    backwards = [schedule(step) for step in reversed(range(make_optim.STEPS))]
    assert backwards[::-1] == rates(name).tolist()
    assert all(type(rate) is float for rate in backwards)


def test_a_warmup_starts_above_zero_and_ends_at_the_full_rate():
    for schedule in (schedules.constant(0.4, warmup=4), schedules.cosine(0.4, total=20, warmup=4)):
        np.testing.assert_allclose([schedule(step) for step in range(5)], [0.1, 0.2, 0.3, 0.4, 0.4], rtol=1e-15)


def test_cosine_passes_the_middle_and_stays_at_the_end():
    schedule = schedules.cosine(1.0, total=14, warmup=4, final=0.2)
    assert schedule(9) == pytest.approx(0.6, rel=1e-15)  # half way from 4 to 14: half way from 1 to 0.2
    assert schedule(14) == pytest.approx(0.2, rel=1e-15)
    assert schedule(15) == schedule(1000) == schedule(14)


def test_one_cycle_peaks_and_stays_at_the_end():
    schedule = schedules.one_cycle(1.0, total=20, pct_start=0.25, div_factor=10.0, final_div_factor=100.0)
    assert schedule(0) == pytest.approx(0.1, rel=1e-15)
    assert schedule(4) == 1.0 == max(schedule(step) for step in range(20))
    assert schedule(19) == pytest.approx(0.001, rel=1e-12)
    assert schedule(20) == schedule(1000) == schedule(19)


def test_one_cycle_whose_peak_is_the_first_step():
    schedule = schedules.one_cycle(1.0, total=10, pct_start=0.1)
    assert schedule(0) == 1.0
    assert schedule(1) < 1.0


def test_inverse_sqrt_in_both_forms():
    by_rate, by_width = schedules.inverse_sqrt(0.01, warmup=16), schedules.inverse_sqrt(warmup=16, d_model=625)
    assert by_rate(15) == 0.01 == max(by_rate(step) for step in range(100))
    assert by_rate(3) == pytest.approx(0.01 / 4, rel=1e-15)  # a quarter of the warmup
    assert by_rate(63) == pytest.approx(0.01 / 2, rel=1e-15)  # four times the warmup
    assert [by_width(step) for step in range(50)] == pytest.approx([by_rate(step) for step in range(50)], rel=1e-14)


def test_step_falls_after_every_so_many_steps():
    schedule = schedules.step(0.8, every=3, gamma=0.5)
    assert [schedule(step) for step in range(8)] == [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: schedules.constant(-1), "constant: lr must be a number of at least 0, got -1"),
        (lambda: schedules.constant(math.nan), "got nan"),
        (lambda: schedules.constant(math.inf), "got inf"),
        (lambda: schedules.constant(1, warmup=-1), "warmup must be a whole number, at least 0, got -1"),
        (lambda: schedules.constant(1, warmup=2.5), "warmup must be a whole number, at least 0, got 2.5"),
        (lambda: schedules.step(1, every=0), "step: every must be a whole number, at least 1, got 0"),
        (lambda: schedules.step(1, every=2, gamma=-0.1), "step: gamma must be a number of at least 0, got -0.1"),
        (lambda: schedules.step(-1, every=2), "step: lr"),
        (lambda: schedules.cosine(-1, 10), "cosine: lr"),
        (lambda: schedules.cosine(1, 10, final=-1), "cosine: final"),
        (lambda: schedules.cosine(1, 10, warmup=10), "cosine: total must be a whole number, at least 11, got 10"),
        (lambda: schedules.cosine(1, 10, warmup=-1), "cosine: warmup"),
        (lambda: schedules.one_cycle(-1, 10), "one_cycle: max_lr"),
        (lambda: schedules.one_cycle(1, 1), "one_cycle: total must be a whole number, at least 2, got 1"),
        (lambda: schedules.one_cycle(1, 10, pct_start=1.1), "pct_start must be from 0 to 1, got 1.1"),
        (lambda: schedules.one_cycle(1, 10, div_factor=0), "div_factor must be above 0 and finite, got 0"),
        (lambda: schedules.one_cycle(1, 10, div_factor=math.inf), "div_factor must be above 0 and finite, got inf"),
        (lambda: schedules.one_cycle(1, 10, final_div_factor=-1), "final_div_factor must be above 0 and finite"),
        (lambda: schedules.inverse_sqrt(warmup=5), "either lr or d_model, got lr=None and d_model=None"),
        (lambda: schedules.inverse_sqrt(1, 5, d_model=4), "either lr or d_model, got lr=1 and d_model=4"),
        (lambda: schedules.inverse_sqrt(1, 0), "inverse_sqrt: warmup must be a whole number, at least 1, got 0"),
        (lambda: schedules.inverse_sqrt(d_model=0), "inverse_sqrt: d_model must be a whole number, at least 1"),
        (lambda: schedules.inverse_sqrt(-1), "inverse_sqrt: lr"),
    ],
)
def test_bad_arguments_are_named(make, complaint):
    with pytest.raises(ValueError) as error:
        make()
    assert complaint in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_steps_count_from_zero(name):
    schedule, _ = make_optim.make_schedules()[name]
    with pytest.raises(ValueError, match="steps count from 0, got -1"):
        schedule(-1)
