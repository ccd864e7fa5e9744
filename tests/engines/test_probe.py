"""What a compiled forward is compared with before it is used, on the CPU."""

import pytest
import torch

from generation.engines.compiling import Probe
from tests.engines.tiny import Denoiser, callee_of, sample, take_apart


class OneTimeForAll(Denoiser):
    """Takes the time of the first row for all."""

    def forward(self, sample, timestep):
        return super().forward(sample, timestep[:1].expand(len(sample)))


class FirstRowForAll(Denoiser):
    """Gives every row what the first one should have."""

    def forward(self, sample, timestep):
        return (super().forward(sample, timestep)[0][:1].expand(len(sample), -1),)


class NanBehind(Denoiser):
    """Gives NaN in the last row."""

    def forward(self, sample, timestep):
        output = super().forward(sample, timestep)[0].clone()
        output[-1] = torch.nan
        return (output,)


@pytest.fixture
def call():
    return take_apart(callee_of(Denoiser()), sample(4), torch.full((4,), 500.0))


def error_with(function, call, *, count):
    probe = Probe(call, least_rows=2)
    with torch.no_grad():
        return probe.error_of(probe.call(count).to(function)), probe.tolerated_error


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_forward_that_does_the_same_is_within_the_tolerance(call, count):
    error, tolerated = error_with(Denoiser(), call, count=count)

    assert error <= tolerated


@pytest.mark.parametrize("module", [OneTimeForAll, FirstRowForAll, NanBehind])
def test_a_forward_that_mixes_rows_up_is_not(call, module):
    error, tolerated = error_with(module(), call, count=4)

    assert not error <= tolerated
