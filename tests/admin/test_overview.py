"""The page that the admin opens with."""

from datetime import timedelta

import pytest
from django.utils import timezone

from generation.lifecycle import Outcome, Status
from tests import factories

pytestmark = pytest.mark.django_db


def test_it_counts_what_waits_and_runs_and_what_ended_within_a_day(operator):
    for status in (Status.QUEUED, Status.QUEUED, Status.RUNNING, Status.SUCCEEDED, Status.FAILED):
        factories.make_generation(status=status)
    factories.make_generation(status=Status.SUCCEEDED, finished_at=timezone.now() - timedelta(hours=25))

    counts = operator.get("/admin/").context["counts"]

    assert [(count["title"], count["value"]) for count in counts] == [
        ("Waiting", 2),
        ("Running", 1),
        ("Succeeded in 24 h", 1),
        ("Failed in 24 h", 1),
    ]
    assert operator.get(counts[0]["url"]).context["cl"].result_count == 2


def test_it_shows_the_devices_and_the_newest_pictures(operator):
    factories.make_device(host="rack1", is_drained=True)
    generation = factories.make_generation(status=Status.SUCCEEDED, prompt="a green frog")
    factories.make_image(generation=generation)

    page = operator.get("/admin/").content.decode()

    assert "cpu0@rack1" in page
    assert "drained" in page
    assert "a green frog" in page
    assert f"/api/generations/{generation.pk}/images/0/thumbnail/" in page


def test_it_costs_the_same_number_of_queries_however_much_there_is(operator, django_assert_max_num_queries):
    for index in range(10):
        device = factories.make_device(index=index)
        generation = factories.make_generation(status=Status.SUCCEEDED)
        factories.make_attempt(generation=generation, device=device, outcome=Outcome.SUCCEEDED)
        factories.make_image(generation=generation)

    with django_assert_max_num_queries(11):
        operator.get("/admin/")


def test_it_says_what_does_not_do_its_work_and_where(operator):
    factories.make_device(host="rack1", quarantined_at=timezone.now())
    factories.make_generation(model=factories.make_model(slug="forgotten"))

    page = operator.get("/admin/").content.decode()

    assert "No housekeeper was seen lately" in page
    assert "in quarantine: they lost their workers, and test themselves now and then. (cpu0@rack1)" in page
    assert "start a worker. (forgotten)" in page


def test_it_opens_when_there_is_nothing_yet(operator):
    page = operator.get("/admin/").content.decode()

    assert "No data" in page
