"""One run, from claim to commit, and every way in which it can end."""

import errno
from datetime import timedelta
from threading import Event, Thread

import pytest
from celery.worker import state as celery_state
from django.core.files.storage import default_storage
from django.db import OperationalError
from django.db.models.functions import Now
from django.utils import timezone

from generation import dispatch, operations, runner, storage
from generation.engines.errors import DeviceLost, ModelUnavailable, OutOfMemory
from generation.heartbeat import Heartbeat
from generation.lifecycle import Outcome, SeenBy, Status
from generation.models import Generation
from generation.worker import Worker
from tests import factories
from tests.fakes import ScriptedRuntime

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker(monkeypatch):
    """A worker whose device draws grey squares."""
    monkeypatch.setattr(dispatch, "top_up", lambda model: 0)
    return Worker(runtime=ScriptedRuntime(), device=factories.make_device())


def make_running(worker, **values):
    """Dispatch a generation and run it; returns it and its last attempt as the database has them."""
    generation = factories.make_generation(**{"num_inference_steps": 5, "dispatch_no": 1, **values})
    runner.run(generation.pk, 1, worker=worker)
    generation.refresh_from_db()
    return generation, generation.attempts.last()


def stored_files(attempt) -> list[str]:
    place = storage.folder(attempt)
    return default_storage.listdir(place)[1] if default_storage.exists(place) else []


def test_a_run_ends_with_the_images_stored(worker):
    generation, attempt = make_running(worker, num_images=2, seed=7)

    images = list(generation.images.all())
    assert generation.status == Status.SUCCEEDED
    assert [(image.index, image.seed) for image in images] == [(0, 7), (1, 8)]
    assert all(len(storage.read(image.file.name)) == image.size_bytes for image in images)
    assert (attempt.outcome, attempt.step, attempt.pipeline_seconds) == (Outcome.SUCCEEDED, 5, 0.5)


def test_a_stale_message_is_answered_with_nothing(worker):
    generation = factories.make_generation(dispatch_no=2)

    runner.run(generation.pk, 1, worker=worker)

    generation.refresh_from_db()
    assert generation.status == Status.QUEUED
    assert worker.runtime.requests == []


def test_the_same_message_twice_runs_once(worker):
    generation, _ = make_running(worker)

    runner.run(generation.pk, 1, worker=worker)

    assert len(worker.runtime.requests) == 1
    assert generation.attempts.count() == 1


def test_a_revoke_stops_the_run_at_the_next_step(worker):
    generation = factories.make_generation(num_inference_steps=5, dispatch_no=1)
    worker.runtime.at_step = lambda step: celery_state.revoked.add(f"{generation.pk}:1") if step == 2 else None

    runner.run(generation.pk, 1, worker=worker)

    generation.refresh_from_db()
    assert (generation.status, worker.runtime.steps_done) == (Status.CANCELLED, 2)
    assert (generation.attempts.get().step, generation.cancel_seen_by) == (2, SeenBy.REVOKE)


def test_the_flag_stops_the_run_when_the_revoke_got_lost(worker):
    heartbeat = Heartbeat(worker, consumer=None)
    generation = factories.make_generation(num_inference_steps=5, dispatch_no=1)

    def cancel_and_beat(step):
        if step == 3:
            Generation.objects.get(pk=generation.pk).request_cancel()
            heartbeat.renew_leases()

    worker.runtime.at_step = cancel_and_beat

    runner.run(generation.pk, 1, worker=worker)

    generation.refresh_from_db()
    assert (generation.status, worker.runtime.steps_done) == (Status.CANCELLED, 3)
    assert generation.cancel_seen_by == SeenBy.FLAG
    assert generation.device_freed_at <= generation.cancelled_at


