"""What a model server does whose engine fails, and what its clients are told of it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from generation.engines.errors import OutOfMemory
from generation.runtimes.base import Runtime
from generation.runtimes.errors import ServerFailed, ServerUnavailable
from generation.runtimes.gateway.runtime import GatewayRuntime
from generation.runtimes.http import HttpRuntime
from tests.engines.models import SHIPPED, ignore, make_request
from tests.runtimes.serving import TIMED, ServerProcess, server_process
from tests.runtimes.sick_engine import PEAK

SICK = "tests.runtimes.sick_engine:SickEngine"
REMOTE = ("http", "uds", "gateway")
PATIENCE_SECONDS = 30
LONG = make_request(num_inference_steps=100_000)

Sicken = Callable[..., ServerProcess]


@pytest.fixture
def sicken(tmp_path: Path) -> Iterator[Sicken]:
    """Starts a server with a sickness."""
    started = []

    def start(sickness: str, *words: str) -> ServerProcess:
        context = server_process(tmp_path, "--engine", SICK, *words, SICKNESS=sickness)
        started.append(context)
        return context.__enter__()

    yield start
    for context in started:
        context.__exit__(None, None, None)


@pytest.fixture(params=REMOTE)
def link(request) -> str:
    """Each way to a server."""
    return str(request.param)


def opened(server: ServerProcess, link: str) -> Runtime:
    """A runtime that is closed with the process of the tests."""
    runtime = server.runtime(link)
    runtime.load(SHIPPED)
    return runtime


def ended(server: ServerProcess) -> int:
    """Its exit status; waits for that."""
    assert server.process is not None
    return server.process.wait(PATIENCE_SECONDS)


def test_a_server_that_hangs_ends_itself_and_is_a_server_that_was_lost(sicken, link):
    server = sicken("hang", "--hang-seconds", "0.5")
    runtime = opened(server, link)

    with pytest.raises(ServerUnavailable):
        runtime.generate(LONG, on_step=ignore)

    assert ended(server) == 1
    assert "the device hangs" in (server.folder / "server.log").read_text()
    runtime.close()


def test_a_server_that_hangs_while_it_stops_ends_itself_too(sicken):
    server = sicken("hang", "--hang-seconds", "0.5", "--grace-seconds", "0")
    runtime = opened(server, "uds")

    def stop(progress):
        if progress.step == 2:  # after which it hangs
            server.process.terminate()

    with pytest.raises(ServerUnavailable):
        runtime.generate(LONG, on_step=stop)

    assert ended(server) == 1
    runtime.close()


def test_a_server_whose_device_is_lost_ends_and_its_clients_need_not(sicken, link):
    server = sicken("device lost")
    runtime = opened(server, link)

    with pytest.raises(ServerUnavailable, match="illegal memory access"):
        runtime.generate(LONG, on_step=ignore)

    assert ended(server) == 0
    runtime.close()


def test_a_device_that_is_lost_while_a_model_is_loaded_ends_its_server_too(sicken):
    server = sicken("device lost while loading")
    runtime = server.runtime("uds")

    with pytest.raises(ServerUnavailable, match="illegal memory access"):
        runtime.load(SHIPPED)

    assert ended(server) == 0
    runtime.close()


def test_a_gateway_goes_on_with_another_server_when_the_device_of_one_is_lost(sicken, tmp_path_factory):
    sick = sicken("device lost")
    with server_process(tmp_path_factory.mktemp("well"), "--engine", TIMED) as well:
        servers = {one.url: HttpRuntime(one.url, waits_when_full=False) for one in (sick, well)}
        gateway = GatewayRuntime(servers, check_seconds=0.1)
        gateway.load(SHIPPED)

        made = [gateway.generate(make_request(num_inference_steps=4), on_step=ignore) for _ in range(2)]

        assert len(made) == 2 and ended(sick) == 0
        gateway.close()


def test_memory_that_runs_out_is_told_with_its_peak_and_the_server_works_on(sicken, link):
    runtime = opened(sicken("out of memory"), link)

    with pytest.raises(OutOfMemory) as caught:
        runtime.generate(LONG, on_step=ignore)

    assert caught.value.peak_memory_bytes == PEAK
    assert len(runtime.generate(make_request(num_inference_steps=1), on_step=ignore).pixels) == 1
    runtime.close()


def test_an_error_that_nobody_foresaw_is_told_without_its_details(sicken, link):
    runtime = opened(sicken("bug"), link)

    with pytest.raises(ServerFailed, match="unexpected ZeroDivisionError"):
        runtime.generate(LONG, on_step=ignore)

    runtime.close()
