"""Oversight of generations."""

import re
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.urls import reverse
from django.utils import timezone

from generation.admin import timeline
from generation.lifecycle import Outcome, Status
from generation.models import Generation, Role
from tests import factories

LIST = "/admin/generation/generation/"
DIALOG = {"_form_submitted": "True"}
UNFINISHED = [Status.QUEUED, Status.RUNNING]

pytestmark = pytest.mark.django_db


def url(generation: Generation, part: str = "change") -> str:
    return f"{LIST}{generation.pk}/{part}/"


def listed(response) -> set[Generation]:
    return set(response.context["cl"].result_list)


def test_the_list_shows_everybodys_generations_with_their_pictures(operator, user, stranger):
    mine = factories.make_generation(owner=user, status=Status.SUCCEEDED)
    theirs = factories.make_generation(owner=stranger)
    factories.make_image(generation=mine)

    response = operator.get(LIST)

    assert listed(response) == {mine, theirs}
    thumbnail = re.search(r'<img src="([^"]+)"[^>]*width="48" height="48"\s+loading="lazy"', response.content.decode())
    assert operator.get(thumbnail[1])["Content-Type"] == "image/webp"


def test_a_running_one_shows_its_steps_its_device_and_that_it_is_stopping(operator):
    running = factories.make_generation(status=Status.RUNNING, step=7, cancel_requested_at=timezone.now())
    factories.make_attempt(generation=running, device=factories.make_device(host="rack1", index=3))

    page = operator.get(LIST).content.decode()

    assert "7 / 20" in page
    assert "cpu3@rack1" in page
    assert "stopping" in page


def test_a_page_of_the_list_costs_the_same_number_of_queries_whatever_its_length(
    operator, django_assert_max_num_queries
):
    device = factories.make_device()
    for number, status in enumerate([*Status] * 4):
        owner = factories.make_user(username=f"user{number}")
        generation = factories.make_generation(status=status, owner=owner)
        factories.make_attempt(generation=generation, device=device, outcome=Outcome.RELEASED)
        factories.make_image(generation=generation)

    with django_assert_max_num_queries(12):
        assert len(listed(operator.get(LIST))) == 20


@pytest.mark.parametrize("word", ["green", "{id}", "ada"])
def test_the_search_finds_by_prompt_id_and_owner(operator, user, stranger, word):
    wanted = factories.make_generation(owner=user, prompt="a green frog")
    factories.make_generation(owner=stranger, prompt="a blue whale")

    assert listed(operator.get(LIST, {"q": word.format(id=wanted.pk)})) == {wanted}


def test_the_filters_narrow_by_status_model_owner_and_device(operator, user, stranger):
    wanted = factories.make_generation(owner=user, status=Status.RUNNING)
    attempt = factories.make_attempt(generation=wanted, device=factories.make_device())
    factories.make_generation(owner=stranger, model=factories.make_model(slug="other"))
    queries = [
        {"status__in": Status.RUNNING},
        {"model__id__exact": wanted.model_id},
        {"owner__id__exact": user.pk},
        {"attempts__device__id__exact": attempt.device_id},
    ]

    assert [listed(operator.get(LIST, query)) for query in queries] == [{wanted}] * 4


def test_the_filter_by_day_includes_its_last_day(operator):
    now = timezone.now().replace(hour=23, minute=30)
    today = factories.make_generation(created_at=now)
    factories.make_generation(created_at=now - timedelta(days=3))
    factories.make_generation(created_at=now + timedelta(days=1))
    day = now.strftime("%Y-%m-%d")

    assert listed(operator.get(LIST, {"created_at_from": day, "created_at_to": day})) == {today}


def test_the_page_of_one_shows_its_images_full_size_with_seed_and_download(operator):
    generation = factories.make_generation(status=Status.SUCCEEDED, seed=7)
    image = factories.make_image(generation=generation, size=64)

    page = operator.get(url(generation)).content.decode()

    source = reverse("generation-image", args=[generation.pk, 0])
    assert re.search(rf'<img src="{source}"[^>]*width="64" height="64"', page)
    assert f'download="{image.download_name}"' in page
    assert "seed 7" in page


def test_the_page_of_one_shows_what_it_began_with(operator, user):
    generation = factories.make_generation(has_inputs=True)
    earlier, stored = factories.make_generation(status=Status.SUCCEEDED), factories.make_input()
    generation.inputs.create(role=Role.IMAGE, earlier_generation_id=earlier.pk, earlier_index=0, sha256="0")
    generation.inputs.create(role=Role.MASK, input=stored, sha256=stored.sha256)

    html = operator.get(url(generation)).content.decode()

    assert f'<img src="{reverse("generation-image", args=[earlier.pk, 0])}" alt="image"' in html
    assert f'<img src="{reverse("input-file", args=[stored.pk])}" alt="mask"' in html


def test_a_retry_whose_picture_is_gone_says_so(operator, user, said):
    generation = factories.make_generation(status=Status.FAILED, has_inputs=True)
    generation.inputs.create(role=Role.IMAGE, earlier_generation_id=generation.pk, earlier_index=0, sha256="0")

    response = operator.post(url(generation, "retry"), DIALOG)

    assert "There is no image 0" in said(response)[0]


