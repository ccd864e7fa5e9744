"""Experiment 7: the processes of each topology and their memory, with the shipped model loaded."""

import time
from collections import defaultdict
from http.client import HTTPConnection
from typing import Any

import psutil

from benchmarks.study.balancer import running_balancer
from benchmarks.study.broker import BrokerTarget, running_broker
from benchmarks.study.context import SERVERS, Context, gateway_settings
from benchmarks.study.processes import memory_mib
from benchmarks.study.servers import model_servers
from deploy.balancer.client import draw, wishes

# What a command line has in it, and what the process is called here.
NAMES = (
    ("generation.runtimes.server", "model server"),
    ("nginx", "nginx"),
    ("--queues io", "sender of webhooks"),
    ("celery_app worker", "worker"),
    ("flower", "Flower"),
    ("uvicorn", "web"),
    ("housekeeper", "housekeeper"),
    ("valkey", "Redis"),
    ("redis", "Redis"),
    ("manage.py up", "supervisor"),
)


def measure(context: Context) -> dict[str, Any]:
    """Of each topology with one device, or with two servers where there are several; after a first picture."""
    folder = context.folder / "footprint"
    rows = []
    for runtime in ("native", "uds", "http"):
        started = time.monotonic()
        with running_broker(f"broker, {runtime}", folder / runtime, steps=2, PICTOR_RUNTIME=runtime) as broker:
            rows.append(weigh_service(broker, started=started))
    with model_servers(folder / "servers", count=SERVERS, work=None) as servers:
        backs = [one for server in servers for one in server.started.tree()]
        settings = gateway_settings([server.url for server in servers], slots=8)
        with running_broker("broker, gateway", folder / "gateway", steps=2, **settings) as gateway:
            draw_one(gateway)
            rows.append(weigh(gateway.name, gateway.processes() + backs))
        with running_balancer("balancer", folder / "balancer", servers, at_once=4, steps=2) as balancer:
            for _ in servers:
                draw(HTTPConnection("127.0.0.1", balancer.port), wishes("a red apple", num_inference_steps=2))
            rows.append(weigh(balancer.name, balancer.processes()))
    return {"rows": rows}


def weigh_service(broker: BrokerTarget, *, started: float) -> dict[str, Any]:
    """Draw a picture, so that the model is loaded, and weigh."""
    draw_one(broker)
    return weigh(broker.name, broker.processes()) | {"ready_after_seconds": round(time.monotonic() - started, 1)}


def draw_one(broker: BrokerTarget) -> None:
    """The first picture."""
    ended = broker.service.finish(num_inference_steps=2, width=256, height=256)
    assert ended["status"] == "succeeded", ended


def weigh(name: str, processes: list[psutil.Process]) -> dict[str, Any]:
    """How many processes there are, and their memory, in all and by kind."""
    kinds: defaultdict[str, list[psutil.Process]] = defaultdict(list)
    for process in processes:
        kinds[kind_of(process)].append(process)
    parts = {kind: {"processes": len(own), "mib": round(memory_mib(own))} for kind, own in sorted(kinds.items())}
    return {
        "name": name,
        "processes": len(processes),
        "mib": sum(part["mib"] for part in parts.values()),
        "parts": parts,
    }


def kind_of(process: psutil.Process) -> str:
    """What a process is, by its command line."""
    try:
        line = " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return "gone"
    return next((name for word, name in NAMES if word in line), "other")
