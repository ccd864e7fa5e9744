"""How long after something happens 200 listeners on one web process hear of it, and what they cost.

    .venv/bin/python benchmarks/events.py            # about a minute and a half
    .venv/bin/python benchmarks/events.py --quick    # under a minute

Starts a service of its own (embedded Redis, SQLite, one web process, one CPU device). A second process publishes events
as a worker does, through the publisher of generation/events; this one listens on 200 connections. Times are from the
call that publishes to the last byte at the client, on one machine's clock:

    own      200 users, each listening to a generation of their own: 200 streams, an event for each of them per second
    shared   200 listeners to all generations of one user: each of ten events a second goes to all of them
    busy     like `own`, while the device draws pictures on the same cores
"""

import argparse
import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.service.running import Running, running_service  # noqa: E402  found through the line above

LISTENERS = 200
SHARED_PER_SECOND = 10

PUBLISHER = """
import json, sys, time
from django.contrib.auth.models import User
from api.models import ApiKey
from generation.engines.types import Progress
from generation.events.event import Event, Kind
from generation.events.progress import ProgressReport
from generation.events.publisher import publisher
from generation.lifecycle import Status
from generation.models import DiffusionModel, Generation

count = int(sys.argv[1])
model = DiffusionModel.objects.get()
users = User.objects.bulk_create([User(username=f"listener{number}", password="!") for number in range(count)])
keys = [ApiKey.objects.create(user=user, name="benchmark")[1] for user in users]
generations = Generation.objects.bulk_create([
    Generation(owner=user, model=model, prompt="a red apple", width=256, height=256, num_inference_steps=20,
               guidance_scale=4.5, seed=7, total_steps=20, status=Status.RUNNING)
    for user in users
])
report, spent = ProgressReport(generations[0]), []
for step in range(2000):
    began = time.perf_counter()
    report.on_step(Progress(step=step, total=2000))
    spent.append(time.perf_counter() - began)
    time.sleep(0.001)
spent.sort()
step_us = [round(1e6 * spent[place]) for place in (1000, 1980)]
print(json.dumps([keys, [str(generation.pk) for generation in generations], step_us]), flush=True)
for line in sys.stdin:
    rounds, per_second, owners = json.loads(line)
    chosen, started = generations[:owners], time.time()
    for number in range(rounds * per_second):
        time.sleep(max(0, started + number / per_second - time.time()))
        # Spread over the round, as workers are that know nothing of each other.
        for place, generation in enumerate(chosen):
            time.sleep(max(0, started + (number + place / owners) / per_second - time.time()))
            data = {"status": "running", "sent": time.time()}
            publisher.publish(Event(str(generation.owner_id), Kind.STATUS, str(generation.pk), data))
    publisher.flush(timeout_seconds=5)
    print("done", flush=True)
"""


@dataclass
class Listeners:
    """Connections to the event streams, and the latencies that they have seen, in seconds."""

    address: Any
    latencies: list[float] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def open(self, path: str, key: str) -> None:
        """Open one more stream; returns when it has had its snapshot."""
        reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
        request = f"GET {path} HTTP/1.1\r\nHost: {self.address.host}\r\nAuthorization: Bearer {key}\r\n\r\n"
        writer.write(request.encode())
        await reader.readuntil(b"event: snapshot")
        self.tasks.append(asyncio.create_task(self.listen(reader, writer)))

    async def listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note the latency of each event until the task is cancelled."""
        try:
            while line := await reader.readline():
                if line.startswith(b"data: ") and b'"sent"' in line:
                    self.latencies.append(time.time() - json.loads(line[6:])["sent"])
        finally:
            writer.close()

    async def close(self) -> None:
        """Close all streams."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()


