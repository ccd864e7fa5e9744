"""A pool gives each generation to the server that has least to do, and does without those that are unwell."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from generation.engines.errors import ModelUnavailable, OutOfMemory
from generation.engines.types import ModelSource, Progress
from generation.runtimes.errors import ServerBusy, ServerUnavailable
from generation.runtimes.gateway.runtime import GatewayRuntime
from tests.engines.models import SHIPPED, ignore, make_request
from tests.fakes import ScriptedRuntime

PATIENCE_SECONDS = 20


class Server(ScriptedRuntime):
    """A scripted server that can be held, killed and brought back."""

    def __init__(self, *, at_once: int = 1) -> None:
        super().__init__()
        self.at_once = at_once
        self.gate = threading.Event()
        self.gate.set()
        self.arrivals = threading.Semaphore(0)
        self.is_dead = False
        self.refusals = 0
        self.at_step = self.hold_the_first

    def hold_the_first(self, step: int) -> None:
        """Take the first step when the gate is open, unless killed meanwhile."""
        if step == 1:
            self.hold()

    def hold(self) -> None:
        """Go on when the gate is open, unless killed meanwhile."""
        self.arrivals.release()
        assert self.gate.wait(PATIENCE_SECONDS)
        self.live()

    def live(self) -> None:
        """Answer only if alive."""
        if self.is_dead:
            raise ServerUnavailable("It is gone.")

    def describe(self):
        self.live()
        return super().describe()

    def load(self, model):
        self.live()
        if model.slug not in self.loaded:
            super().load(model)

    def generate(self, request, *, on_step, resume_from=None):
        self.live()
        if self.refusals:
            self.refusals -= 1
            raise ServerBusy("It has enough to do.")
        return super().generate(request, on_step=on_step, resume_from=resume_from)


@pytest.fixture
def servers():
    return {"one": Server(), "two": Server()}


@pytest.fixture
def gateway(servers):
    """A gateway that checks its servers only when a test says so."""
    gateway = GatewayRuntime(servers, check_seconds=3600, patience_seconds=0.2)
    load_everywhere(gateway)
    yield gateway
    gateway.close()


@pytest.fixture
def calls():
    with ThreadPoolExecutor() as calls:
        yield calls


def load_everywhere(gateway, model=SHIPPED):
    """Load a model, and wait until each server has done what it can."""
    gateway.load(model)
    for member in gateway._pool.members:
        for loading in list(member.loading.values()):
            loading.result(PATIENCE_SECONDS)


def draw(gateway, on_step=ignore, **changes):
    return gateway.generate(make_request(**changes), on_step=on_step)


def test_who_has_least_to_do_is_next(gateway, servers, calls):
    one, two = servers.values()
    one.gate.clear()
    first = calls.submit(draw, gateway)
    assert one.arrivals.acquire(timeout=PATIENCE_SECONDS)

    draw(gateway)
    draw(gateway)

    one.gate.set()
    first.result()
    assert (len(one.requests), len(two.requests)) == (1, 2)


def test_a_server_that_has_taken_a_last_step_has_room_while_it_decodes(calls):
    only = Server()
    only.at_step, only.after_last_step = lambda step: None, only.hold
    gateway = GatewayRuntime({"only": only}, check_seconds=3600)
    load_everywhere(gateway)
    only.gate.clear()

    started = [calls.submit(draw, gateway) for _ in range(2)]
    are_both_there = [only.arrivals.acquire(timeout=PATIENCE_SECONDS) for _ in started]

    only.gate.set()
    for call in started:
        call.result()
    assert are_both_there == [True, True]
    assert gateway._pool.members[0].in_flight.total() == 0
    gateway.close()


def draw_on(servers, sizes, *, calls):
    """Draw on servers that are all held until the last one has begun; the widths that each has drawn."""
    gateway = GatewayRuntime({str(place): server for place, server in enumerate(servers)}, check_seconds=3600)
    load_everywhere(gateway)
    arrivals = servers[0].arrivals
    for server in servers:
        server.arrivals = arrivals
        server.gate.clear()
    started = []
    for size in sizes:
        started.append(calls.submit(draw, gateway, width=size, height=size))
        assert arrivals.acquire(timeout=PATIENCE_SECONDS)
    for server in servers:
        server.gate.set()
    for call in started:
        call.result()
    assert [member.in_flight.total() for member in gateway._pool.members] == [0 for _ in servers]
    gateway.close()
    return [[request.width for request in server.requests] for server in servers]


def test_who_does_more_at_once_gets_more(calls):
    small, large = draw_on([Server(at_once=1), Server(at_once=3)], [256] * 4, calls=calls)

    assert (len(small), len(large)) == (1, 3)


def test_a_large_picture_counts_for_several(calls):
    servers = [Server(at_once=2), Server(at_once=3)]
    for server in servers:
        server.usual_pixels = 256 * 256

    drawn = draw_on(servers, [256, 512, 256, 256], calls=calls)

    assert drawn == [[256, 256], [512, 256]]


def test_a_large_picture_of_one_model_keeps_no_other_model_waiting(calls):
    only, other = Server(at_once=3), replace(SHIPPED, slug="other")
    only.usual_pixels = 256 * 256
    gateway = GatewayRuntime({"only": only}, check_seconds=3600)
    for model in (SHIPPED, other):
        load_everywhere(gateway, model)
    only.gate.clear()

    started = [calls.submit(draw, gateway, model=model, width=1024, height=1024) for model in (SHIPPED, SHIPPED, other)]
    have_arrived = [only.arrivals.acquire(timeout=PATIENCE_SECONDS) for _ in started]

    only.gate.set()
    for call in started:
        call.result()
    assert have_arrived == [True] * 3
    gateway.close()


def test_servers_that_run_one_large_picture_each_run_one_each(servers, gateway):
    for server in servers.values():
        server.at_once, server.usual_pixels = 3, 256 * 256

    (facts,) = gateway.facts()

    assert facts.at_once == 6
    assert facts.places_of(make_request(width=512, height=512)) == 1


def test_all_servers_together_are_one_device(gateway):
    (facts,) = gateway.facts()

    assert facts.at_once == 2
    assert gateway.loaded == (SHIPPED.slug,)


def test_what_a_server_was_drawing_when_it_died_is_drawn_by_another(gateway, servers, calls):
    one, two = servers.values()
    one.gate.clear()
    call = calls.submit(draw, gateway)
    assert one.arrivals.acquire(timeout=PATIENCE_SECONDS)

    one.is_dead = True
    one.gate.set()

    assert call.result().pixels.shape == (1, 64, 64, 3)
    assert len(two.requests) == 1


def test_progress_does_not_go_back_when_another_server_begins_anew(gateway, servers):
    one, _ = servers.values()
    seen = []

    def die(step):
        if step == 3:
            raise ServerUnavailable("It is gone.")

    one.at_step = die

    draw(gateway, on_step=lambda progress: seen.append(progress.step), num_inference_steps=4)

    assert seen == sorted(seen)
    assert seen[-1] == 4


def test_who_died_gets_nothing_until_a_check_finds_it_well(gateway, servers):
    one, two = servers.values()
    one.is_dead = True
    for _ in range(3):
        draw(gateway)
    while_dead = (len(one.requests), len(two.requests))

    one.is_dead = False
    gateway._pool.check()
    load_everywhere(gateway)
    draw(gateway)

    assert while_dead == (0, 3)
    assert len(one.requests) == 1


def test_a_check_finds_a_server_that_died_idly(gateway, servers):
    one, _ = servers.values()
    one.is_dead = True

    gateway._pool.check()

    assert [member.name for member in gateway._pool.well()] == ["two"]
    assert gateway.facts()[0].at_once == 1


def test_the_checks_go_on_by_themselves(servers):
    gateway = GatewayRuntime(servers, check_seconds=0.01)
    asked = threading.Event()
    servers["two"].describe = asked.set

    assert asked.wait(PATIENCE_SECONDS)

    gateway.close()


def test_when_all_are_gone_it_says_nothing_against_the_request(gateway, servers):
    for server in servers.values():
        server.is_dead = True
    gateway._pool.check()

    with pytest.raises(ServerUnavailable, match="None of the servers answers"):
        draw(gateway)


def test_who_waits_for_a_server_gets_the_first_that_comes_back(servers):
    gateway = GatewayRuntime(servers, check_seconds=3600, patience_seconds=PATIENCE_SECONDS)
    for server in servers.values():
        server.is_dead = True
    gateway._pool.check()

    def come_back(progress):
        servers["two"].is_dead = False
        gateway._pool.check()

    draw(gateway, on_step=come_back)

    assert len(servers["two"].requests) == 1
    gateway.close()


def test_a_request_that_kills_its_servers_does_not_take_the_whole_pool_along():
    def die(step):
        raise ServerUnavailable("It is gone.")

    servers = {name: Server() for name in ("one", "two", "three")}
    for server in servers.values():
        server.at_step = die
    gateway = GatewayRuntime(servers, check_seconds=3600)
    load_everywhere(gateway)

    with pytest.raises(ServerUnavailable):
        draw(gateway)

    assert len(gateway._pool.well()) == 1
    gateway.close()


def test_who_has_lost_the_only_server_does_not_wait_for_another():
    def die(step):
        raise ServerUnavailable("It is gone.")

    only = Server()
    only.at_step = die
    gateway = GatewayRuntime({"only": only}, check_seconds=3600, patience_seconds=3600)
    load_everywhere(gateway)

    with pytest.raises(ServerUnavailable, match="It is gone"):
        draw(gateway)

    gateway.close()


def test_the_wait_for_a_server_counts_and_what_nobody_tells_is_not_made_up(gateway):
    cost = draw(gateway).cost

    assert cost.wait_ms > 0 and (cost.serialise_ms, cost.transfer_ms) == (None, None)


def test_a_server_that_is_busy_is_left_alone_for_a_moment(gateway, servers):
    one, two = servers.values()
    one.refusals = 1

    draw(gateway)

    assert (len(one.requests), len(two.requests)) == (0, 1)
    assert len(gateway._pool.well()) == 2


def test_a_wait_for_busy_servers_can_be_cancelled(gateway, servers):
    class Cancelled(Exception):
        pass

    def cancel(progress):
        raise Cancelled

    for server in servers.values():
        server.refusals = 1000

    with pytest.raises(Cancelled):
        draw(gateway, on_step=cancel)


def test_what_on_step_raises_ends_the_generation_and_no_other_server_gets_it(gateway, servers):
    def stop(progress: Progress) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError):
        draw(gateway, on_step=stop)

    assert sum(len(server.requests) for server in servers.values()) == 1
    assert len(gateway._pool.well()) == 2


def test_a_failure_of_the_request_is_not_tried_elsewhere(gateway, servers):
    def fail(step):
        raise OutOfMemory("Too large.")

    for server in servers.values():
        server.at_step = fail

    with pytest.raises(OutOfMemory):
        draw(gateway)

    assert sum(len(server.requests) for server in servers.values()) == 1


def test_who_does_not_have_the_model_does_not_get_it(servers):
    one, two = servers.values()
    one.load_error = ModelUnavailable("It has another one.")
    gateway = GatewayRuntime(servers, check_seconds=3600)

    load_everywhere(gateway)
    for _ in range(3):
        draw(gateway)

    assert (len(one.requests), len(two.requests)) == (0, 3)
    gateway.close()


def test_a_model_that_nobody_has_is_unavailable(gateway, servers):
    for server in servers.values():
        server.load_error = ModelUnavailable("It has another one.")

    with pytest.raises(ModelUnavailable, match="another one"):
        gateway.load(ModelSource(slug="other", source="elsewhere"))


def test_to_load_asks_only_those_who_are_well(gateway, servers):
    one, two = servers.values()
    one.is_dead = True

    load_everywhere(gateway, ModelSource(slug="other", source="elsewhere"))
    gateway.unload(SHIPPED.slug)

    assert one.loaded == (SHIPPED.slug,)
    assert two.loaded == ("other",)
    assert gateway.schedulers("other") == ()


def test_who_loads_keeps_nobody_waiting(servers):
    one, two = servers.values()
    may_load = threading.Event()
    load = two.load

    def load_late(model):
        assert may_load.wait(PATIENCE_SECONDS)
        load(model)

    two.load = load_late
    gateway = GatewayRuntime(servers, check_seconds=3600)

    gateway.load(SHIPPED)
    draw(gateway)
    draw(gateway)
    before = (len(one.requests), len(two.requests))
    may_load.set()
    load_everywhere(gateway)
    draw(gateway)

    assert before == (2, 0)
    assert len(two.requests) == 1
    gateway.close()


def test_a_failure_that_nobody_foresaw_is_a_model_that_is_unavailable(servers):
    for server in servers.values():
        server.load_error = RuntimeError("no disk")
    gateway = GatewayRuntime(servers, check_seconds=3600)

    with pytest.raises(ModelUnavailable, match="no disk"):
        gateway.load(SHIPPED)

    gateway.close()
