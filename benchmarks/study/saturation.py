"""Experiment 2: how many generations a second go through, and what each costs of the processor."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.study.broker import running_broker
from benchmarks.study.context import SERVERS, Context
from benchmarks.study.ledger import spread
from benchmarks.study.links import LINKS, Link, opened
from benchmarks.study.load import all_at_once
from benchmarks.study.processes import cpu_seconds
from benchmarks.study.servers import TIMED, Work, model_servers

INSTANT = Work(steps=1, step_seconds=0.001, at_once=8)
CALLERS = 8
SIZE = 512


def measure(context: Context) -> dict[str, Any]:
    """Per second, and milliseconds of processor for each, client included: of each link, and of the whole service."""
    rows = []
    with model_servers(context.folder / "saturation", count=SERVERS, work=INSTANT) as servers:
        for name in LINKS:
            with opened(name, context.folder / "saturation", servers, at_once=INSTANT.at_once, work=INSTANT) as link:
                rows.append(saturate(link, seconds=context.scaled(5, 2)))
    count = round(context.scaled(200, 40))
    services = [saturate_service(context, name, settings, count=count) for name, settings in context.brokers().items()]
    return {"callers": CALLERS, "size": SIZE, "rows": rows, "count": count, "services": services}


def saturate(link: Link, *, seconds: float) -> dict[str, Any]:
    """Callers that ask again as soon as they have their picture."""
    ends_at = time.perf_counter() + seconds

    def ask_again_and_again(caller: int) -> int:
        made = 0
        while time.perf_counter() < ends_at:
            link.draw(SIZE, INSTANT.steps, 1000 * caller + made)
            made += 1
        return made

    with ThreadPoolExecutor(CALLERS) as pool:
        before, started = time.process_time() + cpu_seconds(link.servers), time.perf_counter()
        made = sum(pool.map(ask_again_and_again, range(CALLERS)))
        elapsed = time.perf_counter() - started
        spent = time.process_time() + cpu_seconds(link.servers) - before
    return {"link": link.name, "per_second": round(made / elapsed, 1), "cpu_ms": round(1000 * spent / made, 2)}


def saturate_service(context: Context, name: str, settings: dict[str, str], *, count: int) -> dict[str, Any]:
    """The whole service, from POST to the stored file: one after another, then as many as it takes."""
    settings = settings | INSTANT.environment | {"PICTOR_ENGINE": TIMED, "PICTOR_CPU_SLOTS": str(INSTANT.at_once)}
    folder = context.folder / f"saturation-{name}"
    with running_broker(name, folder, steps=INSTANT.steps, size=256, **settings) as service:
        alone = []
        for _ in range(round(context.scaled(20, 5))):
            ledger = all_at_once(service, 1, clients=1)
            service.settle(ledger, look_again_seconds=0.01)
            alone += ledger.seconds()
        before, started = cpu_seconds(service.processes()), time.time()
        ledger = all_at_once(service, count, clients=CALLERS)
        service.settle(ledger)
        spent = cpu_seconds(service.processes()) - before
        ends = [request.ended_at for request in ledger.succeeded() if request.ended_at is not None]
    return {
        "name": f"broker on {name}",
        "per_second": round(len(ends) / (max(ends) - started), 1),
        "cpu_ms": round(1000 * spent / len(ends), 1),
        "alone_ms": spread(alone[1:], scale=1000, digits=1),
    }
