"""Experiment 5: every part is restarted politely, one after another, while the load goes on."""

import os
import signal
import time
from typing import Any

from benchmarks.study.balancer import running_balancer
from benchmarks.study.broker import BrokerTarget, running_broker
from benchmarks.study.context import SECOND, SERVERS, Context, capacity, gateway_settings
from benchmarks.study.kill import SHARE_OF_CAPACITY, row_of
from benchmarks.study.load import Target, drain, offer
from benchmarks.study.servers import ModelServer, model_servers


def measure(context: Context) -> dict[str, Any]:
    """What a new release of the model servers costs, and one of the business logic, by topology."""
    seconds = context.scaled(20, 10)
    found: dict[str, Any] = {"per_second": SHARE_OF_CAPACITY * capacity(SECOND), "seconds": seconds, "rows": []}
    folder = context.folder / "rolling"
    with model_servers(folder, count=SERVERS, work=SECOND) as servers:
        with running_balancer(
            "balancer: model servers", folder, servers, at_once=SECOND.at_once, steps=SECOND.steps
        ) as balancer:
            found["rows"].append(restart_servers(balancer, servers, seconds=seconds))
        settings = gateway_settings([server.url for server in servers], slots=2 * SERVERS * SECOND.at_once)
        with running_broker("broker, gateway: model servers", folder / "gateway", steps=SECOND.steps, **settings) as gw:
            found["rows"].append(restart_servers(gw, servers, seconds=seconds))
        with running_broker("broker, gateway: worker", folder / "worker", steps=SECOND.steps, **settings) as gateway:
            found["rows"].append(restart_worker(gateway, servers, seconds=seconds))
    return found


def restart_servers(target: Target, servers: list[ModelServer], *, seconds: float) -> dict[str, Any]:
    """SIGTERM to one after another; the next one only when the last answers again."""

    def restart() -> None:
        for server in servers:
            server.stop()
            server.start_again()

    rate = SHARE_OF_CAPACITY * capacity(SECOND)
    ledger, samples = offer(target, per_second=rate, seconds=seconds, at={seconds / 5: restart})
    drain(target, ledger, samples, patience_seconds=60)
    return row_of(target, ledger)


def restart_worker(target: BrokerTarget, servers: list[ModelServer], *, seconds: float) -> dict[str, Any]:
    """SIGTERM to the worker that calls the servers; they keep their models meanwhile."""
    before = [server.started.process.pid for server in servers]
    back: list[float] = []

    def restart() -> None:
        old = target.service.worker_pid("cpu0")
        started = time.monotonic()
        os.kill(old, signal.SIGTERM)
        back.append(seconds_until_work_goes_on(target, since=time.time(), started=started))

    rate = SHARE_OF_CAPACITY * capacity(SECOND)
    ledger, samples = offer(target, per_second=rate, seconds=seconds, at={seconds / 4: restart})
    drain(target, ledger, samples, patience_seconds=60)
    unchanged = before == [server.started.process.pid for server in servers]
    return row_of(target, ledger) | {"back_after_seconds": round(back[0], 1), "servers_untouched": unchanged}


def seconds_until_work_goes_on(target: BrokerTarget, *, since: float, started: float) -> float:
    """How long it takes until a generation begins that was not running before."""
    gives_up_at = time.monotonic() + 60
    while time.monotonic() < gives_up_at:
        newest = max((row.started_at or 0.0 for row in target.rows().values()), default=0.0)
        if newest > since + 0.5:
            break
        time.sleep(0.2)
    return time.monotonic() - started
