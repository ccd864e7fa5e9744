"""Workers that are killed, paused, stopped and poisoned."""

import signal

import pytest

from generation.lifecycle import Outcome, Status
from tests.faults.cluster import LONG, WORKERS
from tests.faults.conftest import on_every_broker


@on_every_broker
def test_3_a_worker_killed_at_a_step_costs_one_attempt(cluster):
    generation, worker = cluster.start_one()

    cluster.kill(worker)

    assert cluster.wait(generation)["status"] == Status.SUCCEEDED
    assert cluster.outcomes(generation) == [Outcome.LOST, Outcome.SUCCEEDED]
    cluster.deliver_again(generation)  # what Redis does when the time to acknowledge is over
    assert cluster.wait(cluster.submit())["status"] == Status.SUCCEEDED
    assert cluster.outcomes(generation) == [Outcome.LOST, Outcome.SUCCEEDED]


def test_4_a_worker_killed_after_the_upload_leaves_the_images_of_the_second_run(cluster):
    cluster.order("after_upload", "SIGKILL")

    generation = cluster.wait(cluster.submit(num_images=2))

    assert (generation["status"], len(generation["images"])) == (Status.SUCCEEDED, 2)
    assert cluster.outcomes(generation) == [Outcome.LOST, Outcome.SUCCEEDED]


@on_every_broker
def test_5_a_worker_killed_after_the_commit_changes_nothing_any_more(cluster):
    cluster.order("after_result_commit", "SIGKILL")

    generation = cluster.wait(cluster.submit())
    cluster.mend()
    cluster.deliver_again(generation)
    cluster.wait(cluster.submit())

    assert cluster.look(generation)["finished_at"] == generation["finished_at"]
    assert cluster.outcomes(generation) == [Outcome.SUCCEEDED]


def test_7_a_worker_that_was_paused_beyond_its_lease_comes_too_late(cluster):
    generation, worker = cluster.start_one()
    cluster.kill(worker, signal.SIGSTOP)
    cluster.wait(generation, until=lambda now: now["attempts"] == 2)

    cluster.kill(worker, signal.SIGCONT)

    assert cluster.wait(generation)["status"] == Status.SUCCEEDED
    assert cluster.outcomes(generation) == [Outcome.LOST, Outcome.SUCCEEDED]
    cluster.until(lambda: "is lost; its result is dropped" in cluster.log(worker))


def test_11_a_cancel_while_it_waits_ends_it_without_a_run(cluster):
    busy = [cluster.submit(**LONG) for _ in WORKERS]
    waiting = cluster.submit()

    cancelled = cluster.client.post(waiting["links"]["cancel"]).json()
    cluster.client.post("/api/generations/cancel/")

    assert (cancelled["status"], cancelled["cancel_seen_by"]) == (Status.CANCELLED, "waiting")
    assert cluster.outcomes(waiting) == []
    for generation in busy:
        cluster.wait(generation)


def test_11_a_cancel_while_it_runs_is_seen_at_the_next_step(cluster):
    generation, worker = cluster.start_one()
    process = cluster.processes[worker].pid

    cluster.client.post(generation["links"]["cancel"])

    ended = cluster.wait(generation)
    assert (ended["status"], ended["cancel_seen_by"]) == (Status.CANCELLED, "revoke")
    assert cluster.is_up(worker) and cluster.processes[worker].pid == process


def test_11_a_cancel_whose_broadcast_is_lost_is_seen_at_the_next_beat(cluster):
    generation, _ = cluster.start_one()

    cluster.broker.fall_silent()
    cluster.ask(f"operations.cancel(Generation.objects.get(pk={generation['id']!r})).pk")

    ended = cluster.wait(generation)
    assert (ended["status"], ended["cancel_seen_by"]) == (Status.CANCELLED, "flag")
    cluster.broker.cut()


def test_11_a_cancel_that_races_with_completion_has_one_outcome_and_says_which(cluster):
    cluster.order("after_upload", "PAUSE")  # its thread alone: a whole process may hold SQLite's lock
    generation = cluster.submit()
    cluster.until((cluster.folder / "orders/after_upload.paused").exists)

    answer = cluster.client.post(generation["links"]["cancel"])
    cluster.withdraw_orders()
    ended = cluster.wait(generation)

    assert (answer.status_code, ended["status"], ended["images"]) == (202, Status.CANCELLED, [])
    late = cluster.client.post(cluster.wait(cluster.submit())["links"]["cancel"])
    assert (late.status_code, late.json()["code"]) == (409, "already_finished")


@pytest.mark.parametrize("poison", ["MemoryError", "SystemExit", "KeyboardInterrupt"])
def test_14a_what_a_pipeline_raises_fails_the_generation_and_not_the_worker(cluster, poison):
    before = {worker: cluster.processes[worker].pid for worker in WORKERS}
    cluster.order("step-2", poison)

    generation = cluster.wait(cluster.submit())

    assert (generation["status"], cluster.outcomes(generation)) == (Status.FAILED, [Outcome.FAILED])
    assert all(cluster.is_up(worker) and cluster.processes[worker].pid == before[worker] for worker in WORKERS)


def test_14b_what_kills_every_worker_is_stopped_after_its_attempts(cluster):
    poison = cluster.submit(**LONG)
    cluster.order(f"step-3@{poison['id']}", "each SIGSEGV")
    innocent = cluster.submit()

    def mend_and_look() -> bool:
        cluster.mend()
        return cluster.look(poison)["status"] == Status.FAILED

    cluster.until(mend_and_look)

    assert cluster.look(poison)["error"]["code"] == "worker_lost"
    assert cluster.outcomes(poison) == [Outcome.LOST] * 3
    assert cluster.wait(innocent)["status"] == Status.SUCCEEDED


@on_every_broker
def test_15_a_worker_that_is_stopped_politely_hands_over_at_its_next_step(cluster):
    generation, worker = cluster.start_one()

    cluster.kill(worker, signal.SIGTERM)

    assert cluster.wait_for_end(worker) == 0
    assert cluster.wait(generation)["status"] == Status.SUCCEEDED
    assert cluster.outcomes(generation) == [Outcome.RELEASED, Outcome.SUCCEEDED]


def test_a_device_leaves_quarantine_by_itself_and_works_again(cluster):
    device = "Device.objects.filter(label='cpu0')"

    cluster.ask(f"{device}.update(quarantined_at=Now() - timedelta(minutes=2), self_tested_at=None, self_tests=0)")
    cluster.until(lambda: not cluster.ask(f"{device}.exclude(quarantined_at=None).exists()"))

    assert "succeeded, made by itself" in cluster.ask(f"{device}.get().quarantine_note")
    cluster.kill("cpu1")
    assert cluster.wait(cluster.submit())["status"] == Status.SUCCEEDED


def test_a_device_whose_test_kills_its_worker_stays_in_quarantine(cluster):
    device = "Device.objects.filter(label='cpu0')"
    cluster.order("self-test", "SIGKILL")

    cluster.ask(f"{device}.update(quarantined_at=Now() - timedelta(minutes=2), self_tested_at=None, self_tests=0)")
    cluster.wait_for_end("cpu0")

    assert cluster.ask(f"{device}.exclude(quarantined_at=None).exists()")
    assert "not heard of again" in cluster.ask(f"{device}.get().quarantine_note")
    assert cluster.wait(cluster.submit())["status"] == Status.SUCCEEDED, "the other one works on"
