"""The browsable API's pages, as a browser gets them."""

import re

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from generation.lifecycle import Status
from generation.models import Generation
from tests import factories

LIST = "/api/generations/"
HTML = {"Accept": "text/html"}
UNFINISHED = [Status.QUEUED, Status.RUNNING]

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser_client(user) -> Client:
    """A browser in which ada is logged in."""
    client = Client(headers=HTML)
    client.force_login(user)
    return client


def url(generation: Generation) -> str:
    return f"{LIST}{generation.pk}/"


def page(client: Client, place: str) -> str:
    response = client.get(place)
    assert response["Content-Type"].startswith("text/html")
    return response.content.decode()


def test_every_page_has_our_look_and_no_inline_script(browser_client, model):
    for place in ("/api/", LIST, url(factories.make_generation()), "/api/models/", f"/api/models/{model.slug}/"):
        html = page(browser_client, place)

        assert "api/pictor.css" in html
        assert "Django REST framework" not in html
        assert re.findall(r"<script(?![^>]*(?:src=|application/json))", html) == []
        assert re.findall(r"<[^>]+\son\w+=", html) == []


@pytest.mark.parametrize(
    ("place", "title"),
    [
        ("/api/", "API"),
        (LIST, "Generations"),
        ("/api/batches/", "Batches"),
        ("/api/models/", "Diffusion models"),
        (f"/api/models/{factories.SHIPPED}/", "Diffusion model"),
        ("/api/webhook-secret/", "Webhook secret"),
    ],
)
def test_every_page_says_what_it_is(browser_client, model, place, title):
    assert f"<h1>{title}</h1>" in browser_client.get(place).content.decode()


def test_the_pages_lead_to_the_description(browser_client):
    assert reverse("docs") in page(browser_client, "/api/")


def test_what_is_not_there_cannot_be_deleted(browser_client):
    response = browser_client.get(f"{LIST}00000000-0000-0000-0000-000000000000/")

    assert response.status_code == 404
    assert "DELETE</button>" not in response.content.decode()


def test_the_login_page_has_our_look_and_logs_in(client, user):
    html = page(client, "/api/auth/login/")

    response = client.post("/api/auth/login/", {"username": "ada", "password": factories.PASSWORD, "next": LIST})

    assert "api/pictor.css" in html
    assert (response.status_code, response["Location"]) == (302, LIST)


def test_anonymous_is_offered_the_login(client, db):
    response = client.get(f"{LIST}?status=queued", headers=HTML)

    assert response.status_code == 401
    assert "/api/auth/login/?next=/api/generations/%3Fstatus%3Dqueued" in response.content.decode()


def test_only_staff_see_the_link_to_the_admin(browser_client, staff):
    theirs = Client(headers=HTML)
    theirs.force_login(staff)

    assert 'href="/admin/"' not in page(browser_client, "/api/")
    assert 'href="/admin/"' in page(theirs, "/api/")


def test_the_page_of_one_shows_its_images(browser_client):
    generation = factories.make_generation(status=Status.SUCCEEDED)
    factories.make_image(generation=generation)

    html = page(browser_client, url(generation))

    source = reverse("generation-image", args=[generation.pk, 0])
    assert re.search(rf'<img src="http://testserver{source}" width="64" height="64"', html)


def test_the_list_shows_thumbnails(browser_client):
    generation = factories.make_generation(status=Status.SUCCEEDED)
    factories.make_image(generation=generation)

    html = page(browser_client, LIST)

    source = reverse("generation-thumbnail", args=[generation.pk, 0])
    assert re.search(rf'<img src="http://testserver{source}"[^>]*loading="lazy"', html)


@pytest.mark.parametrize("status", UNFINISHED)
def test_the_page_of_an_unfinished_one_shows_its_progress_and_keeps_itself_up_to_date(browser_client, status):
    generation = factories.make_generation(status=status, step=7)

    html = page(browser_client, url(generation))

    assert f'data-live="http://testserver{url(generation)}"' in html
    assert '<progress value="7" max="20"' in html


def test_other_pages_do_not_refresh(browser_client):
    finished = factories.make_generation(status=Status.SUCCEEDED)
    factories.make_generation(status=Status.RUNNING)

    assert not any("data-live" in page(browser_client, place) for place in (url(finished), LIST, "/api/models/"))


@pytest.mark.parametrize(
    ("status", "offered"),
    [
        (Status.QUEUED, ["Cancel"]),
        (Status.RUNNING, ["Cancel"]),
        (Status.SUCCEEDED, ["DELETE"]),
        (Status.FAILED, ["DELETE", "Retry"]),
        (Status.CANCELLED, ["DELETE", "Retry"]),
    ],
)
def test_the_buttons_are_those_that_apply(browser_client, status, offered):
    html = page(browser_client, url(factories.make_generation(status=status)))

    region, _, _ = html.partition('class="content-main"')
    assert re.findall(r">(Cancel|Retry|DELETE)</button>", re.sub(r"data-dismiss[^<]*<", "<", region)) == offered


def test_cancel_is_not_offered_twice(browser_client):
    generation = factories.make_generation(status=Status.RUNNING, cancel_requested_at=timezone.now())

    html = page(browser_client, url(generation))

    assert "stopping" in html
    assert f'action="http://testserver{url(generation)}cancel/"' not in html


