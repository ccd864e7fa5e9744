"""Pictures per second: raw diffusers one after another, the engine alone, and the whole service, in one run.

    .venv/bin/python benchmarks/throughput.py                                    # the shipped model on the CPU
    .venv/bin/python benchmarks/throughput.py --quick                            # under a minute
    python benchmarks/throughput.py --model sd15 --device 0 --clients 1,16       # on a GPU, random weights in full size

Each client asks for one picture after another, with prompts and seeds of its own, and goes on until all is measured.
`raw` and `engine` run in processes of their own, with the device to themselves. On GPUs it also tells how busy those of
the service were meanwhile, as the driver samples it.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from work import Clients, Work, add_work_arguments, draw_by_http, image_request, prompt_of, register, work_of

from project.devices import openmp_env  # found through `work`
from tests.service.running import running_service


def raw_seconds(work: Work, *, rounds: int) -> float:
    """The median of a pipeline call in a plain loop."""
    import torch
    from diffusers import DiffusionPipeline

    dtype = torch.float32 if work.torch_device == "cpu" else torch.bfloat16
    pipe = DiffusionPipeline.from_pretrained(work.source, dtype=dtype).to(work.torch_device)
    pipe.set_progress_bar_config(disable=True)
    seconds = []
    for number in range(rounds + 1):
        started = time.perf_counter()
        pipe(
            prompt_of(number),
            width=work.size,
            height=work.size,
            num_inference_steps=work.steps,
            guidance_scale=work.guidance_scale,
            generator=torch.Generator().manual_seed(number),
        )
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def engine_seconds(
    work: Work, counts: list[int], *, rounds: int, folder: Path, compiles: bool, warm_up_seconds: float
) -> dict[int, float]:
    """Seconds per picture of the engine alone, by the number of threads that ask for pictures."""
    from generation.engines.engine import Engine

    engine = Engine(work.torch_device, folder=folder, compiles=compiles)
    engine.load(image_request(work, 0).model)

    def draw(number: int) -> None:
        engine.generate(image_request(work, number), on_step=lambda progress: None)

    seconds = {}
    for count in counts:
        together = Clients(draw, count=count)
        seconds[count], _, _ = together.seconds_per_picture(rounds=rounds, warm_up_seconds=warm_up_seconds)
    engine.close()
    return seconds


class Sampler(threading.Thread):
    """Asks the driver ten times a second how much of the last moments the GPUs were at work."""

    def __init__(self, gpus: list[int]) -> None:
        super().__init__(daemon=True)
        self._gpus = gpus
        self._samples: list[tuple[float, float]] = []
        self._stopped = threading.Event()

    def run(self) -> None:
        """Sample until stopped."""
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in self._gpus]
        while not self._stopped.wait(0.1):
            busy = statistics.mean(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu for handle in handles)
            self._samples.append((time.monotonic(), busy))

    def mean(self, begin: float, end: float) -> float | None:
        """Stop; the mean of what was sampled between the two, in per cent; None if nothing was."""
        self._stopped.set()
        self.join()
        samples = [busy for at, busy in self._samples if begin <= at <= end]
        return statistics.mean(samples) if samples else None


def in_a_process(work: Work, *arguments: str) -> Any:
    """Run this script once more for one measurement, as a worker runs, so that nothing of it stays on the device."""
    command = [sys.executable, __file__, *sys.argv[1:], "--folder", work.source, *arguments]
    threads = openmp_env(workers=1) if work.torch_device == "cpu" else {}
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
    if result.returncode:
        sys.exit(result.stderr[-3000:])
    return json.loads(result.stdout.splitlines()[-1])


def service_seconds(
    work: Work, counts: list[int], *, devices: str, rounds: int, folder: Path, compiles: bool, warm_up_seconds: float
) -> dict[int, Any]:
    """Seconds per picture of the whole service and its GPUs' mean load in per cent, by the number of clients."""
    extra = {"PICTOR_COMPILE": str(compiles)}
    gpus = [] if work.torch_device == "cpu" else [int(number) for number in devices.split(",")]
    measured = {}
    with running_service(folder, devices=devices, PICTOR_LOG_LEVEL="WARNING", **extra) as service:
        register(service, work)
        for count in counts:
            sampler = Sampler(gpus) if gpus else None
            if sampler:
                sampler.start()
            together = Clients(partial(draw_by_http, service, work), count=count)
            seconds, begin, end = together.seconds_per_picture(rounds=rounds, warm_up_seconds=warm_up_seconds)
            measured[count] = (seconds, sampler.mean(begin, end) if sampler else None)
    return measured


def main() -> None:
    """Run, print the table, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps, clients and rounds")
    add_work_arguments(parser)
    parser.add_argument("--devices", help="what the service has, like 0,1 or cpu:2, if that is not --device alone")
    parser.add_argument("--clients", default="1,2,4,8")
    parser.add_argument("--rounds", type=int, default=3, help="pictures counted, for each client")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--engine", type=Path, help="a folder for what is measured and compiled, to be found again")
    parser.add_argument("--warm-up", type=float, default=0, help="seconds of drawing before it counts: to compile")
    parser.add_argument("--only", choices=["raw", "engine"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.clients, options.rounds, options.steps, options.size = "1,4", 1, 6, 128
    counts = [int(count) for count in options.clients.split(",")]

    with tempfile.TemporaryDirectory(prefix="pictor-throughput-") as name:
        folder = Path(name)
        work = work_of(options, folder=folder)
        arguments = {"rounds": options.rounds, "compiles": options.compile, "warm_up_seconds": options.warm_up}
        if options.only == "raw":
            print(raw_seconds(work, rounds=max(3, options.rounds)))
            return
        if options.only == "engine":
            seconds = engine_seconds(work, counts, folder=options.engine or folder / "engine", **arguments)
            print(json.dumps(seconds))
            return
        raw = in_a_process(work, "--only", "raw")
        print(f"raw diffusers: {raw:.3f} s a picture", file=sys.stderr)
        engine = {int(count): seconds for count, seconds in in_a_process(work, "--only", "engine").items()}
        print(f"engine alone, by the number of clients: {engine}", file=sys.stderr)
        if options.engine:
            shutil.copytree(options.engine, folder / "data/engine")
        devices = options.devices or work.service_devices
        service = service_seconds(work, counts, devices=devices, folder=folder, **arguments)

    print(f"{work.model} {work.size}x{work.size}, {work.steps} steps, the service on {devices}; seconds per picture")
    print(f"  raw diffusers, one after another {raw:8.3f}")
    print("  clients   engine   service   raw/engine   raw/service   engine/service   GPU busy")
    for count in counts:
        seconds, busy = service[count]
        shares = f"{raw / engine[count]:10.2f} {raw / seconds:13.2f} {engine[count] / seconds:14.2f}"
        print(f"  {count:7} {engine[count]:8.3f} {seconds:9.3f} {shares}   {'' if busy is None else f'{busy:.0f} %'}")
    figures = {
        str(count): {
            "engine_s": round(engine[count], 4),
            "service_s": round(service[count][0], 4),
            "gpu": service[count][1],
        }
        for count in counts
    }
    about = {"model": work.model, "steps": work.steps, "size": work.size, "devices": devices, "raw_s": round(raw, 4)}
    print(json.dumps(about | figures))


if __name__ == "__main__":
    main()
