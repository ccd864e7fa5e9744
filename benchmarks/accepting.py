"""How many requests for pictures a second are accepted, how long each takes, and what takes the time.

    .venv/bin/python benchmarks/accepting.py             # 10 seconds for each number of clients
    .venv/bin/python benchmarks/accepting.py --quick     # 3
    .venv/bin/python benchmarks/accepting.py --database sqlite
    .venv/bin/python benchmarks/accepting.py --processes 2

Starts a service of its own on PostgreSQL, which keeps what it has promised (fsync), with the embedded Redis and one web
process unless said otherwise. Its only device is drained, so that nothing draws. Fifty users post with an API key each;
the usual limits are in force. `wrk` is the client (Debian: `apt install wrk`): it takes a hundredth of a core.

Beside each figure stands who used the cores meanwhile, in cores: the web processes, PostgreSQL, Redis, the client, and
the rest (housekeeper, workers). `--profile FILE` writes where the web process spent its time, if py-spy is installed
(`pip install py-spy`): stacks with their numbers of samples, as flame graphs are made of.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.postgres import start_postgres  # noqa: E402  found through the line above
from tests.service.running import Running, running_service  # noqa: E402

CLIENTS = (1, 4, 16, 64)
USERS = 50
NAMES = {
    b"project.asgi": "web",
    b"multiprocessing": "web",
    b"postgres": "postgres",
    b"valkey": "redis",
    b"celery": "rest",
    b"manage.py": "rest",
}
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")

PREPARE = f"""
import json
from django.contrib.auth.models import User
from api.models import ApiKey
from generation.models import Device
Device.objects.update(is_drained=True)
users = User.objects.bulk_create([User(username=f"poster{{number}}", password="!") for number in range({USERS})])
print(json.dumps([ApiKey.objects.create(user=user, name="benchmark")[1] for user in users]))
"""

EMPTY = """
from django.db import connection
from generation.models import Generation
Generation.objects.all()._raw_delete("default")
"""

WRK = """
local keys = {%s}
local number, refused = 0, 0
wrk.method = "POST"
wrk.body = '{"prompt": "a red apple"}'
request = function()
    number = number + 1
    local headers = {
        ["Content-Type"] = "application/json",
        ["Authorization"] = "Bearer " .. keys[number %% #keys + 1]
    }
    return wrk.format(nil, nil, headers, nil)
end
done = function(summary, latency)
    local line = '\\nFIGURES {"accepted": %%d, "refused": %%d, "seconds": %%f, "p50_ms": %%f, "p99_ms": %%f}\\n'
    io.write(string.format(line,
        summary.requests, summary.errors.status + summary.errors.timeout + summary.errors.read,
        summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


def in_service(service: Running, code: str) -> str:
    """What the code prints, run in the service's own Django."""
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", code]
    environment = service.environment | {"PICTOR_LOG_LEVEL": "ERROR"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def who(command: bytes) -> str | None:
    """Whose process it is, by its command line."""
    return next((name for words, name in NAMES.items() if words in command), None)


def cores_used() -> Counter[str]:
    """The seconds of processor time that the processes of each kind have used so far."""
    used: Counter[str] = Counter()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            name = who((place / "cmdline").read_bytes())
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if name is not None:
            used[name] += sum(map(int, fields[11:15])) * TICK_SECONDS  # its own and that of children that have ended
    return used


def web_pid(service: Running) -> int:
    """The web process of this service."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = (place / "stat").read_text().rpartition(")")[2].split()[1]
            if b"project.asgi" in (place / "cmdline").read_bytes() and int(parent) == service.process.pid:
                return int(place.name)
        except OSError:
            continue
    sys.exit("The web process is not to be found.")


def load(service: Running, script: Path, *, clients: int, seconds: int) -> dict[str, Any]:
    """Post as fast as so many clients can, each waiting for its answer before it asks again."""
    url = f"{service.client.base_url}/api/generations/"
    command = ["wrk", "--threads=1", f"--connections={clients}", f"--duration={seconds}s", f"--script={script}"]
    command += ["--timeout=20s", url]
    before, children = cores_used(), os.times().children_user + os.times().children_system
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    spent = cores_used() - before
    spent["client"] = os.times().children_user + os.times().children_system - children
    figures = json.loads(result.stdout.partition("FIGURES")[2])
    if figures["refused"]:
        sys.exit(
            f"{figures['refused']} requests were refused or lost.\n{result.stdout}\n{service.log.read_text()[-2000:]}"
        )
    return {
        "per_second": round(figures["accepted"] / figures["seconds"], 1),
        "p50_ms": round(figures["p50_ms"], 1),
        "p99_ms": round(figures["p99_ms"], 1),
        "cores": {name: round(used / figures["seconds"], 2) for name, used in sorted(spent.items())},
    }


def main() -> None:
    """Run, print the table, and end with one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="3 seconds for each number of clients instead of 10")
    arguments.add_argument("--database", choices=("postgres", "sqlite"), default="postgres")
    arguments.add_argument("--processes", type=int, default=1, help="web processes")
    arguments.add_argument("--profile", type=Path, help="where to write the stacks of the web process, by py-spy")
    options = arguments.parse_args()
    seconds = 3 if options.quick else 10
    if shutil.which("wrk") is None:
        sys.exit("There is no wrk. Install it (Debian and Ubuntu: apt install wrk).")

    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="pictor-accepting-") as place:
        folder = Path(place)
        server = start_postgres(folder / "postgres") if options.database == "postgres" else None
        extra = {"DATABASE_URL": server.get_uri()} if server else {}
        extra["PICTOR_WEB_PROCESSES"] = str(options.processes)
        with running_service(folder, **extra) as service:
            keys = json.loads(in_service(service, PREPARE))
            script = folder / "post.lua"
            script.write_text(WRK % ", ".join(f'"{key}"' for key in keys))
            load(service, script, clients=4, seconds=2)  # threads and connections are made
            for clients in CLIENTS:
                in_service(service, EMPTY)
                if options.profile and clients == CLIENTS[-1]:
                    command = [
                        str(Path(sys.executable).parent / "py-spy"),
                        "record",
                        "--pid",
                        str(web_pid(service)),
                        "--format",
                        "raw",
                        "--nonblocking",
                    ]
                    command += ["--duration", str(seconds), "--output", str(options.profile)]
                    subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                figures[str(clients)] = load(service, script, clients=clients, seconds=seconds)

    print(
        f"POST on {options.database}, {options.processes} web processes on {os.cpu_count()} cores, "
        f"{seconds} s for each number of clients"
    )
    for name, found in figures.items():
        cores = ", ".join(f"{who} {used}" for who, used in found["cores"].items())
        print(
            f"  {name:>3} clients {found['per_second']:7.1f} a second, "
            f"p50 {found['p50_ms']:6.1f} ms, p99 {found['p99_ms']:6.1f} ms; cores: {cores}"
        )
    print(
        json.dumps(
            {"database": options.database, "processes": options.processes, "seconds": seconds, "clients": figures}
        )
    )


if __name__ == "__main__":
    main()
