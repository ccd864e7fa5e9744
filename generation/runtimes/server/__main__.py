"""`python -m generation.runtimes.server`: one engine in a process of its own, until it is told to stop.

    python -m generation.runtimes.server --device cuda:0 --bind 127.0.0.1:9000
    python -m generation.runtimes.server --device cpu --uds /run/pictor/cpu0.sock

With PICTOR_RUNTIME_TOKEN in the environment, HTTP is answered only to who sends that token.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import uvicorn

from generation.runtimes.native import ENGINE, open_engine
from generation.runtimes.server.app import create_app
from generation.runtimes.server.host import Host
from generation.runtimes.server.sockets import SocketServer

logger = logging.getLogger("generation.runtimes.server")

GRACE_SECONDS = 30.0


def parse(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m generation.runtimes.server", description="Runs a model server.")
    parser.add_argument("--device", default="cpu", help="as torch names it: cpu, or cuda:0")
    parser.add_argument("--bind", metavar="HOST:PORT", help="answer HTTP here; unix:PATH for HTTP on a Unix socket")
    parser.add_argument("--uds", metavar="PATH", type=Path, help="speak the protocol of frames on this Unix socket")
    parser.add_argument("--allow-uid", type=int, action="append", help="a user who may connect to it, beside our own")
    parser.add_argument("--slots", type=int, default=0, help="generations at once (24 on a GPU, 4 on a CPU)")
    parser.add_argument("--folder", type=Path, help="where what is measured on the device is kept")
    parser.add_argument("--compile", action="store_true", help="compile denoisers that are used often")
    parser.add_argument("--hang-seconds", type=float, default=600.0, help="end if a generation makes no step so long")
    parser.add_argument("--grace-seconds", type=float, default=GRACE_SECONDS, help="for what runs when told to stop")
    parser.add_argument("--engine", default=ENGINE, help="module:class of another engine")
    options = parser.parse_args(words)
    if not options.bind and not options.uds:
        parser.error("Name at least one of --bind and --uds.")
    if options.compile and not options.folder:
        parser.error("What --compile makes is kept in a folder: name it with --folder.")
    options.slots = options.slots or (24 if options.device.startswith("cuda") else 4)
    return options


async def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT; then let what runs come to its end."""
    engine = open_engine(options.device, folder=options.folder, compiles=options.compile, engine=options.engine)
    host = Host(engine, slots=options.slots)
    told_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    servers: list[asyncio.Task[None]] = []
    web = web_server(host, options.bind) if options.bind else None
    if web is not None:
        servers.append(asyncio.create_task(web.serve()))
    sockets = SocketServer(host, options.uds, allowed=options.allow_uid or []) if options.uds else None
    if sockets is not None:
        await sockets.start()
    hangs = asyncio.create_task(host.look_for_hangs(options.hang_seconds))
    stopped = asyncio.create_task(told_to_stop.wait())
    logger.info("%s serves on %s.", options.device, " and ".join(str(o) for o in (options.bind, options.uds) if o))
    await asyncio.wait({stopped, *servers}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    await host.drain(within_seconds=options.grace_seconds)
    if sockets is not None:
        await sockets.stop()
    if web is not None:
        web.should_exit = True
    await asyncio.gather(*servers)
    await asyncio.to_thread(host.close)  # what hangs is still looked for
    hangs.cancel()


def web_server(host: Host, bind: str) -> uvicorn.Server:
    """Uvicorn, which leaves signals to `serve`."""
    place: dict[str, object] = {"uds": bind.removeprefix("unix:")}
    if not bind.startswith("unix:"):
        name, _, port = bind.rpartition(":")
        place = {"host": name.strip("[]"), "port": int(port)}
    config = uvicorn.Config(
        create_app(host, token=os.environ.get("PICTOR_RUNTIME_TOKEN", "")),
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
        **place,  # type: ignore[arg-type]
    )
    return Uvicorn(config)


class Uvicorn(uvicorn.Server):
    """Without its own handlers of signals, which would raise them anew at the end."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Do nothing for the length of a block."""
        return nullcontext()


def main() -> None:
    """Run it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options = parse(sys.argv[1:])
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options))


if __name__ == "__main__":
    main()
