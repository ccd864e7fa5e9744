"""Who may open the pages of the admin."""

import pytest
from django.urls import reverse

from generation.lifecycle import Status
from generation.models import WebhookAccount
from tests import factories

LISTS = [
    "generation_generation", "generation_diffusionmodel", "generation_device", "auth_user", "auth_group", "api_apikey",
    "generation_webhookevent", "generation_webhookaccount",
]  # fmt: skip

pytestmark = pytest.mark.django_db


def pages() -> list[str]:
    """The list of every kind, and a page of each of ours."""
    generation = factories.make_generation(status=Status.SUCCEEDED)
    rows = {
        "generation_generation": generation,
        "generation_diffusionmodel": generation.model,
        "generation_device": factories.make_device(),
        "generation_webhookevent": factories.make_webhook_event(generation=generation),
        "generation_webhookaccount": WebhookAccount.of(generation.owner_id),
        "auth_user": generation.owner,
    }
    lists = [reverse(f"admin:{name}_changelist") for name in LISTS]
    return [
        reverse("admin:index"),
        *lists,
        *(reverse(f"admin:{name}_change", args=[row.pk]) for name, row in rows.items()),
        reverse("admin:generation_diffusionmodel_add"),
        reverse("admin:api_apikey_add"),
        reverse("admin:generation_webhookaccount_add"),
        reverse("admin:auth_user_add"),
    ]


def test_every_page_opens_for_an_operator(operator):
    answers = {page: operator.get(page).status_code for page in pages()}

    assert set(answers.values()) == {200}, answers


def test_every_page_sends_anonymous_to_the_login(client, db):
    for page in pages():
        response = client.get(page)

        assert (response.status_code, response["Location"]) == (302, f"/admin/login/?next={page}")


def test_every_page_sends_who_is_not_staff_to_the_login(client, user):
    client.force_login(user)

    assert {client.get(page).status_code for page in pages()} == {302}


def test_staff_without_rights_see_the_overview_and_nothing_on_it(browser_of):
    browser = browser_of()
    index, *others = pages()

    response = browser.get(index)

    assert response.status_code == 200
    assert "counts" not in response.context
    assert "devices" not in response.context
    assert {browser.get(page).status_code for page in others} == {403}


@pytest.mark.parametrize("name", ["generation_generation", "generation_device"])
def test_what_workers_and_the_api_make_is_not_added_by_hand(operator, name):
    assert operator.get(reverse(f"admin:{name}_add")).status_code == 403


def test_the_sidebar_lists_what_one_may_see(browser_of):
    page = browser_of("view_generation", "view_apikey").get(reverse("admin:index")).content.decode()

    assert reverse("admin:generation_generation_changelist") in page
    assert reverse("admin:api_apikey_changelist") in page
    assert reverse("admin:auth_user_changelist") not in page


def test_the_sidebar_leads_to_the_api_and_to_flower(operator, settings):
    settings.FLOWER_PORT = 5999

    page = operator.get(reverse("admin:index")).content.decode()

    assert 'href="/api/"' in page
    assert 'href="http://127.0.0.1:5999/"' in page
