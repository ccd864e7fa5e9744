"""The same on RabbitMQ, with quorum queues."""

from generation.lifecycle import Status
from tests.service.running import LONG
from tests.serving import opened


def test_a_prompt_becomes_a_picture(rabbitmq_service):
    generation = rabbitmq_service.finish()

    assert (generation["status"], generation["attempts"]) == (Status.SUCCEEDED, 1)


def test_a_running_generation_is_cancelled(rabbitmq_service):
    generation = rabbitmq_service.submit(**LONG)
    rabbitmq_service.wait(generation, until=lambda now: now["progress"]["step"] >= 2)

    response = rabbitmq_service.client.post(generation["links"]["cancel"])

    assert response.status_code == 202
    assert rabbitmq_service.wait(generation)["status"] == Status.CANCELLED
    assert rabbitmq_service.attempts(generation)[0]["step"] < 100


def test_live_events_go_through_the_redis_that_comes_along(rabbitmq_service):
    generation = rabbitmq_service.submit()
    address, headers = str(rabbitmq_service.client.base_url), dict(rabbitmq_service.client.headers)

    with opened(address, f"/api/generations/{generation['id']}/events/", **headers) as stream:
        end = stream.rest()[-1]

    assert (end.kind, end.data["status"]) == ("finished", Status.SUCCEEDED)
