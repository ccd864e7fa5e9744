"""PUT /api/generations/{id}/"""

from uuid import UUID, uuid4

import pytest

from generation.models import Generation
from tests import factories

pytestmark = pytest.mark.django_db
OLDEST = UUID("00000000-0000-1000-8000-000000000001")
NEWEST = UUID("ffffffff-ffff-4fff-bfff-ffffffffffff")


def put(client, pk, **body):
    return client.put(f"/api/generations/{pk}/", body, format="json")


@pytest.mark.parametrize("pk", [uuid4(), OLDEST, NEWEST, UUID("6fa459ea-ee8a-3ca4-894e-db77e160355e")])
def test_a_client_may_choose_the_id(client_of, user, model, pk):
    response = put(client_of(user), pk, prompt="a red apple")

    assert (response.status_code, response.json()["id"]) == (201, str(pk))
    assert response["Location"] == response.json()["links"]["self"]
    assert Generation.objects.get(pk=pk).owner == user


def test_the_same_again_is_the_same_generation(client_of, user, model):
    client, pk = client_of(user), uuid4()
    first = put(client, pk, prompt="a red apple")

    again = put(client, pk, prompt="a red apple")

    assert (again.status_code, again["Location"]) == (200, first["Location"])
    assert again.json()["seed"] == first.json()["seed"]


def test_an_id_in_use_is_refused_and_nobody_learns_whose_it_is(client_of, user, stranger, model):
    pk = uuid4()
    put(client_of(user), pk, prompt="a red apple")

    by_owner = put(client_of(user), pk, prompt="a blue whale")
    by_stranger = put(client_of(stranger), pk, prompt="a red apple")

    assert (by_owner.status_code, by_owner.json()["code"]) == (409, "id_taken")
    assert by_stranger.json() == by_owner.json()
    assert Generation.objects.get().prompt == "a red apple"


def test_anonymous_is_asked_who_they_are(anonymous, model):
    assert put(anonymous, uuid4(), prompt="a red apple").status_code == 401


def test_bad_input_is_named_and_changes_nothing(client_of, user, model):
    response = put(client_of(user), uuid4(), prompt="a red apple", width=7)

    assert response.json()["errors"][0]["pointer"] == "/width"
    assert not Generation.objects.exists()


def test_what_is_no_uuid_is_not_found(client_of, user, model):
    assert put(client_of(user), "mine", prompt="a red apple").status_code == 404


def test_chosen_ids_jump_no_queue(client_of, user, model):
    client = client_of(user)
    earlier = put(client, NEWEST, prompt="a red apple").json()
    later = put(client, OLDEST, prompt="a red apple").json()
    listed = [shown["id"] for shown in client.get("/api/generations/").json()["results"]]

    assert (earlier["position"], later["position"]) == (1, 2)
    assert [generation.pk for generation in Generation.objects.queued()] == [NEWEST, OLDEST]
    assert listed == [str(OLDEST), str(NEWEST)]


def test_pages_of_the_list_are_complete_whatever_the_ids(client_of, user, model):
    client = client_of(user)
    ids = [str(uuid4()) for _ in range(5)]
    for pk in ids:
        put(client, pk, prompt="a red apple")

    seen, page = [], "/api/generations/?page_size=2"
    while page:
        answer = client.get(page).json()
        seen += [shown["id"] for shown in answer["results"]]
        page = answer["next"]

    assert seen == ids[::-1]


def test_a_page_of_a_generation_offers_no_form_to_replace_it(client_of, user):
    generation = factories.make_generation(owner=user)

    page = client_of(user).get(f"/api/generations/{generation.pk}/", headers={"accept": "text/html"})

    assert b'value="PUT"' not in page.content
    assert b'data-method="PUT"' not in page.content
