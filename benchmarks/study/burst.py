"""Experiment 6: a thousand requests at once."""

import time
from typing import Any

from benchmarks.study.balancer import running_balancer
from benchmarks.study.broker import running_broker
from benchmarks.study.context import SERVERS, Context, gateway_settings
from benchmarks.study.ledger import spread
from benchmarks.study.load import Target, all_at_once
from benchmarks.study.servers import Work, model_servers

SHORT = Work(steps=4, step_seconds=0.025, at_once=4)
CLIENTS_THAT_SUBMIT = 16


def measure(context: Context) -> dict[str, Any]:
    """How much of it was taken, and when it was done, by topology."""
    count = round(context.scaled(1000, 60))
    found: dict[str, Any] = {"count": count, "rows": []}
    folder = context.folder / "burst"
    with model_servers(folder, count=SERVERS, work=SHORT) as servers:
        with running_balancer("balancer", folder, servers, at_once=SHORT.at_once, steps=SHORT.steps) as balancer:
            found["rows"].append(burst(balancer, count, clients=count))
        settings = gateway_settings([server.url for server in servers], slots=2 * SERVERS * SHORT.at_once)
        with running_broker("broker on Redis", folder / "redis", steps=SHORT.steps, **settings) as broker:
            found["rows"].append(burst(broker, count, clients=CLIENTS_THAT_SUBMIT))
    return found


def burst(target: Target, count: int, *, clients: int) -> dict[str, Any]:
    """Send all, then wait for the last picture."""
    started = time.time()
    ledger = all_at_once(target, count, clients=clients)
    answered = time.time() - started
    target.settle(ledger)
    ends = [request.ended_at for request in ledger.succeeded() if request.ended_at is not None]
    return {
        "name": target.name,
        "sent": count,
        **ledger.counts(),
        "answered_after_seconds": round(answered, 2),
        "done_after_seconds": round(max(ends, default=started) - started, 1),
        "seconds": spread(ledger.seconds()),
        "overtaken": ledger.overtaken(at_once=SERVERS * SHORT.at_once + CLIENTS_THAT_SUBMIT),
    }
