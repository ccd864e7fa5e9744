"""Several generations on one device at once, as a user sees them."""

from generation.lifecycle import Status
from tests.service.running import LONG, SMALL, Running


def test_generations_run_at_once_and_leave_on_their_own(sharing_service: Running):
    # Two: of more, a busy processor may find that they only make each other wait.
    cancelled, other = (sharing_service.submit(**LONG | {"seed": seed}) for seed in range(2))
    for generation in (cancelled, other):
        sharing_service.wait(generation, until=lambda now: now["status"] == Status.RUNNING)

    sharing_service.client.post(cancelled["links"]["cancel"])
    end = sharing_service.wait(cancelled)
    went_on = sharing_service.look(other)["status"]

    sharing_service.client.post(other["links"]["cancel"])
    sharing_service.wait(other)
    assert (end["status"], went_on) == (Status.CANCELLED, Status.RUNNING)


def test_a_reproducible_one_has_the_same_bytes_alone_and_in_company(sharing_service: Running):
    wishes = {**SMALL, "seed": 11, "reproducible": True}
    alone = sharing_service.finish(**wishes)

    company = [sharing_service.submit(**SMALL | {"seed": seed, "num_inference_steps": 20}) for seed in range(2)]
    together = sharing_service.finish(**wishes)

    for generation in company:
        sharing_service.wait(generation)
    assert together["reproducible"] is True
    assert together["images"][0]["sha256"] == alone["images"][0]["sha256"]


def test_the_device_tells_what_it_has_found_out_about_the_model(sharing_service: Running):
    sharing_service.finish()

    (facts,) = sharing_service.ask("list(Device.objects.values_list('facts', flat=True))")

    assert facts["fluent-emoji-256"]["is_batched"] is True
    assert facts["fluent-emoji-256"]["at_once"] > 1
