"""An attempt goes on from the step that an earlier one has saved, or starts over and says why."""

import pytest

from generation import dispatch, runner, saved_states
from generation.engines.errors import OutOfMemory, UnusableState
from generation.heartbeat import Heartbeat
from generation.lifecycle import Outcome, Status
from generation.models import Attempt, Device, Generation
from generation.worker import Worker
from tests import factories
from tests.fakes import ScriptedRuntime

pytestmark = pytest.mark.django_db(transaction=True)

STEPS = 9


@pytest.fixture(autouse=True)
def saved_at_each_step(settings, broker, monkeypatch):
    """States are in Redis, and each step is saved."""
    settings.SAVE_SECONDS = 1e-9
    monkeypatch.setattr("generation.saving.SHARE", 1e9)
    monkeypatch.setattr(dispatch, "top_up", lambda model: 0)


def make_worker(**traits) -> Worker:
    """A worker on a device of its own, whose runtime can save unless said otherwise."""
    worker = Worker(runtime=ScriptedRuntime(), device=factories.make_device(index=Device.objects.count()))
    for name, value in ({"saves": True} | traits).items():
        setattr(worker.runtime, name, value)
    return worker


def make_generation(**values) -> Generation:
    return factories.make_generation(**{"num_inference_steps": STEPS, "dispatch_no": 1, **values})


def run(generation: Generation, worker: Worker) -> Generation:
    """Run it on the worker; returns it as the database has it then."""
    Generation.objects.filter(pk=generation.pk).update(dispatch_no=1)
    runner.run(generation.pk, 1, worker=worker)
    generation.refresh_from_db()
    return generation


def stop_politely(worker: Worker, *, at_step: int) -> Worker:
    """Have it drained when it comes to that step."""
    worker.runtime.at_step = lambda step: worker.drain() if step == at_step else None
    return worker


def lose(worker: Worker, *, at_step: int) -> Worker:
    """Have it beat and then lose its claim while it takes that step; all that it saved before is put away."""

    def wait_and_lose(step: int) -> None:
        watch = worker.watches()[0]
        watch.saving.wait()
        if step == at_step:
            Heartbeat(worker, consumer=None).renew_leases()
            attempt = Attempt.objects.open().get(claim_token=watch.claim_token)
            attempt.generation.lose(attempt, detail="killed")
            watch.is_lost = True

    worker.runtime.at_step = wait_and_lose
    return worker


def handed_over(*, at_step: int = 4) -> Generation:
    """One that a worker has given back at that step."""
    return run(make_generation(), stop_politely(make_worker(), at_step=at_step))


def starts_and_ends(generation: Generation) -> list[tuple[int | None, int | None]]:
    return list(generation.attempts.values_list("resumed_from_step", "step"))


def test_after_a_polite_stop_the_next_attempt_goes_on_from_the_very_step():
    generation, other = handed_over(at_step=4), make_worker()

    run(generation, other)

    assert (generation.status, other.runtime.resumed_from) == (Status.SUCCEEDED, [4])
    assert starts_and_ends(generation) == [(None, 4), (4, STEPS)]
    assert generation.resumed_from_step == 4


def test_after_a_loss_the_next_attempt_goes_on_from_the_last_step_that_was_saved():
    generation, other = make_generation(), make_worker()

    run(generation, lose(make_worker(), at_step=6))
    run(generation, other)

    assert (generation.status, other.runtime.resumed_from) == (Status.SUCCEEDED, [5])
    assert list(generation.attempts.values_list("outcome", flat=True)) == [Outcome.LOST, Outcome.SUCCEEDED]


def test_a_generation_can_be_handed_over_again_and_again():
    generation = handed_over(at_step=2)

    for step in (5, 7):
        run(generation, stop_politely(make_worker(), at_step=step))
    run(generation, make_worker())

    assert starts_and_ends(generation) == [(None, 2), (2, 5), (5, 7), (7, STEPS)]


