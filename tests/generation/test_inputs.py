"""From the pictures of a request to a worker's pixels."""

import json

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.db.models import RestrictedError
from django.utils import timezone
from PIL import Image as Picture

from generation import dispatch, input_pixels, inputs, operations, runner, storage
from generation.errors import InvalidParameters
from generation.lifecycle import Status
from generation.models import Input
from generation.parameters import Wishes
from generation.sources import EarlierImage, StoredInput, Upload
from generation.worker import Worker
from tests import factories, pictures
from tests.fakes import ScriptedRuntime

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker(monkeypatch):
    """A worker whose device draws grey squares."""
    monkeypatch.setattr(dispatch, "top_up", lambda model: 0)
    return Worker(runtime=ScriptedRuntime(), device=factories.make_device())


def submit(owner, **wishes):
    """A generation of two steps that waits with its first dispatch number."""
    generation = operations.submit(Wishes(prompt="a red apple", num_inference_steps=2, **wishes), owner=owner)
    generation.mark_dispatched()
    return generation


def run(generation, worker):
    runner.run(generation.pk, generation.dispatch_no, worker=worker)
    generation.refresh_from_db()
    return generation


def stored(picture: Picture.Image, owner) -> StoredInput:
    return StoredInput(inputs.upload(Upload(pictures.encode(picture, "PNG")), owner=owner).pk)


def test_the_engine_gets_the_pixels_of_image_and_mask(user, model, worker):
    image, mask = stored(pictures.make(size=(64, 64)), user), stored(pictures.halves(), user)

    generation = run(submit(user, image=image, mask=mask, strength=0.5), worker)

    (request,) = worker.runtime.requests
    assert generation.status == Status.SUCCEEDED
    assert (request.image.shape, request.image.dtype) == ((64, 64, 3), np.uint8)
    assert tuple(request.image[0, 0]) == (220, 20, 60)
    assert (request.mask[0, 0], request.mask[0, -1], request.mask.shape) == (0, 255, (64, 64))
    assert request.strength == 0.5


def test_an_earlier_result_is_read_from_where_it_lies(user, model, worker):
    earlier = factories.make_generation(status=Status.SUCCEEDED)
    factories.make_image(generation=earlier, colour="navy")

    run(submit(user, image=EarlierImage(earlier.pk, 0)), worker)

    assert tuple(worker.runtime.requests[0].image[0, 0]) == (0, 0, 128)


def test_without_pictures_the_engine_gets_none(user, model, worker):
    run(submit(user), worker)

    (request,) = worker.runtime.requests
    assert (request.image, request.mask, request.strength, request.references) == (None, None, None, ())


def test_what_is_transparent_is_white_in_an_image_and_not_painted_by_a_mask():
    clear = Picture.new("RGBA", (4, 4), (255, 0, 0, 0))

    assert tuple(input_pixels.as_rgb(clear)[0, 0]) == (255, 255, 255)
    assert input_pixels.as_mask(clear)[0, 0] == 0


def test_greys_of_a_mask_fall_on_one_side(user):
    mask = Picture.fromarray(np.array([[0, 127, 128, 255]], np.uint8))

    assert input_pixels.as_mask(mask).tolist() == [[0, 0, 255, 255]]


def test_an_earlier_result_that_was_deleted_meanwhile_fails_it_with_a_code(user, model, worker):
    earlier = factories.make_generation(status=Status.SUCCEEDED)
    factories.make_image(generation=earlier)
    generation = submit(user, image=EarlierImage(earlier.pk, 0))
    operations.delete(earlier)

    run(generation, worker)

    assert (generation.status, generation.error_code) == (Status.FAILED, "input_lost")
    assert "now deleted" in generation.error_detail
    assert worker.runtime.requests == []


def test_a_generation_that_has_taken_the_id_of_a_deleted_one_is_not_mistaken_for_it(user, stranger, model, worker):
    earlier = factories.make_generation(owner=user, status=Status.SUCCEEDED)
    factories.make_image(generation=earlier)
    generation, taken = submit(user, image=EarlierImage(earlier.pk, 0)), earlier.pk
    operations.delete(earlier)
    theirs = factories.make_generation(id=taken, owner=stranger, status=Status.SUCCEEDED)
    factories.make_image(generation=theirs, colour="navy")

    run(generation, worker)

    assert (generation.status, generation.error_code) == (Status.FAILED, "input_lost")


def test_a_file_that_is_gone_fails_it_with_the_same_code(user, model, worker):
    generation = submit(user, image=stored(pictures.make(), user))
    default_storage.delete(Input.objects.get().file.name)

    run(generation, worker)

    assert (generation.status, generation.error_code) == (Status.FAILED, "input_lost")
    assert "inputs/" not in generation.error_detail


def test_a_storage_that_stays_away_fails_it_after_some_tries(user, model, worker, monkeypatch):
    generation = submit(user, image=stored(pictures.make(), user))
    monkeypatch.setattr(storage, "PAUSES_BETWEEN_TRIES_SECONDS", (0, 0))

    def refuse(name):
        raise OSError("away")

    monkeypatch.setattr(storage, "read", refuse)

    run(generation, worker)

    assert (generation.status, generation.error_code) == (Status.FAILED, "storage_unavailable")


def test_a_storage_that_comes_back_in_time_costs_nothing(user, model, worker, monkeypatch):
    generation = submit(user, image=stored(pictures.make(), user))
    monkeypatch.setattr(storage, "PAUSES_BETWEEN_TRIES_SECONDS", (0, 0))
    read, refusals = storage.read, iter([OSError("away")])

    def refuse_once(name):
        for error in refusals:
            raise error
        return read(name)

    monkeypatch.setattr(storage, "read", refuse_once)

    assert run(generation, worker).status == Status.SUCCEEDED


def test_the_file_of_the_image_says_what_it_began_with(user, model, worker):
    generation = run(submit(user, image=stored(pictures.make(size=(64, 64)), user), strength=0.5), worker)

    text = Picture.open(default_storage.open(generation.images.get().file.name)).text
    parameters = json.loads(text["parameters"])
    assert parameters["strength"] == 0.5
    assert parameters["inputs"] == [{"role": "image", "sha256": Input.objects.get().sha256}]


def test_asking_for_an_input_lets_its_time_begin_anew(user, model):
    image = factories.make_input(expires_at=timezone.now() + timezone.timedelta(seconds=5))

    submit(user, image=StoredInput(image.pk))

    before = image.expires_at
    image.refresh_from_db()
    assert image.expires_at - before > timezone.timedelta(hours=1)


def test_an_input_that_expires_at_that_moment_is_refused_and_nothing_is_submitted(user, model, monkeypatch):
    image = factories.make_input()
    keep_all = inputs.keep_all

    def expire_first(beginnings, *, owner):
        Input.objects.update(removed_at=timezone.now())
        return keep_all(beginnings, owner=owner)

    monkeypatch.setattr(inputs, "keep_all", expire_first)

    with pytest.raises(InvalidParameters, match="expired"):
        submit(user, image=StoredInput(image.pk))

    assert not user.generations.exists()


def test_an_input_that_a_generation_has_cannot_be_deleted_under_it(user, model):
    submit(user, image=stored(pictures.make(), user))

    with pytest.raises(RestrictedError):
        Input.objects.get().delete()


def test_a_deleted_generation_leaves_its_input_to_the_housekeeper(user, model):
    generation = submit(user, image=stored(pictures.make(), user))
    operations.cancel(generation)

    operations.delete(generation)

    assert Input.objects.unused().count() == 1
