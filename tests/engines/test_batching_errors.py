"""Whom an error reaches that is raised in the engine's thread."""

import weakref

import pytest
import torch

from generation.engines.errors import DeviceLost
from generation.engines.knees import Knees
from generation.engines.notebook import Notebook
from generation.engines.rows import Disassembler
from tests.engines.tiny import WIDTH, AtMost, Denoiser, callee_of, keep_busy, sample, take_apart


class Picky(Denoiser):
    """Fails with rows below zero."""

    def forward(self, sample, timestep):
        super().forward(sample, timestep)
        if (sample < 0).any():
            raise ValueError("below zero")
        return (sample + 1,)


class Narrow(Denoiser):
    """Has memory for two rows."""

    def forward(self, sample, timestep):
        super().forward(sample, timestep)
        if len(sample) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return (sample + timestep[:, None],)


class Lost(BaseException):
    """Ends a thread."""


def test_a_mistake_in_one_callers_rows_fails_that_caller_only(threads):
    picky = Picky()
    keep_busy(threads, picky)
    callee = callee_of(picky)
    values = (1.0, -1.0, 2.0)
    answers = [threads.ask(take_apart(callee, torch.full((1, WIDTH), value), 0.0)) for value in values]

    picky.gate.set()

    assert answers[0].result(60)[0][0, 0] == 2
    assert isinstance(answers[1].exception(60), ValueError)
    assert answers[2].result(60)[0][0, 0] == 3


def test_after_a_mistake_the_batcher_goes_on(threads):
    callee = callee_of(Picky())
    with pytest.raises(ValueError, match="below zero"):
        threads.batcher.run(take_apart(callee, -torch.ones(1, WIDTH), 0.0))

    output = threads.batcher.run(take_apart(callee, torch.ones(1, WIDTH), 0.0))

    assert output[0][0, 0] == 2


def test_what_a_failed_forward_made_is_gone_while_each_is_tried_alone(threads):
    picky = Picky()
    merged, is_kept = [], []

    def watch(module, args):
        if len(args[0]) == 2:
            merged.append(weakref.ref(args[0]))
        elif merged:
            is_kept.append(merged[0]() is not None)

    keep_busy(threads, picky)
    picky.register_forward_pre_hook(watch)
    answers = [threads.ask(take_apart(callee_of(picky), -torch.ones(1, WIDTH), 0.0)) for _ in range(2)]

    picky.gate.set()

    assert all(isinstance(answer.exception(60), ValueError) for answer in answers)
    assert is_kept == [False, False]


def test_where_memory_runs_out_fewer_rows_share_and_nobody_fails(threads):
    narrow = Narrow()
    keep_busy(threads, narrow)
    callee = callee_of(narrow, limits=Knees(Notebook()))
    answers = [threads.ask(take_apart(callee, sample(seed=seed), float(seed))) for seed in range(4)]

    narrow.gate.set()

    for seed, answer in enumerate(answers):
        torch.testing.assert_close(answer.result(60)[0], sample(seed=seed) + seed)
    assert narrow.counts == [4, 4, 2, 2]


def test_where_memory_ran_out_fewer_rows_share_from_then_on(threads):
    narrow = Narrow()
    callee = callee_of(narrow, limits=Knees(Notebook()))
    threads.batcher.run(take_apart(callee, sample(4), 0.0))
    narrow.counts.clear()
    keep_busy(threads, narrow)
    answers = [threads.ask(take_apart(callee, sample(), 0.0)) for _ in range(4)]

    narrow.gate.set()

    for answer in answers:
        answer.result(60)
    assert narrow.counts == [2, 2]


def test_an_error_that_ends_the_thread_reaches_all_who_wait(threads, denoiser):
    def lose():
        denoiser(sample(), 0.0)
        raise Lost

    denoiser.gate.clear()
    running = threads.start(Disassembler(callee_of(lose)).keep_whole())
    assert denoiser.has_entered.wait(60)
    waiting = threads.ask(take_apart(callee_of(denoiser), sample(), 0.0))

    denoiser.gate.set()

    assert isinstance(running.exception(60), DeviceLost)
    assert isinstance(waiting.exception(60), DeviceLost)


@pytest.mark.usefixtures("look_often")
def test_an_error_that_ends_the_thread_reaches_who_waits_for_room(threads, denoiser):
    call = take_apart(callee_of(denoiser, limits=AtMost(1)), sample(), 0.0)
    with threads.membership() as one, threads.membership() as other:
        threads.batcher.run(call, member=one)
        answer = threads.ask(call, member=other)

        with pytest.raises(DeviceLost):
            threads.batcher.run_alone(lambda: (_ for _ in ()).throw(Lost))

        assert isinstance(answer.exception(60), DeviceLost)


def test_an_error_that_ended_the_thread_reaches_who_comes_later(threads):
    def lose():
        raise Lost

    with pytest.raises(DeviceLost):
        threads.batcher.run_alone(lose)

    with pytest.raises(DeviceLost, match="Lost"):
        threads.batcher.run_alone(lambda: None)


def test_a_limit_that_cannot_be_read_ends_the_thread_and_reaches_all_who_wait(threads, denoiser):
    class Unreadable(AtMost):
        def of(self, call):
            raise TypeError("16 is a text")

    keep_busy(threads, denoiser)
    callee = callee_of(denoiser, limits=Unreadable(1))
    answers = [threads.ask(take_apart(callee, sample(), 0.0)) for _ in range(3)]

    denoiser.gate.set()

    assert all(isinstance(answer.exception(60), DeviceLost) for answer in answers)