def test_progress_stays_where_it_is_while_it_waits_and_when_it_goes_on():
    generation, other = handed_over(at_step=4), make_worker()
    waiting = generation.step
    seen = []

    def beat_and_look(step):
        Heartbeat(other, consumer=None).renew_leases()
        seen.append(Generation.objects.get(pk=generation.pk).step)

    other.runtime.at_step = beat_and_look
    run(generation, other)

    assert (waiting, seen[:2]) == (4, [4, 5])


def test_a_beat_notes_what_is_saved_so_that_progress_after_a_loss_is_true():
    generation = run(make_generation(), lose(make_worker(), at_step=6))

    assert (generation.status, generation.step, generation.saved_step) == (Status.QUEUED, 5, 5)


def test_without_a_state_progress_goes_back_to_nothing():
    generation = run(make_generation(), stop_politely(make_worker(saves=False), at_step=4))

    assert (generation.status, generation.step) == (Status.QUEUED, 0)
    assert run(generation, make_worker()).resumed_from_step is None


def test_a_state_that_is_gone_costs_only_its_steps(broker):
    generation, other = handed_over(), make_worker()
    broker.flushall()

    run(generation, other)

    attempt = generation.attempts.last()
    assert (generation.status, other.runtime.resumed_from) == (Status.SUCCEEDED, [])
    assert (attempt.resumed_from_step, attempt.start_note) == (None, "The state after step 4 was not found.")


def test_a_state_of_a_model_that_has_changed_is_not_used():
    generation, other = handed_over(), make_worker()
    type(generation.model).objects.update(dtype="float16")

    run(generation, other)

    assert (generation.status, other.runtime.resumed_from) == (Status.SUCCEEDED, [])
    assert "not one of this request" in generation.attempts.last().start_note


@pytest.mark.parametrize("refusal", [UnusableState("It has another noise schedule."), RuntimeError("no attribute")])
def test_a_state_that_the_engine_cannot_use_costs_only_its_steps(refusal):
    generation, other = handed_over(), make_worker()
    generate = other.runtime.generate

    def refuse(request, *, on_step, resume_from=None):
        if resume_from is not None:
            raise refusal
        return generate(request, on_step=on_step)

    other.runtime.generate = refuse
    run(generation, other)

    attempt = generation.attempts.last()
    assert (generation.status, generation.resumed_from_step) == (Status.SUCCEEDED, None)
    assert (attempt.resumed_from_step, attempt.start_note) == (None, str(refusal))


def test_what_fails_after_a_further_step_is_no_fault_of_the_state():
    generation, other = handed_over(), make_worker()

    def run_out(step):
        if step == 6:
            raise OutOfMemory("Ask for fewer or smaller images.")

    other.runtime.at_step = run_out
    run(generation, other)

    assert (generation.status, generation.error_code) == (Status.FAILED, "out_of_memory")
    assert other.runtime.resumed_from == [4]


def test_a_worker_that_is_stopped_after_the_last_step_finishes_the_picture():
    generation = run(make_generation(), stop_politely(make_worker(), at_step=STEPS))

    assert (generation.status, generation.attempts.count()) == (Status.SUCCEEDED, 1)


def test_a_worker_that_is_stopped_before_it_has_gone_on_hands_over_what_it_found():
    generation, other = handed_over(at_step=4), make_worker()
    other.runtime.at_step = lambda step: other.drain()
    other.runtime.saves = False

    run(generation, other)

    assert (generation.status, generation.step) == (Status.QUEUED, 4)
    assert run(generation, make_worker()).resumed_from_step == 4


def test_nothing_is_kept_of_a_generation_that_has_ended(broker):
    generation, other = handed_over(), make_worker()
    assert broker.exists(saved_states.key(generation.pk))
    forgotten = []
    other.runtime.after_last_step = lambda: forgotten.append(other.watches()[0].saving)

    run(generation, other)
    forgotten[0].wait()

    assert not broker.exists(saved_states.key(generation.pk))


def test_a_first_attempt_looks_nowhere(monkeypatch):
    looks = []
    monkeypatch.setattr(saved_states, "find", lambda generation_id: looks.append(generation_id) or [])

    run(make_generation(), make_worker())

    assert looks == []
