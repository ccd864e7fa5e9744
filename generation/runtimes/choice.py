"""The runtimes by name: which one a worker gets, and which of them need a model server beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from generation.runtimes.base import Runtime
from generation.runtimes.gateway.addresses import Upstream


@dataclass(frozen=True, slots=True)
class Wishes:
    """All that any runtime needs to be opened; each takes what concerns it.

    `device` is torch's name of it, `address` where a server is, and `token` what it wants to hear. `upstreams` are the
    servers of a pool; those that speak OpenAI's API want `api_key`.
    """

    device: str
    folder: Path
    compiles: bool
    engine: str
    address: str = ""
    token: str = field(default="", repr=False)
    upstreams: tuple[Upstream, ...] = ()
    api_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Way:
    """One runtime: how it is opened, and whether a model server is started beside the worker if none is named."""

    open: Callable[[Wishes], Runtime]
    has_sidecar: bool = False


def open_native(wishes: Wishes) -> Runtime:
    """The engine in this process."""
    from generation.runtimes.native import NativeRuntime

    return NativeRuntime(wishes.device, folder=wishes.folder, compiles=wishes.compiles, engine=wishes.engine)


def open_http(wishes: Wishes) -> Runtime:
    """A model server, over HTTP."""
    from generation.runtimes.http import HttpRuntime

    return HttpRuntime(wishes.address, token=wishes.token)


def open_uds(wishes: Wishes) -> Runtime:
    """A model server on this machine, over a Unix socket."""
    from generation.runtimes.uds import UdsRuntime

    return UdsRuntime(wishes.address)


def open_gateway(wishes: Wishes) -> Runtime:
    """A pool of servers elsewhere."""
    from generation.runtimes.gateway.runtime import GatewayRuntime

    return GatewayRuntime({upstream.url: open_upstream(upstream, wishes) for upstream in wishes.upstreams})


def open_upstream(upstream: Upstream, wishes: Wishes) -> Runtime:
    """One server of a pool; the pool decides what waits where."""
    if upstream.at_once is not None:
        from generation.runtimes.gateway.openai import OpenAIRuntime

        return OpenAIRuntime(upstream.url, api_key=wishes.api_key, at_once=upstream.at_once)
    from generation.runtimes.http import HttpRuntime

    return HttpRuntime(upstream.url, token=wishes.token, waits_when_full=False)


RUNTIMES: dict[str, Way] = {
    "native": Way(open_native),
    "http": Way(open_http, has_sidecar=True),
    "uds": Way(open_uds, has_sidecar=True),
    "gateway": Way(open_gateway),
}


def open_runtime(name: str, wishes: Wishes) -> Runtime:
    """The runtime of that name. Raises EngineError if what it needs is not there."""
    return RUNTIMES[name].open(wishes)


def choose(setting: str, *, label: str) -> str:
    """The runtime for a device by PICTOR_RUNTIME: one for all, as in `uds`, or with exceptions: `native,gpu1=uds`.

    Raises ValueError, with a sentence.
    """
    by_device: dict[str, str] = {}
    for entry in setting.replace(" ", "").split(","):
        device, _, name = entry.rpartition("=")
        if name not in RUNTIMES:
            raise ValueError(f"{name!r} is none of the runtimes {', '.join(RUNTIMES)}.")
        by_device[device] = name
    return by_device.get(label) or by_device.get("", "native")
