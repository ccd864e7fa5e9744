"""Actions on the generations that are ticked in the list."""

import pytest
from django.core.files.storage import default_storage

from generation.lifecycle import Status
from generation.models import Generation
from tests import factories

LIST = "/admin/generation/generation/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def one_of_each() -> dict[Status, Generation]:
    """A generation in every status."""
    return {status: factories.make_generation(status=status) for status in Status}


def act(operator, action: str, generations=(), **more):
    data = {"action": action, "_selected_action": [generation.pk for generation in generations], **more}
    return operator.post(LIST, data)


def statuses() -> list[str]:
    return sorted(Generation.objects.values_list("status", flat=True))


@pytest.mark.parametrize("action", ["cancel_selected", "delete_selected"])
def test_what_destroys_asks_first_and_says_how_many(operator, one_of_each, action):
    response = act(operator, action, one_of_each.values())

    assert response.status_code == 200
    assert sorted(response.context["counts"]) == sorted(("1 generation", status.value) for status in Status)
    assert statuses() == sorted(Status)


def test_cancel_reports_what_came_of_each(operator, one_of_each, said):
    response = act(operator, "cancel_selected", one_of_each.values(), confirmed="yes")

    assert sorted(said(response)) == [
        "1 generation asked to stop at the next step.",
        "1 generation cancelled.",
        "1 generation had been cancelled before.",
        "1 generation left alone: It has failed already; there is nothing left to cancel.",
        "1 generation left alone: It has succeeded already; there is nothing left to cancel.",
    ]
    assert statuses().count(Status.CANCELLED) == 2


def test_retry_submits_what_failed_or_was_cancelled_once_more(operator, one_of_each, said):
    response = act(operator, "retry_selected", one_of_each.values())

    assert statuses().count(Status.QUEUED) == 3
    assert said(response)[0] == "2 generations submitted once more."
    assert len(said(response)) == 4


def test_delete_removes_what_is_finished_with_its_files(operator, one_of_each, said):
    image = factories.make_image(generation=one_of_each[Status.SUCCEEDED])

    response = act(operator, "delete_selected", one_of_each.values(), confirmed="yes")

    assert statuses() == [Status.QUEUED, Status.RUNNING]
    assert not default_storage.exists(image.file.name)
    assert said(response)[0] == "3 generations deleted with all files."
    assert "Cancel it first" in said(response)[1]


def test_all_that_match_the_filter_can_be_taken_at_once(operator, one_of_each):
    query = f"?status__in={Status.QUEUED}"
    ticked = {"action": "cancel_selected", "_selected_action": [one_of_each[Status.QUEUED].pk], "select_across": "1"}
    factories.make_generation()

    asked = operator.post(LIST + query, ticked)
    operator.post(LIST + query, {**ticked, "confirmed": "yes"})

    assert list(asked.context["counts"]) == [("2 generations", Status.QUEUED)]
    assert statuses().count(Status.QUEUED) == 0


def test_the_confirmation_sends_the_same_again(operator, one_of_each):
    waiting = one_of_each[Status.QUEUED]

    page = act(operator, "cancel_selected", [waiting]).content.decode()

    assert f'name="_selected_action" value="{waiting.pk}"' in page
    assert 'name="action" value="cancel_selected"' in page
    assert 'name="confirmed"' in page
    assert "csrfmiddlewaretoken" in page


def test_without_the_right_nothing_happens(browser_of, one_of_each):
    browser = browser_of("view_generation")

    for action in ("cancel_selected", "retry_selected", "delete_selected"):
        act(browser, action, one_of_each.values(), confirmed="yes")

    assert statuses() == sorted(Status)
