"""Experiment 3: twice the capacity for a minute, for the balancer and for the broker."""

from typing import Any

from benchmarks.study.balancer import running_balancer
from benchmarks.study.broker import running_broker
from benchmarks.study.context import SECOND, SERVERS, Context, capacity, gateway_settings
from benchmarks.study.ledger import spread
from benchmarks.study.load import Target, drain, offer
from benchmarks.study.servers import ModelServer, model_servers

OVERLOAD = 2.0


def measure(context: Context) -> dict[str, Any]:
    """What became of the requests, by topology."""
    seconds = context.scaled(60, 8)
    found: dict[str, Any] = {"per_second": OVERLOAD * capacity(SECOND), "seconds": seconds, "rows": []}
    with model_servers(context.folder / "overload", count=SERVERS, work=SECOND) as servers:
        at_once = SECOND.at_once
        with running_balancer(
            "balancer", context.folder / "overload", servers, at_once=at_once, steps=SECOND.steps
        ) as balancer:
            found["rows"].append(overload(balancer, seconds=seconds))
        for broker, settings in context.brokers().items():
            found["rows"].append(overload_broker(context, broker, settings, servers, seconds=seconds))
    return found


def overload_broker(
    context: Context, broker: str, settings: dict[str, str], servers: list[ModelServer], *, seconds: float
) -> dict[str, Any]:
    """The same with a queue before the same servers."""
    urls = [server.url for server in servers]
    settings = settings | gateway_settings(urls, slots=2 * SERVERS * SECOND.at_once)
    folder = context.folder / f"overload-{broker}"
    with running_broker(f"broker on {broker}", folder, steps=SECOND.steps, **settings) as target:
        return overload(target, seconds=seconds)


def overload(target: Target, *, seconds: float) -> dict[str, Any]:
    """Send twice what the servers can do, then wait for what was accepted."""
    ledger, samples = offer(target, per_second=OVERLOAD * capacity(SECOND), seconds=seconds)
    waiting = target.waiting(ledger)
    drain(target, ledger, samples, patience_seconds=4 * seconds + 30)
    counts = ledger.counts()
    ends = [request.ended_at for request in ledger.succeeded() if request.ended_at is not None]
    took = max(ends, default=0.0) - ledger.requests[0].sent_at
    return {
        "name": target.name,
        "sent": len(ledger.requests),
        "accepted": len(ledger.requests) - counts["refused"],
        "waiting_at_the_end": waiting,
        **counts,
        "per_second": round(len(ends) / took, 2) if ends else 0.0,
        "seconds": spread(ledger.seconds()),
        "overtaken": ledger.overtaken(at_once=SERVERS * SECOND.at_once),
        "samples": [[round(sample.seconds, 1), sample.waiting] for sample in samples],
    }
