"""fal's own client, unmodified, past the queue: `run()` and `stream()`."""

import threading
from datetime import timedelta

import httpx
import pytest
from django.db import connections
from django.db.models.functions import Now

from generation import housekeeping
from generation.engines.errors import OutOfMemory
from generation.events.event import Event, Kind
from generation.events.publisher import publisher
from generation.models import Generation
from tests.dialects.test_fal import APP, SMALL


def test_run_answers_with_the_pictures(fal, service):
    result = fal.run(APP, arguments=SMALL | {"seed": 7})

    (image,) = result["images"]
    assert result["seed"] == 7
    assert httpx.get(image["url"]).headers["content-type"] == "image/png"


def test_run_raises_what_keeps_it_from_making_any(fal, service):
    def fail(step: int) -> None:
        raise OutOfMemory("The picture is too large for this device.")

    service.worker.runtime.at_step = fail

    with pytest.raises(fal.FalClientHTTPError) as raised:
        fal.run(APP, arguments=SMALL)

    assert raised.value.status_code == 500
    assert "too large" in raised.value.message


def test_run_refuses_what_no_model_takes(fal, service):
    with pytest.raises(fal.FalClientHTTPError) as raised:
        fal.run(APP, arguments=SMALL | {"num_images": 1000})

    assert raised.value.status_code == 422


def test_stream_ends_with_the_pictures(fal, service):
    events = list(fal.stream(APP, arguments=SMALL | {"seed": 7}))

    assert events[-1]["seed"] == 7
    assert httpx.get(events[-1]["images"][0]["url"]).status_code == 200


def test_stream_shows_previews(fal, service):
    seen = threading.Event()

    def show(step: int) -> None:
        if step == 2:
            generation = Generation.objects.get()
            while not publisher.hears(str(generation.owner_id), str(generation.pk)):
                publisher.ask_who_listens()
            publisher.publish(preview_of(generation))
            seen.wait(20)

    service.worker.runtime.at_step = show
    events = fal.stream(APP, arguments=SMALL)

    first = next(events)
    seen.set()

    assert first["images"][0]["url"].startswith("data:image/webp;base64,")
    assert len(list(events)) == 1


def preview_of(generation: Generation) -> Event:
    data = {"step": 1, "total": 3}
    return Event(str(generation.owner_id), Kind.PREVIEW, str(generation.pk), data, draw=lambda: b"webp")


def test_a_run_that_does_not_start_in_time_makes_no_second_one(fal, service):
    service.hold()

    def end() -> None:
        while not Generation.objects.update(start_by=Now() - timedelta(seconds=1)):
            pass
        housekeeping.end_overdue()
        connections.close_all()

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(fal.FalClientHTTPError) as raised:
        fal.run(APP, arguments=SMALL, start_timeout=30)
    thread.join()

    assert raised.value.status_code == 504
    assert Generation.objects.count() == 1
