"""Who is to blame when workers die: the generation or the device."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db.models.functions import Now

from generation import dispatch, runner
from generation.engines.errors import EngineError
from generation.lifecycle import Outcome, Status
from generation.models import Device, Generation
from generation.runtimes.errors import ServerUnavailable
from generation.self_test import SelfTest
from generation.worker import Worker
from tests import factories
from tests.fakes import ScriptedRuntime

pytestmark = pytest.mark.django_db


def lose_together(*generations: Generation, device: Device) -> None:
    """Claim them in one process, let it die, and rescue them."""
    process = uuid4()
    attempts = [generation.claim(device=device, dispatch_no=0, process=process) for generation in generations]
    Generation.objects.running().update(lease_until=Now() - timedelta(seconds=1))
    for generation, attempt in zip(generations, attempts, strict=True):
        assert generation.rescue(attempt)


def test_those_who_died_together_run_alone_from_then_on(model):
    first, second = factories.make_generation(), factories.make_generation()

    lose_together(first, second, device=factories.make_device())

    assert (first.runs_alone, second.runs_alone) == (True, True)


def test_one_that_died_alone_needs_not_be_kept_alone(model):
    generation = factories.make_generation()

    lose_together(generation, device=factories.make_device())

    assert not generation.runs_alone


def test_the_guilty_one_fails_after_its_attempts_and_the_innocent_does_not(model, settings):
    settings.MAX_ATTEMPTS = 3
    device = factories.make_device()
    guilty, innocent = factories.make_generation(), factories.make_generation()

    lose_together(guilty, innocent, device=device)
    lose_together(guilty, device=device)
    lose_together(guilty, device=device)

    assert (guilty.status, guilty.error_code, guilty.attempts.count()) == (Status.FAILED, "worker_lost", 3)
    assert innocent.status == Status.QUEUED


def test_losses_in_company_never_fail_a_generation(model, settings):
    settings.MAX_ATTEMPTS = 2
    generation = factories.make_generation()

    for _ in range(3):
        lose_together(generation, factories.make_generation(), device=factories.make_device(host=str(uuid4())))

    assert generation.status == Status.QUEUED


def test_three_workers_that_die_in_a_row_put_the_device_in_quarantine(model):
    device = factories.make_device()

    for _ in range(3):
        lose_together(factories.make_generation(), device=device)

    device.refresh_from_db()
    assert device.quarantined_at is not None
    assert "3 workers died" in device.quarantine_reason
    assert not Device.objects.serving(model).exists()


def test_one_generation_that_kills_every_worker_does_not_blame_the_device(model):
    device, poison = factories.make_device(), factories.make_generation()

    for _ in range(3):
        lose_together(poison, device=device)

    device.refresh_from_db()
    assert device.quarantined_at is None


def test_many_that_die_with_one_worker_are_one_death(model):
    device = factories.make_device(slots=4)

    lose_together(*(factories.make_generation() for _ in range(4)), device=device)

    device.refresh_from_db()
    assert device.quarantined_at is None


def test_a_success_in_between_clears_the_device(model):
    device = factories.make_device()
    for _ in range(2):
        lose_together(factories.make_generation(), device=device)
    factories.make_attempt(generation=factories.make_generation(), device=device, outcome=Outcome.SUCCEEDED)

    lose_together(factories.make_generation(), device=device)

    device.refresh_from_db()
    assert device.quarantined_at is None


def test_what_was_lost_before_a_release_is_forgiven(model):
    device = factories.make_device()
    for _ in range(3):
        lose_together(factories.make_generation(), device=device)
    device.refresh_from_db()

    assert device.trust(note="By hand.")
    device.refresh_from_db()
    lose_together(factories.make_generation(), device=device)

    device.refresh_from_db()
    assert device.quarantined_at is None


@pytest.fixture
def worker(monkeypatch):
    """A worker on a device in quarantine."""
    monkeypatch.setattr(dispatch, "top_up", lambda model: 0)
    device = factories.make_device(quarantined_at=Now(), quarantine_reason="It lost three.")
    device.refresh_from_db()
    return Worker(runtime=ScriptedRuntime(), device=device)


def test_a_test_picture_that_succeeds_ends_the_quarantine(worker):
    generation = factories.make_generation(pinned_to=worker.device, dispatch_no=1, num_inference_steps=2)

    runner.run(generation.pk, 1, worker=worker)

    worker.device.refresh_from_db()
    assert (worker.device.quarantined_at, worker.device.quarantine_reason) == (None, "")


def test_a_device_in_quarantine_hands_back_what_it_had_fetched_already(worker):
    generation = factories.make_generation(dispatch_no=1)

    runner.run(generation.pk, 1, worker=worker)

    generation.refresh_from_db()
    assert (generation.status, generation.dispatched_at, worker.runtime.requests) == (Status.QUEUED, None, [])


def test_a_success_that_began_before_the_quarantine_does_not_end_it(model):
    device = factories.make_device(quarantined_at=Now())
    device.refresh_from_db()

    assert not device.trust(note="Tested.", tested_at=device.quarantined_at - timedelta(seconds=1))


def ago(**time: int):
    """That long ago, on the database's clock."""
    return Now() - timedelta(**time)


