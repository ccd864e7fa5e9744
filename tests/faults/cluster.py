"""A whole service whose processes the tests hold in their own hands: web, housekeeper and two workers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from generation.lifecycle import FINISHED
from project.celery_options import WORKER_OPTIONS
from tests import measurements
from tests.faults.forking import Forked, the_nursery
from tests.faults.network import Network
from tests.faults.places import delete_queue, postgres_through_proxy, rabbitmq_through_proxy, redis_through_proxy
from tests.faults.proxy import Proxy
from tests.faults.redis_server import RedisServer
from tests.inspector import ROOT, Inspector
from tests.ports import free_port

PATIENCE_SECONDS = 60
POLL_SECONDS = 0.05
WORKERS = ("cpu0", "cpu1")
LEASE_SECONDS = 4
QUICK = {
    "PICTOR_LEASE_SECONDS": str(LEASE_SECONDS),
    "PICTOR_BEAT_SECONDS": "0.5",
    "PICTOR_SWEEP_SECONDS": "0.5",
    "PICTOR_REDISPATCH_SECONDS": "2",
    "PICTOR_SAVE_SECONDS": "0.01",
    "PICTOR_LOG_LEVEL": "INFO",
    "PICTOR_MAX_PIXEL_STEPS_PER_DAY": str(10**15),  # out of reach, and counted
    "PICTOR_WEBHOOKS_MAY_BE_PRIVATE": "true",
    "PICTOR_BROKER_TIMEOUT_SECONDS": "2",
}
NO_SETTINGS: dict[str, str] = {}
PINNED = """str(operations.submit(
    operations.Wishes(prompt='a red apple', num_inference_steps=1),
    owner=__import__('django.contrib.auth.models').contrib.auth.models.User.objects.get(),
    pinned_to=Device.objects.get(label='{label}'),
).pk)"""
SMALL = {"prompt": "a red apple", "width": 128, "height": 128, "num_inference_steps": 3}
LONG = SMALL | {"num_inference_steps": 60}


@dataclass
class Cluster:
    """The processes by name, and a client with an API key."""

    folder: Path
    broker: Proxy
    database: Proxy | None
    redis: RedisServer | None
    environment: dict[str, str]
    slots: int = 1
    network: Network | None = None
    forks: bool = True
    processes: dict[str, subprocess.Popen[bytes] | Forked] = field(default_factory=dict)

    # --- its processes ------------------------------------------------------------------------------------

    def set_up(self, *, slug: str) -> None:
        """Make the tables, a user with a key, and the shipped model under a name of its own; start everything."""
        (self.folder / "orders").mkdir()
        self.inspector = Inspector(self.environment)
        migrate = "__import__('django.core.management').core.management.call_command('migrate', verbosity=0)"
        self.inspector.ask(migrate)
        self.inspector.ask("__import__('generation.registry').registry.ensure_a_model()")
        self.inspector.ask(f"DiffusionModel.objects.update(slug={slug!r})")
        self.inspector.ask("str(__import__('project.first_run').first_run.ensure_credentials())")
        key = (self.folder / "data/credentials/api_key").read_text().strip()
        self.port = free_port()
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {key}"}, timeout=30
        )
        self.mend()
        for worker in WORKERS:  # so that no test waits for a model
            self.wait({"id": self.ask(PINNED.format(label=worker))})

    def start(self, name: str) -> None:
        """Start one of the processes; `mend` waits until it is ready."""
        environment = os.environ | self.environment
        log = self.folder / f"{name}.log"
        prefix: list[str] = []
        if name == "web":
            options = ["--port", str(self.port), "--lifespan", "off", "--log-level", "warning"]
            environment |= {"PICTOR_BROKER_TIMEOUT_SECONDS": "0.9"}  # as `manage.py up` has it
            command = ["-m", "uvicorn", "project.asgi:application", "--no-access-log", *options]
        elif name == "housekeeper":
            command = ["manage.py", "housekeeper"]
        else:
            host = self.host_of(name)
            environment |= {"PICTOR_DEVICE": name, "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}
            options = ["--hostname", f"{name}@{host}", "--queues", f"device.{host}.{name}"]
            options += [*WORKER_OPTIONS, f"--concurrency={self.slots}"]
            command = ["-m", "celery", "--quiet", "-A", "celery_app", "worker", *options]
            if self.network is not None:
                environment |= {"PICTOR_DATA_DIR": str(self.folder / host)}  # what it shares with others is at URLs
                prefix = self.network.inside(host)
        if self.forks and not prefix:
            self.processes[name] = the_nursery().start(command, environment=environment, log=log)
            return
        with log.open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [*prefix, sys.executable, *command], cwd=ROOT, env=environment, stdout=output, stderr=output
            )

    def host_of(self, worker: str) -> str:
        """Where it runs: each on a host of its own if there is a network."""
        return self.network.hosts[WORKERS.index(worker)] if self.network else os.uname().nodename

    def is_up(self, name: str) -> bool:
        """Whether the process runs."""
        return name in self.processes and self.processes[name].poll() is None

    def mend(self) -> None:
        """Start what does not run, and wait until all of it does its work."""
        dead = [name for name in ("web", "housekeeper", *WORKERS) if not self.is_up(name)]
        started = {name for name in dead if name in WORKERS}
        since = self.ask("str(DiffusionModel.objects.values_list(Now()).get()[0])")
        for name in dead:
            self.start(name)
        if started:
            query = f"Device.objects.filter(label__in={sorted(started)}, started_at__gt={since!r}).count()"
            self.until(lambda: self.ask(query) == len(started))
        self.until(self.web_is_ready)

    def web_is_ready(self) -> bool:
        """Whether the API answers."""
        try:
            return self.client.get("/health/ready").is_success
        except httpx.HTTPError:
            return False

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a process a signal."""
        self.processes[name].send_signal(number)

    def wait_for_end(self, name: str) -> int:
        """The exit status of a process that is about to end."""
        return self.processes[name].wait(PATIENCE_SECONDS)

    def order(self, point: str, what: str) -> None:
        """Have the next process that reaches the point do this (see `generation.kill_points`)."""
        place = self.folder / "orders" / point
        draft = place.with_suffix(".draft")
        draft.write_text(what)
        draft.rename(place)

    def withdraw_orders(self) -> None:
        """Let no process find an order any more."""
        for path in (self.folder / "orders").iterdir():
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """End everything."""
        self.client.close()
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.inspector.close()

    # --- its generations ----------------------------------------------------------------------------------

    def ask(self, expression: str) -> Any:
        """The value of an expression in the service's Django."""
        return self.inspector.ask(expression)

    def submit(self, **wishes: Any) -> dict[str, Any]:
        """Submit a small generation of three steps, unless said otherwise."""
        response = self.client.post("/api/generations/", json=SMALL | wishes)
        assert response.status_code == 202, response.text
        return response.json()

    def look(self, generation: dict[str, Any]) -> dict[str, Any]:
        """The generation as the API shows it now."""
        response = self.client.get(f"/api/generations/{generation['id']}/")
        assert response.status_code == 200, response.text
        return response.json()

    def until(self, is_reached: Any) -> None:
        """Poll until it is true."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_reached():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(POLL_SECONDS)

    def wait(self, generation: dict[str, Any], *, until: Any = None) -> dict[str, Any]:
        """Poll until it has ended, or until `until(it)` is true."""
        is_reached = until or (lambda seen: seen["status"] in FINISHED)
        seen: list[dict[str, Any]] = []
        self.until(lambda: seen.append(self.look(generation)) or is_reached(seen[-1]))
        return seen[-1]

    def start_one(self, **wishes: Any) -> tuple[dict[str, Any], str]:
        """A running generation of many steps, and the worker that has it."""
        generation = self.submit(**LONG | wishes)
        self.wait(generation, until=lambda now: now["progress"]["step"] >= 2)
        return generation, self.attempts(generation)[0][0].partition("@")[0]

    def attempts(self, generation: dict[str, Any]) -> list[list[str]]:
        """The worker and the outcome of each attempt."""
        rows = f"Attempt.objects.filter(generation={generation['id']!r}).order_by('number')"
        return self.ask(f"list({rows}.values_list('worker', 'outcome'))")

    def outcomes(self, generation: dict[str, Any]) -> list[str]:
        """How each attempt ended."""
        return [outcome for _, outcome in self.attempts(generation)]

    def deliver_again(self, generation: dict[str, Any], number: int = 1) -> None:
        """Send the message of a dispatch once more, as a broker does that takes a worker for dead."""
        queue = f"dispatch.model_queue(Generation.objects.get(pk={generation['id']!r}).model.slug)"
        arguments = [generation["id"], number]
        self.ask(f"str(dispatch.current_app.send_task(dispatch.RUN_TASK, args={arguments!r}, queue={queue}))")

    def log(self, name: str) -> str:
        """All that a process has written."""
        return (self.folder / f"{name}.log").read_text()

    def logs(self) -> str:
        """The ends of all logs, for the message about a failure."""
        return "\n".join(f"--- {path.name}\n{path.read_text()[-2500:]}" for path in self.folder.glob("*.log"))


@contextmanager
def started_cluster(
    folder: Path,
    *,
    rabbitmq_url: str = "",
    postgres_url: str = "",
    slots: int = 1,
    network: Network | None = None,
    settings: Mapping[str, str] = NO_SETTINGS,
    forks: bool = True,
) -> Iterator[Cluster]:
    """Start everything in a folder, on Redis and SQLite unless URLs of others are given; end it afterwards.

    With `forks` processes start in a second or two instead of ten, as `tests.faults.forking` says; without they are
    started as a user's are, down to the order of sets, which differs from process to process.
    """
    redis = None
    address = network.address if network else "127.0.0.1"
    if rabbitmq_url:
        broker_settings, broker = rabbitmq_through_proxy(rabbitmq_url)
    else:
        broker_settings, broker, redis = redis_through_proxy(folder, address=address)
    database_settings, database = postgres_through_proxy(postgres_url, address=address) if postgres_url else ({}, None)
    places = {"PICTOR_DATA_DIR": str(folder / "data"), "PICTOR_KILL_POINTS": str(folder / "orders")}
    environment = QUICK | {"PICTOR_CPU_SLOTS": str(slots)} | places | broker_settings | database_settings | settings
    for name in (*network.hosts, "data") if network else ("data",):
        measurements.share(folder / name)
    cluster = Cluster(
        folder, broker, database, redis, environment=environment, slots=slots, network=network, forks=forks
    )
    slug = f"faults-{uuid4().hex[:8]}"
    try:
        cluster.set_up(slug=slug)
        yield cluster
    finally:
        cluster.close()
        if rabbitmq_url:
            delete_queue(rabbitmq_url, f"model.{slug}")
        for part in filter(None, (broker, database, redis)):
            part.close()
