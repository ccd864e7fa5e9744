"""The engine itself behind each link: how many pictures a second, beside those of native."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.study.context import Context
from benchmarks.study.links import LINKS, Link, opened
from benchmarks.study.servers import model_servers
from deploy.balancer.client import SHIPPED
from generation.runtimes.native import ENGINE


@dataclass(frozen=True)
class Job:
    """What is drawn: so many pictures by so many callers."""

    size: int
    steps: int
    callers: int
    count: int


def measure(context: Context) -> dict[str, Any]:
    """The shipped model on the processor."""
    job = Job(size=256, steps=round(context.scaled(20, 4)), callers=4, count=round(context.scaled(16, 4)))
    rows = [throughput(context, name, job, model=SHIPPED, device="cpu") for name in LINKS]
    return {"model": "The shipped model", "device": "the processor", **asdict(job), "rows": rows}


def measure_on_gpu(context: Context) -> dict[str, Any]:
    """A model of full size on the first GPU, by the links alone; twice each, and the faster run counts."""
    import torch

    assert context.gpu_model is not None
    model, job = context.gpu_model, Job(size=512, steps=20, callers=16, count=round(context.scaled(96, 32)))
    rows = []
    for name in [link for link in LINKS if link != "balancer"]:
        runs = [throughput(context, name, job, model=model, device="cuda:0") for _ in range(2)]
        rows.append(max(runs, key=lambda run: run["per_second"]))
    return {
        "model": model.name,
        "device": torch.cuda.get_device_name(0),
        "date": datetime.now(UTC).date().isoformat(),
        "software": f"PyTorch {torch.__version__}",
        **asdict(job),
        "rows": rows,
    }


def throughput(context: Context, name: str, job: Job, *, model: Path, device: str) -> dict[str, Any]:
    """Pictures a second by one link, after each caller has had one."""
    needed = 0 if name == "native" else 1
    folder = context.folder / f"{device.partition(':')[0]}-{name}"
    with (
        model_servers(folder, count=needed, work=None, device=device) as servers,
        opened(name, folder, servers, at_once=job.callers, engine=ENGINE, model=model, device=device) as link,
    ):
        draw_all(link, job, count=job.callers)
        started = time.perf_counter()
        draw_all(link, job, count=job.count)
        return {"link": name, "per_second": job.count / (time.perf_counter() - started)}


def draw_all(link: Link, job: Job, *, count: int) -> None:
    """So many pictures, shared out among the callers."""
    with ThreadPoolExecutor(job.callers) as callers:
        list(callers.map(lambda seed: link.draw(job.size, job.steps, seed), range(count)))
