"""Images on a real S3 server, over HTTP: signatures, expiry, ranges."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from botocore.config import Config
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from generation import cleaning, input_pixels, inputs, operations, saved_states, storage
from generation.engines.encoding import EncodedImage
from generation.input_pixels import InputLost
from generation.lifecycle import Status
from generation.parameters import Wishes
from generation.sources import StoredInput, Upload
from tests import factories, pictures
from tests.faults.proxy import Proxy
from tests.ports import free_port
from tests.s3_server import BUCKET, KEY, SECRET, S3Server, started_s3

CLIENT_CONFIG = Config(
    connect_timeout=3,
    read_timeout=20,
    retries={"max_attempts": 2},
    signature_version="s3v4",
    s3={"addressing_style": "path"},
)


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one on loopback."""
    with started_s3(tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.fixture
def s3(settings, s3_server, request):
    """The default storage is the bucket; links expire as parametrized."""
    use_bucket(settings, s3_server, url_seconds=getattr(request, "param", 300))


def use_bucket(settings, url: str, *, url_seconds: int = 300) -> None:
    """Make the bucket of that server the default storage, configured as project/settings.py does it."""
    options = {
        "bucket_name": BUCKET,
        "endpoint_url": url,
        "region_name": "us-east-1",
        "access_key": KEY,
        "secret_key": SECRET,
        "client_config": CLIENT_CONFIG,
        "querystring_expire": url_seconds,
        "default_acl": None,
        "file_overwrite": True,
    }
    backend = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
    settings.STORAGES = settings.STORAGES | {"default": backend}


@pytest.fixture
def image(s3, user):
    """An image in the bucket."""
    return factories.make_image(generation=factories.make_generation(owner=user, status=Status.SUCCEEDED))


pytestmark = [pytest.mark.django_db, pytest.mark.databases("sqlite")]  # what S3 holds, it holds beside either


def test_an_image_goes_there_and_comes_back(client_of, user, image):
    response = client_of(user).get(f"/api/generations/{image.generation_id}/images/0/")

    assert response.status_code == 200
    assert len(response.content) == image.size_bytes


def test_a_redirect_leads_to_the_bytes_with_type_and_name(client_of, user, image, settings):
    settings.IMAGE_DELIVERY = "redirect"

    response = client_of(user).get(f"/api/generations/{image.generation_id}/images/0/")
    fetched = httpx.get(response["Location"])

    assert (response.status_code, response["Cache-Control"]) == (302, "private, no-store")
    assert (fetched.status_code, len(fetched.content)) == (200, image.size_bytes)
    assert fetched.headers["Content-Type"] == "image/png"
    assert image.download_name in fetched.headers["Content-Disposition"]


def test_a_signed_link_serves_ranges(image):
    link = storage.signed_url(image.file.name, disposition="inline")

    fetched = httpx.get(link, headers={"Range": "bytes=0-7"})

    assert (fetched.status_code, fetched.content) == (206, b"\x89PNG\r\n\x1a\n")


def test_without_its_signature_a_link_is_refused(image):
    link = storage.signed_url(image.file.name, disposition="inline")

    assert httpx.get(link.partition("?")[0]).status_code == 403
    assert httpx.get(link.replace("X-Amz-Signature=", "X-Amz-Signature=0")).status_code == 403


@pytest.mark.parametrize("s3", [1], indirect=True)
def test_a_link_expires(image):
    link = storage.signed_url(image.file.name, disposition="inline")
    while httpx.get(link).status_code == 200:
        time.sleep(0.2)

    assert httpx.get(link).status_code == 403


def test_a_link_is_only_good_for_its_own_object(image):
    link = storage.signed_url(image.file.name, disposition="inline")

    assert httpx.get(link.replace(image.file.name, image.thumbnail.name)).status_code == 403


def test_delete_removes_the_objects(image):
    names = [image.file.name, image.thumbnail.name]

    operations.delete(image.generation)

    assert not any(default_storage.exists(name) for name in names)


def test_what_an_attempt_stored_can_be_removed_without_listing(s3, user):
    generation = factories.make_generation(owner=user)
    attempt = generation.claim(device=factories.make_device(), dispatch_no=0)
    name = default_storage.save(f"{storage.folder(attempt)}/0.png", ContentFile(b"half a picture"))

    storage.remove_attempt(attempt)

    assert not default_storage.exists(name)


def test_an_upload_goes_there_and_comes_to_the_worker(s3, user, model):
    stored = inputs.upload(Upload(pictures.png(size=(64, 64))), owner=user)
    generation = operations.submit(Wishes(prompt="a red apple", image=StoredInput(stored.pk)), owner=user)

    pixels = input_pixels.fetch(generation)

    assert tuple(pixels.image[0, 0]) == (220, 20, 60)


def test_an_upload_whose_object_is_gone_is_lost(s3, user, model):
    stored = inputs.upload(Upload(pictures.png()), owner=user)
    generation = operations.submit(Wishes(prompt="a red apple", image=StoredInput(stored.pk)), owner=user)
    default_storage.delete(stored.file.name)

    with pytest.raises(InputLost):
        input_pixels.fetch(generation)


def test_an_upload_leads_to_its_bytes_by_redirect_too(s3, client_of, user, settings):
    settings.IMAGE_DELIVERY = "redirect"
    stored = inputs.upload(Upload(pictures.png()), owner=user)

    response = client_of(user).get(f"/api/inputs/{stored.pk}/file/")

    assert httpx.get(response["Location"]).content == storage.read(stored.file.name)


def test_an_expired_upload_is_removed(s3, user):
    stored = factories.make_input(owner=user, expires_at=timezone.now() - timedelta(minutes=1))

    cleaning.remove_expired_inputs()

    assert not default_storage.exists(stored.file.name)


def test_a_folder_without_a_row_is_found_and_removed(s3):
    orphan = UUID("018cc251-f400-7000-8000-000000000000")  # of 2024
    names = [default_storage.save(f"generations/{orphan}/1-token/{index}.png", ContentFile(b"x")) for index in (0, 1)]

    cleaning.remove_orphans(walk := cleaning.Walk())
    removed = cleaning.remove_orphans(walk)

    assert removed >= 1
    assert not any(default_storage.exists(name) for name in names)


def test_the_state_of_a_running_generation_is_kept_and_forgotten(s3, settings):
    settings.BROKER_URL = "amqp://guest:guest@rabbitmq//"  # so that it is a file
    generation_id = uuid4()
    for step, data in ((3, b"the third"), (12, b"the twelfth")):
        saved_states.keep(generation_id, data, step=step)

    found, listed = list(saved_states.find(generation_id)), list(storage.generations_with_files(saved_states.ROOT))
    saved_states.forget(generation_id)

    assert (found, generation_id in listed) == ([b"the twelfth"], True)
    assert list(saved_states.find(generation_id)) == []


def test_an_upload_in_parts_that_was_left_half_done_is_ended(s3):
    client, name = default_storage.bucket.meta.client, "generations/half/1-token/0.png"
    client.create_multipart_upload(Bucket=BUCKET, Key=name)

    ended = storage.abort_uploads(before=datetime.now(UTC) + timedelta(minutes=1))

    assert ended == 1
    assert "Uploads" not in client.list_multipart_uploads(Bucket=BUCKET)


def test_an_upload_in_parts_that_goes_on_is_left_alone(s3):
    client = default_storage.bucket.meta.client
    upload = client.create_multipart_upload(Bucket=BUCKET, Key="generations/young/1-token/0.png")

    assert storage.abort_uploads(before=datetime.now(UTC) - timedelta(days=1)) == 0
    client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])


