"""Replicate's own client, unmodified, against a running service."""

import asyncio
import io
import json
import threading

import httpx
import pytest
import replicate
from PIL import Image
from replicate.exceptions import ModelError, ReplicateError
from replicate.helpers import FileOutput
from replicate.prediction import Prediction
from replicate.webhook import Webhooks
from rest_framework.test import APIClient

from generation.engines.errors import OutOfMemory
from generation.lifecycle import CancelReason, Status
from generation.models import Generation, Input, WebhookEvent
from generation.models.webhook import Kind
from generation.webhooks import payload
from generation.webhooks.delivery import deliver
from tests import factories, pictures
from tests.receiver import receiving

MODEL = "pictor/fluent-emoji-256"
SMALL = {"prompt": "a red apple", "num_inference_steps": 3, "width": 64, "height": 64}


@pytest.fixture
def client(service, monkeypatch):
    """The client, as its manual has it; it may not ask a proxy."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("REPLICATE_POLL_INTERVAL", "0.05")
    return replicate.Client(api_token=service.key, base_url=f"{service.address}/replicate")


def picture(output: FileOutput) -> Image.Image:
    return Image.open(io.BytesIO(output.read()))


def test_run_gives_files(client):
    (output,) = client.run(MODEL, input=SMALL)

    assert isinstance(output, FileOutput)
    assert (picture(output).format, picture(output).size) == ("PNG", (64, 64))


def test_run_of_a_version_gives_files_too(client):
    (output,) = client.run(f"{MODEL}:fluent-emoji-256", input=SMALL)

    assert picture(output).size == (64, 64)


def test_the_owner_of_a_model_may_be_any(client):
    (output,) = client.run("stability-ai/fluent-emoji-256", input=SMALL)

    assert picture(output).size == (64, 64)


def test_all_inputs_arrive(client, service):
    asked = {"negative_prompt": "blue", "seed": 1, "guidance_scale": 3.5, "num_inference_steps": 2}

    outputs = client.run(
        MODEL, input={**SMALL, **asked, "num_outputs": 2, "scheduler": "K_EULER", "output_format": "webp"}
    )

    (request,) = service.worker.runtime.requests
    assert {name: getattr(request, name) for name in asked} == asked
    assert (request.num_images, request.scheduler) == (2, "euler")
    assert [picture(output).format for output in outputs] == ["WEBP", "WEBP"]


@pytest.mark.parametrize(
    ("wishes", "size"),
    [
        ({"aspect_ratio": "1:1"}, (256, 256)),
        ({"aspect_ratio": "16:9"}, (344, 192)),
        ({"aspect_ratio": "1:99"}, (64, 512)),
        ({"aspect_ratio": "16:9", "width": 64, "height": 64}, (64, 64)),
        ({"aspect_ratio": "custom"}, (256, 256)),
    ],
)
def test_a_shape_may_be_named_as_flux_has_it(client, service, wishes, size):
    client.run(MODEL, input={"prompt": "a red apple", "num_inference_steps": 2, "guidance": 3.5, **wishes})

    (request,) = service.worker.runtime.requests
    assert ((request.width, request.height), request.guidance_scale) == (size, 3.5)


def test_an_input_that_no_model_has_is_ignored(client):
    assert client.run(MODEL, input=SMALL | {"disable_safety_checker": True})


def test_a_wait_that_ran_out_says_starting_and_run_goes_on_waiting(client, service):
    service.hold()
    threading.Timer(1.5, service.let_go).start()

    (output,) = client.run(MODEL, input=SMALL, wait=1)

    assert picture(output).size == (64, 64)


def test_a_wait_that_ran_out_while_it_ran_says_starting_too(client, service):
    go_on = threading.Event()
    service.worker.runtime.at_step = lambda step: go_on.wait(20)
    threading.Timer(1.5, go_on.set).start()

    prediction = client.models.predictions.create(MODEL, input=SMALL, wait=1)

    assert prediction.status == "starting"
    assert Generation.objects.get().status == Status.RUNNING
    go_on.set()
    prediction.wait()
    assert prediction.status == "succeeded"


def test_create_get_and_reload(client, service):
    service.hold()
    created = client.predictions.create(version="fluent-emoji-256", input=SMALL)
    waiting = client.predictions.get(created.id)
    service.let_go()
    created.wait()

    assert (waiting.status, waiting.output) == ("starting", None)
    assert (created.status, len(created.output)) == ("succeeded", 1)
    assert created.model == MODEL
    assert created.metrics["total_time"] >= created.metrics["predict_time"] > 0
    assert created.input["prompt"] == "a red apple"


def test_a_deployment_is_a_model_too(client):
    prediction = client.deployments.predictions.create(MODEL, input=SMALL)
    prediction.wait()

    assert prediction.status == "succeeded"


def test_a_deployment_is_found_by_its_name(client):
    prediction = client.deployments.get(MODEL).predictions.create(input=SMALL)
    prediction.wait()

    assert prediction.status == "succeeded"
    assert [deployment.name for deployment in client.deployments.list()] == ["fluent-emoji-256"]


def test_the_client_that_does_not_block_works_too(client):
    async def run() -> tuple[list, list]:
        outputs = await client.async_run(MODEL, input=SMALL)
        events = [event async for event in await client.async_stream(MODEL, input=SMALL)]
        return [await output.aread() for output in outputs], events

    pictures, events = asyncio.run(run())

    assert pictures[0].startswith(b"\x89PNG")
    assert events[-1].event.value == "done"


def test_an_idempotency_key_makes_it_once(client):
    client = replicate.Client(
        api_token=client._api_token, base_url=client._base_url, headers={"Idempotency-Key": "order-4711"}
    )

    first, second = (client.predictions.create(version="fluent-emoji-256", input=SMALL) for _ in range(2))

    assert first.id == second.id


def test_progress_is_read_from_the_logs(client, service):
    go_on = threading.Event()
    service.worker.runtime.at_step = lambda step: go_on.wait(20) if step == 3 else None
    prediction = client.predictions.create(version="fluent-emoji-256", input=SMALL)
    while not Generation.objects.filter(status=Status.RUNNING).exists():
        pass
    Generation.objects.update(step=2)  # the heartbeat's part

    prediction.reload()
    go_on.set()

    assert prediction.status == "processing"
    assert (prediction.progress.current, prediction.progress.total) == (2, 3)
    assert prediction.progress.percentage == pytest.approx(0.66)


def test_cancel_while_it_waits(client, service):
    service.hold()
    prediction = client.predictions.create(version="fluent-emoji-256", input=SMALL)

    prediction.cancel()

    assert prediction.status == "canceled"


def test_cancel_of_a_finished_one_returns_it_unchanged(client):
    prediction = client.predictions.create(version="fluent-emoji-256", input=SMALL)
    prediction.wait()

    prediction.cancel()

    assert prediction.status == "succeeded"


def test_one_that_missed_its_deadline_is_canceled(client, service):
    service.hold()
    prediction = client.predictions.create(version="fluent-emoji-256", input=SMALL)
    Generation.objects.get().withdraw(reason=CancelReason.DEADLINE)

    prediction.reload()

    assert prediction.status == "canceled"


def test_a_failure_is_an_error_of_the_model(client, service):
    def fail(step: int) -> None:
        raise OutOfMemory("The picture is too large for this device.")

    service.worker.runtime.at_step = fail

    with pytest.raises(ModelError, match="too large") as raised:
        client.run(MODEL, input=SMALL)

    assert raised.value.prediction.status == "failed"


def test_the_list_has_pages(client, user, service):
    service.hold()
    for _ in range(25):
        factories.make_generation(owner=user)

    first = client.predictions.list()
    second = client.predictions.list(cursor=first.next)

    assert (len(first), len(second)) == (20, 5)
    assert len({prediction.id for prediction in [*first, *second]}) == 25


def test_stream_has_logs_output_and_an_end(client, service):
    events = list(client.stream(MODEL, input=SMALL))

    kinds = [event.event.value for event in events]
    assert kinds[-1] == "done"
    assert [type(event.data) for event in events if event.event.value == "output"] == [FileOutput]
    assert len({event.id for event in events}) == len(events)


def test_stream_of_a_failure_raises(client, service):
    def fail(step: int) -> None:
        raise OutOfMemory("The picture is too large for this device.")

    service.worker.runtime.at_step = fail

    with pytest.raises(RuntimeError, match="too large"):
        list(client.stream(MODEL, input=SMALL))


def test_a_file_is_uploaded_and_redrawn(client, service):
    image = io.BytesIO(pictures.png(size=(64, 64)))

    client.run(MODEL, input={"prompt": "a pear", "image": image, "prompt_strength": 0.5, "num_inference_steps": 4})

    (request,) = service.worker.runtime.requests
    assert (request.image.shape, request.strength) == ((64, 64, 3), 0.5)
    assert Input.objects.get().uses.count() == 1


def test_a_file_can_be_in_the_request_itself(client, service):
    image, mask = io.BytesIO(pictures.png(size=(64, 64))), io.BytesIO(pictures.encode(pictures.halves(), "PNG"))

    client.run(MODEL, input={"prompt": "a pear", "image": image, "mask": mask}, file_encoding_strategy="base64")

    assert service.worker.runtime.requests[0].mask[0, -1] == 255


def test_a_link_to_somewhere_else_is_not_fetched(client):
    with pytest.raises(ReplicateError, match="Upload the file"):
        client.run(MODEL, input=SMALL | {"image": "http://169.254.169.254/latest/meta-data"})


@pytest.mark.parametrize(
    ("reference", "change", "field"),
    [
        (MODEL, {"width": 100}, "input.width"),
        (MODEL, {"num_outputs": 99}, "input.num_outputs"),
        (MODEL, {"aspect_ratio": "wide"}, "input.aspect_ratio"),
        (MODEL, {"prompt": ""}, "input.prompt"),
        (MODEL, {"image": "data:image/png;base64,AAAA"}, "input.image"),
        ("pictor/none", {}, "input.model"),
    ],
)
def test_a_request_that_cannot_be_served_names_its_fields(service, client, reference, change, field):
    response = httpx.post(
        f"{service.address}/replicate/v1/models/{reference}/predictions",
        headers={"Authorization": f"Bearer {service.key}"},
        json={"input": SMALL | change},
        trust_env=False,
    )

    assert response.status_code == 422
    assert [fault["field"] for fault in response.json()["invalid_fields"]] == [field]
    with pytest.raises(ReplicateError) as raised:
        client.run(reference, input=SMALL | change)
    assert (raised.value.title, raised.value.status) == ("Input validation failed", 422)


def test_a_wrong_token_is_told(service, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    client = replicate.Client(api_token="pictor_wrong", base_url=f"{service.address}/replicate")

    with pytest.raises(ReplicateError) as raised:
        client.predictions.list()

    assert raised.value.status == 401


def test_predictions_of_others_are_not_there(client, stranger):
    theirs = factories.make_generation(owner=stranger)

    with pytest.raises(ReplicateError) as raised:
        client.predictions.get(str(theirs.pk))

    assert raised.value.status == 404


def test_models_and_their_version(client):
    model = client.models.get(MODEL)

    assert [each.name for each in client.models.list()] == ["fluent-emoji-256"]
    assert model.latest_version.id == client.models.get(MODEL).versions.get("fluent-emoji-256").id


def test_a_version_says_what_it_takes(client):
    taken = client.models.get(MODEL).latest_version.openapi_schema["components"]["schemas"]["Input"]

    assert taken["required"] == ["prompt"]
    assert taken["properties"]["seed"]["type"] == "integer"
    assert taken["properties"]["output_format"]["enum"] == ["png", "webp", "jpeg", "jpg"]


def test_a_webhook_is_asked_for_in_our_words(client, service, settings):
    settings.WEBHOOKS_MAY_BE_PRIVATE = True
    service.hold()

    client.predictions.create(
        version="fluent-emoji-256",
        input=SMALL,
        webhook="http://127.0.0.1:9/hook",
        webhook_events_filter=["start", "completed"],
    )

    generation = Generation.objects.get()
    assert (generation.webhook_url, generation.webhook_events) == ("http://127.0.0.1:9/hook", ["started", "finished"])


@pytest.mark.parametrize("kind", [Kind.STARTED, Kind.FINISHED])
def test_a_webhook_is_a_prediction_with_a_signature_that_the_client_validates(client, service, settings, kind):
    settings.WEBHOOKS_MAY_BE_PRIVATE = True
    with receiving() as receiver:
        prediction = client.predictions.create(version="fluent-emoji-256", input=SMALL, webhook=receiver.url)
        prediction.wait()
        event = WebhookEvent.objects.get(kind=kind)
        deliver(event.pk, event.tries)
        received = receiver.next()

    Webhooks.validate(headers=received.headers, body=received.body, secret=client.webhooks.default.secret())
    told = Prediction(**received.message)
    expected = ("processing", None) if kind == Kind.STARTED else ("succeeded", 1)
    assert (told.id, told.urls, told.version) == (prediction.id, prediction.urls, prediction.version)
    assert (told.status, told.output and len(told.output)) == expected


def test_the_picture_of_a_webhook_can_be_fetched(client, service, settings):
    settings.WEBHOOKS_MAY_BE_PRIVATE = True
    client.predictions.create(version="fluent-emoji-256", input=SMALL, webhook="http://127.0.0.1:9/").wait()

    body = json.loads(payload.body_of(WebhookEvent.objects.get(kind=Kind.FINISHED)))

    assert httpx.get(body["output"][0], trust_env=False).headers["content-type"] == "image/png"


def test_through_tls_outputs_are_links(transactional_db, client, service):
    prediction = client.predictions.create(version="fluent-emoji-256", input=SMALL)
    prediction.wait()

    answer = APIClient(headers={"Authorization": f"Bearer {service.key}"}).get(
        f"/replicate/v1/predictions/{prediction.id}", secure=True
    )

    assert prediction.output[0].startswith("data:image/png;base64,")
    assert answer.json()["output"][0].startswith("https://testserver/files/")


def test_a_deadline_is_kept(client, service):
    service.hold()

    httpx.post(
        f"{service.address}/replicate/v1/models/{MODEL}/predictions",
        headers={"Authorization": f"Bearer {service.key}", "Cancel-After": "30s"},
        json={"input": SMALL},
        trust_env=False,
    ).raise_for_status()

    generation = Generation.objects.get()
    assert (generation.deadline_at - generation.created_at).total_seconds() == pytest.approx(30, abs=1)


def test_one_made_here_is_cancelled_in_our_own_api(client, service):
    service.hold()
    prediction = client.predictions.create(version="fluent-emoji-256", input=SMALL)

    httpx.post(
        f"{service.address}/api/generations/{prediction.id}/cancel/",
        headers={"Authorization": f"Bearer {service.key}"},
        trust_env=False,
    ).raise_for_status()

    prediction.reload()
    assert prediction.status == "canceled"
