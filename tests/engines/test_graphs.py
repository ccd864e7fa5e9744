"""Forwards recorded as CUDA graphs, and streams; only where there is a GPU."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from generation.engines import device as devices
from generation.engines.batching import Batcher
from generation.engines.callee import Company
from generation.engines.flight import Flight
from generation.engines.forwards import Forwards
from generation.engines.graphs import Graphs
from generation.engines.rows import split
from tests.engines.tiny import WIDTH, AtMost, Denoiser, callee_of, sample, take_apart

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here.")

GPU = torch.device("cuda:0")
LONG = 200_000_000  # cycles: a tenth of a second, in which the host is far ahead


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture
def denoiser():
    return Denoiser().to(GPU)


@pytest.fixture
def graphs():
    return Graphs(GPU)


def noise(count=1, *, seed=0):
    return sample(count, seed=seed).to(GPU)


def open_batcher(*, has_own_stream=False):
    return Batcher(Forwards(GPU), flight=Flight(GPU, has_own_stream=has_own_stream), name="tiny")


class Waiting(Denoiser):
    """Waits for the GPU, which cannot be recorded."""

    def forward(self, sample, timestep):
        output = super().forward(sample, timestep)[0]
        return (output * output.sum().item(),)


class Distribution:
    """What a VAE encodes to: an object that holds tensors."""

    def __init__(self, mean):
        self.mean = mean


def test_the_third_call_of_its_kind_runs_without_python_and_gives_the_same_bits(denoiser, graphs):
    callee = callee_of(denoiser)

    outputs = [graphs.run(take_apart(callee, noise(2, seed=seed), float(seed)))[0] for seed in range(4)]

    assert denoiser.counts == [2, 2]  # eager, and recorded
    for seed, output in enumerate(outputs):
        eager = take_apart(callee, noise(2, seed=seed), float(seed)).run()[0]
        assert torch.equal(output, eager)


def test_an_output_outlives_the_next_replay(denoiser, graphs):
    callee = callee_of(denoiser)
    calls = [take_apart(callee, noise(seed=seed), 0.0) for seed in range(4)]
    outputs = [graphs.run(call)[0] for call in calls]

    kept = outputs[2].clone()
    graphs.run(calls[3])

    assert torch.equal(outputs[2], kept)


def test_each_number_of_rows_and_each_common_value_has_its_own_graph(denoiser, graphs):
    callee = callee_of(denoiser)
    calls = [take_apart(callee, noise(count), 0.0, scale=scale) for count in (1, 2) for scale in (1.0, 3.0)]

    for _ in range(3):
        outputs = [graphs.run(call)[0] for call in calls]

    for call, output in zip(calls, outputs, strict=True):
        assert torch.equal(output, call.run()[0])


def test_a_graph_outlives_the_shared_tensors_that_it_was_recorded_with(denoiser, graphs):
    callee = callee_of(denoiser)

    def run():
        ids = torch.full((64, 64), 0.001, device=GPU)
        return graphs.run(take_apart(callee, noise(), 0.0, img_ids=ids))[0]

    eager = run()
    run()
    litter = [torch.full((64, 64), 1000.0, device=GPU) for _ in range(64)]

    assert torch.equal(run(), eager)
    assert len(denoiser.counts) == 2 and len(litter) == 64


def test_what_waits_for_the_gpu_stays_eager(graphs):
    module = Waiting().to(GPU)
    call = take_apart(callee_of(module), noise(), 0.0)

    outputs = [graphs.run(call)[0] for _ in range(4)]

    assert all(torch.equal(output, call.run()[0]) for output in outputs)


def test_after_what_cannot_be_recorded_others_are(graphs, denoiser):
    waiting = take_apart(callee_of(Waiting().to(GPU), name="waiting"), noise(), 0.0)
    for _ in range(2):
        graphs.run(waiting)
    call = take_apart(callee_of(denoiser), noise(), 0.0)

    outputs = [graphs.run(call)[0] for _ in range(3)]

    assert denoiser.counts == [1, 1]
    assert torch.equal(outputs[2], call.run()[0])


def test_what_cannot_be_recorded_leaves_the_thread_on_its_stream(graphs):
    before = torch.cuda.current_stream()
    waiting = take_apart(callee_of(Waiting().to(GPU), name="waiting"), noise(), 0.0)

    for _ in range(2):
        graphs.run(waiting)

    assert torch.cuda.current_stream() == before


def test_the_graph_that_was_used_longest_ago_makes_way(denoiser):
    graphs = Graphs(GPU, most=1)
    one, other = (take_apart(callee_of(denoiser, name=name), noise(seed=1), 0.0) for name in ("one", "other"))
    for call in (one, one, other, other):
        graphs.run(call)
    denoiser.counts.clear()

    graphs.run(other)
    assert denoiser.counts == []

    output = graphs.run(one)[0]
    assert denoiser.counts == [1]
    assert torch.equal(output, one.run()[0])


def test_what_is_forgotten_runs_eagerly_and_is_recorded_anew(denoiser, graphs):
    call = take_apart(callee_of(denoiser, name="model unet"), noise(), 0.0)
    for _ in range(3):
        graphs.run(call)
    denoiser.counts.clear()

    graphs.forget({"model unet"})
    outputs = [graphs.run(call)[0] for _ in range(3)]

    assert denoiser.counts == [1, 1]
    assert torch.equal(outputs[0], outputs[2])


def test_forgetting_one_model_keeps_the_graphs_of_others(denoiser, graphs):
    call = take_apart(callee_of(denoiser, name="model unet"), noise(), 0.0)
    for _ in range(2):
        graphs.run(call)
    denoiser.counts.clear()

    graphs.forget({"another unet"})
    graphs.run(call)

    assert denoiser.counts == []


def test_all_graphs_can_be_freed_while_the_last_replay_runs(denoiser, graphs):
    call = take_apart(callee_of(denoiser), noise(), 0.0)
    eager = call.run()[0]
    for _ in range(2):
        graphs.run(call)

    torch.cuda._sleep(LONG)
    output = graphs.run(call)[0]
    graphs.forget_all()
    litter = [torch.full((1, WIDTH), 1000.0, device=GPU) for _ in range(64)]

    assert torch.equal(output, eager)
    assert len(litter) == 64


def test_other_threads_launch_and_allocate_while_a_graph_is_recorded(denoiser, graphs):
    call = take_apart(callee_of(denoiser), noise(), 0.0)
    is_over = threading.Event()

    def litter():
        while not is_over.is_set():
            torch.ones(1024, 1024, device=GPU).sum()

    with ThreadPoolExecutor(1) as pool:
        littering = pool.submit(litter)
        outputs = [graphs.run(call)[0] for _ in range(3)]
        is_over.set()
        littering.result(60)

    assert denoiser.counts == [1, 1]
    assert torch.equal(outputs[2], call.run()[0])


def test_other_threads_wait_for_what_they_launched_while_a_graph_is_recorded(denoiser, graphs):
    call = take_apart(callee_of(denoiser), noise(), 0.0)

    with ThreadPoolExecutor(1) as others:
        denoiser.register_forward_pre_hook(lambda *_: others.submit(devices.synchronize, GPU).result(60))
        for _ in range(3):
            graphs.run(call)

    assert denoiser.counts == [1, 1]


@pytest.mark.parametrize(("count", "bucket"), [(1, 1), (3, 4), (5, 6), (7, 8), (33, 33)])
def test_rows_are_padded_to_a_bucket(denoiser, count, bucket):
    call = take_apart(callee_of(denoiser, limits=AtMost(64)), noise(count), 0.0)

    output = split(Forwards(GPU)(call), among=[call])[0]

    assert denoiser.counts == [bucket]
    torch.testing.assert_close(output[0], denoiser(noise(count), torch.zeros(count, device=GPU))[0])


def test_a_fixed_number_of_rows_gives_the_same_bits_in_any_company(denoiser):
    forwards, callee = Forwards(GPU), callee_of(denoiser, fixed_count=4)
    alone = take_apart(callee, noise(), 0.0, company=Company.FIXED)

    outputs = [split(forwards(alone), among=[alone])[0][0] for _ in range(3)]

    assert denoiser.counts == [4, 4]
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("has_own_stream", [False, True])
def test_inputs_that_are_not_there_yet_are_waited_for(denoiser, has_own_stream):
    batcher = open_batcher(has_own_stream=has_own_stream)
    expected = denoiser(torch.full((1, WIDTH), 3.0, device=GPU), torch.zeros(1, device=GPU))[0]
    latents = torch.zeros(1, WIDTH, device=GPU)

    torch.cuda._sleep(LONG)
    latents += 3
    output = batcher.run(take_apart(callee_of(denoiser), latents, 0.0))[0]

    assert torch.equal(output, expected)
    batcher.close()


@pytest.mark.parametrize("made", [lambda tensor: (tensor,), Distribution], ids=["a tensor", "an object"])
def test_the_memory_of_an_output_is_not_used_again_before_it_was_read(made):
    flight = Flight(GPU, has_own_stream=True)
    batcher = Batcher(Forwards(GPU), flight=flight, name="tiny")
    callee = callee_of(lambda x: made(x + 1), limits=AtMost(1))

    output = batcher.run(take_apart(callee, torch.zeros(1, 4096, device=GPU)))
    torch.cuda._sleep(LONG)
    read = (output[0] if isinstance(output, tuple) else output.mean).clone()
    del output
    with flight.stream():  # as the next forward would, had it been asked for before
        litter = [torch.full((1, 4096), 1000.0, device=GPU) for _ in range(64)]

    assert torch.equal(read, torch.ones_like(read))
    assert len(litter) == 64
    batcher.close()


@pytest.mark.parametrize("has_own_stream", [False, True])
def test_many_members_at_once_get_what_they_get_alone(denoiser, has_own_stream):
    batcher, callee = open_batcher(has_own_stream=has_own_stream), callee_of(denoiser, limits=AtMost(8))

    def generate(seed, run):
        latents = noise(1 + seed % 3, seed=seed)
        for step in range(20):
            latents = latents + 0.01 * run(take_apart(callee, latents, float(step)))[0]
        return latents

    def in_company(seed):
        with torch.no_grad(), batcher.membership() as member:
            return generate(seed, lambda call: batcher.run(call, member=member)).cpu()

    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(in_company, range(12)))
    batcher.close()

    for seed, output in enumerate(together):
        torch.testing.assert_close(output, generate(seed, lambda call: call.run()).cpu())
