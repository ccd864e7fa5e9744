"""fal's own client, unmodified, against a running service, through TLS: it speaks nothing else."""

import asyncio
import json
import threading
from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import httpx
import pytest
import replicate
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.db.models.functions import Now

from generation import housekeeping
from generation.engines.errors import OutOfMemory
from generation.lifecycle import CancelReason, Status
from generation.models import Generation, WebhookEvent
from generation.webhooks import payload
from tests import factories, pictures

APP = "pictor/fluent-emoji-256"
SMALL = {"prompt": "a red apple", "num_inference_steps": 3, "image_size": {"width": 64, "height": 64}}


def test_subscribe_waits_for_the_pictures(fal):
    result = fal.subscribe(APP, arguments=SMALL | {"seed": 7})

    (image,) = result["images"]
    fetched = httpx.get(image["url"])
    assert (result["seed"], result["prompt"]) == (7, "a red apple")
    assert (image["width"], image["height"], image["content_type"]) == (64, 64, "image/png")
    assert fetched.headers["content-type"] == "image/png"


def test_submit_says_where_to_ask_on(fal, service):
    service.hold()

    handle = fal.submit(APP, arguments=SMALL)

    status = handle.status()
    assert isinstance(status, fal.Queued)
    assert status.position == 0
    service.let_go()
    assert len(handle.get()["images"]) == 1


def test_the_place_in_the_queue_begins_at_0(fal, service):
    service.hold()
    fal.submit(APP, arguments=SMALL)

    second = fal.submit(APP, arguments=SMALL)

    assert second.status().position == 1


def test_events_go_from_the_queue_to_completed(fal, service):
    service.hold()
    handle = fal.submit(APP, arguments=SMALL)
    threading.Timer(0.5, service.let_go).start()

    seen = [type(status) for status in handle.iter_events(with_logs=True)]

    assert seen[0] is fal.Queued
    assert seen[-1] is fal.Completed


def test_in_progress_has_logs_if_asked_for(fal, service):
    go_on = threading.Event()
    service.worker.runtime.at_step = lambda step: go_on.wait(20) if step == 3 else None
    handle = fal.submit(APP, arguments=SMALL)
    while not Generation.objects.filter(status=Status.RUNNING).exists():
        pass
    Generation.objects.update(step=2)  # the heartbeat's part

    without, with_logs = handle.status(), handle.status(with_logs=True)
    go_on.set()

    assert isinstance(without, fal.InProgress)
    assert without.logs is None
    assert "2/3" in with_logs.logs[0]["message"]


def test_status_and_result_by_id(fal):
    handle = fal.submit(APP, arguments=SMALL)
    handle.get()

    status = fal.status(APP, handle.request_id)

    assert status.metrics["inference_time"] > 0
    assert len(fal.result(APP, handle.request_id)["images"]) == 1


def test_all_arguments_arrive(fal, service):
    asked = {"negative_prompt": "blue", "seed": 1, "guidance_scale": 3.5, "num_inference_steps": 2, "num_images": 2}

    fal.subscribe(APP, arguments={**SMALL, **asked, "output_format": "webp", "enable_safety_checker": True})

    (request,) = service.worker.runtime.requests
    assert {name: getattr(request, name) for name in asked} == asked
    assert Generation.objects.get().image_format == "webp"


def test_a_size_may_have_a_name(fal, service):
    fal.subscribe(APP, arguments=SMALL | {"image_size": "square"})

    assert (service.worker.runtime.requests[0].width, service.worker.runtime.requests[0].height) == (512, 512)


def test_a_shape_may_be_named(fal, service):
    fal.subscribe(APP, arguments={"prompt": "a red apple", "num_inference_steps": 2, "aspect_ratio": "9:16"})

    assert (service.worker.runtime.requests[0].width, service.worker.runtime.requests[0].height) == (192, 344)


def test_the_task_in_a_path_is_no_part_of_the_models_name(fal, service):
    image = fal.encode(pictures.png(size=(64, 64)), "image/png")

    fal.subscribe(f"{APP}/image-to-image", arguments={"prompt": "a pear", "image_url": image, "strength": 0.5})

    assert service.worker.runtime.requests[0].strength == 0.5


def test_a_photo_can_be_in_the_request_itself(fal, service):
    photo = fal.encode(pictures.noise(size=(1000, 1000)), "image/png")
    assert len(photo) > 3_000_000

    fal.subscribe(APP, arguments=SMALL | {"image_url": photo})

    assert service.worker.runtime.requests[0].image is not None


