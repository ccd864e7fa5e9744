"""Who is to blame when workers die: the generation or the device."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db.models.functions import Now

from generation import dispatch, runner
from generation.lifecycle import Outcome, Status
from generation.models import Device, Generation
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

    assert device.trust()
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

    assert not device.trust(tested_at=device.quarantined_at - timedelta(seconds=1))
