"""One forward of merged rows on the CPU: parts, padding, and what happens where the memory does not suffice."""

import pytest
import torch

from generation.engines.callee import Company
from generation.engines.forwards import UNMEASURED_ROWS, Forwards
from generation.engines.knees import Knees, OneAtATime
from generation.engines.notebook import Notebook
from generation.engines.rows import Disassembler, split
from tests.engines.tiny import CPU, WIDTH, AtMost, Denoiser, callee_of, sample, take_apart


class Narrow(Denoiser):
    """Has memory for so many rows."""

    def __init__(self, most):
        super().__init__()
        self.most = most

    def forward(self, sample, timestep):
        super().forward(sample, timestep)
        if len(sample) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return (sample + timestep[:, None],)


class Building:
    """What forwards see of a compiler that has something under way: its memory, once."""

    def __init__(self, denoiser, *, most):
        self.denoiser = denoiser
        self.most = most

    def give_way(self):
        has_given_way, self.denoiser.most = self.denoiser.most < self.most, self.most
        return has_given_way


@pytest.fixture
def forwards():
    return Forwards(CPU)


@pytest.fixture
def knees():
    return Knees(Notebook())


def test_rows_that_were_not_measured_share_as_many_as_there_are_buckets_for(forwards):
    assert forwards.most_rows(take_apart(callee_of(Denoiser()), sample(), 0.0)) == UNMEASURED_ROWS


def test_more_rows_than_fit_into_memory_run_in_parts(forwards, knees):
    denoiser = Denoiser()
    call = take_apart(callee_of(denoiser, limits=knees), sample(5), torch.arange(5.0))
    knees.lower(call, 2)

    output = forwards(call)

    assert denoiser.counts == [2, 2, 1]
    torch.testing.assert_close(output[0], call.run()[0])


def test_what_is_being_compiled_gives_way_before_rows_are_halved(knees):
    denoiser = Narrow(2)
    forwards = Forwards(CPU, compiler=Building(denoiser, most=5))
    call = take_apart(callee_of(denoiser, limits=knees), sample(5), torch.arange(5.0))

    forwards(call)

    assert denoiser.counts == [5, 5, 5]
    assert knees.most_in_memory(call) is None


def test_what_is_being_compiled_gives_way_to_a_call_that_cannot_be_taken_apart_too():
    denoiser = Narrow(2)
    forwards = Forwards(CPU, compiler=Building(denoiser, most=5))

    forwards(Disassembler(callee_of(denoiser)).keep_whole(sample(5), torch.arange(5.0)))

    assert denoiser.counts == [5, 5]


def test_rows_that_fit_once_other_memory_is_free_are_not_halved(forwards, knees, monkeypatch):
    denoiser = Narrow(2)
    monkeypatch.setattr(forwards, "free_memory", lambda: setattr(denoiser, "most", 5))
    call = take_apart(callee_of(denoiser, limits=knees), sample(5), torch.arange(5.0))

    forwards(call)

    assert denoiser.counts == [5, 5]
    assert knees.most_in_memory(call) is None


def test_the_rows_of_one_generation_stay_together_beyond_the_knee(forwards):
    denoiser = Denoiser()

    forwards(take_apart(callee_of(denoiser, limits=AtMost(2)), sample(5), torch.arange(5.0)))

    assert denoiser.counts == [5]


def test_a_fixed_number_of_rows_is_padded_to_exactly_that(forwards):
    denoiser = Denoiser()
    call = take_apart(callee_of(denoiser, fixed_count=4), sample(), 0.0, company=Company.FIXED)

    output = split(forwards(call), among=[call])[0]

    assert denoiser.counts == [4]
    torch.testing.assert_close(output[0], denoiser(sample(), 0.0)[0])


def test_more_rows_than_the_fixed_number_run_in_parts_of_exactly_that(forwards):
    denoiser = Denoiser()
    call = take_apart(callee_of(denoiser, fixed_count=4), sample(6), torch.arange(6.0), company=Company.FIXED)

    output = forwards(call)

    assert denoiser.counts == [4, 4]
    torch.testing.assert_close(output[0], denoiser(sample(6), torch.arange(6.0))[0])


def test_rows_that_want_no_company_are_never_parted(forwards):
    denoiser = Denoiser()

    forwards(take_apart(callee_of(denoiser, limits=AtMost(2)), sample(5), 0.0, company=Company.NONE))

    assert denoiser.counts == [5]


def test_a_call_that_cannot_be_taken_apart_is_made_as_it_is(forwards):
    denoiser = Denoiser()
    call = Disassembler(callee_of(denoiser, limits=AtMost(2))).keep_whole(sample(5), 3)

    output = forwards(call)

    assert denoiser.counts == [5]
    assert torch.equal(output[0], denoiser(sample(5), 3)[0])