def test_a_request_that_is_too_large_says_how_large_it_may_be(fal, settings):
    with pytest.raises(fal.FalClientHTTPError, match=f"at most {settings.MAX_UPLOAD_BYTES} bytes") as raised:
        fal.submit(APP, arguments=SMALL | {"image_url": "data:image/png;base64," + "A" * settings.MAX_UPLOAD_BYTES})

    assert raised.value.status_code == 413


def test_the_client_that_does_not_block_works_too(fal):
    async def run() -> tuple[dict, list]:
        client = fal.AsyncClient()
        handle = await client.submit(APP, arguments=SMALL)
        seen = [type(status) async for status in handle.iter_events(with_logs=True)]
        return await client.subscribe(APP, arguments=SMALL, with_logs=True), seen

    result, seen = asyncio.run(run())

    assert len(result["images"]) == 1
    assert seen[-1] is fal.Completed


def test_a_submit_with_an_idempotency_key_is_put_into_the_queue_once(fal):
    key = {"Idempotency-Key": "order-4711"}

    first, second = (fal.submit(APP, arguments=SMALL, headers=key) for _ in range(2))

    assert first.request_id == second.request_id


def test_a_result_can_be_the_next_ones_image(fal, service):
    first = fal.subscribe(APP, arguments=SMALL)

    fal.subscribe(APP, arguments={"prompt": "a pear", "image_url": first["images"][0]["url"]})

    assert service.worker.runtime.requests[1].image.shape == (64, 64, 3)


def test_low_priority_waits_for_all_others(fal, service):
    service.hold()

    fal.submit(APP, arguments=SMALL, priority="low")

    assert Generation.objects.get().priority == -1


def test_cancel_takes_it_out_of_the_queue(fal, service):
    service.hold()
    handle = fal.submit(APP, arguments=SMALL)

    handle.cancel()

    status = handle.status()
    assert isinstance(status, fal.Completed)
    assert status.error_type == "client_cancelled"
    with pytest.raises(fal.FalClientHTTPError) as raised:
        handle.get()
    assert (raised.value.status_code, raised.value.error_type) == (499, "client_cancelled")


def test_cancel_of_what_is_over_is_refused(fal):
    handle = fal.submit(APP, arguments=SMALL)
    handle.get()

    with pytest.raises(fal.FalClientHTTPError) as raised:
        handle.cancel()

    assert (raised.value.status_code, raised.value.response.json()["status"]) == (400, "ALREADY_COMPLETED")


def test_a_subscriber_whose_patience_ends_cancels(fal, service):
    service.hold()

    with pytest.raises(fal.FalClientTimeoutError):
        fal.subscribe(APP, arguments=SMALL, client_timeout=1.5)

    while Generation.objects.get().status != Status.CANCELLED:
        pass


def test_a_failure_is_completed_with_an_error(fal, service):
    def fail(step: int) -> None:
        raise OutOfMemory("The picture is too large for this device.")

    service.worker.runtime.at_step = fail
    handle = fal.submit(APP, arguments=SMALL)

    with pytest.raises(fal.FalClientHTTPError, match="too large") as raised:
        handle.get()

    assert (raised.value.status_code, raised.value.error_type) == (500, "out_of_memory")
    assert "too large" in handle.status().error


@pytest.mark.parametrize(
    ("app", "change", "place"),
    [
        (APP, {"image_size": {"width": 100, "height": 64}}, "image_size"),
        (APP, {"image_size": "huge"}, "image_size"),
        (APP, {"prompt": ""}, "prompt"),
        (APP, {"image_url": "http://169.254.169.254/"}, "image_url"),
        ("pictor/none", {}, "model"),
    ],
)
def test_a_request_that_cannot_be_served_names_its_place(fal, app, change, place):
    with pytest.raises(fal.FalClientHTTPError) as raised:
        fal.submit(app, arguments=SMALL | change)

    assert raised.value.status_code == 422
    assert raised.value.response.json()["detail"][0]["loc"] == ["body", place]


def test_a_wrong_key_is_refused(fal):
    with pytest.raises(fal.FalClientHTTPError) as raised:
        fal.SyncClient(key="pictor_wrong").submit(APP, arguments=SMALL)

    assert raised.value.status_code == 401


def test_the_status_can_be_streamed(fal, service, host):
    handle = fal.submit(APP, arguments=SMALL)

    with httpx.stream("GET", f"{handle.status_url}/stream", headers={"Authorization": f"Key {service.key}"}) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]

    assert '"status": "COMPLETED"' in lines[-1]


