"""What OpenAI's client does when it gets no answer, or is refused: it sends the same again, and says so."""

import threading
from collections.abc import Callable, Iterable

import httpx
import openai
import pytest

from api.dialects.openai import views
from generation import operations, submission
from generation.models import Generation
from tests import pictures
from tests.dialects.test_openai import SMALL


@pytest.fixture(autouse=True)
def clients_are_quick(monkeypatch):
    """They wait half a second between two tries otherwise."""
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr(openai._base_client, "MAX_RETRY_DELAY", 0.01)


class Meddling(httpx.HTTPTransport):
    """Does each of `deeds` to one request, in their order; further ones are left alone."""

    def __init__(self, deeds: Iterable[Callable[[Callable[[], httpx.Response]], httpx.Response]]) -> None:
        super().__init__()
        self.deeds = iter(deeds)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, unless the deed does otherwise."""
        send = super().handle_request
        deed = next(self.deeds, None)
        return deed(lambda: send(request)) if deed else send(request)


def lose(send: Callable[[], httpx.Response]) -> httpx.Response:
    """The request arrives; its answer is lost."""
    response = send()
    response.read()
    response.close()
    raise httpx.ReadError("The connection was lost.")


def client_that(service, *deeds) -> openai.OpenAI:
    http = httpx.Client(transport=Meddling(deeds), trust_env=False)
    return openai.OpenAI(base_url=f"{service.address}/openai/v1", api_key=service.key, http_client=http)


def test_a_retry_after_a_lost_answer_makes_no_second_picture(service):
    response = client_that(service, lose).images.generate(prompt="a red apple", **SMALL)

    assert len(response.data) == 1
    assert Generation.objects.count() == 1


def test_a_retry_with_a_file_makes_no_second_picture_either(service):
    image = ("a.png", pictures.png(size=(64, 64)))

    client_that(service, lose).images.edit(image=image, prompt="a red apple")

    assert Generation.objects.count() == 1


def test_a_retry_that_overtakes_the_first_try_makes_no_second_picture(service, user, monkeypatch):
    draw_up, first = submission.draw_up, []

    def store_another_meanwhile(asked, *arguments, **options):
        if not first:
            first.append(asked)
            operations.submit(asked.wishes, owner=user)
        return draw_up(asked, *arguments, **options)

    monkeypatch.setattr(submission, "draw_up", store_another_meanwhile)
    client = client_that(service)

    client.images.generate(prompt="a red apple", extra_headers={"x-stainless-retry-count": "1"}, **SMALL)

    assert Generation.objects.count() == 1


@pytest.mark.parametrize("limit", ["MAX_WAITING_PER_USER", "MAX_REQUESTS_PER_MINUTE", "MAX_WAITING"])
def test_a_retry_after_a_refusal_makes_a_picture_of_its_own(service, settings, limit):
    client = client_that(service)
    client.images.generate(prompt="a red apple", **SMALL)
    service.hold()
    setattr(settings, limit, 1)
    blocker = threading.Thread(target=lambda: client.images.generate(prompt="a blue whale", **SMALL))
    blocker.start()
    while Generation.objects.count() < 2:
        pass

    def refuse(send: Callable[[], httpx.Response]) -> httpx.Response:
        response = send()
        response.read()
        assert response.status_code in (429, 503)
        setattr(settings, limit, 0)
        service.let_go()
        del response.headers["Retry-After"]
        return response

    client_that(service, refuse).images.generate(prompt="a red apple", **SMALL)

    blocker.join()
    assert Generation.objects.filter(prompt="a red apple").count() == 2


def test_after_a_refusal_a_lost_answer_is_a_lost_answer_again(service, settings):
    settings.MAX_WAITING_PER_USER = 1
    service.hold()
    client = client_that(service)
    blocker = threading.Thread(target=lambda: client.images.generate(prompt="a blue whale", **SMALL))
    blocker.start()
    while not Generation.objects.exists():
        pass

    def refuse(send: Callable[[], httpx.Response]) -> httpx.Response:
        response = send()
        response.read()
        settings.MAX_WAITING_PER_USER = 0
        service.let_go()
        del response.headers["Retry-After"]
        return response

    client_that(service, refuse, lose).images.generate(prompt="a red apple", **SMALL)

    blocker.join()
    assert Generation.objects.filter(prompt="a red apple").count() == 1


def test_when_the_process_stops_the_client_finds_its_generation_again(service, monkeypatch):
    wait, stops = views.wait_until_finished, iter([True])

    async def wait_in_vain(*arguments, **options) -> bool:
        return False if next(stops, False) else await wait(*arguments, **options)

    monkeypatch.setattr(views, "wait_until_finished", wait_in_vain)
    service.hold()
    threading.Timer(0.3, service.let_go).start()

    response = client_that(service).images.generate(prompt="a red apple", **SMALL)

    assert len(response.data) == 1
    assert Generation.objects.count() == 1
