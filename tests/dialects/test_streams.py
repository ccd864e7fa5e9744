"""Streams of the dialects are let in and counted as those of our own API."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from api.models import ApiKey
from generation import operations
from generation.models import Generation
from generation.parameters import Wishes

PLACES = ["replicate/v1/predictions/{id}/stream", "fal/pictor/fluent-emoji-256/requests/{id}/status/stream"]


@pytest.fixture
def waiting(service, user, model) -> Generation:
    """One that waits."""
    service.hold()
    return operations.submit(Wishes(prompt="a red apple", num_inference_steps=2), owner=user)


@contextmanager
def opened(service, place: str, generation: Generation) -> Iterator[httpx.Response]:
    """The stream, for the length of the block."""
    word = "Key" if place.startswith("fal") else "Bearer"
    with (
        httpx.Client(base_url=service.address, trust_env=False, timeout=20) as http,
        http.stream(
            "GET", place.format(id=generation.pk), headers={"Authorization": f"{word} {service.key}"}
        ) as response,
    ):
        yield response


@pytest.mark.parametrize("place", PLACES)
def test_who_has_as_many_open_as_allowed_is_told_to_wait(service, waiting, settings, place):
    settings.MAX_EVENT_STREAMS_PER_USER = 1

    with opened(service, place, waiting) as first, opened(service, place, waiting) as second:
        codes = (first.status_code, second.status_code)

    assert codes == (200, 429)


@pytest.mark.parametrize("place", PLACES)
def test_a_key_that_was_revoked_hears_nothing_of_the_end(service, waiting, place):
    with opened(service, place, waiting) as stream:
        ApiKey.objects.all().delete()
        service.let_go()
        heard = stream.read().decode()

    assert "data:image" not in heard
    assert "COMPLETED" not in heard


@pytest.mark.parametrize("place", PLACES)
def test_head_opens_no_stream(service, waiting, place):
    word = "Key" if place.startswith("fal") else "Bearer"

    response = httpx.head(
        f"{service.address}/{place.format(id=waiting.pk)}",
        headers={"Authorization": f"{word} {service.key}"},
        trust_env=False,
    )

    assert response.status_code == 405