def test_a_server_that_does_not_answer_is_unavailable_and_not_full(settings, monkeypatch):
    monkeypatch.setattr(storage, "PAUSES_BETWEEN_TRIES_SECONDS", ())
    use_bucket(settings, f"http://127.0.0.1:{free_port()}")
    picture = EncodedImage(data=b"a picture", content_type="image/png", extension="png")

    with pytest.raises(storage.StorageUnavailable) as refused:
        storage.save("generations/one/1-token/0.png", picture)

    assert refused.value.code == "storage_unavailable"


@pytest.mark.parametrize("megabytes", [3, 20], ids=["in one piece", "in parts"])
def test_a_server_that_dies_in_the_middle_of_an_upload_has_the_whole_file_once_it_is_back(
    settings, tmp_path, megabytes
):
    data, deaths = os.urandom(megabytes * 1024 * 1024), []
    with S3Server(tmp_path) as server:
        proxy = Proxy(("127.0.0.1", server.port))

        def die() -> None:
            server.kill()
            deaths.append(server.url)
            server.start()

        use_bucket(settings, f"http://127.0.0.1:{proxy.port}")
        proxy.spring_after(len(data) // 2, die)

        name = storage.save("generations/one.png", EncodedImage(data, "image/png", "png"), pauses=[0.5] * 20)

        assert deaths == [server.url]
        assert storage.read(name) == data
        assert [stored.key for stored in default_storage.bucket.objects.all()] == [name]
        proxy.close()
