"""Webhooks in the admin."""

import pytest
from django.urls import reverse

from generation.models import WebhookAccount, WebhookDelivery, WebhookEvent
from generation.models.webhook import State
from tests import factories

pytestmark = pytest.mark.django_db
DIALOG = {"_form_submitted": "True"}
EVENTS = reverse("admin:generation_webhookevent_changelist")
ACCOUNTS = reverse("admin:generation_webhookaccount_add")


def page(event: WebhookEvent) -> str:
    return reverse("admin:generation_webhookevent_change", args=[event.pk])


def resend(event: WebhookEvent) -> str:
    return reverse("admin:generation_webhookevent_resend", args=[event.pk])


def given_up() -> WebhookEvent:
    event = factories.make_webhook_event(url="https://receiver.example/hook", state=State.GIVEN_UP, due_at=None)
    WebhookDelivery.objects.create(event=event, seconds=0.5, status_code=500, answer="<b>a stack trace</b>")
    return event


def test_an_event_is_shown_with_its_tries_and_their_answers(operator):
    text = operator.get(page(given_up())).content.decode()

    assert "https://receiver.example/hook" in text
    assert "500" in text
    assert "&lt;b&gt;a stack trace&lt;/b&gt;" in text


def test_an_event_can_be_sent_again_under_its_id(operator):
    event = given_up()

    response = operator.post(resend(event), DIALOG)

    event.refresh_from_db()
    assert response["HX-Redirect"] == page(event)
    assert (event.state, event.tries) == (State.PENDING, 0)
    assert WebhookEvent.objects.due().get() == event


def test_ticked_events_can_be_sent_again(operator, said):
    event = given_up()

    response = operator.post(EVENTS, {"action": "resend_selected", "_selected_action": [str(event.pk)]})

    assert said(response) == ["1 on their way again."]
    assert WebhookEvent.objects.get().state == State.PENDING


def test_who_may_delete_generations_may_delete_one_that_was_told_of(browser_of):
    generation = given_up().generation
    browser = browser_of("view_generation", "delete_generation")

    browser.post(reverse("admin:generation_generation_delete", args=[generation.pk]), {"post": "yes"})

    assert not WebhookEvent.objects.exists()


def test_who_may_only_look_cannot_send_again(browser_of):
    event = given_up()

    browser_of("view_webhookevent").post(resend(event), DIALOG)

    assert WebhookEvent.objects.get().state == State.GIVEN_UP


def test_an_account_shows_its_secret_when_it_is_made_and_not_again(operator, user, said):
    response = operator.post(ACCOUNTS, {"owner": user.pk, "url": "https://receiver.example/", "events": ["started"]})

    account = WebhookAccount.objects.get()
    assert account.events == ["started"]
    assert account.secret in said(response)[0]
    operator.get(response["Location"])
    later = operator.get(reverse("admin:generation_webhookaccount_change", args=[account.pk]))
    assert account.secret not in later.content.decode()


def test_an_account_takes_no_url_that_leads_inside(operator, user):
    response = operator.post(ACCOUNTS, {"owner": user.pk, "url": "https://10.0.0.1/", "events": ["started"]})

    assert "not on the public internet" in response.content.decode()
    assert not WebhookAccount.objects.exists()


def test_a_new_secret_can_be_drawn(operator, user, said):
    account = WebhookAccount.of(user.pk)
    old = account.secret

    response = operator.post(reverse("admin:generation_webhookaccount_rotate", args=[account.pk]), DIALOG)

    account.refresh_from_db()
    assert account.old_secret == old != account.secret
    assert account.secret in said(response)[0]
