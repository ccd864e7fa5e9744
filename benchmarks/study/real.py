"""The engine itself behind each link: how many pictures a second, beside those of native."""

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.study import machine
from benchmarks.study.context import Context
from benchmarks.study.links import LINKS, MEASURED_ON_DEVICES, Link, opened
from benchmarks.study.servers import model_servers
from deploy.balancer.client import SHIPPED
from generation.runtimes.native import ENGINE

ROUNDS = 3
ENOUGH_SECONDS = 100.0  # after so many no further round begins


@dataclass(frozen=True)
class Job:
    """What is drawn: so many pictures by so many callers."""

    size: int
    steps: int
    callers: int
    count: int


def measure(context: Context) -> dict[str, Any]:
    """The shipped model on the processor."""
    job = Job(size=256, steps=round(context.scaled(10, 4)), callers=4, count=round(context.scaled(8, 4)))
    found = side_by_side(context, job, LINKS, model=SHIPPED, device="cpu")
    return {"model": "The shipped model", "device": "the processor", **found}


def measure_on_gpu(context: Context) -> dict[str, Any]:
    """A model of full size on the first GPU, by the links alone; it may be another machine than that of the rest."""
    import torch

    assert context.gpu_model is not None
    job = Job(size=512, steps=20, callers=16, count=round(context.scaled(96, 32)))
    links = [link for link in LINKS if link != "balancer"]
    found = side_by_side(context, job, links, model=context.gpu_model, device="cuda:0")
    name = torch.cuda.get_device_name(0)
    return {"model": context.gpu_model.name, "device": name, "machine": machine.describe(), **found}


def side_by_side(context: Context, job: Job, names: Sequence[str], *, model: Path, device: str) -> dict[str, Any]:
    """All links with the same model at the same time. They take turns, round by round, and the fastest run counts."""
    started = time.monotonic()
    speeds: dict[str, list[float]] = {name: [] for name in names}
    with all_opened(context, job, names, model=model, device=device) as links:
        for link in links:
            draw_all(link, job, count=job.callers)
            say(f"{link.name} is warm after {time.monotonic() - started:.0f} s")
        started = time.monotonic()
        for number in range(ROUNDS):
            for link in links:
                speeds[link.name].append(per_second(link, job))
                say(f"round {number + 1}, {link.name}: {speeds[link.name][-1]:.3f} pictures a second")
            if time.monotonic() - started > ENOUGH_SECONDS:
                break
    rows = [{"link": name, "per_second": max(own)} for name, own in speeds.items()]
    return {**asdict(job), "rounds": len(speeds["native"]), "rows": rows}


@contextmanager
def all_opened(context: Context, job: Job, names: Sequence[str], *, model: Path, device: str) -> Iterator[list[Link]]:
    """The links for the length of the block: the engine in this process, and one in a server behind all others."""
    folder = context.folder / device.partition(":")[0]
    with ExitStack() as stack:

        def open_link(name: str, servers: list[Any]) -> Link:
            return stack.enter_context(
                opened(name, folder, servers, at_once=job.callers, engine=ENGINE, model=model, device=device)
            )

        # First native, for what it measures on the device the server then finds: both share forwards alike.
        say("native loads the model")
        links = [open_link("native", [])]
        say("a model server loads the model")
        one = model_servers(folder, count=1, work=None, device=device, measured=MEASURED_ON_DEVICES, slots=job.callers)
        servers = stack.enter_context(one)
        yield links + [open_link(name, servers) for name in names if name != "native"]


def per_second(link: Link, job: Job) -> float:
    """Pictures a second of one run."""
    started = time.perf_counter()
    draw_all(link, job, count=job.count)
    return job.count / (time.perf_counter() - started)


def draw_all(link: Link, job: Job, *, count: int) -> None:
    """So many pictures, shared out among the callers."""
    with ThreadPoolExecutor(job.callers) as callers:
        list(callers.map(lambda seed: link.draw(job.size, job.steps, seed), range(count)))


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(f"  {text}", file=sys.stderr, flush=True)
