"""Webhooks in requests, and the endpoint of the secret."""

import pytest
from standardwebhooks import Webhook

from generation import operations
from generation.lifecycle import Status
from generation.models import Generation, WebhookAccount
from generation.models.webhook import Kind
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/generations/"
SECRET = "/api/webhook-secret/"
RECEIVER = "https://receiver.example/hook"


def post(client, **body):
    return client.post(URL, {"prompt": "x"} | body, format="json")


def test_a_request_may_name_a_receiver_and_hears_of_the_end(client_of, user, model):
    data = post(client_of(user), webhook_url=RECEIVER).json()

    assert (data["webhook_url"], data["webhook_events"]) == (RECEIVER, ["finished"])


def test_a_request_may_name_what_it_wants_to_hear(client_of, user, model):
    data = post(client_of(user), webhook_url=RECEIVER, webhook_events=["finished", "started"]).json()

    assert data["webhook_events"] == ["started", "finished"]


def test_a_request_that_names_none_is_told_as_the_account_says(client_of, user, model):
    WebhookAccount.objects.create(owner=user, url=RECEIVER, events=[Kind.STARTED])

    assert post(client_of(user)).json()["webhook_events"] == ["started"]
    assert post(client_of(user), webhook_events=["progress"]).json()["webhook_url"] == RECEIVER
    assert post(client_of(user), webhook_url=f"{RECEIVER}/2").json()["webhook_url"] == f"{RECEIVER}/2"


def test_nobody_hears_of_others(client_of, user, stranger, model):
    WebhookAccount.objects.create(owner=stranger, url=RECEIVER)

    assert post(client_of(user)).json()["webhook_url"] is None


def test_a_batch_is_told_as_the_account_says(client_of, user, model):
    WebhookAccount.objects.create(owner=user, url=RECEIVER)

    client_of(user).post("/api/batches/", {"requests": [{"prompt": "x"}] * 3}, format="json")

    assert set(Generation.objects.values_list("webhook_url", flat=True)) == {RECEIVER}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"webhook_url": "http://receiver.example/"}, "/webhook_url"),
        ({"webhook_url": "https://10.0.0.1/"}, "/webhook_url"),
        ({"webhook_url": "https://receiver.example:9000/"}, "/webhook_url"),
        ({"webhook_url": 7}, "/webhook_url"),
        ({"webhook_url": RECEIVER, "webhook_events": ["everything"]}, "/webhook_events"),
        ({"webhook_url": RECEIVER, "webhook_events": "finished"}, "/webhook_events"),
    ],
)
def test_what_cannot_be_told_is_refused(client_of, user, model, body, pointer):
    response = post(client_of(user), **body)

    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == pointer
    assert not Generation.objects.exists()


def test_a_retry_is_told_to_the_same_receiver(user, model):
    failed = factories.make_generation(
        owner=user, status=Status.FAILED, webhook_url=RECEIVER, webhook_events=[Kind.STARTED]
    )

    again = operations.retry(failed)

    assert (again.webhook_url, again.webhook_events) == (RECEIVER, [Kind.STARTED])


def test_the_form_of_the_page_needs_no_webhook(client_of, user, model):
    response = client_of(user).post(URL, {"prompt": "x", "webhook_url": "", "deadline_seconds": ""}, format="multipart")

    assert response.status_code == 202
    assert Generation.objects.get().webhook_url == ""


def test_a_secret_is_shown_when_it_is_drawn_and_can_sign(client_of, user):
    response = client_of(user).post(SECRET)

    secret = response.json()["secret"]
    assert response["Cache-Control"] == "no-store"
    assert secret.startswith("whsec_") and secret.count("_") == 1
    assert Webhook(secret)
    assert WebhookAccount.objects.get().secret == secret


def test_each_post_draws_a_new_one_and_keeps_the_one_before(client_of, user):
    client = client_of(user)
    first = client.post(SECRET).json()["secret"]
    second = client.post(SECRET).json()["secret"]

    assert first != second
    assert WebhookAccount.objects.get().old_secret == first


def test_a_secret_cannot_be_looked_up(client_of, user):
    assert client_of(user).get(SECRET).status_code == 405


def test_anonymous_has_no_secret(anonymous):
    assert anonymous.post(SECRET).status_code == 401
