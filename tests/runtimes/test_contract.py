"""What holds for every runtime: the engine in this process, over HTTP, over a Unix socket, and a gateway over HTTP.

Another runtime joins by an entry in LINKS, and by what `open_runtime` and `open_timed` make for it.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from generation.engines.errors import ModelUnavailable, UnsupportedParameter, UnusableState
from generation.engines.packed_state import PackedState
from generation.engines.types import ImageRequest, ModelSource, Progress
from generation.runtimes import packing
from generation.runtimes.base import Runtime
from generation.runtimes.errors import ServerUnavailable
from generation.runtimes.native import NativeRuntime
from tests import measurements
from tests.engines.models import SHIPPED, ignore, make_request
from tests.runtimes.serving import TIMED, ServerProcess, server_process

LINKS = ("native", "http", "uds", "gateway")
REMOTE = ("http", "uds", "gateway")
PATIENCE_SECONDS = 30
SLOTS = 2


class Enough(Exception):
    """What an on_step raises here."""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[ServerProcess]:
    """The engine with the shipped model, in a process of its own."""
    words = ("--device", "cpu", "--folder", str(measurements.folder()))
    with server_process(tmp_path_factory.mktemp("server"), *words) as server:
        yield server


@pytest.fixture(scope="module")
def timed_server(tmp_path_factory) -> Iterator[ServerProcess]:
    """An engine that takes 20 ms a step, in a process of its own with two slots."""
    words = ("--engine", TIMED, "--slots", str(SLOTS))
    with server_process(tmp_path_factory.mktemp("timed"), *words) as server:
        yield server


@pytest.fixture(scope="module")
def native() -> Iterator[Runtime]:
    """The engine in this process."""
    runtime = NativeRuntime("cpu", folder=measurements.folder())
    yield runtime
    runtime.close()


@pytest.fixture(params=LINKS)
def runtime(request, native) -> Iterator[Runtime]:
    """Each runtime in turn, with the engine behind it."""
    if request.param == "native":
        yield native
        return
    runtime = request.getfixturevalue("server").runtime(request.param)
    yield runtime
    runtime.close()


@pytest.fixture(params=LINKS)
def timed(request) -> Iterator[Runtime]:
    """Each runtime in turn, with an engine behind it that takes a given time."""
    if request.param == "native":
        runtime: Runtime = NativeRuntime("cpu", engine=TIMED)
    else:
        runtime = request.getfixturevalue("timed_server").runtime(request.param)
    yield runtime
    runtime.close()


@pytest.fixture(params=REMOTE)
def remote(request, timed_server) -> Iterator[Runtime]:
    """Each runtime with a server, in turn."""
    runtime = timed_server.runtime(request.param)
    yield runtime
    runtime.close()


def stop_at(step: int) -> Callable[[Progress], None]:
    """An on_step that has enough at that step."""

    def on_step(progress: Progress) -> None:
        if progress.step >= step:
            raise Enough

    return on_step


def long_request(**changes) -> ImageRequest:
    """One that takes far longer than any test waits."""
    return make_request(num_inference_steps=100_000, **changes)


def test_the_same_seed_gives_the_same_bytes_everywhere(runtime, native):
    request = make_request(is_reproducible=True)

    made = runtime.generate(request, on_step=ignore)

    assert made.pixels.tobytes() == native.generate(request, on_step=ignore).pixels.tobytes()
    assert made.pixels.shape == (1, 64, 64, 3)


def test_pictures_to_begin_with_arrive_as_they_are(runtime, native):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48] = 255
    request = make_request(image=pixels, mask=mask, strength=0.9, num_inference_steps=3, is_reproducible=True)

    made = runtime.generate(request, on_step=ignore)

    assert made.pixels.tobytes() == native.generate(request, on_step=ignore).pixels.tobytes()


def test_steps_are_told_in_order_up_to_the_last_one(runtime):
    seen: list[Progress] = []

    runtime.generate(make_request(num_inference_steps=4), on_step=seen.append)

    steps = [progress.step for progress in seen if progress.step > 0]
    assert steps == [1, 2, 3, 4]
    assert {progress.total for progress in seen} == {4}


def test_a_preview_is_a_small_picture(runtime):
    previews = []

    runtime.generate(
        make_request(num_inference_steps=4),
        on_step=lambda progress: previews.append(progress.preview()) if progress.step == 1 else None,
    )

    assert previews[0].dtype == np.uint8 and previews[0].ndim == 3


@pytest.mark.parametrize("begin", [Progress.start_preview, Progress.copy_state])
def test_who_asks_twice_at_one_step_is_answered_twice(runtime, begin):
    answers = []

    def ask_twice(progress: Progress) -> None:
        if progress.step == 1:
            asked = [begin(progress) for _ in range(2)]
            answers.extend(finish() for finish in asked)

    runtime.generate(make_request(num_inference_steps=6), on_step=ask_twice)

    assert len(answers) == 2 and all(answer is not None for answer in answers)


def test_a_saved_state_is_gone_on_from(runtime, native):
    request = make_request(num_inference_steps=4, is_reproducible=True)
    states: list[PackedState] = []

    def save_once(progress: Progress) -> None:
        if progress.step == 1:
            states.append(progress.save())

    whole = runtime.generate(request, on_step=save_once)
    state = PackedState.from_bytes(states[0].to_bytes())
    rest: list[Progress] = []
    made = runtime.generate(request, on_step=rest.append, resume_from=state)

    assert made.pixels.tobytes() == whole.pixels.tobytes()
    assert next(progress.step for progress in rest if progress.step > state.step) == state.step + 1


def test_a_state_that_is_none_is_refused(runtime):
    with pytest.raises(UnusableState):
        runtime.generate(make_request(), on_step=ignore, resume_from=PackedState(1, 2, b"nonsense"))


def test_what_on_step_raises_comes_out_unchanged(runtime):
    with pytest.raises(Enough):
        runtime.generate(make_request(num_inference_steps=50), on_step=stop_at(2))


def test_who_leaves_frees_the_place_of_the_next_one(timed):
    for _ in range(SLOTS + 1):
        with pytest.raises(Enough):
            timed.generate(long_request(), on_step=stop_at(1))

    assert len(timed.generate(make_request(), on_step=ignore).pixels) == 1


def test_a_load_is_seen_in_facts_and_an_unload_too(runtime):
    runtime.load(SHIPPED)
    facts, loaded, schedulers = runtime.facts(), runtime.loaded, runtime.schedulers(SHIPPED.slug)
    runtime.unload(SHIPPED.slug)

    assert loaded == (SHIPPED.slug,) and facts[0].slug == SHIPPED.slug and facts[0].at_once >= 1
    assert "ddim" in schedulers
    assert runtime.loaded == ()


def test_a_model_that_is_not_there_is_unavailable(runtime):
    with pytest.raises(ModelUnavailable):
        runtime.load(ModelSource(slug="nothing", source="/no/such/folder"))
    with pytest.raises(ModelUnavailable):
        runtime.schedulers("nothing")


@pytest.mark.parametrize("odd", [{"scheduler": "NoSuchScheduler"}, {"width": 63}, {"strength": 0.5}])
def test_odd_requests_are_refused_by_the_same_error(runtime, odd):
    with pytest.raises(UnsupportedParameter):
        runtime.generate(make_request(**odd), on_step=ignore)


def test_prompts_of_all_scripts_arrive(timed):
    made = timed.generate(make_request(prompt="ein Wal 🐋 鲸鱼 \u0000 " + 2000 * "x"), on_step=ignore)

    assert made.pixels.shape == (1, 64, 64, 3)


def test_large_pictures_come_whole(timed, remote):
    request = make_request(width=2048, height=1024, num_images=2)

    made = timed.generate(request, on_step=ignore)

    assert made.pixels.shape == (2, 1024, 2048, 3)
    assert made.pixels.tobytes() == remote.generate(request, on_step=ignore).pixels.tobytes()


def test_large_pictures_to_begin_with_are_taken(timed):
    pixels = np.zeros((2048, 2048, 3), np.uint8)

    made = timed.generate(make_request(image=pixels, references=(pixels,)), on_step=ignore)

    assert len(made.pixels) == 1


def test_the_cost_of_the_way_is_told(timed):
    cost = timed.generate(make_request(width=512, height=512), on_step=ignore).cost

    assert cost.serialise_ms >= 0 and cost.transfer_ms >= 0 and cost.wait_ms >= 0


def test_more_than_there_are_slots_wait_for_one(timed):
    with ThreadPoolExecutor(3 * SLOTS) as pool:
        made = list(pool.map(lambda seed: timed.generate(make_request(seed=seed), on_step=ignore), range(3 * SLOTS)))

    assert len(made) == 3 * SLOTS


def test_who_waits_for_a_slot_can_leave(remote):
    entered, leave = threading.Semaphore(0), threading.Event()

    def hold(progress: Progress) -> None:
        entered.release()
        if leave.is_set():
            raise Enough

    with ThreadPoolExecutor(SLOTS) as pool:
        holders = [pool.submit(remote.generate, long_request(), on_step=hold) for _ in range(SLOTS)]
        for _ in holders:
            assert entered.acquire(timeout=PATIENCE_SECONDS)
        with pytest.raises(Enough):
            remote.generate(make_request(), on_step=stop_at(0))
        leave.set()

    assert all(isinstance(holder.exception(), Enough) for holder in holders)


@pytest.mark.parametrize("link", REMOTE)
def test_a_killed_server_is_an_error_with_its_cause_and_a_new_one_is_found(tmp_path, link):
    with server_process(tmp_path, "--engine", TIMED) as server:
        runtime = server.runtime(link)
        runtime.load(SHIPPED)

        def kill(progress: Progress) -> None:
            if progress.step == 2:
                server.kill()

        with pytest.raises(ServerUnavailable, match="went away"):
            runtime.generate(long_request(), on_step=kill)
        with pytest.raises(ServerUnavailable):
            runtime.describe()
        assert runtime.loaded == ()

        server.start()
        runtime.load(SHIPPED)
        made = runtime.generate(make_request(), on_step=ignore)
        runtime.close()

    assert len(made.pixels) == 1


def test_pictures_that_are_none_are_refused_before_they_are_sent(remote):
    with pytest.raises(UnsupportedParameter):
        remote.generate(make_request(image=np.zeros((64, 64, 3), np.float32)), on_step=ignore)


def test_requests_are_whole_on_the_other_side():
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    request = replace(make_request(image=pixels, references=(pixels[:2],)), strength=0.5)
    frame = packing.pack_request(request, PackedState(1, 2, b"state"))

    arrived, state = packing.unpack_request(frame)

    assert arrived.prompt == request.prompt and np.array_equal(arrived.image, pixels)
    assert np.array_equal(arrived.references[0], pixels[:2]) and arrived.strength == 0.5
    assert state is not None and (state.step, state.total, state.data) == (1, 2, b"state")