def test_a_cancel_after_the_last_step_still_wins_and_leaves_no_file(worker):
    generation = factories.make_generation(num_inference_steps=5, dispatch_no=1)
    worker.runtime.after_last_step = lambda: operations.cancel(Generation.objects.get(pk=generation.pk))

    runner.run(generation.pk, 1, worker=worker)

    generation.refresh_from_db()
    assert generation.status == Status.CANCELLED
    assert generation.images.count() == 0
    assert stored_files(generation.attempts.get()) == []


def test_a_draining_worker_gives_its_run_back(worker):
    worker.runtime.at_step = lambda step: worker.drain() if step == 2 else None

    generation, attempt = make_running(worker)

    assert (generation.status, generation.dispatched_at) == (Status.QUEUED, None)
    assert (attempt.outcome, attempt.step) == (Outcome.RELEASED, 2)


def test_a_draining_worker_starts_nothing_new(worker):
    worker.drain()

    generation, attempt = make_running(worker)

    assert (generation.status, attempt) == (Status.QUEUED, None)


def test_a_worker_that_lost_its_claim_changes_nothing(worker):
    heartbeat = Heartbeat(worker, consumer=None)
    generation = factories.make_generation(num_inference_steps=5, dispatch_no=1)

    def lose_the_claim(step):
        if step == 2:
            row = Generation.objects.get(pk=generation.pk)
            row.lose(row.attempts.get(), detail="taken away")
            heartbeat.renew_leases()

    worker.runtime.at_step = lose_the_claim

    runner.run(generation.pk, 1, worker=worker)

    generation.refresh_from_db()
    assert (generation.status, worker.runtime.steps_done) == (Status.QUEUED, 2)


def test_a_model_that_cannot_be_loaded_fails_the_generation_with_the_reason(worker):
    worker.runtime.load_error = ModelUnavailable("There is no folder weights/nothing.")

    generation, attempt = make_running(worker)

    assert (generation.status, generation.error_code) == (Status.FAILED, "model_unavailable")
    assert (attempt.outcome, "weights/nothing" in attempt.error_detail) == (Outcome.FAILED, True)
    assert "weights/nothing" not in generation.error_detail, "paths are not for users"


def test_a_model_that_kills_its_workers_while_it_loads_is_given_up(worker, settings):
    settings.MAX_ATTEMPTS = 3
    generation = factories.make_generation(dispatch_no=1)

    def die(model):
        raise SystemExit

    worker.runtime.load = die
    for _ in range(3):
        with pytest.raises(SystemExit):
            runner.run(generation.pk, 1, worker=worker)
    runner.run(generation.pk, 1, worker=worker)

    generation.refresh_from_db()
    assert (generation.status, generation.error_code) == (Status.FAILED, "model_unavailable")


def test_a_message_is_not_made_anew_while_a_worker_loads_its_model(worker):
    generation = factories.make_generation(num_inference_steps=5, dispatch_no=1)
    heartbeat, load, overdue = Heartbeat(worker, consumer=None), worker.runtime.load, []

    def load_slowly(source):
        Generation.objects.update(dispatched_at=Now(), redispatch_at=Now() - timedelta(seconds=1))
        heartbeat.renew_leases()
        overdue.append(Generation.objects.overdue().exists())
        load(source)

    worker.runtime.load = load_slowly
    runner.run(generation.pk, 1, worker=worker)

    generation.refresh_from_db()
    assert (overdue, generation.status) == ([False], Status.SUCCEEDED)


def test_the_next_one_is_drawn_while_the_one_before_it_is_decoded(worker):
    first, second = (factories.make_generation(dispatch_no=1) for _ in range(2))
    worker.runtime.loaded, is_decoding, may_go_on = (first.model.slug,), Event(), Event()

    def decode():
        worker.runtime.after_last_step = lambda: None
        is_decoding.set()
        may_go_on.wait(10)

    worker.runtime.after_last_step = decode
    thread = Thread(target=runner.run, args=(first.pk, 1), kwargs={"worker": worker})
    thread.start()
    assert is_decoding.wait(10)

    runner.run(second.pk, 1, worker=worker)

    first.refresh_from_db(), second.refresh_from_db()
    assert (first.status, second.status) == (Status.RUNNING, Status.SUCCEEDED)
    may_go_on.set()
    thread.join(10)


