"""How long after the start of a worker its first picture is there.

    .venv/bin/python benchmarks/start.py                         # the shipped model on the CPU
    .venv/bin/python benchmarks/start.py --quick                 # one start instead of three
    python benchmarks/start.py --model sd15 --device 0 --size 512 --steps 50 --guidance-scale 7.5

A generation waits in the queue of a service whose worker is killed: the supervisor starts another, which imports
PyTorch, loads the model and draws. The time counts from the start of its process until the generation is committed.
The weights were read before, so they are in the page cache, and the model was examined on this device before.
The floor is what raw diffusers takes in a process of its own: import, load, draw.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from work import ROOT, Work, add_work_arguments, register, work_of

from tests.service.running import Running, running_service  # found through `work`

RAW = """
import sys, torch
from diffusers import DiffusionPipeline
source, device, size, steps, scale = sys.argv[1:]
dtype = torch.float32 if device == "cpu" else torch.bfloat16
pipe = DiffusionPipeline.from_pretrained(source, dtype=dtype).to(device)
pipe("a red apple", width=int(size), height=int(size), num_inference_steps=int(steps), guidance_scale=float(scale))
"""


def raw_seconds(work: Work) -> float:
    """From the start of a process with nothing but diffusers until its picture is drawn."""
    values = (work.source, work.torch_device, work.size, work.steps, work.guidance_scale)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", RAW, *map(str, values)], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def started_at(pid: int) -> float:
    """When a process was started, in seconds since 1970."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    booted = next(int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if "btime" in line)
    return booted + ticks / os.sysconf("SC_CLK_TCK")


def new_worker(service: Running, label: str, *, old: int) -> int:
    """The process that took the place of another."""
    while True:
        try:
            if (pid := service.worker_pid(label)) != old:
                return pid
        except AssertionError:
            pass
        time.sleep(0.05)


def start_seconds(service: Running, work: Work, *, number: int) -> float:
    """From the start of the worker's process until the picture that waited for it is committed."""
    label = "cpu0" if work.torch_device == "cpu" else f"gpu{work.device}"
    old = service.worker_pid(label)
    os.kill(old, signal.SIGKILL)
    generation = service.submit(**work.wishes(number))
    started = started_at(new_worker(service, label, old=old))
    seen = service.wait(generation)
    return datetime.fromisoformat(seen["finished_at"]).timestamp() - started


def main() -> None:
    """Run, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one start, fewer steps")
    add_work_arguments(parser)
    options = parser.parse_args()
    rounds = 1 if options.quick else 3
    if options.quick:
        options.steps = min(options.steps, 6)

    with tempfile.TemporaryDirectory(prefix="pictor-start-") as name:
        work = work_of(options, folder=Path(name))
        raw = min(raw_seconds(work) for _ in range(rounds + 1))
        with running_service(Path(name), devices=work.service_devices, PICTOR_COMPILE="false") as service:
            register(service, work)
            service.wait(service.submit(**work.wishes(0)))
            starts = [start_seconds(service, work, number=1 + number) for number in range(rounds)]

    median = statistics.median(starts)
    print(f"{work.model} {work.size}x{work.size}, {work.steps} steps on {work.torch_device}")
    print(f"  raw diffusers, from process to picture       {raw:6.2f} s")
    print(f"  Pictor, from the worker's process to picture {median:6.2f} s, the longest {max(starts):.2f} s")
    print(json.dumps({"raw_s": round(raw, 2), "median_s": round(median, 2), "longest_s": round(max(starts), 2)}))


if __name__ == "__main__":
    main()
