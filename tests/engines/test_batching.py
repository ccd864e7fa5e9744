"""The engine's thread: who shares a forward, and who waits for whom."""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import torch

from generation.engines import batching
from generation.engines.callee import Company
from generation.engines.rows import Disassembler
from tests.engines.tiny import WIDTH, AtMost, Cancelled, callee_of, cancel, keep_busy, sample, take_apart

# --- Sharing ---------------------------------------------------------------------------------------------


def test_calls_that_wait_at_the_same_moment_share_a_forward(threads, denoiser):
    keep_busy(threads, denoiser)
    callee = callee_of(denoiser)
    answers = [threads.ask(take_apart(callee, sample(2, seed=seed), float(seed))) for seed in range(3)]

    denoiser.gate.set()

    outputs = [answer.result(60)[0] for answer in answers]
    assert denoiser.counts == [6]
    for seed, output in enumerate(outputs):
        torch.testing.assert_close(output, denoiser(sample(2, seed=seed), float(seed))[0])


def test_calls_with_different_keys_do_not_share(threads, denoiser):
    keep_busy(threads, denoiser)
    callee = callee_of(denoiser)
    answers = [threads.ask(take_apart(callee, sample(), 0.0, scale=scale)) for scale in (1.0, 2.0)]

    denoiser.gate.set()

    assert [answer.result(60)[0].shape for answer in answers] == [(1, WIDTH), (1, WIDTH)]
    assert denoiser.counts == [1, 1]


def test_calls_that_cannot_be_taken_apart_run_alone(threads, denoiser):
    keep_busy(threads, denoiser)
    calls = Disassembler(callee_of(denoiser))
    answers = [threads.ask(calls.keep_whole(sample(2), 0.0)) for _ in range(2)]

    denoiser.gate.set()

    assert [answer.result(60)[0].shape for answer in answers] == [(2, WIDTH), (2, WIDTH)]
    assert denoiser.counts == [2, 2]


def test_no_more_rows_share_than_pay_off(threads, denoiser):
    keep_busy(threads, denoiser)
    callee = callee_of(denoiser, limits=AtMost(2))
    answers = [threads.ask(take_apart(callee, sample(), 0.0)) for _ in range(5)]

    denoiser.gate.set()

    for answer in answers:
        answer.result(60)
    assert denoiser.counts == [2, 2, 1]


def test_a_call_of_more_rows_than_pay_off_stays_whole(threads, denoiser):
    callee = callee_of(denoiser, limits=AtMost(2))

    output = threads.batcher.run(take_apart(callee, sample(5), 3.0))

    assert denoiser.counts == [5]
    torch.testing.assert_close(output[0], denoiser(sample(5), 3.0)[0])


def test_those_who_want_the_same_bits_get_a_fixed_number_of_rows(threads, denoiser):
    keep_busy(threads, denoiser)
    callee = callee_of(denoiser, fixed_count=4)
    answers = [threads.ask(take_apart(callee, sample(2), 0.0, company=Company.FIXED)) for _ in range(3)]

    denoiser.gate.set()

    assert [answer.result(60)[0].shape for answer in answers] == [(2, WIDTH)] * 3
    assert denoiser.counts == [4, 4]


def test_those_who_want_no_company_run_alone(threads, denoiser):
    keep_busy(threads, denoiser)
    callee = callee_of(denoiser)
    answers = [threads.ask(take_apart(callee, sample(2), 0.0, company=Company.NONE)) for _ in range(2)]

    denoiser.gate.set()

    for answer in answers:
        answer.result(60)
    assert denoiser.counts == [2, 2]


def test_groups_take_turns(threads, denoiser):
    order = []
    keep_busy(threads, denoiser)

    def ask(name):
        callee = callee_of(lambda sample: order.append(name), name=name, limits=AtMost(1))
        return threads.ask(take_apart(callee, sample()))

    answers = [ask(name) for name in ("a", "a", "a", "b", "b", "c")]

    denoiser.gate.set()

    for answer in answers:
        answer.result(60)
    assert order == ["a", "b", "c", "a", "b", "a"]


def test_many_members_at_once_get_what_they_get_alone(threads, denoiser):
    callee = callee_of(denoiser, limits=AtMost(8))
    scales = (1.0, 1.0, 2.0)

    def generate(seed, run):
        latents, scale = sample(1 + seed % 3, seed=seed), scales[seed % len(scales)]
        for step in range(20):
            latents = latents + 0.01 * run(take_apart(callee, latents, float(step), scale=scale))[0]
        return latents

    def in_company(seed):
        with threads.membership() as member:
            return generate(seed, lambda call: threads.batcher.run(call, member=member))

    with ThreadPoolExecutor(12) as pool, torch.no_grad():
        together = list(pool.map(in_company, range(12)))

        alone = [generate(seed, lambda call: call.run()) for seed in range(12)]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other)


# --- Waiting for each other ------------------------------------------------------------------------------


@pytest.mark.usefixtures("patience")
def test_a_forward_waits_for_a_member_that_is_between_two_steps(threads, denoiser):
    call = take_apart(callee_of(denoiser), sample(), 0.0)
    with threads.membership() as one, threads.membership() as other:
        threads.batcher.run(call, member=one)
        answer = threads.ask(call, member=other)
        threads.let_it_look()

        threads.batcher.run(call, member=one)

        answer.result(60)
    assert denoiser.counts == [1, 2]


