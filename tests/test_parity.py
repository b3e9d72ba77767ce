"""Outputs and gradients equal PyTorch's, frozen (everywhere) and live (where PyTorch is installed)."""

from functools import cache

import pytest

from tests import parity

ALL = [(subject, case) for subject in parity.subjects() for case in parity.cases(subject)]
ids = [f"{subject}-{case.name}" for subject, case in ALL]
frozen = cache(parity.load_frozen)


@pytest.mark.parametrize(("subject", "case"), ALL, ids=ids)
def test_equals_the_frozen_values_of_pytorch(subject, case):
    parity.compare(case, parity.run_ours(case), frozen(subject)[case.name])


@pytest.mark.torch
@pytest.mark.parametrize(("subject", "case"), ALL, ids=ids)
def test_equals_pytorch_here(subject, case):
    parity.compare(case, parity.run_ours(case), parity.run_theirs(case))
