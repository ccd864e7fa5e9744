"""The places of a device: as many as keep it busy, and one alone for what may be to blame."""

from threading import Event, Thread

import pytest

from generation.worker import Worker
from tests import factories
from tests.engines.models import make_request
from tests.fakes import ScriptedRuntime

pytestmark = pytest.mark.django_db


@pytest.fixture
def worker(model):
    """A worker whose model runs four at once."""
    runtime = ScriptedRuntime()
    runtime.at_once, runtime.loaded = 4, (model.slug,)
    return Worker(runtime=runtime, device=factories.make_device())


class Taker(Thread):
    """Takes a place, and holds it until it is told to leave."""

    def __init__(self, worker: Worker, model, *, takes: int = 1, alone: bool = False) -> None:
        super().__init__(daemon=True)
        self.worker, self.model, self.takes, self.alone = worker, model, takes, alone
        self.has_it, self.may_leave = Event(), Event()
        self.start()

    def run(self) -> None:
        with self.worker.places.place(self.model, takes=self.takes, alone=self.alone) as self.give_up:
            self.has_it.set()
            self.may_leave.wait(10)

    def leave(self) -> None:
        self.may_leave.set()
        self.join(10)


def test_others_join_as_long_as_there_is_room(worker, model):
    takers = [Taker(worker, model) for _ in range(2)]

    assert all(taker.has_it.wait(10) for taker in takers)
    for taker in takers:
        taker.leave()


def test_who_finds_a_place_free_takes_as_many_as_it_needs_and_gives_them_all_back(worker, model):
    takers = [Taker(worker, model, takes=3) for _ in range(2)]
    joined = [taker.has_it.wait(10) for taker in takers]
    late = [Taker(worker, model) for _ in range(3)]
    joined_meanwhile = [taker.has_it.wait(0.05) for taker in late]

    takers[0].leave()

    assert joined == [True, True] and not any(joined_meanwhile)
    assert any(taker.has_it.wait(1) for taker in late)
    for taker in (takers[1], *late):
        taker.leave()
    assert worker.places._taken[model.slug] == 0


def test_a_large_picture_takes_the_places_of_several(worker, model):
    worker.runtime.usual_pixels = 512 * 512
    sizes = [{}, {"width": 1024}, {"width": 1024, "height": 768}, {"num_images": 2}, {"width": 256}, {"height": 2048}]

    taken = [
        worker.places_of(make_request(**{"width": 512, "height": 512, "model": model.model_source} | size))
        for size in sizes
    ]

    assert taken == [1, 2, 3, 2, 1, 3]  # of four at once never all


def test_who_finds_no_size_noted_takes_one_place(worker, model):
    assert worker.places_of(make_request(width=2048, height=2048, model=model.model_source)) == 1


def test_who_has_waited_longer_comes_first(worker, model):
    worker.runtime.at_once = 1
    first = Taker(worker, model)
    first.has_it.wait(10)
    second = Taker(worker, model)
    while not worker.places._lines[model.slug]:
        pass

    worker.runtime.at_once = 2  # nobody is told: second looks again only in a while
    third = Taker(worker, model)

    assert second.has_it.wait(10) and not third.has_it.is_set()
    for taker in (first, second, third):
        taker.leave()


def test_who_is_to_be_alone_waits_until_the_others_have_left(worker, model):
    other = Taker(worker, model)
    other.has_it.wait(10)
    alone = Taker(worker, model, alone=True)
    while not worker.places._want_to_be_alone:
        pass

    had_it_before = alone.has_it.is_set()
    other.leave()

    assert not had_it_before
    assert alone.has_it.wait(10)
    alone.leave()


def test_who_fails_while_it_waits_stands_in_nobodys_way(worker, model):
    class Fails:
        def facts(self):
            raise RuntimeError("a server was lost")

    runtime, worker.runtime = worker.runtime, Fails()
    with pytest.raises(RuntimeError, match="lost"), worker.places.place(model):
        pass

    worker.runtime = runtime
    taker = Taker(worker, model)

    assert taker.has_it.wait(10)
    taker.leave()


def test_nobody_joins_who_is_alone_or_waits_to_be(worker, model):
    alone = Taker(worker, model, alone=True)
    alone.has_it.wait(10)
    late = Taker(worker, model)

    joined = late.has_it.wait(0.05)
    alone.leave()

    assert not joined
    assert late.has_it.wait(10)
    late.leave()


def test_a_place_that_was_given_up_is_free_for_the_next_one_before_its_holder_has_left(worker, model):
    worker.runtime.at_once = 1
    first = Taker(worker, model)
    first.has_it.wait(10)
    second = Taker(worker, model)

    first.give_up()

    assert second.has_it.wait(10)
    for taker in (first, second):
        taker.leave()


def test_a_place_is_given_up_only_once(worker, model):
    worker.runtime.at_once = 1
    first = Taker(worker, model)
    first.has_it.wait(10)
    first.give_up()
    first.leave()
    second, third = Taker(worker, model), Taker(worker, model)

    joined = [taker for taker in (second, third) if taker.has_it.wait(0.05)]

    assert len(joined) == 1
    for taker in (*joined, second, third):
        taker.leave()


def test_who_is_to_be_alone_waits_for_those_who_have_given_up_their_place_too(worker, model):
    other = Taker(worker, model)
    other.has_it.wait(10)
    other.give_up()
    alone = Taker(worker, model, alone=True)
    while not worker.places._want_to_be_alone:
        pass

    had_it_before = alone.has_it.wait(0.05)
    other.leave()

    assert not had_it_before
    assert alone.has_it.wait(10)
    alone.leave()
