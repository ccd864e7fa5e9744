"""The pages of the registry of diffusion models."""

import pytest
from django.forms import model_to_dict

from generation.lifecycle import Status
from generation.models import DiffusionModel, Generation
from tests import factories

LIST = "/admin/generation/diffusionmodel/"
DIALOG = {"_form_submitted": "True"}

pytestmark = pytest.mark.django_db


def url(model: DiffusionModel, part: str = "change") -> str:
    return f"{LIST}{model.pk}/{part}/"


def form(model: DiffusionModel, **changes: object) -> dict[str, object]:
    """What the browser sends for `model` with some fields changed."""
    return {**model_to_dict(model, exclude=["id", "is_default"]), **changes}


def act(operator, action: str, *models: DiffusionModel):
    return operator.post(LIST, {"action": action, "_selected_action": [model.pk for model in models]})


def test_the_list_shows_defaults_and_how_many_generations_there_are(operator, model):
    for _ in range(3):
        factories.make_generation()

    page = operator.get(LIST).content.decode()

    assert "256 x 256, 20 steps, guidance 4.5" in page
    assert 'data-label="Generations">3<' in page


def test_a_model_can_be_added(operator, model):
    added = form(model, slug="another", name="Another")

    operator.post(f"{LIST}add/", added)

    assert DiffusionModel.objects.get(slug="another").name == "Another"


def test_the_slug_of_a_model_stays(operator, model):
    operator.post(url(model), form(model, slug="renamed", name="Renamed"))

    model.refresh_from_db()
    assert (model.slug, model.name) == (factories.SHIPPED, "Renamed")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"default_width": 1024, "max_width": 512}, "This is more than the limit below."),
        ({"max_num_images": 0}, "greater than or equal to 1"),
        ({"source": ""}, "This field is required."),
        ({"default_guidance_scale": "much"}, "Enter a number."),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(operator, model, changes, complaint):
    response = operator.post(url(model), form(model, **changes))

    assert response.status_code == 200
    assert complaint in response.content.decode()


def test_another_model_becomes_the_default_one(operator, model):
    other = factories.make_model(slug="other")

    response = operator.post(url(other, "make_default"), DIALOG)

    assert DiffusionModel.objects.get(is_default=True) == other
    assert response["HX-Redirect"] == url(other)


def test_the_default_cannot_be_set_by_the_form(operator, model):
    other = factories.make_model(slug="other")

    operator.post(url(other), form(other, is_default="on"))

    assert DiffusionModel.objects.get(is_default=True) == model


def test_a_disabled_model_does_not_become_the_default_one(operator, model, said):
    disabled = factories.make_model(slug="disabled", is_enabled=False)

    response = operator.post(url(disabled, "make_default"), DIALOG)

    assert DiffusionModel.objects.get(is_default=True) == model
    assert said(response) == ["disabled is disabled. Enable it first."]


def test_the_button_is_there_where_it_would_change_something(operator, model):
    other = factories.make_model(slug="other")
    disabled = factories.make_model(slug="disabled", is_enabled=False)

    pages = {row: operator.get(url(row)).content.decode() for row in (model, other, disabled)}

    assert [row for row, page in pages.items() if url(row, "make_default") in page] == [other]


def test_models_are_disabled_and_enabled(operator, model):
    act(operator, "disable", model)
    model.refresh_from_db()
    assert not model.is_enabled

    act(operator, "enable", model)
    model.refresh_from_db()
    assert model.is_enabled


def test_a_model_with_generations_is_not_deleted_and_the_page_says_why(operator, model):
    factories.make_generation()

    page = operator.get(url(model, "delete")).content.decode()
    operator.post(url(model, "delete"), {"post": "yes"})
    act(operator, "delete_selected", model)

    assert "1 generations of fluent-emoji-256. Delete them first, or disable the model instead." in page
    assert DiffusionModel.objects.filter(pk=model.pk).exists()


def test_a_model_without_generations_can_be_deleted(operator, model):
    operator.post(url(model, "delete"), {"post": "yes"})

    assert not DiffusionModel.objects.exists()


def test_all_generations_of_a_model_are_cancelled_after_a_question(operator, model):
    generation = factories.make_generation(model=model)
    other = factories.make_generation(model=factories.make_model(slug="other", is_default=False))

    question = act(operator, "cancel_generations", model)
    before = Generation.objects.get(pk=generation.pk).status
    confirmed = {"action": "cancel_generations", "_selected_action": [model.pk], "confirmed": "yes"}
    operator.post(LIST, confirmed)

    assert "1 generation queued" in question.content.decode()
    assert before == Status.QUEUED
    assert Generation.objects.get(pk=generation.pk).status == Status.CANCELLED
    assert Generation.objects.get(pk=other.pk).status == Status.QUEUED