def worker_in_quarantine(model, **fields) -> Worker:
    """A worker on a device that has been in quarantine for two minutes, for it lost three."""
    quarantine = {"quarantined_at": ago(minutes=2), "quarantine_reason": "It lost three."}
    device = factories.make_device(**quarantine | fields)
    device.refresh_from_db()
    return Worker(runtime=ScriptedRuntime(), device=device)


def state(device: Device) -> Device:
    """The row as it is now."""
    return Device.objects.get(pk=device.pk)


def test_a_device_in_quarantine_tests_itself_and_is_released(model):
    worker = worker_in_quarantine(model)

    SelfTest(worker).look()

    device = state(worker.device)
    assert (device.quarantined_at, device.quarantine_reason) == (None, "")
    assert "test picture 1 succeeded" in device.quarantine_note
    assert not Generation.objects.exists()
    assert Device.objects.serving(model).exists()


def test_its_test_picture_is_of_the_usual_size_and_of_few_steps(model):
    worker = worker_in_quarantine(model)

    SelfTest(worker).look()

    (request,) = worker.runtime.requests
    assert (request.width, request.height) == (model.default_width, model.default_height)
    assert request.num_inference_steps <= 4


def test_a_device_does_not_test_itself_in_the_first_minute(model):
    worker = worker_in_quarantine(model, quarantined_at=ago(seconds=30))

    SelfTest(worker).look()

    assert worker.runtime.requests == []


@pytest.mark.parametrize("kind", [EngineError, MemoryError, SystemExit])
def test_a_test_that_fails_says_why_and_the_next_comes_after_twice_the_time(model, kind):
    worker = worker_in_quarantine(model)

    def fail(step):
        raise kind("the fan is dead")

    worker.runtime.at_step = fail
    SelfTest(worker).look()
    SelfTest(worker).look()

    device = state(worker.device)
    assert device.quarantined_at is not None
    assert "picture 1 failed" in device.quarantine_note and "the fan is dead" in device.quarantine_note
    assert device.next_test_at - device.self_tested_at == timedelta(minutes=2)
    assert len(worker.runtime.requests) == 1
    assert worker.test_stepped_at is None


def test_a_test_that_kills_its_worker_is_counted_too(model):
    device = worker_in_quarantine(model).device

    assert device.begin_self_test()  # and nothing is heard of it

    assert state(device).next_test_at - state(device).self_tested_at == timedelta(minutes=2)
    assert "not heard of again" in state(device).quarantine_note


def test_the_time_between_tests_is_an_hour_at_most(model):
    device = worker_in_quarantine(model, self_tests=40, self_tested_at=Now()).device

    assert device.next_test_at - device.self_tested_at == timedelta(hours=1)


def test_of_two_who_want_to_test_a_device_one_does(model):
    device = worker_in_quarantine(model).device
    twin = state(device)

    assert (device.begin_self_test(), twin.begin_self_test()) == (True, False)


def test_a_drained_device_does_not_test_itself(model):
    worker = worker_in_quarantine(model, is_drained=True)

    SelfTest(worker).look()

    assert worker.runtime.requests == []


def test_a_device_does_not_test_itself_with_a_model_that_it_is_not_to_serve(model):
    other = factories.make_model(slug="other")
    worker = worker_in_quarantine(model)
    worker.device.serves.add(other)

    SelfTest(worker).look()

    assert [request.model.slug for request in worker.runtime.requests] == ["other"]


def test_a_worker_that_stops_does_not_wait_for_the_test(model):
    worker = worker_in_quarantine(model)
    worker.runtime.at_step = lambda step: worker.drain()

    SelfTest(worker).look()

    assert worker.runtime.steps_done == 1
    assert "stopped with its worker" in state(worker.device).quarantine_note


def test_a_test_that_loses_its_model_server_leaves_the_device_in_quarantine(model):
    worker = worker_in_quarantine(model)
    process = worker.process

    def lose(step):
        raise ServerUnavailable("it has died")

    worker.runtime.at_step = lose
    SelfTest(worker).look()

    assert state(worker.device).quarantined_at is not None
    assert worker.process != process
    assert not worker.is_able


def test_a_device_that_relapses_waits_longer_before_it_tests_itself_again(model):
    worker = worker_in_quarantine(model)
    SelfTest(worker).look()

    for _ in range(3):
        lose_together(factories.make_generation(), device=state(worker.device))

    device = state(worker.device)
    assert device.next_test_at - device.quarantined_at == timedelta(minutes=2)


def test_a_release_by_hand_forgets_the_tests_that_failed(model):
    device = worker_in_quarantine(model, self_tests=5, self_tested_at=ago(minutes=1)).device
    assert device.trust(note="By hand.")

    for _ in range(3):
        lose_together(factories.make_generation(), device=state(device))

    assert state(device).next_test_at - state(device).quarantined_at == timedelta(minutes=1)