def test_the_timeline_says_where_an_attempt_went_on_and_why_one_began_anew():
    generation = factories.make_generation(status=Status.RUNNING)
    factories.make_attempt(generation=generation, resumed_from_step=12, outcome=Outcome.LOST)
    factories.make_attempt(generation=generation, start_note="The state after step 14 was not found.")

    details = [event.detail for event in timeline.events(generation)]

    assert "on gpu0@gone; went on from step 12" in details
    assert "on gpu0@gone; from the beginning: The state after step 14 was not found." in details


def test_the_timeline_tells_what_happened_in_order(operator):
    generation = factories.make_generation(status=Status.FAILED, error_code="out_of_memory", error_detail="Too big.")
    factories.make_attempt(
        generation=generation,
        device=factories.make_device(),
        outcome=Outcome.FAILED,
        step=4,
        pipeline_seconds=1.25,
        peak_memory_bytes=3 * 1024**3,
        error_code="out_of_memory",
        error_detail="Too big.",
    )

    response = operator.get(url(generation))

    events = response.context["events"]
    assert [event.title for event in events] == ["Accepted", "Attempt 1 started", "Attempt 1 ended", "Finished"]
    assert events[2].detail == (
        "after 3.0\u00a0s; 4 steps; 1.25 s in the pipeline; at most 3.0 GiB of memory; Too big. (out_of_memory)"
    )
    assert events[3].detail == "Too big. (out_of_memory)"


def test_a_prompt_cannot_bring_markup_along(operator):
    generation = factories.make_generation(prompt="<script>alert(1)</script>")

    for page in (LIST, url(generation)):
        assert "<script>alert(1)" not in operator.get(page).content.decode()


def test_a_status_cannot_be_changed_by_hand(operator):
    generation = factories.make_generation()

    response = operator.post(url(generation), {"status": Status.SUCCEEDED, "prompt": "another"})

    generation.refresh_from_db()
    assert response.status_code == 403
    assert (generation.status, generation.prompt) == (Status.QUEUED, "a red apple")


@pytest.mark.parametrize(
    ("status", "offered"),
    [
        (Status.QUEUED, ["cancel"]),
        (Status.RUNNING, ["cancel"]),
        (Status.SUCCEEDED, ["delete"]),
        (Status.FAILED, ["retry", "delete"]),
        (Status.CANCELLED, ["retry", "delete"]),
    ],
)
def test_the_buttons_are_those_that_apply(operator, status, offered):
    generation = factories.make_generation(status=status)

    page = operator.get(url(generation)).content.decode()

    assert [verb for verb in ("cancel", "retry", "delete") if url(generation, verb) in page] == offered


def test_without_the_right_to_change_them_nothing_is_offered_or_done(browser_of):
    generation = factories.make_generation()
    browser = browser_of("view_generation")

    page = browser.get(url(generation))
    answer = browser.post(url(generation, "cancel"), DIALOG)

    generation.refresh_from_db()
    assert url(generation, "cancel") not in page.content.decode()
    assert (answer.status_code, generation.status) == (403, Status.QUEUED)


@pytest.mark.parametrize(("verb", "status"), [("cancel", Status.QUEUED), ("retry", Status.FAILED)])
def test_looking_at_a_dialog_changes_nothing(operator, verb, status):
    generation = factories.make_generation(status=status)

    assert operator.get(url(generation, verb)).status_code == 200
    assert list(Generation.objects.values_list("status")) == [(status,)]


def test_cancel_ends_what_waits(operator, said):
    generation = factories.make_generation()

    response = operator.post(url(generation, "cancel"), DIALOG)

    generation.refresh_from_db()
    assert generation.status == Status.CANCELLED
    assert response["HX-Redirect"] == url(generation)
    assert said(response) == ["1 generation cancelled."]


def test_cancel_asks_what_runs_to_stop(operator, said):
    generation = factories.make_generation(status=Status.RUNNING)

    response = operator.post(url(generation, "cancel"), DIALOG)

    generation.refresh_from_db()
    assert generation.status == Status.RUNNING
    assert generation.cancel_requested_at is not None
    assert said(response) == ["1 generation asked to stop at the next step."]


def test_retry_leads_to_the_new_generation(operator, user):
    generation = factories.make_generation(owner=user, status=Status.FAILED, seed=9)

    response = operator.post(url(generation, "retry"), DIALOG)

    again = Generation.objects.exclude(pk=generation.pk).get()
    assert (again.owner, again.seed, again.status) == (user, 9, Status.QUEUED)
    assert response["HX-Redirect"] == url(again)


def test_retry_of_what_succeeded_is_refused_with_the_reason(operator, said):
    generation = factories.make_generation(status=Status.SUCCEEDED)

    response = operator.post(url(generation, "retry"), DIALOG)

    assert Generation.objects.count() == 1
    assert "only failed and cancelled ones" in said(response)[0]


def test_delete_asks_first_and_then_removes_the_files_too(operator):
    generation = factories.make_generation(status=Status.SUCCEEDED)
    image = factories.make_image(generation=generation)

    assert operator.get(url(generation, "delete")).status_code == 200
    assert default_storage.exists(image.file.name)

    operator.post(url(generation, "delete"), {"post": "yes"})
    assert not Generation.objects.exists()
    assert not default_storage.exists(image.file.name)


@pytest.mark.parametrize("status", UNFINISHED)
def test_delete_of_what_is_not_finished_is_refused(operator, status):
    generation = factories.make_generation(status=status)

    assert operator.post(url(generation, "delete"), {"post": "yes"}).status_code == 403
    assert Generation.objects.exists()
