"""What the design study said, and what the figures of a run say to it."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.study.processes import ROOT
from deploy.balancer.client import draw

LARGE = 1024  # the size of picture, in pixels, by which links are judged
GOALS_MS = {"native": 2.0, "uds": 4.0, "http": 8.0}
MOST_LOSS = 0.03  # of the throughput on a GPU
RUNTIMES = ROOT / "generation" / "runtimes"


@dataclass(frozen=True)
class Verdict:
    """A statement, whether it holds here, and the figures that say so."""

    about: str
    statement: str
    holds: bool
    figures: str


def verdicts(found: dict[str, Any]) -> Iterator[Verdict]:
    """One for each statement that the experiments of this run can judge."""
    if {"footprint", "overload", "kill"} <= found.keys():
        yield from of_balancer(found)
        yield from of_broker(found)
    if {"latency", "kill", "footprint"} <= found.keys():
        yield from of_native(found)
    if "latency" in found:
        yield from of_http_and_uds(found)
    if {"rolling", "kill"} <= found.keys():
        yield from of_gateway(found)


def of_balancer(found: dict[str, Any]) -> Iterator[Verdict]:
    """Easiest, scales badly, weak guarantees."""
    own, other = row(found["footprint"], "balancer"), row(found["footprint"], "broker, gateway")
    yield Verdict(
        "balancer",
        "is the easiest",
        own["processes"] < other["processes"] and own["mib"] < other["mib"],
        f"{own['processes']} processes and {own['mib']} MiB with two model servers; "
        f"the broker with the same servers {other['processes']} and {other['mib']} MiB",
    )
    overload = row(found["overload"], "balancer")
    without = overload["refused"] + overload["lost"]
    yield Verdict(
        "balancer",
        "scales badly",
        without > 0.25 * overload["sent"],
        f"at twice the capacity {percent(without, overload['sent'])} of the requests got no picture, though it made "
        f"{overload['per_second']:g} a second of {found['overload']['per_second'] / 2:g} that its servers can",
    )
    kill, repeats = row(found["kill"], "balancer"), row(found["kill"], "balancer that repeats")
    yield Verdict(
        "balancer",
        "gives weak guarantees",
        kill["lost"] > 0,
        f"a killed server cost {kill['lost']} of {kill['sent']} requests; "
        f"{repeats['lost']} where nginx may repeat requests",
    )


def of_broker(found: dict[str, Any]) -> Iterator[Verdict]:
    """Withstands overload, keeps guarantees and order."""
    rows = [one for one in found["overload"]["rows"] if one["name"].startswith("broker")]
    yield Verdict(
        "broker",
        "withstands overload",
        all(one["refused"] + one["lost"] == 0 and one["ok"] == one["sent"] for one in rows),
        "; ".join(f"{one['name']}: {one['ok']} of {one['sent']} made, {one['refused']} refused" for one in rows),
    )
    killed = [one for one in found["kill"]["rows"] if one["name"].startswith("broker")]
    yield Verdict(
        "broker",
        "keeps its guarantees",
        all(one["lost"] + one["waiting"] == 0 for one in killed),
        "; ".join(f"{one['name']}: {one['lost']} lost, {one['repeated']} drawn again" for one in killed),
    )
    yield Verdict(
        "broker",
        "keeps the order",
        all(one["overtaken"] == 0 for one in rows),
        "; ".join(f"{one['name']}: {one['overtaken']} of {one['ok']} out of order" for one in rows)
        + in_the_burst(found),
    )


def in_the_burst(found: dict[str, Any]) -> str:
    """How many came out of order there, where many ask at the same moment."""
    if "burst" not in found:
        return ""
    one = row(found["burst"], "broker on Redis")
    return f"; in a burst {one['overtaken']} of {one['ok']}"


def of_native(found: dict[str, Any]) -> Iterator[Verdict]:
    """Least time, most reliable, hard to move to another runtime."""
    added = added_at(found, LARGE)
    yield Verdict(
        "native",
        "takes the least time",
        added["native"] == min(added.values()),
        ", ".join(f"{link} {ms:.2f} ms" for link, ms in added.items()) + f" at {LARGE}², median",
    )
    native, gateway = row(found["kill"], "broker, native"), row(found["kill"], "broker, gateway")
    yield Verdict(
        "native",
        "is the most reliable",
        native["lost"] <= gateway["lost"] and native["longest_seconds"] <= gateway["longest_seconds"],
        f"killed, it lost {native['lost']} and the longest took {native['longest_seconds']} s (a "
        f"lease has to run out); behind the gateway {gateway['lost']} and {gateway['longest_seconds']} s",
    )
    inside = row(found["footprint"], "broker, native")["parts"]["worker"]["mib"]
    thin = row(found["footprint"], "broker, gateway")["parts"]["worker"]["mib"]
    yield Verdict(
        "native",
        "is hard to move to another runtime",
        inside > 2 * thin,
        f"its worker holds PyTorch and the model, {inside} MiB, and loses them at each release; "
        f"a worker without an engine has {thin} MiB",
    )


def of_http_and_uds(found: dict[str, Any]) -> Iterator[Verdict]:
    """HTTP is the simplest and pays for network and serialisation; UDS is faster and needs a protocol."""
    added = added_at(found, LARGE)
    plain, uds = lines_in(inspect.getsource(draw)), lines_of("uds", "handshake", "frames")
    yield Verdict(
        "HTTP",
        "is the simplest",
        plain < uds,
        f"who only wants the pixels needs {plain} lines and a library of HTTP; the client of the socket has {uds} with "
        f"its frames. With progress, previews and cancel the one over HTTP has {lines_of('http', 'frames')}",
    )
    yield Verdict(
        "HTTP",
        "pays for network and serialisation",
        added["http"] > added["native"],
        f"{added['http'] - added['native']:.2f} ms more than native at {LARGE}²",
    )
    by_size = {size: added_at(found, size) for size in found["latency"]["sizes"]}
    yield Verdict(
        "UDS",
        "is faster than HTTP",
        all(links["uds"] < links["http"] for links in by_size.values()),
        ", ".join(f"{size}²: {links['uds']:.2f} and {links['http']:.2f} ms" for size, links in by_size.items()),
    )
    frames, _, over_http = (ROOT / "docs" / "protocol.md").read_text().partition("## Over HTTP")
    words, more = len(frames.split()), len(over_http.split())
    yield Verdict(
        "UDS", "needs a protocol", words > more, f"docs/protocol.md specifies it in {words} words, and HTTP in {more}"
    )


def of_gateway(found: dict[str, Any]) -> Iterator[Verdict]:
    """Has its own release cycle, and holds the business logic."""
    worker = row(found["rolling"], "broker, gateway: worker")
    servers = row(found["rolling"], "broker, gateway: model servers")
    yield Verdict(
        "gateway",
        "has a release cycle of its own",
        worker["lost"] + servers["lost"] == 0 and worker["servers_untouched"],
        f"worker restarted: {worker['lost']} lost, no model was loaded anew, back after "
        f"{worker['back_after_seconds']} s; servers restarted one by one: {servers['lost']} lost",
    )
    killed, balancer = row(found["kill"], "broker, gateway"), row(found["kill"], "balancer")
    yield Verdict(
        "gateway",
        "holds the business logic",
        killed["lost"] < balancer["lost"],
        f"its retries lose {killed['lost']} where a plain proxy loses {balancer['lost']}; the servers know neither "
        "users nor queue",
    )


def goals(found: dict[str, Any]) -> Iterator[Verdict]:
    """What each link may add at the median, and what it adds."""
    added = added_at(found, LARGE)
    for link, goal in GOALS_MS.items():
        yield Verdict(link, f"adds at most {goal:g} ms at {LARGE}²", added[link] <= goal, f"{added[link]:.2f} ms")


def goals_on_gpu(found: dict[str, Any]) -> Iterator[Verdict]:
    """What each link may cost of the throughput of a GPU, and what it costs."""
    speeds = {one["link"]: one["per_second"] for one in found["gpu"]["rows"]}
    for link, speed in speeds.items():
        if link != "native":
            lost = 1 - speed / speeds["native"]
            yield Verdict(link, f"costs at most {100 * MOST_LOSS:g} %", lost <= MOST_LOSS, f"{100 * lost:+.1f} %")


def row(experiment: dict[str, Any], name: str) -> dict[str, Any]:
    """The row of that name."""
    return next(one for one in experiment["rows"] if one["name"] == name)


def added_at(found: dict[str, Any], size: int) -> dict[str, float]:
    """Milliseconds that each link adds at that size, at the median."""
    return {one["link"]: one["p50"] for one in found["latency"]["rows"] if one["size"] == size}


def lines_of(*modules: str) -> int:
    """Lines of modules of the runtimes, without blank ones."""
    return sum(lines_in((RUNTIMES / f"{module}.py").read_text()) for module in modules)


def lines_in(text: str) -> int:
    """Lines that are not blank."""
    return sum(bool(line.strip()) for line in text.splitlines())


def percent(part: float, whole: float) -> str:
    """A share in words."""
    return f"{100 * part / whole:.0f} %"