def test_the_cancel_button_posts_with_the_csrf_token_and_leads_back(user):
    generation = factories.make_generation()
    client = Client(enforce_csrf_checks=True, headers=HTML)
    client.force_login(user)
    html = page(client, url(generation))
    form = re.search(r'<form[^>]*method="post" action="([^"]+/cancel/)">(.*?)</form>', html, re.DOTALL)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form[2])[1]

    refused = client.post(form[1])
    done = client.post(form[1], {"csrfmiddlewaretoken": token})

    generation.refresh_from_db()
    assert refused.status_code == 403
    assert (done.status_code, done["Location"]) == (303, f"http://testserver{url(generation)}")
    assert generation.status == Status.CANCELLED


def test_the_retry_button_leads_to_the_new_generation(browser_client):
    generation = factories.make_generation(status=Status.FAILED)

    response = browser_client.post(f"{url(generation)}retry/")

    again = Generation.objects.exclude(pk=generation.pk).get()
    assert (response.status_code, response["Location"]) == (303, f"http://testserver{url(again)}")


def test_what_cannot_be_done_is_said_in_a_sentence(browser_client):
    response = browser_client.post(f"{url(factories.make_generation(status=Status.SUCCEEDED))}cancel/")

    assert response.status_code == 409
    assert "there is nothing left to cancel" in response.content.decode()


def test_the_form_offers_models_and_schedulers_and_explains_its_fields(browser_client, model):
    factories.make_model(slug="hidden", is_enabled=False)

    html = page(browser_client, LIST)

    selects = dict(re.findall(r'<select class="form-control" name="(\w+)">(.*?)</select>', html, re.DOTALL))
    assert re.findall(r'value="([^"]*)"', selects["model"]) == [model.slug]
    assert '<option value="ddim"' in selects["scheduler"]
    assert "Pixels, a multiple of 8." in html


def test_a_form_that_is_sent_as_it_is_leads_to_a_generation_with_the_models_defaults(browser_client, model):
    form = page(browser_client, LIST).partition('id="post-object-form"')[2].partition("</form>")[0]
    names = re.findall(r'<(?:input|textarea) name="(\w+)"', form)
    blanks = dict.fromkeys(names, "")

    response = browser_client.post(LIST, {**blanks, "prompt": "a green frog", "model": model.slug, "scheduler": ""})

    generation = Generation.objects.get()
    assert (response.status_code, response["Location"]) == (303, f"http://testserver{url(generation)}")
    assert (generation.prompt, generation.width, generation.num_images) == ("a green frog", model.default_width, 1)
    assert {"width", "seed", "negative_prompt"} <= set(names)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("width", "100", "100 is not a multiple of 8"),
        ("seed", "many", "A valid integer is required."),
        ("num_images", "99", "99 is not between 1 and 4."),
    ],
)
def test_a_refused_form_keeps_what_was_typed_and_complains_beside_the_field(
    browser_client, model, name, value, complaint
):
    response = browser_client.post(LIST, {"prompt": "a green frog", name: value})

    html = response.content.decode()
    assert response.status_code == 400
    assert ">a green frog</textarea>" in html
    groups = re.findall(r'<div class="form-group has-error">(.*?)</div>\s*</div>', html, re.DOTALL)
    assert len(groups) == 1
    assert f'name="{name}"' in groups[0]
    assert f'value="{value}"' in groups[0]
    assert complaint in groups[0]


def test_a_body_that_cannot_be_read_is_answered_with_a_page(browser_client, model):
    response = browser_client.post(LIST, b"{not json", content_type="application/json")

    assert response.status_code == 400
    assert "JSON parse error" in response.content.decode()


def test_the_raw_form_holds_nothing_that_would_be_refused(browser_client, model):
    html = page(browser_client, LIST)

    raw = re.search(r'<textarea name="_content"[^>]*>(.*?)</textarea>', html, re.DOTALL)[1]
    assert "&quot;prompt&quot;" in raw
    assert "null" not in raw


def test_programs_are_not_redirected(client_of, user, model):
    response = client_of(user).post(LIST, {"prompt": "a red apple"}, format="json")

    assert response.status_code == 202
    assert response["Content-Type"] == "application/json"


def test_a_prompt_cannot_bring_markup_along(browser_client):
    generation = factories.make_generation(prompt='"><script>alert(1)</script>', status=Status.SUCCEEDED)
    factories.make_image(generation=generation)

    assert not any("<script>alert(1)" in page(browser_client, place) for place in (LIST, url(generation)))


def test_the_list_costs_the_same_number_of_queries_whatever_its_length(browser_client, django_assert_max_num_queries):
    for _ in range(20):
        factories.make_image(generation=factories.make_generation(status=Status.SUCCEEDED))

    with django_assert_max_num_queries(9):
        page(browser_client, LIST)


def test_staff_are_offered_to_delete_only_what_they_may(user):
    operator = factories.make_user(username="operator", is_staff=True)
    client = Client(headers=HTML)
    client.force_login(operator)

    theirs = page(client, url(factories.make_generation(owner=user, status=Status.SUCCEEDED)))
    own = page(client, url(factories.make_generation(owner=operator, status=Status.SUCCEEDED)))

    assert "DELETE</button>" not in theirs
    assert "DELETE</button>" in own


def test_the_page_of_options_still_has_the_form(browser_client, model):
    response = browser_client.options(LIST)

    assert response.status_code == 200
    assert 'id="post-object-form"' in response.content.decode()


def test_a_batch_is_posted_as_json_for_no_form_has_a_list_of_requests(browser_client, model):
    html = page(browser_client, "/api/batches/")

    assert "not currently supported in HTML" not in html
    assert "&quot;requests&quot;: []" in html


def test_only_the_list_of_generations_leads_to_the_form_of_a_new_one(browser_client, model):
    assert "New generation" in page(browser_client, LIST)
    assert "New generation" not in page(browser_client, "/api/inputs/")
