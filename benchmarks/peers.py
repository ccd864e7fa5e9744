"""The same pictures from Pictor and from servers that others build around diffusers, in one run.

    .venv/bin/python -m pip install -r benchmarks/peers/requirements.txt
    .venv/bin/python benchmarks/peers.py            # the shipped model on the CPU
    .venv/bin/python benchmarks/peers.py --quick
    python benchmarks/peers.py --model sd15 --device 0 --clients 1,16 --size 512 --steps 50 --guidance-scale 7.5

LitServe batches whole requests, here up to eight; the server that the documentation of diffusers describes runs
them side by side in threads. Clients submit, wait and receive a PNG over HTTP from each; prompts and seeds differ,
sizes, steps and guidance do not, for a batch of LitServe could not. Each has the device to itself. Both answer a
request on the connection it came on: they have no queue that outlives them, no progress and no cancel.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
from work import ROOT, Clients, Work, add_work_arguments, draw_by_http, register, work_of

from tests.ports import free_port
from tests.service.running import running_service  # found through `work`

PATIENCE_SECONDS = 300
PEERS = {"LitServe": "litserve_server.py", "diffusers' server": "diffusers_server.py"}


@contextmanager
def running_peer(file: str, work: Work, *, log: Path) -> Iterator[httpx.Client]:
    """Start a peer, wait until it answers, and end it."""
    port = free_port()
    command = [sys.executable, str(ROOT / "benchmarks/peers" / file), work.source, work.torch_device, str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client:
            while True:
                try:
                    client.get("/docs")
                    break
                except httpx.TransportError:
                    if process.poll() is not None:
                        sys.exit(log.read_text()[-3000:])
                    time.sleep(0.2)
            yield client
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def measured(
    draw: Callable[[int], None], counts: list[int], *, rounds: int, warm_up_seconds: float
) -> dict[int, float]:
    """Seconds per picture by the number of clients, told as they come."""
    seconds = {}
    for count in counts:
        together = Clients(draw, count=count)
        seconds[count], _, _ = together.seconds_per_picture(rounds=rounds, warm_up_seconds=warm_up_seconds)
        print(f"{count} clients: {seconds[count]:.3f} s a picture", file=sys.stderr)
    return seconds


def peer_seconds(file: str, work: Work, counts: list[int], *, rounds: int, folder: Path) -> dict[int, float]:
    """Seconds per picture by the number of clients."""
    with running_peer(file, work, log=folder / f"{file}.log") as client:

        def draw(number: int) -> None:
            client.post("/predict", json=work.wishes(number)).raise_for_status()

        return measured(draw, counts, rounds=rounds, warm_up_seconds=0)


def pictor_seconds(
    work: Work, counts: list[int], *, rounds: int, folder: Path, compiles: bool, warm_up_seconds: float
) -> dict[int, float]:
    """The same for Pictor, as a whole service."""
    extra = {"PICTOR_LOG_LEVEL": "WARNING", "PICTOR_COMPILE": str(compiles)}
    with running_service(folder, devices=work.service_devices, **extra) as service:
        register(service, work)
        draw = partial(draw_by_http, service, work)
        return measured(draw, counts, rounds=rounds, warm_up_seconds=warm_up_seconds)


def main() -> None:
    """Run, print the table, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps, clients and rounds")
    add_work_arguments(parser)
    parser.add_argument("--clients", default="1,4")
    parser.add_argument("--rounds", type=int, default=3, help="pictures counted, for each client")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--engine", type=Path, help="a folder with what is measured and compiled already")
    parser.add_argument("--warm-up", type=float, default=0, help="seconds of drawing before it counts, for Pictor")
    options = parser.parse_args()
    if options.quick:
        options.clients, options.rounds, options.steps, options.size = "1,4", 1, 6, 128
    counts = [int(count) for count in options.clients.split(",")]

    with tempfile.TemporaryDirectory(prefix="pictor-peers-") as name:
        folder = Path(name)
        work = work_of(options, folder=folder)
        if options.engine:
            shutil.copytree(options.engine, folder / "data/engine")
        seconds = {
            "Pictor": pictor_seconds(
                work,
                counts,
                rounds=options.rounds,
                folder=folder,
                compiles=options.compile,
                warm_up_seconds=options.warm_up,
            )
        }
        for title, file in PEERS.items():
            seconds[title] = peer_seconds(file, work, counts, rounds=options.rounds, folder=folder)

    print(f"{work.model} {work.size}x{work.size}, {work.steps} steps on {work.torch_device}; seconds per picture")
    print(f"  {'clients':<20}" + "".join(f"{count:>9}" for count in counts))
    for title, by_count in seconds.items():
        print(f"  {title:<20}" + "".join(f"{by_count[count]:9.3f}" for count in counts))
    print(json.dumps({title: {str(n): round(s, 4) for n, s in by.items()} for title, by in seconds.items()}))


if __name__ == "__main__":
    main()
