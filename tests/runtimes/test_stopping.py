"""A model server that is told to stop: what is done is delivered, and what is not is nobody's fault."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from generation.runtimes import packing
from generation.runtimes.errors import ServerUnavailable
from generation.runtimes.frames import Frame, Kind
from generation.runtimes.uds import Connection
from tests.engines.models import SHIPPED, ignore, make_request
from tests.runtimes.serving import TIMED, server_process

PATIENCE_SECONDS = 30


@pytest.mark.parametrize("link", ["http", "uds", "gateway"])
def test_what_takes_too_long_when_a_server_stops_is_lost_with_it_and_has_not_failed(tmp_path, link):
    with server_process(tmp_path, "--engine", TIMED, "--grace-seconds", "0.1") as server:
        runtime = server.runtime(link)

        def stop(progress):
            if progress.step == 1:
                server.process.terminate()

        with pytest.raises(ServerUnavailable):
            runtime.generate(make_request(num_inference_steps=100_000), on_step=stop)
        runtime.close()


@pytest.mark.parametrize("link", ["http", "uds"])
def test_what_ends_in_time_is_delivered(tmp_path, link):
    with server_process(tmp_path, "--engine", TIMED) as server:
        runtime = server.runtime(link)

        def stop(progress):
            if progress.step == 1:
                server.process.terminate()

        made = runtime.generate(make_request(num_inference_steps=20), on_step=stop)
        runtime.close()

    assert len(made.pixels) == 1


def test_who_reads_slowly_gets_the_whole_result_before_the_server_ends(tmp_path):
    with server_process(tmp_path, "--engine", TIMED) as server:
        connection = Connection(server.socket)
        connection.sock.settimeout(PATIENCE_SECONDS)
        connection.send(packing.pack_request(make_request(width=2048, height=2048, num_images=2)))
        runtime = server.runtime("uds")
        while runtime._look(Kind.DESCRIBE).in_flight:  # drawn, and on its way to who does not read
            pass
        runtime.close()

        with ThreadPoolExecutor(1) as pool:
            stopping = pool.submit(server.stop)
            frames = [connection.read()]
            while not frames[-1].kind.is_last:
                frames.append(connection.read())
            stopping.result(PATIENCE_SECONDS)
        connection.sock.close()

    assert frames[-1].kind == Kind.RESULT and len(frames[-1].payload) == 2 * 2048 * 2048 * 3


def test_who_only_listens_does_not_keep_a_server_from_ending(tmp_path):
    with server_process(tmp_path, "--engine", TIMED) as server:
        connection = Connection(server.socket)
        connection.send(Frame(Kind.DESCRIBE))
        assert connection.read().kind == Kind.ANSWER

        server.process.terminate()

        assert server.process.wait(PATIENCE_SECONDS) == 0
        connection.sock.close()


def test_a_model_that_others_have_loaded_is_not_ours_to_forget(tmp_path):
    with server_process(tmp_path, "--engine", TIMED) as server:
        ours, theirs = server.runtime("uds"), server.runtime("http")
        theirs.load(SHIPPED)

        ours.describe()

        assert ours.loaded == () and theirs.loaded == (SHIPPED.slug,)
        assert [facts.slug for facts in ours.facts()] == [SHIPPED.slug]
        assert len(ours.generate(make_request(), on_step=ignore).pixels) == 1
        ours.close()
        theirs.close()