@pytest.mark.usefixtures("patience")
def test_a_member_that_left_is_not_waited_for(threads, denoiser):
    call = take_apart(callee_of(denoiser), sample(), 0.0)
    with threads.membership() as one, threads.membership() as other:
        threads.batcher.run(call, member=one)
        answer = threads.ask(call, member=other)
        threads.let_it_look()

        threads.batcher.leave(one)

        answer.result(60)
    assert denoiser.counts == [1, 1]


@pytest.mark.usefixtures("patience")
def test_a_member_whose_generation_failed_is_not_waited_for(threads, denoiser):
    call = take_apart(callee_of(denoiser), sample(), 0.0)
    with threads.membership() as other:
        with suppress(Cancelled), threads.membership() as one:
            threads.batcher.run(call, member=one)
            answer = threads.ask(call, member=other)
            cancel()

        answer.result(60)
    assert denoiser.counts == [1, 1]


@pytest.mark.usefixtures("patience")
def test_a_member_that_went_over_to_another_group_is_not_waited_for(threads, denoiser):
    callee = callee_of(denoiser)
    with threads.membership() as one, threads.membership() as other:
        threads.batcher.run(take_apart(callee, sample(2), 0.0), member=one)
        answer = threads.ask(take_apart(callee, sample(2), 0.0), member=other)
        threads.let_it_look()

        threads.batcher.run(take_apart(callee, sample(), 0.0, scale=2.0), member=one)

        answer.result(60)
    assert denoiser.counts == [2, 2, 1]


@pytest.mark.usefixtures("patience")
def test_a_newcomer_joins_at_the_next_forward(threads, denoiser):
    call = take_apart(callee_of(denoiser), sample(), 0.0)
    with threads.membership() as one, threads.membership() as newcomer:
        denoiser.gate.clear()
        first = threads.start(call, member=one)
        assert denoiser.has_entered.wait(60)
        answer = threads.ask(call, member=newcomer)
        denoiser.gate.set()
        first.result(60)

        threads.batcher.run(call, member=one)

        answer.result(60)
    assert denoiser.counts == [1, 2]


def test_a_straggler_is_not_waited_for_while_the_device_idles(threads, denoiser):
    call = take_apart(callee_of(denoiser), sample(), 0.0)
    with threads.membership() as straggler, threads.membership() as other:
        threads.batcher.run(call, member=straggler)

        threads.batcher.run(call, member=other)

    assert denoiser.counts == [1, 1]


def test_a_group_whose_straggler_stays_away_gets_its_turn_beside_one_that_is_always_ready(
    threads, denoiser, monkeypatch
):
    monkeypatch.setattr(batching, "LINGER_SECONDS", 60.0)
    monkeypatch.setattr(batching, "PATIENCE_SECONDS", 0.0)
    callee = callee_of(denoiser)
    incomplete, busy = (take_apart(callee, sample(count), 0.0, scale=float(count)) for count in (2, 1))
    with threads.membership() as straggler, threads.membership() as waiting, threads.membership() as other:
        threads.batcher.run(incomplete, member=straggler)
        answer = threads.ask(incomplete, member=waiting)

        for _ in range(2):
            threads.batcher.run(busy, member=other)

        answer.result(60)
    assert denoiser.counts == [2, 1, 2, 1]


def test_a_function_runs_alone_in_the_thread_of_the_forwards(threads):
    name = threads.batcher.run_alone(lambda: threading.current_thread().name)

    assert name == "tiny"


# --- The end ---------------------------------------------------------------------------------------------


def test_a_closed_batcher_has_run_what_it_was_asked_before(threads, denoiser):
    keep_busy(threads, denoiser)
    answer = threads.ask(take_apart(callee_of(denoiser), sample(), 0.0))
    closing = threading.Thread(target=threads.batcher.close)
    closing.start()
    threads.wait_until(lambda: threads.batcher._is_closed)

    denoiser.gate.set()
    closing.join(60)

    assert answer.result(60)[0].shape == (1, WIDTH)


def test_a_closed_batcher_takes_nothing_more(threads, denoiser):
    threads.batcher.close()

    with pytest.raises(RuntimeError, match="closed"):
        threads.batcher.run(take_apart(callee_of(denoiser), sample(), 0.0))


def test_closing_ends_the_wait_for_room(threads, denoiser):
    call = take_apart(callee_of(denoiser, limits=AtMost(1)), sample(), 0.0)
    with threads.membership() as one, threads.membership() as other:
        threads.batcher.run(call, member=one)
        answer = threads.ask(call, member=other)

        threads.batcher.close()

        assert isinstance(answer.exception(60), RuntimeError)


def test_nothing_of_a_finished_call_is_kept(threads, denoiser):
    latents, gone = sample(), [threading.Event(), threading.Event()]
    weakref.finalize(latents, gone[0].set)
    output = threads.batcher.run(take_apart(callee_of(denoiser), latents, 0.0))
    weakref.finalize(output[0], gone[1].set)

    del latents, output

    assert all(event.wait(20) for event in gone)
