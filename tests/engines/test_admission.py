"""Who becomes a member when, and how somebody gives up waiting for it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.engines.tiny import WIDTH, AtMost, Cancelled, callee_of, cancel, sample, take_apart


def test_who_came_first_is_admitted_first_though_a_later_one_would_fit(threads, denoiser):
    callee = callee_of(denoiser, limits=AtMost(3))
    calls = [take_apart(callee, sample(count), 0.0) for count in (2, 3, 1)]
    with threads.membership() as one, threads.membership() as second, threads.membership() as third:
        threads.batcher.run(calls[0], member=one)
        waiting = threads.ask(calls[1], member=second)
        behind = threads.ask(calls[2], member=third)
        assert not waiting.done() and not behind.done()

        threads.batcher.leave(one)
        waiting.result(60)
        threads.batcher.leave(second)

        behind.result(60)
    assert denoiser.counts == [2, 3, 1]


def test_who_does_not_fit_waits_until_somebody_leaves(threads, denoiser):
    callee = callee_of(denoiser, limits=AtMost(2))
    call = take_apart(callee, sample(2), 0.0)
    with threads.membership() as one, threads.membership() as other:
        threads.batcher.run(call, member=one)
        answer = threads.ask(call, member=other)
        threads.batcher.run(call, member=one)
        assert not answer.done()

        threads.batcher.leave(one)

        answer.result(60)
    assert denoiser.counts == [2, 2, 2]


def test_a_call_of_more_rows_than_pay_off_is_admitted_where_nobody_is(threads, denoiser):
    call = take_apart(callee_of(denoiser, limits=AtMost(2)), sample(3), 0.0)

    with threads.membership() as member:
        output = threads.batcher.run(call, member=member)

    assert output[0].shape == (3, WIDTH)


def test_who_shares_with_nobody_waits_for_nobody(threads, denoiser):
    callee = callee_of(denoiser, limits=AtMost(1))
    with threads.membership() as one, threads.membership() as other:
        threads.batcher.run(take_apart(callee, sample(), 0.0), member=one)

        threads.batcher.run(take_apart(callee, sample(), 0.0, scale=2.0), member=other)

    assert denoiser.counts == [1, 1]


@pytest.mark.usefixtures("look_often")
def test_what_is_raised_while_waiting_for_room_comes_out(threads, denoiser):
    call = take_apart(callee_of(denoiser, limits=AtMost(1)), sample(), 0.0)
    with threads.membership() as one, threads.membership() as other:
        threads.batcher.run(call, member=one)

        with pytest.raises(Cancelled):
            threads.batcher.run(call, member=other, while_waiting=cancel)


@pytest.mark.usefixtures("look_often")
def test_who_gave_up_waiting_is_in_nobodys_way(threads, denoiser):
    call = take_apart(callee_of(denoiser, limits=AtMost(1)), sample(), 0.0)
    gives_up = threading.Event()
    with threads.membership() as one, threads.membership() as other, threads.membership() as third:
        threads.batcher.run(call, member=one)
        given_up = threads.ask(call, member=other, while_waiting=lambda: gives_up.is_set() and cancel())
        answer = threads.ask(call, member=third)

        gives_up.set()
        assert isinstance(given_up.exception(60), Cancelled)
        threads.batcher.leave(one)

        answer.result(60)
    assert denoiser.counts == [1, 1]


@pytest.mark.usefixtures("look_often")
def test_others_go_on_while_somebody_is_asked_whether_it_still_waits(threads, denoiser):
    call = take_apart(callee_of(denoiser, limits=AtMost(1)), sample(), 0.0)
    with threads.membership() as one, threads.membership() as other, ThreadPoolExecutor(1) as pool:
        threads.batcher.run(call, member=one)

        def let_the_other_leave():
            pool.submit(threads.batcher.leave, one).result(20)

        threads.batcher.run(call, member=other, while_waiting=let_the_other_leave)

    assert denoiser.counts == [1, 1]


@pytest.mark.usefixtures("look_often")
def test_who_takes_the_place_of_one_who_leaves_is_waited_for_at_once(threads, denoiser):
    call = take_apart(callee_of(denoiser, limits=AtMost(2)), sample(), 0.0)
    with threads.membership() as one, threads.membership() as stays, threads.membership() as next_one:
        threads.batcher.run(call, member=one)
        threads.batcher.run(call, member=stays)
        is_asked, goes_on = threading.Event(), threading.Event()

        def be_slow():
            is_asked.set()
            goes_on.wait(60)

        waiting = threads.ask(call, member=next_one, while_waiting=be_slow)
        assert is_asked.wait(60)

        threads.batcher.leave(one)

        assert next_one in threads.batcher._members
        goes_on.set()
        waiting.result(60)