def test_where_memory_runs_out_the_rows_are_halved_until_they_fit(forwards, knees):
    narrow = Narrow(2)
    call = take_apart(callee_of(narrow, limits=knees), sample(8), torch.arange(8.0))

    output = forwards(call)

    assert narrow.counts == [8, 8, 4, 2, 2, 2, 2]
    torch.testing.assert_close(output[0], sample(8) + torch.arange(8.0)[:, None])


def test_where_memory_ran_out_the_number_is_remembered(forwards, knees):
    call = take_apart(callee_of(Narrow(2), limits=knees), sample(8), 0.0)

    forwards(call)

    assert knees.of(call) == 2


def test_room_that_was_taken_again_at_once_is_not_made_again(forwards, knees):
    first, second = Narrow(2), Narrow(2)
    forwards(take_apart(callee_of(first, limits=knees), sample(4), 0.0))

    forwards(take_apart(callee_of(second, name="second", limits=knees), sample(4), 0.0))

    assert (first.counts, second.counts) == ([4, 4, 2, 2], [4, 2, 2])


def test_where_nothing_else_helps_room_is_made_as_often_as_it_takes(forwards, knees, monkeypatch):
    denoiser, saved = Narrow(0), []
    monkeypatch.setattr(forwards, "free_memory", lambda: setattr(denoiser, "most", 1))
    call = take_apart(callee_of(denoiser, limits=knees, save_memory=lambda: saved.append(1) or True), sample(1), 0.0)
    forwards(call)
    denoiser.most = 0

    forwards(call)

    assert denoiser.counts == [1, 1, 1, 1]
    assert not saved  # which could not be undone


def test_where_memory_does_not_suffice_for_one_row_the_error_comes_out(forwards, knees):
    narrow = Narrow(0)

    with pytest.raises(torch.OutOfMemoryError):
        forwards(take_apart(callee_of(narrow, limits=knees), sample(4), 0.0))

    assert narrow.counts == [4, 4, 2, 1]


def test_the_memory_of_the_machine_counts_too(forwards, knees):
    class Frugal(Denoiser):
        def forward(self, sample, timestep):
            if len(sample) > 1:
                raise MemoryError
            return super().forward(sample, timestep)

    output = forwards(take_apart(callee_of(Frugal(), limits=knees), sample(2), 0.0))

    assert output[0].shape == (2, WIDTH)


@pytest.mark.parametrize("company", [Company.FIXED, Company.NONE])
def test_rows_whose_bits_must_not_change_are_not_halved(forwards, knees, company):
    narrow = Narrow(2)

    with pytest.raises(torch.OutOfMemoryError):
        forwards(take_apart(callee_of(narrow, limits=knees, fixed_count=4), sample(4), 0.0, company=company))

    assert narrow.counts == [4, 4]


def test_rows_that_never_share_are_tried_once_more_only(forwards):
    narrow = Narrow(0)

    with pytest.raises(torch.OutOfMemoryError):
        forwards(take_apart(callee_of(narrow, limits=OneAtATime()), sample(), 0.0))

    assert narrow.counts == [1, 1]


def test_other_errors_come_out_at_once(forwards, knees):
    class Broken(Denoiser):
        def forward(self, sample, timestep):
            super().forward(sample, timestep)
            raise RuntimeError("shapes do not match")

    broken = Broken()

    with pytest.raises(RuntimeError, match="shapes"):
        forwards(take_apart(callee_of(broken, limits=knees), sample(4), 0.0))

    assert broken.counts == [4]


def test_measuring_a_number_of_rows_that_does_not_fit_is_a_memory_error(forwards):
    with pytest.raises(MemoryError):
        forwards.seconds_of(take_apart(callee_of(Narrow(2)), sample(4), 0.0))


def test_measuring_is_tried_again_once_there_is_room(forwards, monkeypatch):
    denoiser = Narrow(2)
    monkeypatch.setattr(forwards, "free_memory", lambda: setattr(denoiser, "most", 4))

    assert forwards.seconds_of(take_apart(callee_of(denoiser), sample(4), 0.0)) > 0


def test_measuring_takes_all_rows_at_once(forwards):
    denoiser = Denoiser()

    forwards.seconds_of(take_apart(callee_of(denoiser, limits=AtMost(1)), sample(4), 0.0))

    assert denoiser.counts == [4]


def test_a_single_row_that_does_not_fit_is_tried_again_where_memory_can_be_saved(forwards, knees):
    denoiser = Narrow(0)

    def save_memory():
        denoiser.most += 1
        return True

    forwards(take_apart(callee_of(denoiser, limits=knees, save_memory=save_memory), sample(), 0.0))

    assert denoiser.counts == [1, 1, 1]


def test_a_single_row_that_does_not_fit_fails_once_no_more_memory_can_be_saved(forwards, knees):
    answers = iter([True, False])
    call = take_apart(callee_of(Narrow(0), limits=knees, save_memory=lambda: next(answers)), sample(), 0.0)

    with pytest.raises(torch.OutOfMemoryError):
        forwards(call)

    assert next(answers, None) is None
