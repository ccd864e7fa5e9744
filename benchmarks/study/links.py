"""The ways from a caller to an engine, opened as a worker opens them, and the balancer beside them."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import local

import psutil

from benchmarks.study.balancer import running_balancer
from benchmarks.study.connections import own_connection
from benchmarks.study.processes import ROOT
from benchmarks.study.servers import TIMED, ModelServer, Work
from deploy.balancer.client import SHIPPED, draw, wishes
from generation.engines.types import ImageRequest, ModelSource, Progress
from generation.runtimes.base import Runtime
from generation.runtimes.choice import Wishes, open_runtime
from generation.runtimes.gateway.addresses import Upstream

LINKS = ("native", "uds", "http", "gateway", "balancer")
MEASURED_ON_DEVICES = ROOT / "var" / "study"  # by engines, of how many rows a forward pays off


@dataclass(frozen=True)
class Link:
    """`draw` makes one picture and returns the seconds in the pipeline; `servers` are the processes behind it."""

    name: str
    draw: Callable[[int, int, int], float]
    servers: list[psutil.Process]

    def added_seconds(self, size: int, steps: int, seed: int) -> float:
        """What the way there and back takes beside the pipeline."""
        started = time.perf_counter()
        inside = self.draw(size, steps, seed)
        return time.perf_counter() - started - inside


@contextmanager
def opened(
    name: str,
    folder: Path,
    servers: list[ModelServer],
    *,
    at_once: int,
    engine: str = TIMED,
    model: Path = SHIPPED,
    device: str = "cpu",
    work: Work | None = None,
) -> Iterator[Link]:
    """One link for the length of the block; to the timed engine a model is only a name, and `work` what it takes."""
    if work is not None:
        os.environ |= work.environment  # for the engine in this very process
    if name == "balancer":
        with running_balancer("balancer", folder, servers, at_once=at_once, steps=1) as balancer:
            yield Link(name, through(balancer.port, model), balancer.processes())
        return
    runtime = open_runtime(name, wishes_of(name, servers, engine=engine, device=device))
    source = ModelSource(slug=model.name, source=str(model))
    try:
        runtime.load(source)
        used = {"native": [], "uds": servers[:1], "http": servers[:1], "gateway": servers}[name]
        yield Link(name, calling(runtime, source), [one for server in used for one in server.started.tree()])
    finally:
        runtime.close()


def wishes_of(name: str, servers: list[ModelServer], *, engine: str, device: str) -> Wishes:
    """What the runtime of that name needs."""
    first = servers[0] if servers else None
    address = "" if first is None else str(first.socket) if name == "uds" else first.url
    upstreams = tuple(Upstream("pictor", server.url) for server in servers)
    return Wishes(
        device=device,
        folder=MEASURED_ON_DEVICES,
        compiles=False,
        engine=engine,
        address=address,
        upstreams=upstreams,
    )


def calling(runtime: Runtime, source: ModelSource) -> Callable[[int, int, int], float]:
    """A call of a runtime."""

    def once(size: int, steps: int, seed: int) -> float:
        return runtime.generate(image_request(source, size, steps, seed), on_step=ignore).pipeline_seconds

    return once


def image_request(source: ModelSource, size: int, steps: int, seed: int) -> ImageRequest:
    """One square picture."""
    return ImageRequest(
        model=source,
        prompt=f"a red apple, picture {seed}",
        negative_prompt="",
        width=size,
        height=size,
        num_inference_steps=steps,
        guidance_scale=4.5,
        seed=seed,
        num_images=1,
        scheduler="",
    )


def ignore(progress: Progress) -> None:
    """An on_step for who does not watch."""


def through(port: int, model: Path) -> Callable[[int, int, int], float]:
    """A synchronous request through nginx, each thread with a connection of its own."""
    own = local()

    def once(size: int, steps: int, seed: int) -> float:
        connection = own_connection(own, "127.0.0.1", port, seconds=60)
        sizes = {"width": size, "height": size, "num_inference_steps": steps}
        asked = wishes(f"a red apple, picture {seed}", folder=model, seed=seed, **sizes)
        return draw(connection, asked).pipeline_seconds

    return once
