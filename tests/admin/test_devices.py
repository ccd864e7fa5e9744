"""The devices' pages."""

import pytest
from django.db.models.functions import Now

from generation.lifecycle import Status
from generation.models import Device, Generation
from tests import factories

LIST = "/admin/generation/device/"
DIALOG = {"_form_submitted": "True"}

pytestmark = pytest.mark.django_db


def url(device: Device, part: str = "change") -> str:
    return f"{LIST}{device.pk}/{part}/"


def act(operator, action: str, *devices: Device):
    return operator.post(LIST, {"action": action, "_selected_action": [device.pk for device in devices]})


def test_the_list_tells_who_is_alive_and_when_the_others_were_heard_of(operator):
    factories.make_device(host="rack1", memory_bytes=80 * 1024**3, loaded=["sdxl"])
    factories.make_device(host="rack2", is_alive=False)

    page = operator.get(LIST).content.decode()

    assert "cpu0@rack1" in page
    assert "80.0 GiB" in page
    assert "sdxl" in page
    assert "alive" in page
    assert "heard of 1\u00a0h ago" in page


def test_it_counts_what_runs_on_each(operator):
    device = factories.make_device(slots=4)
    for _ in range(2):
        factories.make_attempt(generation=factories.make_generation(status=Status.RUNNING), device=device)

    assert "2 of 4</a>" in operator.get(LIST).content.decode()


def test_the_list_costs_the_same_number_of_queries_whatever_its_length(operator, model, django_assert_max_num_queries):
    for index in range(10):
        factories.make_device(index=index).serves.add(model)

    with django_assert_max_num_queries(9):
        operator.get(LIST)


def test_only_the_assignment_and_the_drain_can_be_changed(operator, model):
    device = factories.make_device()

    operator.post(url(device), {"serves": [model.pk], "is_drained": "on", "name": "A toaster", "slots": 99})

    device.refresh_from_db()
    assert (list(device.serves.all()), device.is_drained) == ([model], True)
    assert (device.name, device.slots) == ("A processor", 1)


def test_devices_are_drained_and_taken_into_use_again(operator):
    device = factories.make_device()

    act(operator, "drain", device)
    device.refresh_from_db()
    assert device.is_drained

    act(operator, "undrain", device)
    device.refresh_from_db()
    assert not device.is_drained


def test_a_test_picture_is_pinned_to_the_device_and_linked_to(operator, staff, model, said):
    device = factories.make_device()

    response = operator.post(url(device, "make_test_picture"), DIALOG)

    generation = Generation.objects.get()
    assert (generation.pinned_to, generation.owner, generation.model) == (device, staff, model)
    assert f"/admin/generation/generation/{generation.pk}/change/" in said(response)[0]
    assert response["HX-Redirect"] == url(device)


def test_looking_at_the_dialog_makes_no_test_picture(operator, model):
    assert operator.get(url(factories.make_device(), "make_test_picture")).status_code == 200
    assert not Generation.objects.exists()


def test_test_pictures_are_made_on_the_devices_that_live(operator, model, said):
    alive, silent = factories.make_device(index=0), factories.make_device(index=1, is_alive=False)

    response = act(operator, "make_test_pictures", alive, silent)

    assert [generation.pinned_to for generation in Generation.objects.all()] == [alive]
    assert "cpu1@here is silent. Start its worker first." in said(response)


def test_without_a_model_the_test_picture_says_what_is_missing(operator, said):
    response = operator.post(url(factories.make_device(), "make_test_picture"), DIALOG)

    assert "No model is enabled" in said(response)[0]


def test_a_silent_device_can_be_deleted(operator):
    silent = factories.make_device(is_alive=False)

    operator.post(url(silent, "delete"), {"post": "yes"})

    assert not Device.objects.exists()


def test_a_device_that_lives_cannot_be_deleted(operator):
    alive = factories.make_device()

    answers = [operator.post(url(alive, "delete"), {"post": "yes"}), act(operator, "delete_selected", alive)]

    assert answers[0].status_code == 403
    assert Device.objects.exists()
    assert url(alive, "delete") not in operator.get(url(alive)).content.decode()


def test_a_device_in_quarantine_says_why_and_is_released_by_hand(operator):
    device = factories.make_device(quarantined_at=Now(), quarantine_reason="Its last 3 workers died.")

    listed, shown = operator.get(LIST).content.decode(), operator.get(url(device)).content.decode()
    act(operator, "release", device)

    assert "in quarantine" in listed
    assert "Its last 3 workers died." in shown
    device.refresh_from_db()
    assert (device.quarantined_at, device.trusted_from is not None) == (None, True)
