"""What Pictor adds to a pipeline call: from POST to the image over HTTP, split into its parts.

    .venv/bin/python benchmarks/overhead.py            # 20 generations of 20 steps
    .venv/bin/python benchmarks/overhead.py --quick    # under a minute

Starts a service of its own (embedded Redis, SQLite, one CPU device) in a temporary folder, warms the model, then makes
one picture after another. The client waits for the answer (`Prefer: wait`): on two cores each look at the API would
take time from the very threads that draw. The raw loop calls the same pipeline in a process of its own with the same
number of threads, in the same run, while the service idles.

The parts, which add up to the total:

    accept      POST sent, until the row is stored        (client's clock, then the database's; one machine)
    queue       row stored, until a worker has claimed it
    run         inside the pipeline call
    store       encode the image and its thumbnail, write both
    book        the rest between claim and commit
    visible     committed, until the client has the answer
    fetch       GET of the image
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.service.running import Running, running_service  # noqa: E402  found through the line above

PROMPT = "a red apple"
PARTS = ("accept", "queue", "run", "store", "book", "visible", "fetch")

RAW_LOOP = """
import sys, time, torch
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained("weights/fluent-emoji-256", torch_dtype=torch.float32)
pipe.set_progress_bar_config(disable=True)
rounds, steps = int(sys.argv[1]), int(sys.argv[2])
for number in range(rounds + 1):
    started = time.perf_counter()
    pipe("a red apple", num_inference_steps=steps, guidance_scale=4.5, generator=torch.Generator().manual_seed(number))
    if number:
        print(time.perf_counter() - started)
"""


class Client:
    """One connection of the standard library, kept open; httpx takes over a millisecond of its own for each request."""

    def __init__(self, service: Running) -> None:
        address = service.client.base_url
        self.connection = HTTPConnection(address.host, address.port or 80)
        self.headers = {
            "Authorization": service.client.headers["Authorization"],
            "Content-Type": "application/json",
            "Prefer": "wait",
        }

    def ask(self, method: str, url: str, body: dict[str, Any] | None = None) -> bytes:
        """The body of the answer; ends the benchmark for one that is no success."""
        self.connection.request(method, url, json.dumps(body) if body else None, self.headers)
        response = self.connection.getresponse()
        content = response.read()
        if response.status >= 300:
            sys.exit(content.decode())
        return content


def make_picture(client: Client, *, seed: int, steps: int) -> dict[str, Any]:
    """Submit, wait, fetch; the generation as it was seen, with the client's times of sending and seeing."""
    sent = time.time()
    seen = json.loads(
        client.ask("POST", "/api/generations/", {"prompt": PROMPT, "seed": seed, "num_inference_steps": steps})
    )
    while seen["finished_at"] is None:  # it was answered because the time was over
        seen = json.loads(client.ask("GET", seen["links"]["self"]))
    if seen["error"]:
        sys.exit(seen["error"]["detail"])
    times = {"sent": sent, "seen": time.time()}
    client.ask("GET", seen["images"][0]["url"])
    return seen | times | {"fetched": time.time()}


def make_pictures(service: Running, *, rounds: int, steps: int) -> Iterator[dict[str, Any]]:
    """One after another, the first two of them to warm up, and not returned."""
    client = Client(service)
    for number in range(rounds + 2):
        generation = make_picture(client, seed=number, steps=steps)
        if number > 1:
            yield generation


def moment(generation: dict[str, Any], name: str) -> float:
    """One of a generation's times, in seconds since 1970."""
    return datetime.fromisoformat(generation[name]).timestamp()


def timings(service: Running) -> dict[str, tuple[float, float]]:
    """Seconds in the pipeline and in storing, by generation, as the worker noted them."""
    rows = service.ask('list(Attempt.objects.values_list("generation", "pipeline_seconds", "store_seconds"))')
    return {generation: (run, store) for generation, run, store in rows}


def split(generation: dict[str, Any], *, run: float, store: float) -> dict[str, float]:
    """Where the time went."""
    created, started, finished = (moment(generation, name) for name in ("created_at", "started_at", "finished_at"))
    return {
        "accept": created - generation["sent"],
        "queue": started - created,
        "run": run,
        "store": store,
        "book": finished - started - run - store,
        "visible": generation["seen"] - finished,
        "fetch": generation["fetched"] - generation["seen"],
        "total": generation["fetched"] - generation["sent"],
    }


def raw_seconds(rounds: int, *, steps: int) -> float:
    """The median of the raw diffusers loop."""
    command = [sys.executable, "-c", RAW_LOOP, str(rounds), str(steps)]
    threads = {"OMP_NUM_THREADS": str(os.cpu_count())}
    result = subprocess.run(command, cwd=ROOT, env=os.environ | threads, capture_output=True, text=True, check=True)
    return statistics.median(float(line) for line in result.stdout.split())


def main() -> None:
    """Run, print the table, and end with one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="5 generations of 10 steps")
    options = arguments.parse_args()
    rounds, steps = (5, 10) if options.quick else (20, 20)

    with tempfile.TemporaryDirectory(prefix="pictor-overhead-") as folder, running_service(Path(folder)) as service:
        made = list(make_pictures(service, rounds=rounds, steps=steps))
        spent = timings(service)
        raw = raw_seconds(max(3, rounds // 2), steps=steps)
    rows = []
    for generation in made:
        run, store = spent[generation["id"]]
        rows.append(split(generation, run=run, store=store))

    medians = {part: statistics.median(row[part] for row in rows) for part in (*PARTS, "total")}
    outside = statistics.median(row["total"] - row["run"] for row in rows)
    print(
        f"{rounds} generations, {steps} steps, 256x256, one after another, {os.cpu_count()} cores; median milliseconds"
    )
    for part in PARTS:
        print(f"  {part:<8} {1000 * medians[part]:8.1f}")
    print(f"  {'total':<8} {1000 * medians['total']:8.1f}   outside the pipeline call: {1000 * outside:.1f}")
    print(f"  raw diffusers call {1000 * raw:8.1f}   total / raw: {medians['total'] / raw:.3f}")
    figures = {f"{part}_ms": round(1000 * seconds, 1) for part, seconds in medians.items()}
    figures |= {"outside_ms": round(1000 * outside, 1), "raw_ms": round(1000 * raw, 1)}
    print(json.dumps(figures | {"rounds": rounds, "steps": steps, "ratio": round(medians["total"] / raw, 3)}))


if __name__ == "__main__":
    main()
