"""Files of Replicate's own client, unmodified, against a running service."""

import io

import pytest
import replicate
from replicate.exceptions import ReplicateError

from generation.models import Input
from tests import factories, pictures
from tests.dialects.test_replicate import MODEL, SMALL


@pytest.fixture
def client(service, monkeypatch):
    """The client; it may not ask a proxy."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("REPLICATE_POLL_INTERVAL", "0.05")
    return replicate.Client(api_token=service.key, base_url=f"{service.address}/replicate")


@pytest.fixture
def file(client):
    """One that was uploaded."""
    return client.files.create(io.BytesIO(pictures.png(size=(64, 64))), filename="apple.png")


def test_an_uploaded_file_says_what_it_is(client, file):
    fetched = client._client.get(file.urls["download"])

    assert (file.name, file.content_type, file.size) == ("apple.png", "image/png", len(fetched.content))


def test_files_are_found_again(client, file):
    found = client.files.get(file.id)

    assert (found.id, found.size, found.checksums) == (file.id, file.size, file.checksums)
    assert [each.id for each in client.files.list()] == [file.id]


def test_a_file_can_be_named_in_several_requests(client, service, file):
    for link in file.urls.values():
        client.run(MODEL, input={"prompt": "a pear", "image": link, "num_inference_steps": 4})

    assert [request.image.shape for request in service.worker.runtime.requests] == 2 * [(64, 64, 3)]


def test_a_deleted_file_is_gone(client, file):
    assert client.files.delete(file.id)

    with pytest.raises(ReplicateError):
        client.files.get(file.id)
    assert client.files.list() == []
    with pytest.raises(ReplicateError, match="Upload the picture again"):
        client.run(MODEL, input=SMALL | {"image": file.urls["get"]})


def test_a_prediction_that_begins_with_a_file_keeps_it(client, service, file):
    service.hold()
    prediction = client.predictions.create(version="fluent-emoji-256", input=SMALL | {"image": file.urls["get"]})

    client.files.delete(file.id)
    service.let_go()
    prediction.wait()

    assert prediction.status == "succeeded"


def test_files_of_others_are_not_there(client, stranger):
    theirs = factories.make_input(owner=stranger)

    for ask in (client.files.get, client.files.delete):
        with pytest.raises(ReplicateError) as raised:
            ask(str(theirs.pk))
        assert raised.value.status == 404
    assert Input.objects.usable().filter(pk=theirs.pk).exists()
