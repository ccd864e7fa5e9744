"""How long after a cancel a running generation has stopped, beside the time of one denoise step.

    .venv/bin/python benchmarks/cancel.py            # 100 cancels
    .venv/bin/python benchmarks/cancel.py --quick    # under a minute
    python benchmarks/cancel.py --model sd15 --device 0 --size 512 --steps 50 --guidance-scale 7.5 --beside 8

Starts a service of its own, cancels generations in mid-run, and polls until each is `cancelled` in the database. The
receipt of each says when its place on the device was free: the row's own times, without HTTP and polls. With --beside,
so many clients draw all the while. The floor is one step: that is where a pipeline can stop.
"""

import argparse
import json
import math
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path

from work import Work, add_work_arguments, draw_by_http, register, work_of

from generation.lifecycle import Status  # found through `work`
from tests.service.running import Running, running_service

STEPS = 100  # as many as models allow by default: it must not end by itself
POLL_SECONDS = 0.005
SEEN, FREE = 0, 1  # places in what `seconds_until_cancelled` returns


@contextmanager
def drawing(service: Running, work: Work, *, clients: int) -> Iterator[None]:
    """So many clients draw one picture after another meanwhile."""
    numbers, is_over = count(1000), threading.Event()

    def draw() -> None:
        while not is_over.is_set():
            draw_by_http(service, work, next(numbers))

    threads = [threading.Thread(target=draw) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def seconds_per_step(service: Running, work: Work) -> float:
    """One step of a generation that runs to its end, the median of three."""
    ids = [service.wait(service.submit(**work.wishes(number)))["id"] for number in range(3)]
    spent = dict(service.ask('list(Attempt.objects.values_list("generation", "pipeline_seconds"))'))
    return statistics.median(spent[generation_id] for generation_id in ids) / work.steps


def seconds_until_cancelled(service: Running, work: Work, *, number: int) -> tuple[float, float, str]:
    """Cancel one in mid-run; seconds until the end was seen, seconds until the device was free, and by which way."""
    generation = service.submit(**work.wishes(number) | {"num_inference_steps": STEPS})
    service.wait(generation, until=lambda now: now["progress"]["step"] >= 2)
    sent = time.perf_counter()
    service.client.post(generation["links"]["cancel"]).raise_for_status()
    while (seen := service.look(generation))["status"] != Status.CANCELLED:
        time.sleep(POLL_SECONDS)
    spent = time.perf_counter() - sent
    requested, freed = (datetime.fromisoformat(seen[name]) for name in ("cancel_requested_at", "device_freed_at"))
    return spent, (freed - requested).total_seconds(), seen["cancel_seen_by"]


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of them do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def main() -> None:
    """Run, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 cancels")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--beside", type=int, default=0, help="clients that draw meanwhile")
    add_work_arguments(parser)
    options = parser.parse_args()
    rounds = 5 if options.quick else options.rounds

    with tempfile.TemporaryDirectory(prefix="pictor-cancel-") as name:
        work = work_of(options, folder=Path(name))
        with running_service(Path(name), devices=work.service_devices, PICTOR_COMPILE="false") as service:
            register(service, work)
            service.wait(service.submit(**work.wishes(0)))
            with drawing(service, work, clients=options.beside):
                step = seconds_per_step(service, work)
                receipts = [seconds_until_cancelled(service, work, number=number) for number in range(rounds)]

    ways = Counter(way for _, _, way in receipts)
    beside = f" beside {options.beside} clients" if options.beside else ""
    print(f"{rounds} cancels of running generations{beside}; a step takes {1000 * step:.0f} ms; seen by {dict(ways)}")
    figures = {"step_ms": step}
    for place, name, title in ((SEEN, "seen", "end seen over HTTP"), (FREE, "free", "device free")):
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            value = quantile([receipt[place] for receipt in receipts], share)
            figures[f"{name}_{label}_ms"] = value
            print(f"  {title:<20} {label} {1000 * value:6.0f} ms = {value / step:.2f} steps")
    slowest = sorted(receipts, key=lambda receipt: receipt[FREE], reverse=True)[:5]
    print("  slowest to be free:", ", ".join(f"{1000 * receipt[FREE]:.0f} ms by {receipt[2]}" for receipt in slowest))
    rounded = {name: round(1000 * value, 1) for name, value in figures.items()}
    print(json.dumps(rounded | {"rounds": rounds, "by_revoke": ways["revoke"]}))


if __name__ == "__main__":
    main()