def test_a_message_is_not_made_anew_while_it_waits_to_be_alone(worker):
    worker.runtime.loaded, may_go_on = (factories.make_generation().model.slug,), Event()
    worker.runtime.at_step = lambda step: may_go_on.wait(10)
    other, alone = (factories.make_generation(dispatch_no=1, runs_alone=is_alone) for is_alone in (False, True))
    threads = [Thread(target=runner.run, args=(one.pk, 1), kwargs={"worker": worker}) for one in (other, alone)]
    threads[0].start()
    while not worker.watches():
        pass
    threads[1].start()
    while not worker.places._want_to_be_alone:
        pass

    Generation.objects.filter(pk=alone.pk).update(dispatched_at=Now(), redispatch_at=Now() - timedelta(seconds=1))
    Heartbeat(worker, consumer=None).renew_leases()
    is_overdue = Generation.objects.overdue().exists()
    may_go_on.set()
    for thread in threads:
        thread.join(10)

    alone.refresh_from_db()
    assert (is_overdue, alone.status) == (False, Status.SUCCEEDED)


def test_a_database_that_is_away_before_the_claim_costs_only_the_message(worker, monkeypatch):
    generation = factories.make_generation(dispatch_no=1, dispatched_at=timezone.now(), redispatch_at=timezone.now())
    monkeypatch.setattr(runner, "PAUSES_WITHOUT_DATABASE_SECONDS", (0,))

    def refuse(self, **_):
        raise OperationalError("connection refused")

    with monkeypatch.context() as away:
        away.setattr(Generation, "claim", refuse)
        runner.run(generation.pk, 1, worker=worker)

    generation.refresh_from_db()
    assert (generation.status, generation.dispatched_at, generation.redispatch_at) == (Status.QUEUED, None, None)


def test_an_unexpected_error_while_loading_fails_the_generation(worker):
    worker.runtime.load_error = RuntimeError("no such device")

    generation, _ = make_running(worker)

    assert (generation.status, generation.error_code) == (Status.FAILED, "model_unavailable")


def test_an_error_of_the_engine_keeps_its_code(worker):
    def run_out(step):
        raise OutOfMemory("Too large for this device; ask for fewer or smaller images.")

    worker.runtime.at_step = run_out

    generation, _ = make_running(worker)

    assert (generation.status, generation.error_code) == (Status.FAILED, "out_of_memory")


@pytest.mark.parametrize("poison", [MemoryError, SystemExit, KeyboardInterrupt, RuntimeError])
def test_nothing_that_a_pipeline_raises_leaves_the_task(worker, poison):
    def raise_poison(step):
        raise poison

    worker.runtime.at_step = raise_poison
    generation, _ = make_running(worker)
    worker.runtime.at_step = lambda step: None
    next_one, _ = make_running(worker)

    assert (generation.status, generation.error_code) == (Status.FAILED, "internal_error")
    assert next_one.status == Status.SUCCEEDED


def test_a_lost_device_puts_the_generation_back_and_ends_the_worker(worker, monkeypatch):
    ended = []
    monkeypatch.setattr(worker, "give_up", lambda: ended.append(True))

    def lose_device(step):
        raise DeviceLost("CUDA error: an illegal memory access was encountered")

    worker.runtime.at_step = lose_device

    generation, attempt = make_running(worker)

    assert (generation.status, attempt.outcome, ended) == (Status.QUEUED, Outcome.LOST, [True])


def test_a_storage_that_stays_away_fails_it_after_some_tries(worker, monkeypatch):
    tries = []
    monkeypatch.setattr(storage, "PAUSES_BETWEEN_TRIES_SECONDS", (0, 0))

    def refuse(name, content):
        tries.append(name)
        raise OSError("No space left on device")

    monkeypatch.setattr(default_storage, "save", refuse)

    generation, _ = make_running(worker)

    assert (generation.status, generation.error_code, len(tries)) == (Status.FAILED, "storage_unavailable", 3)