@pytest.mark.parametrize(("fails", "status"), [(False, "OK"), (True, "ERROR")])
def test_a_webhook_tells_the_end_in_fals_words(fal, service, settings, fails, status):
    settings.WEBHOOKS_MAY_BE_PRIVATE = True

    def fail(step: int) -> None:
        raise OutOfMemory("The picture is too large for this device.")

    if fails:
        service.worker.runtime.at_step = fail
    handle = fal.submit(APP, arguments=SMALL, webhook_url="http://127.0.0.1:9/hook")
    list(handle.iter_events())

    body = json.loads(payload.body_of(WebhookEvent.objects.get()))

    assert (body["request_id"], body["status"]) == (handle.request_id, status)
    if fails:
        assert "too large" in body["error"]
    else:
        assert httpx.get(body["payload"]["images"][0]["url"]).status_code == 200


def test_a_webhook_is_signed_as_fal_does(fal, host, service, user):
    handle = fal.submit(APP, arguments=SMALL, webhook_url="https://receiver.example/hook")
    handle.get()
    event = WebhookEvent.objects.get()
    body = payload.body_of(event)

    headers = payload.headers_of(event, body, secrets=[], now=datetime.now(UTC))

    (key,) = httpx.get(f"https://{host}/.well-known/jwks.json").json()["keys"]
    message = [headers[f"x-fal-webhook-{name}"] for name in ("request-id", "user-id", "timestamp")]
    signed = "\n".join([*message, sha256(body.encode()).hexdigest()])
    public = Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(key["x"] + "="))
    public.verify(bytes.fromhex(headers["x-fal-webhook-signature"]), signed.encode())
    assert (key["kty"], key["crv"]) == ("OKP", "Ed25519")
    assert message[:2] == [handle.request_id, str(user.pk)]


def test_a_webhook_of_our_own_has_no_signature_of_fals(user):
    event = factories.make_webhook_event()

    assert not [name for name in payload.headers_of(event, "{}", secrets=[], now=datetime.now(UTC)) if "fal" in name]


def test_what_does_not_start_in_time_is_cancelled(fal, service):
    service.hold()
    handle = fal.submit(APP, arguments=SMALL, start_timeout=30)
    Generation.objects.update(start_by=Now() - timedelta(seconds=1))
    housekeeping.end_overdue()

    with pytest.raises(fal.FalClientHTTPError) as raised:
        handle.get()

    assert (raised.value.status_code, raised.value.error_type) == (504, "request_timeout")
    assert Generation.objects.get().cancel_reason == CancelReason.DEADLINE


def test_what_replicates_client_made_is_cancelled_here(fal, service):
    service.hold()
    client = replicate.Client(api_token=service.key, base_url=f"{service.address}/replicate")
    prediction = client.predictions.create(version="fluent-emoji-256", input={"prompt": "a red apple"})

    fal.cancel(APP, prediction.id)

    prediction.reload()
    assert prediction.status == "canceled"


def test_the_status_codes_are_those_of_fals_queue(fal, service):
    service.hold()
    handle = fal.submit(APP, arguments=SMALL)
    with httpx.Client(headers={"Authorization": f"Key {service.key}"}) as http:
        waiting = http.get(handle.status_url, params={"logs": 1})
        too_early = http.get(handle.response_url)
        service.let_go()
        handle.get()
        completed = http.get(handle.status_url)

    assert (waiting.status_code, waiting.json()["status"]) == (202, "IN_QUEUE")
    assert too_early.status_code == 400
    assert (completed.status_code, completed.json()["status"], completed.json()["logs"]) == (200, "COMPLETED", None)


def test_cancel_asks_what_runs_to_stop(fal, service):
    go_on = threading.Event()
    service.worker.runtime.at_step = lambda step: go_on.wait(20)
    handle = fal.submit(APP, arguments=SMALL)
    while not Generation.objects.filter(status=Status.RUNNING).exists():
        pass

    answer = httpx.put(handle.cancel_url, headers={"Authorization": f"Key {service.key}"})
    go_on.set()

    assert (answer.status_code, answer.json()["status"]) == (202, "CANCELLATION_REQUESTED")


def test_a_request_of_somebody_else_is_not_there(fal, stranger, service):
    theirs = factories.make_generation(owner=stranger)

    with pytest.raises(fal.FalClientHTTPError) as raised:
        fal.cancel(APP, str(theirs.pk))

    assert (raised.value.status_code, raised.value.error_type) == (404, "not_found")


def test_the_api_is_not_on_fals_host(fal, host, service):
    answer = httpx.get(f"https://{host}/api/generations/", headers={"Authorization": f"Key {service.key}"})

    assert answer.status_code in (404, 405)
