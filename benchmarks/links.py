"""What the way to the engine adds to a pipeline call, by link and by size of the picture.

    .venv/bin/python benchmarks/links.py            # 50 calls for each link and size
    .venv/bin/python benchmarks/links.py --quick    # 15, under a minute

The engine takes a given time per step (benchmarks/timed_engine.py), in this process or in a model server beside it. A
call's time less that inside the pipeline is what the link adds: telling of each step, and bringing the pixels back. The
links take turns, so that all of them meet the same noise of the machine. Needs no torch.
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
MODEL = ModelSource(slug="timed", source="/none")
STEPS = 20
STEP_SECONDS = 0.005
WARM_UP = 3


def ignore(progress: Progress) -> None:
    """What a worker does at a step is no part of the link."""


def request_of(size: int, *, seed: int) -> ImageRequest:
    """One square picture."""
    return ImageRequest(
        model=MODEL,
        prompt="a red apple",
        negative_prompt="",
        width=size,
        height=size,
        num_inference_steps=STEPS,
        guidance_scale=7.5,
        seed=seed,
        num_images=1,
        scheduler="",
    )


def added_ms(runtime: Runtime, request: ImageRequest) -> float:
    """A call's time less that in the pipeline, in milliseconds."""
    started = time.perf_counter()
    made = runtime.generate(request, on_step=ignore)
    return 1000 * (time.perf_counter() - started - made.pipeline_seconds)


def measure(runtimes: dict[str, Runtime], *, rounds: int) -> dict[tuple[str, int], list[float]]:
    """All that was measured, by link and size, without the calls that warm up."""
    measured: dict[tuple[str, int], list[float]] = {(link, size): [] for link in runtimes for size in SIZES}
    for number in range(rounds + WARM_UP):
        for size in SIZES:
            for link, runtime in runtimes.items():
                added = added_ms(runtime, request_of(size, seed=number))
                if number >= WARM_UP:
                    measured[link, size].append(added)
    return measured


def summary(values: list[float]) -> dict[str, float]:
    """The middle and the slow end."""
    return {"p50": round(statistics.median(values), 2), "p95": round(statistics.quantiles(values, n=20)[-1], 2)}


def main() -> None:
    """Run, print the table, and end with one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="15 calls instead of 50")
    options = arguments.parse_args()
    rounds = 15 if options.quick else 50

    os.environ["TIMED_STEP_SECONDS"] = str(STEP_SECONDS)
    with (
        tempfile.TemporaryDirectory(prefix="pictor-links-") as folder,
        server_process(Path(folder), "--engine", TIMED) as server,
    ):
        runtimes: dict[str, Runtime] = {
            "native": NativeRuntime("cpu", engine=TIMED),
            "uds": server.runtime("uds"),
            "http": server.runtime("http"),
        }
        measured = measure(runtimes, rounds=rounds)
        for runtime in runtimes.values():
            runtime.close()

    results = {link: {str(size): summary(measured[link, size]) for size in SIZES} for link in runtimes}
    print(f"added to a call of {STEPS} steps, in ms: p50 (p95), of {rounds} calls each")
    print("".join(f"{name:>18}" for name in ("link", *(f"{size}x{size}" for size in SIZES), "goal at 1024")))
    for link, by_size in results.items():
        cells = [f"{by_size[str(size)]['p50']:.2f} ({by_size[str(size)]['p95']:.2f})" for size in SIZES]
        print("".join(f"{cell:>18}" for cell in (link, *cells, f"{GOALS_MS[link]:g}")))
    print(json.dumps({"benchmark": "links", "steps": STEPS, "rounds": rounds, "added_ms": results}))


if __name__ == "__main__":
    main()
