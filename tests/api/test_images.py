"""GET /api/generations/{id}/images/{index}/ and its thumbnail"""

import pytest
from django.core.files.storage import default_storage

from generation.lifecycle import Status
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def image(user):
    """A stored image of the user's."""
    return factories.make_image(generation=factories.make_generation(owner=user, status=Status.SUCCEEDED, seed=7))


def url(image) -> str:
    return f"/api/generations/{image.generation_id}/images/{image.index}/"


def test_the_owner_gets_the_very_bytes(client_of, user, image):
    response = client_of(user).get(url(image))

    assert response.status_code == 200
    assert response.content == default_storage.open(image.file.name).read()
    assert response["Content-Type"] == "image/png"
    assert response["Content-Disposition"] == f'inline; filename="{image.generation.model.slug}-7.png"'
    assert response["Cache-Control"] == "private, max-age=31536000, immutable"
    assert response["X-Content-Type-Options"] == "nosniff"


def test_who_has_it_already_is_told_so(client_of, user, image):
    client = client_of(user)
    etag = client.get(url(image))["ETag"]

    response = client.get(url(image), headers={"If-None-Match": etag})

    assert (response.status_code, response.content) == (304, b"")


@pytest.mark.parametrize(
    ("asked", "part"),
    [("bytes=0-9", slice(0, 10)), ("bytes=10-", slice(10, None)), ("bytes=-5", slice(-5, None))],
)
def test_a_part_of_it_can_be_asked_for(client_of, user, image, asked, part):
    response = client_of(user).get(url(image), headers={"Range": asked})

    data = default_storage.open(image.file.name).read()
    assert (response.status_code, response.content) == (206, data[part])
    assert response["Content-Range"].endswith(f"/{len(data)}")


def test_a_part_beyond_its_end_is_refused(client_of, user, image):
    response = client_of(user).get(url(image), headers={"Range": "bytes=999999-"})

    assert (response.status_code, response["Content-Range"]) == (416, f"bytes */{image.size_bytes}")


def test_a_client_may_ask_for_images_only(client_of, user, image):
    assert client_of(user).get(url(image), headers={"Accept": "image/png"}).status_code == 200


def test_the_thumbnail_is_a_small_webp(client_of, user, image):
    response = client_of(user).get(f"{url(image)}thumbnail/")

    assert (response.status_code, response["Content-Type"]) == (200, "image/webp")
    assert response.content[8:12] == b"WEBP"


def test_to_others_it_does_not_exist(client_of, stranger, image):
    assert client_of(stranger).get(url(image)).status_code == 404
    assert client_of(stranger).get(f"{url(image)}thumbnail/").status_code == 404


def test_staff_may_look_at_it(client_of, staff, image):
    assert client_of(staff).get(url(image)).status_code == 200


def test_anonymous_is_asked_who_they_are(anonymous, image):
    assert anonymous.get(url(image)).status_code == 401


def test_an_index_that_does_not_exist_is_not_found(client_of, user, image):
    assert client_of(user).get(f"/api/generations/{image.generation_id}/images/5/").status_code == 404


def test_a_file_that_is_gone_is_not_found(client_of, user, image):
    default_storage.delete(image.file.name)

    assert client_of(user).get(url(image)).status_code == 404


def test_a_storage_that_does_not_answer_is_unavailable(client_of, user, image, monkeypatch):
    def refuse(name):
        raise ConnectionError("away")

    monkeypatch.setattr(default_storage, "open", refuse)

    client = client_of(user)
    client.raise_request_exception = False

    response = client.get(url(image))

    assert (response.status_code, response["Retry-After"]) == (503, "5")


def test_nothing_under_the_media_folder_has_a_static_address(client_of, staff, image):
    client = client_of(staff)

    for place in (f"/media/{image.file.name}", f"/static/{image.file.name}", f"/{image.file.name}"):
        assert client.get(place).status_code == 404


@pytest.mark.parametrize("asked", ["bytes=5-3", "bytes=-", f"bytes={'1' * 5000}-", f"bytes=-{'1' * 5000}"])
def test_a_range_that_makes_no_sense_is_ignored(client_of, user, image, asked):
    response = client_of(user).get(url(image), headers={"Range": asked})

    assert (response.status_code, len(response.content)) == (200, image.size_bytes)
