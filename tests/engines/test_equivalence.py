"""The gate: which modules may share forwards, and in which company their rows keep their bits."""

import math

import pytest
import torch

from generation.engines.callee import Company
from generation.engines.equivalence import Verdict, judge, relative_error, tolerated_error
from generation.engines.forwards import Forwards
from generation.engines.rows import Call, Disassembler
from tests.engines.tiny import CPU, callee_of, sample, take_apart


class Gain(torch.nn.Module):
    """Treats each row by itself, with kernels that do not depend on the number of rows."""

    def forward(self, sample, timestep):
        return (sample * 2 + timestep[:, None],)


class Mixing(Gain):
    """As batch normalization has it."""

    def forward(self, sample, timestep):
        return (super().forward(sample, timestep)[0] - sample.mean(0),)


class Restless(Gain):
    """Its last bits are others each time."""

    calls = 0

    def forward(self, sample, timestep):
        self.calls += 1
        return (super().forward(sample, timestep)[0] * (1 + 1e-6 * self.calls),)


class Crooked(Gain):
    """Its last bits depend on the place of a row."""

    def forward(self, sample, timestep):
        places = torch.arange(len(sample))[:, None]
        return (super().forward(sample, timestep)[0] * (1 + 1e-6 * places),)


class Narrow(Gain):
    """Takes no more than two rows."""

    def forward(self, sample, timestep):
        if len(sample) > 2:
            raise ValueError("two rows, no more")
        return super().forward(sample, timestep)


class Stingy(Gain):
    """Gives one row, whatever it was asked for."""

    def forward(self, sample, timestep):
        return (super().forward(sample, timestep)[0][:1],)


class Endless(Gain):
    """Gives NaN where there are more rows than two, in the rows behind these."""

    def forward(self, sample, timestep):
        output = super().forward(sample, timestep)[0]
        output[2:] = math.nan
        return (output,)


class Nowhere(Gain):
    """Gives nothing but NaN."""

    def forward(self, sample, timestep):
        return (sample * math.nan,)


def judge_module(module, *, rows=2, fixed_count=4, dtype=torch.float32):
    callee = callee_of(module, fixed_count=fixed_count)
    calls = tuple(take_apart(callee, sample(rows, seed=seed).to(dtype), float(seed)) for seed in (1, 2))
    return judge(calls, run=Forwards(CPU))


def test_a_module_that_treats_each_row_by_itself_may_be_shared():
    assert judge_module(Gain()) == Verdict(True, Company.FIXED, rows=2, shape="denoiser 4")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_module_in_half_precision_may_be_shared(dtype):
    assert judge_module(Gain(), dtype=dtype).can_share


def test_a_module_that_mixes_rows_may_not_be_shared():
    verdict = judge_module(Mixing())

    assert not verdict.can_share
    assert "differs by" in verdict.reason


def test_a_module_that_gives_other_bits_each_time_is_shared_but_not_reproducible():
    verdict = judge_module(Restless())

    assert verdict.can_share
    assert verdict.reproducible_in is None
    assert "each time" in verdict.reason


def test_a_module_whose_bits_depend_on_the_place_of_a_row_is_reproducible_alone():
    verdict = judge_module(Crooked())

    assert verdict.can_share
    assert verdict.reproducible_in is Company.NONE
    assert "place in the batch" in verdict.reason


def test_a_module_that_fails_with_more_rows_may_not_be_shared():
    verdict = judge_module(Narrow())

    assert not verdict.can_share
    assert "two rows, no more" in verdict.reason


def test_a_module_that_gives_too_few_rows_may_not_be_shared():
    assert not judge_module(Stingy(), rows=1).can_share


def test_a_module_that_gives_nan_in_company_may_not_be_shared():
    verdict = judge_module(Endless())

    assert not verdict.can_share
    assert "differs by nan" in verdict.reason


def test_a_module_that_gives_only_nan_may_not_be_shared():
    assert not judge_module(Nowhere()).can_share


def test_a_module_that_fails_alone_is_no_verdict():
    with pytest.raises(ValueError, match="two rows"):
        judge_module(Narrow(), rows=3)


def test_calls_that_cannot_be_taken_apart_may_not_be_shared():
    calls = Disassembler(callee_of(Gain()))
    whole = tuple(calls.keep_whole(sample(), torch.ones(1)) for _ in range(2))

    verdict = judge(whole, run=Forwards(CPU))

    assert not verdict.can_share
    assert "cannot be merged" in verdict.reason


def test_calls_with_different_keys_may_not_be_shared():
    callee = callee_of(Gain())
    calls = (take_apart(callee, sample(), 0.0), take_apart(callee, sample().double(), 0.0))

    assert not judge(calls, run=Forwards(CPU)).can_share


@pytest.mark.parametrize(
    "verdict", [Verdict(True, Company.FIXED, rows=2), Verdict(True, None, "Restless."), Verdict(False, reason="No.")]
)
def test_a_noted_verdict_is_the_same(verdict):
    assert Verdict.from_json(verdict.as_json()) == verdict


@pytest.mark.parametrize(
    "noted",
    [None, "yes", {}, {"can_share": True, "reproducible_in": None}, {"reproducible_in": "SOMEWHERE", "shape": ""}],
)
def test_what_is_no_verdict_of_this_version_is_none(noted):
    assert Verdict.from_json(noted) is None


def test_a_shortage_of_memory_is_no_verdict():
    def forward(sample, timestep):
        if len(sample) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return (sample,)

    calls = tuple(take_apart(callee_of(forward), sample(1, seed=seed), float(seed)) for seed in (1, 2))

    with pytest.raises(torch.OutOfMemoryError):
        judge(calls, run=Call.run)


def test_the_error_is_relative_to_the_first_output():
    assert relative_error((torch.full((4,), 2.0),), (torch.full((4,), 2.5),)) == pytest.approx(0.25)


def test_the_error_of_nothing_but_zeros_is_none():
    assert relative_error((torch.zeros(4),), (torch.zeros(4),)) == 0


def test_the_error_of_nan_is_nan():
    assert math.isnan(relative_error((torch.ones(2),), (torch.tensor([1.0, math.nan]),)))


def test_dtypes_that_nobody_knows_have_to_be_equal():
    assert tolerated_error((torch.zeros(2, dtype=torch.float64),)) == 0
