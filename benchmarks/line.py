"""What a long line costs: POST, GET and the list with ten thousand waiting generations, beside the same with a hundred.

    .venv/bin/python benchmarks/line.py             # 200 requests of each kind
    .venv/bin/python benchmarks/line.py --quick     # 60

Starts a service of its own whose only device is drained, so that everything waits and nothing draws. The rows of the
long line belong to fifty owners and are written straight into the database; what is measured goes over HTTP. The
requests of both lines alternate in blocks, for the machine may be shared. GET asks for one in the
middle of the line, get_last for the last one, and the list shows twenty that stand at its end.
The dispatcher's work is timed in a process of its own: one look for what to publish, and one round of the
housekeeper's chores. At the end one owner floods the line and another adds a single one: its position is printed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.service.running import Running, running_service  # noqa: E402  found through the line above

SHORT, LONG = 100, 10_000
BLOCKS = 4

FILL = """
from datetime import timedelta
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone
from generation.lifecycle import Status
from generation.models import Device, DiffusionModel, Generation
Device.objects.update(is_drained=True)
Generation.objects.all().delete()
model, now = DiffusionModel.objects.get(), timezone.now()
for number in range(50):
    User.objects.get_or_create(username=f"owner{number}")
owners = list(User.objects.filter(username__startswith="owner"))
Generation.objects.bulk_create([
    Generation(
        owner=owners[number % 50], model=model, prompt="a red apple", width=256, height=256, num_inference_steps=20,
        guidance_scale=4.5, seed=number, total_steps=20, rank=0, turn_at=now + timedelta(seconds=5 * (number // 50)),
    )
    for number in range({count})
], batch_size=500)
me = User.objects.exclude(username__startswith="owner").first()
middle = Generation.objects.queued()[{count} // 2]
Generation.objects.filter(pk=middle.pk).update(owner=me)
with connection.cursor() as cursor:
    cursor.execute("ANALYZE")
    if connection.vendor == "sqlite":
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # rows that come one by one would be there long before
print(middle.pk)
"""

CHORES = """
import json, time, statistics
from generation import dispatch, housekeeping
from generation.models import DiffusionModel
model = DiffusionModel.objects.get()
def timed(act):
    spent = []
    for _ in range(20):
        started = time.perf_counter()
        act()
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)
print(json.dumps([timed(lambda: dispatch.top_up(model)), timed(housekeeping.do_chores)]))
"""


class Client:
    """One connection, kept open."""

    def __init__(self, service: Running) -> None:
        address = service.client.base_url
        self.connection = HTTPConnection(address.host, address.port or 80)
        self.headers = {"Authorization": service.client.headers["Authorization"], "Content-Type": "application/json"}

    def ask(self, method: str, url: str, body: dict[str, Any] | None = None) -> tuple[float, Any]:
        """The seconds and the answer; ends the benchmark for one that is no success."""
        started = time.perf_counter()
        self.connection.request(method, url, json.dumps(body) if body else None, self.headers)
        response = self.connection.getresponse()
        content = response.read()
        spent = time.perf_counter() - started
        if response.status >= 300:
            sys.exit(content.decode())
        return spent, json.loads(content)


def in_service(service: Running, code: str) -> str:
    """What the code prints, run in the service's own Django."""
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", code]
    environment = service.environment | {"PICTOR_LOG_LEVEL": "ERROR"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr)
    return result.stdout.strip()


def measure(service: Running, *, count: int, rounds: int) -> dict[str, list[float]]:
    """The times of each kind of request with so many waiting."""
    middle = in_service(service, FILL.replace("{count}", str(count)))
    client = Client(service)
    wishes = {"prompt": "a blue whale", "priority": -1}  # so that the own ones stand at the very end
    last = [client.ask("POST", "/api/generations/", wishes)[1] for _ in range(20)][-1]
    kinds: dict[str, Callable[[], tuple[float, Any]]] = {
        "post": lambda: client.ask("POST", "/api/generations/", wishes),
        "get": lambda: client.ask("GET", f"/api/generations/{middle}/"),
        "get_last": lambda: client.ask("GET", last["links"]["self"]),
        "list": lambda: client.ask("GET", "/api/generations/"),
    }
    for ask in kinds.values():
        ask()
    return {name: [ask()[0] for _ in range(rounds)] for name, ask in kinds.items()}


def position_beside_a_flood(service: Running) -> int:
    """One owner has a thousand waiting; the position of another's single one."""
    code = FILL.replace("{count}", "1000").replace("owners[number % 50]", "owners[0]").replace("number // 50", "number")
    code = code.replace("update(owner=me)", "update(owner=owners[0])")
    in_service(service, code)
    return Client(service).ask("POST", "/api/generations/", {"prompt": "a blue whale"})[1]["position"]


def main() -> None:
    """Run, print the table, and end with one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="60 requests of each kind")
    rounds = (60 if arguments.parse_args().quick else 200) // BLOCKS

    times: dict[int, dict[str, list[float]]] = {SHORT: {}, LONG: {}}
    with tempfile.TemporaryDirectory(prefix="pictor-line-") as folder, running_service(Path(folder)) as service:
        for _ in range(BLOCKS):
            for count, spent in times.items():
                for name, more in measure(service, count=count, rounds=rounds).items():
                    spent.setdefault(name, []).extend(more)
        top_up, chores = json.loads(in_service(service, CHORES))
        position = position_beside_a_flood(service)

    figures: dict[str, float] = {}
    print(f"{rounds * BLOCKS} requests of each kind; median milliseconds with {SHORT} and with {LONG} waiting")
    for name in times[SHORT]:
        short, long = (1000 * statistics.median(times[count][name]) for count in (SHORT, LONG))
        print(f"  {name:<9} {short:7.1f} {long:7.1f}   {100 * (long / short - 1):+.0f} %")
        figures |= {f"{name}_short_ms": round(short, 2), f"{name}_long_ms": round(long, 2)}
    print(f"  one look for what to publish {1000 * top_up:.1f} ms, one round of chores {1000 * chores:.1f} ms")
    print(f"  a single one of another owner, with a thousand of one owner before it: position {position}")
    figures |= {"top_up_ms": round(1000 * top_up, 2), "chores_ms": round(1000 * chores, 2)}
    print(json.dumps(figures | {"position_beside_1000": position, "waiting": LONG}))


if __name__ == "__main__":
    main()