class Publisher:
    """The process that publishes; it has made the users, their keys and their generations."""

    def __init__(self, service: Running) -> None:
        command = [sys.executable, "-c", f"import django; django.setup()\n{PUBLISHER}", str(LISTENERS)]
        environment = service.environment | {"DJANGO_SETTINGS_MODULE": "project.settings"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.keys, self.generations, self.step_us = json.loads(self.process.stdout.readline())

    def publish(self, *, seconds: int, per_second: int, owners: int) -> None:
        """Publish for a while; returns when all is in Redis."""
        self.process.stdin.write(json.dumps([seconds, per_second, owners]) + "\n")
        self.process.stdin.flush()
        self.process.stdout.readline()


@contextmanager
def drawing(service: Running, *, is_wanted: bool) -> Iterator[None]:
    """Keep the device busy for the length of the block."""
    stopped = threading.Event()

    def draw() -> None:
        while not stopped.is_set():
            service.finish(num_inference_steps=20, width=256, height=256)

    thread = threading.Thread(target=draw)
    if is_wanted:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        if is_wanted:
            thread.join()


def web_status(service: Running) -> dict[str, int]:
    """Threads and memory, in KiB, of the web process."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command, parent = (
                (place / "cmdline").read_bytes(),
                (place / "stat").read_text().rpartition(")")[2].split()[1],
            )
            if b"project.asgi:application" in command and int(parent) == service.process.pid:
                lines = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
                return {"threads": int(lines["Threads"]), "memory": int(lines["VmRSS"].split()[0])}
        except (OSError, IndexError):
            continue
    sys.exit("The web process is not to be found.")


async def measure(service: Running, publisher: Publisher, *, is_shared: bool, seconds: int) -> dict[str, Any]:
    """Open all streams, publish, and say how long it took."""
    await asyncio.sleep(2)  # threads that closed the streams of the last round are about to end
    before = web_status(service)
    listeners = Listeners(service.client.base_url)
    opened = time.perf_counter()
    for number in range(LISTENERS):
        path = "/api/events/" if is_shared else f"/api/generations/{publisher.generations[number]}/events/"
        await listeners.open(path, publisher.keys[0 if is_shared else number])
    opening = time.perf_counter() - opened
    per_second, owners = (SHARED_PER_SECOND, 1) if is_shared else (1, LISTENERS)
    await asyncio.to_thread(publisher.publish, seconds=seconds, per_second=per_second, owners=owners)
    await asyncio.sleep(1)
    during = web_status(service)
    await listeners.close()
    seen = sorted(listeners.latencies)
    return {
        "expected": seconds * per_second * LISTENERS,
        "received": len(seen),
        "p50_ms": round(1000 * seen[len(seen) // 2], 1),
        "p99_ms": round(1000 * seen[math.ceil(0.99 * len(seen)) - 1], 1),
        "max_ms": round(1000 * seen[-1], 1),
        "threads_before": before["threads"],
        "threads": during["threads"],
        "memory_per_listener_kib": round((during["memory"] - before["memory"]) / LISTENERS),
        "open_ms": round(1000 * opening / LISTENERS, 1),
    }


async def warm_up(service: Running, publisher: Publisher) -> None:
    """Have the web process start the threads that its event loop keeps."""
    listeners = Listeners(service.client.base_url)
    for number in range(20):
        await listeners.open(f"/api/generations/{publisher.generations[number]}/events/", publisher.keys[number])
    await listeners.close()


def main() -> None:
    """Run, print the table, and end with one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="5 seconds of events instead of 20")
    seconds = 5 if arguments.parse_args().quick else 20

    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="pictor-events-") as folder, running_service(Path(folder)) as service:
        service.finish()
        publisher = Publisher(service)
        asyncio.run(warm_up(service, publisher))
        for name in ("own", "shared", "busy"):
            with drawing(service, is_wanted=name == "busy"):
                figures[name] = asyncio.run(measure(service, publisher, is_shared=name == "shared", seconds=seconds))
        publisher.process.stdin.close()
        publisher.process.wait()

    print(f"{LISTENERS} listeners on one web process, {seconds} s of events each, {os.cpu_count()} cores")
    for name, found in figures.items():
        print(f"  {name:<7}" + "  ".join(f"{what} {value}" for what, value in found.items()))
    median, p99 = publisher.step_us
    print(f"  what the events add to a denoise step: median {median} us, p99 {p99} us")
    figures |= {"step_median_us": median, "step_p99_us": p99}
    print(json.dumps(figures | {"listeners": LISTENERS, "seconds": seconds}))


if __name__ == "__main__":
    main()
