"""Experiment 4: a model server, or a worker with its engine inside, is killed in the middle of the load."""

import os
import signal
from typing import Any

from benchmarks.study.balancer import running_balancer
from benchmarks.study.broker import BrokerTarget, running_broker
from benchmarks.study.context import SECOND, SERVERS, Context, capacity, gateway_settings
from benchmarks.study.ledger import Ledger, spread
from benchmarks.study.load import Target, drain, offer
from benchmarks.study.servers import TIMED, ModelServer, model_servers

SHARE_OF_CAPACITY = 0.5
AWAY_SECONDS = 3.0


def measure(context: Context) -> dict[str, Any]:
    """What was lost and what was drawn twice, by topology."""
    seconds = context.scaled(20, 8)
    found: dict[str, Any] = {"per_second": SHARE_OF_CAPACITY * capacity(SECOND), "seconds": seconds, "rows": []}
    folder = context.folder / "kill"
    with model_servers(folder, count=SERVERS, work=SECOND) as servers:
        for name, repeats in (("balancer", False), ("balancer that repeats", True)):
            with running_balancer(
                name, folder, servers, at_once=SECOND.at_once, steps=SECOND.steps, repeats=repeats
            ) as balancer:
                found["rows"].append(kill_a_server(balancer, servers[0], seconds=seconds))
        settings = gateway_settings([server.url for server in servers], slots=2 * SERVERS * SECOND.at_once)
        with running_broker("broker, gateway", folder / "gateway", steps=SECOND.steps, **settings) as gateway:
            row = kill_a_server(gateway, servers[0], seconds=seconds)
            row["repeated"] += gateway.service.log.read_text().count("goes to another server")
            found["rows"].append(row)
    found["rows"].append(kill_a_worker(context, seconds=seconds))
    return found


def kill_a_server(target: Target, server: ModelServer, *, seconds: float) -> dict[str, Any]:
    """kill -9 after a third of the time, and a start some seconds later."""
    killed_at = seconds / 3
    events = {killed_at: server.kill, killed_at + AWAY_SECONDS: server.start_again}
    ledger, samples = offer(target, per_second=SHARE_OF_CAPACITY * capacity(SECOND), seconds=seconds, at=events)
    drain(target, ledger, samples, patience_seconds=60)
    return row_of(target, ledger)


def kill_a_worker(context: Context, *, seconds: float) -> dict[str, Any]:
    """The same where engine and worker are one process; its supervisor starts it again."""
    settings = SECOND.environment | {"PICTOR_ENGINE": TIMED, "PICTOR_CPU_SLOTS": str(SECOND.at_once)}
    folder = context.folder / "kill-native"
    with running_broker("broker, native", folder, steps=SECOND.steps, devices=f"cpu:{SERVERS}", **settings) as target:

        def kill() -> None:
            os.kill(target.service.worker_pid("cpu0"), signal.SIGKILL)

        rate = SHARE_OF_CAPACITY * capacity(SECOND)
        ledger, samples = offer(target, per_second=rate, seconds=seconds, at={seconds / 3: kill})
        drain(target, ledger, samples, patience_seconds=120)
        return row_of(target, ledger)


def row_of(target: Target, ledger: Ledger) -> dict[str, Any]:
    """How the requests ended, and the longest that one with a picture took."""
    seconds = ledger.seconds()
    return {
        "name": target.name,
        "sent": len(ledger.requests),
        **ledger.counts(),
        "repeated": target.repeated() if isinstance(target, BrokerTarget) else None,  # nginx does not tell
        "seconds": spread(seconds),
        "longest_seconds": round(max(seconds, default=0.0), 2),
    }
