"""How long after a cancel a running generation has stopped, beside the time of one denoise step.

    .venv/bin/python benchmarks/cancel.py            # 100 cancels
    .venv/bin/python benchmarks/cancel.py --quick    # under a minute

Starts a service of its own, cancels generations of 100 steps in mid-run, and polls until each is `cancelled` in the
database. The receipt of each says when its place on the device was free: the row's own times, without HTTP and polls.
The floor is one step: that is where a pipeline can stop.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from generation.lifecycle import Status  # noqa: E402  found through the line above
from tests.service.running import Running, running_service  # noqa: E402

STEPS = 100
POLL_SECONDS = 0.005


def seconds_per_step(service: Running) -> float:
    """One step of a generation that runs to its end, the median of three."""
    ids = [service.finish(num_inference_steps=20)["id"] for _ in range(3)]
    spent = dict(service.ask('list(Attempt.objects.values_list("generation", "pipeline_seconds"))'))
    return statistics.median(spent[generation_id] for generation_id in ids) / 20


def seconds_until_cancelled(service: Running) -> tuple[float, float, str]:
    """Cancel one in mid-run; seconds until the end was seen, seconds until the device was free, and by which way."""
    generation = service.submit(num_inference_steps=STEPS)
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
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="5 cancels")
    rounds = 5 if arguments.parse_args().quick else 100

    with tempfile.TemporaryDirectory(prefix="pictor-cancel-") as folder, running_service(Path(folder)) as service:
        service.finish()
        step = seconds_per_step(service)
        receipts = [seconds_until_cancelled(service) for _ in range(rounds)]

    ways = Counter(way for _, _, way in receipts)
    print(f"{rounds} cancels of running generations; one step takes {1000 * step:.0f} ms; seen by {dict(ways)}")
    figures = {"step_ms": step}
    for place, (name, title) in enumerate((("seen", "end seen over HTTP"), ("free", "device free"))):
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            value = quantile([receipt[place] for receipt in receipts], share)
            figures[f"{name}_{label}_ms"] = value
            print(f"  {title:<20} {label} {1000 * value:6.0f} ms = {value / step:.2f} steps")
    rounded = {name: round(1000 * value, 1) for name, value in figures.items()}
    print(json.dumps(rounded | {"rounds": rounds, "by_revoke": ways["revoke"]}))


if __name__ == "__main__":
    main()
