"""Webhooks and deadlines of a running service."""

from pathlib import Path

from standardwebhooks import Webhook

from tests.receiver import receiving
from tests.service.running import LONG


def test_a_receiver_hears_of_the_start_and_the_end_and_can_verify_both(service):
    secret = service.client.post("/api/webhook-secret/").json()["secret"]

    with receiving() as receiver:
        generation = service.finish(webhook_url=receiver.url, webhook_events=["started", "finished"])
        told = {}
        while len(told) < 2:
            received = receiver.next()
            message = Webhook(secret).verify(received.body, received.headers)
            told[message["type"]] = message["data"]

    assert set(told) == {"generation.started", "generation.succeeded"}
    assert {data["id"] for data in told.values()} == {generation["id"]}
    image = service.client.get(told["generation.succeeded"]["images"][0]["url"])
    assert image.headers["content-type"] == "image/png"


def test_a_receiver_that_fails_once_is_tried_again(service):
    with receiving() as receiver:
        receiver.answer(500)
        service.finish(webhook_url=receiver.url)

        first, second = receiver.next(), receiver.next()

    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])


def test_the_process_that_sends_webhooks_has_not_loaded_torch(service):
    pid = service.io_pid()

    assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()


def test_a_run_past_its_deadline_stops_and_its_worker_takes_the_next(service):
    late = service.submit(**LONG, deadline_seconds=2)

    ended = service.wait(late)

    assert (ended["status"], ended["cancel_reason"]) == ("cancelled", "deadline")
    assert service.finish()["status"] == "succeeded"


def test_a_batch_ends_as_one(service):
    body = {"requests": [{"prompt": "a red apple", "num_inference_steps": 2, "width": 64, "height": 64}] * 4}
    batch = service.client.post("/api/batches/", json=body).json()

    ended = service.wait(batch)

    assert (ended["status"], ended["counts"]["succeeded"]) == ("succeeded", 4)
    assert ended["progress"]["fraction"] == 1.0
