"""What previews cost those that draw: the engine with and without somebody who looks at all of its generations.

    .venv/bin/python benchmarks/previews.py            # the shipped model on the CPU
    .venv/bin/python benchmarks/previews.py --quick
    python benchmarks/previews.py --model sdxl --device 0 --clients 8 --size 1024 --steps 30 --guidance-scale 7.5

The engine alone, in turns without previews and with as many as the service makes at most: one every 0.1 s for all
generations of a device, encoded as WebP by another thread. The goal is at most 2 %.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from work import add_work_arguments, image_request, work_of

from generation.engines import encoding  # found through `work`
from generation.engines.engine import Engine
from generation.engines.types import Progress

APART_SECONDS = 0.1  # as in generation/events/progress.py
GOAL = 0.02


class Onlooker:
    """An on_step that begins a preview whenever one is due, and has a thread wait for it and encode it."""

    def __init__(self) -> None:
        self.count = 0
        self._due_at = 0.0
        self._lock = threading.Lock()
        self._encoder = ThreadPoolExecutor(1)

    def __call__(self, progress: Progress) -> None:
        """Take one, or not."""
        now = time.monotonic()
        with self._lock:
            if now < self._due_at or progress.step >= progress.total:
                return
            self._due_at = now + APART_SECONDS
        finish = progress.start_preview()
        if finish is not None:
            self._encoder.submit(self._encode, finish)

    def _encode(self, finish: Callable[[], np.ndarray | None]) -> None:
        pixels = finish()
        if pixels is not None:
            self.count += 1
            encoding.preview(pixels)


def look_away(progress: Progress) -> None:
    """An on_step that wants nothing."""


def main() -> None:
    """Run, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and steps")
    add_work_arguments(parser)
    parser.add_argument("--clients", type=int, default=2, help="generations at once")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--engine", type=Path, help="a folder with what is measured and compiled already")
    parser.add_argument("--warm-up", type=float, default=0, help="seconds of drawing before it counts, to compile")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.steps, options.size = 3, 8, 128

    with tempfile.TemporaryDirectory(prefix="pictor-previews-") as name:
        work = work_of(options, folder=Path(name))
        engine = Engine(work.torch_device, folder=options.engine or Path(name) / "engine", compiles=options.compile)
        with ThreadPoolExecutor(options.clients) as pool:

            def draw_together(on_step: Callable[[Progress], None]) -> float:
                started = time.perf_counter()
                draws = [
                    pool.submit(engine.generate, image_request(work, number), on_step=on_step)
                    for number in range(options.clients)
                ]
                for draw in draws:
                    draw.result()
                return time.perf_counter() - started

            onlooker = Onlooker()
            warm_until = time.monotonic() + options.warm_up
            draw_together(onlooker)  # the first preview may try the VAE
            while time.monotonic() < warm_until:
                draw_together(onlooker)
            onlooker.count = 0
            without, watched = [], []
            for _ in range(options.rounds):
                without.append(draw_together(look_away))
                watched.append(draw_together(onlooker))
        engine.close()

    plain, seen = statistics.median(without), statistics.median(watched)
    print(
        f"{work.model} {work.size}x{work.size}, {work.steps} steps, {options.clients} at once on {work.torch_device}; "
        f"{options.rounds} rounds"
    )
    print(f"  without previews {plain:8.3f} s, from {min(without):.3f} to {max(without):.3f}")
    print(f"  with previews    {seen:8.3f} s ({seen / plain - 1:+.1%}; goal +{GOAL:.0%}), {onlooker.count} of them")
    figures = {"without_s": plain, "with_s": seen, "added": seen / plain - 1}
    print(json.dumps({name: round(value, 4) for name, value in figures.items()} | {"previews": onlooker.count}))


if __name__ == "__main__":
    main()