def test_a_full_disk_has_its_own_code(worker, monkeypatch):
    monkeypatch.setattr(storage, "PAUSES_BETWEEN_TRIES_SECONDS", ())

    def refuse(name, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(default_storage, "save", refuse)

    generation, _ = make_running(worker)

    assert (generation.status, generation.error_code) == (Status.FAILED, "storage_full")


def test_a_storage_that_comes_back_costs_no_second_run(worker, monkeypatch):
    monkeypatch.setattr(storage, "PAUSES_BETWEEN_TRIES_SECONDS", (0, 0))
    save, refusals = default_storage.save, iter([OSError("away")])

    def refuse_once(name, content):
        for error in refusals:
            raise error
        return save(name, content)

    monkeypatch.setattr(default_storage, "save", refuse_once)

    generation, _ = make_running(worker)

    assert (generation.status, len(worker.runtime.requests)) == (Status.SUCCEEDED, 1)


def test_a_database_that_comes_back_costs_no_second_run(worker, monkeypatch):
    monkeypatch.setattr(runner, "PAUSES_WITHOUT_DATABASE_SECONDS", (0, 0))
    succeed, refusals = Generation.succeed, iter([OperationalError("away")])

    def refuse_once(self, attempt, *, images):
        for error in refusals:
            raise error
        return succeed(self, attempt, images=images)

    monkeypatch.setattr(Generation, "succeed", refuse_once)

    generation, _ = make_running(worker)

    assert (generation.status, len(worker.runtime.requests)) == (Status.SUCCEEDED, 1)


def test_what_fails_after_the_commit_costs_no_image(worker, monkeypatch):
    def fail(*words: object) -> None:
        raise ValueError

    monkeypatch.setattr(
        runner.kill_points, "reach", lambda point, _: fail() if point == "after_result_commit" else None
    )

    generation, attempt = make_running(worker)

    assert generation.status == Status.SUCCEEDED
    assert len(stored_files(attempt)) == 2


def test_a_database_that_stays_away_after_a_commit_keeps_the_images(worker, monkeypatch):
    monkeypatch.setattr(runner, "PAUSES_WITHOUT_DATABASE_SECONDS", ())
    succeed = Generation.succeed

    def commit_and_go_away(self, attempt, *, images):
        succeed(self, attempt, images=images)
        raise OperationalError("connection lost")

    monkeypatch.setattr(Generation, "succeed", commit_and_go_away)

    generation, attempt = make_running(worker)

    assert generation.status == Status.SUCCEEDED
    assert len(stored_files(attempt)) == 2


def test_a_commit_whose_answer_got_lost_keeps_its_images(worker, monkeypatch):
    monkeypatch.setattr(runner, "PAUSES_WITHOUT_DATABASE_SECONDS", (0, 0))
    succeed, refusals = Generation.succeed, iter([OperationalError("connection lost")])

    def commit_and_lose_the_answer(self, attempt, *, images):
        is_done = succeed(self, attempt, images=images)
        for error in refusals:
            raise error
        return is_done

    monkeypatch.setattr(Generation, "succeed", commit_and_lose_the_answer)

    generation, attempt = make_running(worker)

    assert (generation.status, attempt.outcome) == (Status.SUCCEEDED, Outcome.SUCCEEDED)
    assert len(stored_files(attempt)) == 2


def test_a_model_that_is_not_assigned_is_forgotten_but_never_during_a_run(worker, model):
    worker.device.serves.add(factories.make_model(slug="other", is_default=False))
    seen = []

    def look(step):
        worker.forget_models({"other"})
        seen.append(model.slug in worker.runtime.loaded)

    worker.runtime.at_step = look
    make_running(worker, model=model)
    worker.forget_models({"other"})

    assert set(seen) == {True}
    assert worker.runtime.loaded == ()
