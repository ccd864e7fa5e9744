"""What each link adds to a pipeline call, by the size of the picture: native, a Unix socket, HTTP.

    .venv/bin/python benchmarks/links.py            # 200 calls each
    .venv/bin/python benchmarks/links.py --quick    # 40 calls each, under a minute

The engine is `timed_engine`: it waits for its steps and draws at no cost, so what a call takes beside the pipeline is
the link's. One call at a time; the model server is a process of its own, on this machine. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from generation.engines.types import ImageRequest, ModelSource, Progress  # noqa: E402  found through the line above
from generation.runtimes.base import Runtime  # noqa: E402
from generation.runtimes.native import NativeRuntime  # noqa: E402
from tests.runtimes.serving import TIMED, server_process  # noqa: E402

SIZES = (256, 512, 1024)
GOALS_MS = {"native": 2.0, "uds": 4.0, "http": 8.0}
STEPS = 4
MODEL = ModelSource(slug="timed", source="timed")


def ignore(progress: Progress) -> None:
    """An on_step for who does not watch."""


def added_milliseconds(runtime: Runtime, *, size: int, rounds: int) -> list[float]:
    """What each call took beside its pipeline, after three to warm up."""
    added = []
    for seed in range(rounds + 3):
        request = ImageRequest(
            model=MODEL,
            prompt="a red apple",
            negative_prompt="",
            width=size,
            height=size,
            num_inference_steps=STEPS,
            guidance_scale=4.5,
            seed=seed,
            num_images=1,
            scheduler="",
        )
        started = time.perf_counter()
        made = runtime.generate(request, on_step=ignore)
        added.append(1000 * (time.perf_counter() - started - made.pipeline_seconds))
    return sorted(added[3:])


def main() -> None:
    """Measure, print the table, and end with one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="40 calls each")
    rounds = 40 if arguments.parse_args().quick else 200
    os.environ["TIMED_STEP_SECONDS"] = "0.01"

    figures: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory(prefix="pictor-links-") as folder,
        server_process(Path(folder), "--engine", TIMED) as server,
    ):
        runtimes = {"native": NativeRuntime("cpu", engine=TIMED), "uds": server.runtime("uds")}
        runtimes["http"] = server.runtime("http")
        print(f"{rounds} calls each of {STEPS} steps, {os.cpu_count()} cores; milliseconds beside the pipeline")
        print(f"  {'link':<8}{'size':>6}{'p50':>9}{'p99':>9}")
        for size in SIZES:
            for name, runtime in runtimes.items():
                added = added_milliseconds(runtime, size=size, rounds=rounds)
                p50, p99 = statistics.median(added), added[int(0.99 * (len(added) - 1))]
                figures |= {f"{name}_{size}_p50_ms": round(p50, 2), f"{name}_{size}_p99_ms": round(p99, 2)}
                print(f"  {name:<8}{size:>6}{p50:>9.2f}{p99:>9.2f}")
    kept = {name: figures[f"{name}_1024_p50_ms"] <= goal for name, goal in GOALS_MS.items()}
    print(json.dumps({"rounds": rounds, "steps": STEPS, **figures, "within_goal": kept}))


if __name__ == "__main__":
    main()
