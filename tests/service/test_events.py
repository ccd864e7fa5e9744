"""Live events of a real service, from the worker to the client."""

from tests.service.running import LONG, Running
from tests.serving import opened


def listen(service: Running, generation):
    address = str(service.client.base_url)
    return opened(address, f"/api/generations/{generation['id']}/events/", **dict(service.client.headers))


def test_a_listener_follows_a_generation_to_its_end(service):
    generation = service.submit(**LONG | {"num_inference_steps": 30})

    with listen(service, generation) as stream:
        events = stream.rest()

    assert (events[0].kind, events[0].data["id"]) == ("snapshot", generation["id"])
    steps = [event.data["step"] for event in events if event.kind == "progress"]
    assert steps and steps == sorted(steps)
    assert (events[-1].kind, events[-1].data["status"]) == ("finished", "succeeded")
    assert service.look(generation)["status"] == "succeeded"


def test_who_listens_to_a_running_one_sees_what_becomes_of_it(service):
    generation = service.submit(**LONG)

    with listen(service, generation) as stream:
        preview = stream.until("preview")
        service.client.post(generation["links"]["cancel"]).raise_for_status()
        rest = stream.rest()

    assert preview.data["image"].startswith("data:image/webp;base64,")
    assert (rest[-1].kind, rest[-1].data["status"]) == ("finished", "cancelled")


def test_who_waits_hears_that_the_line_moves(service):
    running = [service.submit(**LONG) for _ in range(2)]  # both devices, each of which takes one at a time
    for generation in running:
        service.wait(generation, until=lambda seen: seen["status"] == "running")
    ahead, last = service.submit(), service.submit()

    with listen(service, last) as stream:
        first = stream.next()
        service.client.post(ahead["links"]["cancel"]).raise_for_status()
        while stream.until("position").data["position"] != 1:
            pass  # where it was when the housekeeper looked first
        for generation in [*running, last]:
            service.client.post(generation["links"]["cancel"])
        end = stream.rest()[-1]

    assert first.data["position"] == 2
    assert (end.kind, end.data["status"]) == ("finished", "cancelled")
