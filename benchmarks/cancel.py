"""How long after a cancel a running generation has stopped, beside the time of one denoise step.

    .venv/bin/python benchmarks/cancel.py            # 20 cancels
    .venv/bin/python benchmarks/cancel.py --quick    # under a minute

Starts a service of its own, cancels generations of 100 steps in mid-run, and polls until each is `cancelled` in the
database, which is when the worker is free for the next one. The floor is one step: that is where a pipeline can stop.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
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


def seconds_until_cancelled(service: Running) -> float:
    """Cancel one in mid-run; from sending the cancel until it is seen to have ended."""
    generation = service.submit(num_inference_steps=STEPS)
    service.wait(generation, until=lambda now: now["progress"]["step"] >= 2)
    sent = time.perf_counter()
    service.client.post(generation["links"]["cancel"]).raise_for_status()
    while service.look(generation)["status"] != Status.CANCELLED:
        time.sleep(POLL_SECONDS)
    return time.perf_counter() - sent


def main() -> None:
    """Run, print, and end with one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="5 cancels")
    rounds = 5 if arguments.parse_args().quick else 20

    with tempfile.TemporaryDirectory(prefix="pictor-cancel-") as folder, running_service(Path(folder)) as service:
        service.finish()
        step = seconds_per_step(service)
        waits = sorted(seconds_until_cancelled(service) for _ in range(rounds))

    median, longest = statistics.median(waits), waits[-1]
    print(f"{rounds} cancels of running generations; one step takes {1000 * step:.0f} ms")
    print(f"  median {1000 * median:6.0f} ms = {median / step:.2f} steps")
    print(f"  longest {1000 * longest:5.0f} ms = {longest / step:.2f} steps")
    figures = {"step_ms": step, "median_ms": median, "longest_ms": longest}
    print(json.dumps({name: round(1000 * value, 1) for name, value in figures.items()} | {"rounds": rounds}))


if __name__ == "__main__":
    main()
