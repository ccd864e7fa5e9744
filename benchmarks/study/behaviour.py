"""The sections of docs/study.md about overload, failures, restarts, bursts and memory, with their charts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.study import charts
from benchmarks.study.markdown import table
from benchmarks.study.verdicts import percent, row

LEDGER = ("", "sent", "made", "refused", "lost", "drawn again")


def overload(found: dict[str, Any], images: Path) -> Iterator[str]:
    """Experiment 3."""
    own = found["overload"]
    charts.lines(
        images / "study-overload.svg",
        title="Accepted and not ended, at twice the capacity",
        unit="generations",
        below=f"seconds; the load ends after {own['seconds']:g}",
        series={
            one["name"]: ([second for second, _ in one["samples"]], [count for _, count in one["samples"]])
            for one in own["rows"]
        },
    )
    yield "## 3. Overload"
    yield (
        f"{own['per_second']:g} requests a second for {own['seconds']:g} s, before two model servers "
        "that can make half as "
        'many. "Out of order" are pictures that came after more later ones than are drawn side by side:'
    )
    yield table(
        ("", "sent", "refused", "lost", "waiting at the end", "made", "made/s", "seconds, p50 (p99)", "out of order"),
        [
            (
                one["name"],
                one["sent"],
                one["refused"],
                one["lost"],
                one["waiting_at_the_end"],
                one["ok"],
                f"{one['per_second']:g}",
                f"{one['seconds']['p50']:g} ({one['seconds']['p99']:g})",
                one["overtaken"],
            )
            for one in own["rows"]
        ],
    )
    yield "![Lines: how many wait, over time](images/study-overload.svg)"
    balancer = row(own, "balancer")
    refused, median = percent(balancer["refused"], balancer["sent"]), balancer["seconds"]["p50"]
    waits = "; ".join(
        f"{one['name']} {one['seconds']['p50']:g} s at the median, {one['waiting_at_the_end']} waiting at the end"
        for one in own["rows"]
        if one is not balancer
    )
    yield (
        f"nginx has no queue: it refused {refused}, and what it let through took {median:g} s at the median. A broker "
        f"trades that for waiting: {waits}."
    )


def kill(found: dict[str, Any], images: Path) -> Iterator[str]:
    """Experiment 4."""
    own = found["kill"]
    charts.bars(
        images / "study-kill.svg",
        title="After a kill in the middle of the load",
        unit="generations",
        groups=[one["name"] for one in own["rows"]],
        series={
            "lost": [one["lost"] for one in own["rows"]],
            "drawn again": [one["repeated"] or 0 for one in own["rows"]],
        },
    )
    yield "## 4. A model server is killed"
    yield (
        f"{own['per_second']:g} requests a second for {own['seconds']:g} s; after a third of it `kill -9`, and a start "
        "three seconds later. With `native` the worker is killed, as the engine is inside:"
    )
    yield table(
        (*LEDGER, "longest, s"),
        [
            (
                *ledger(one),
                f"{one['longest_seconds']:g}",
            )
            for one in own["rows"]
        ],
    )
    yield "![Bars: lost and repeated generations by topology](images/study-kill.svg)"
    yield "How often nginx had something drawn again, it does not tell."


def rolling(found: dict[str, Any], images: Path) -> Iterator[str]:
    """Experiment 5."""
    own = found["rolling"]
    yield "## 5. A rolling restart"
    yield (
        f"The same load; each part gets SIGTERM, and the next one when the last answers again. {own['seconds']:g} s:"
    )
    yield table(
        (*LEDGER, "seconds, p50 (p99)"),
        [
            (
                *ledger(one),
                f"{one['seconds']['p50']:g} ({one['seconds']['p99']:g})",
            )
            for one in own["rows"]
        ],
    )
    worker = row(own, "broker, gateway: worker")
    kept = "kept their models" if worker["servers_untouched"] else "were restarted too"
    yield f"The worker was back after {worker['back_after_seconds']:g} s; the model servers {kept}."


def burst(found: dict[str, Any], images: Path) -> Iterator[str]:
    """Experiment 6."""
    own = found["burst"]
    yield "## 6. A burst"
    yield (
        f"{own['count']} requests at once, for an engine that takes a tenth of a second. The clients of the balancer "
        f"all wait at the same time, and a refusal after more than a quarter of a second counts as lost; "
        f"16 clients submit to the broker:"
    )
    yield table(
        ("", "made", "refused", "lost", "all answered after, s", "last picture after, s", "out of order"),
        [
            (
                one["name"],
                one["ok"],
                one["refused"],
                one["lost"],
                f"{one['answered_after_seconds']:g}",
                f"{one['done_after_seconds']:g}",
                one["overtaken"],
            )
            for one in own["rows"]
        ],
    )


def footprint(found: dict[str, Any], images: Path) -> Iterator[str]:
    """Experiment 7."""
    own = found["footprint"]
    kinds = list(dict.fromkeys(kind for one in own["rows"] for kind in one["parts"]))
    charts.bars(
        images / "study-footprint.svg",
        title="Memory of each topology",
        unit="MiB",
        groups=[one["name"] for one in own["rows"]],
        series={"MiB": [one["mib"] for one in own["rows"]]},
    )
    yield "## 7. Processes and memory"
    yield (
        "With the shipped model in memory, in MiB (what processes share is counted once); how many "
        "processes, where it is more than one. Gateway and balancer have two model servers, the others one device:"
    )
    yield table(
        ("", "processes", "MiB", *kinds),
        [
            (one["name"], one["processes"], one["mib"], *(weight(one["parts"].get(kind)) for kind in kinds))
            for one in own["rows"]
        ],
    )
    yield "![Bars: memory by topology](images/study-footprint.svg)"


def ledger(one: dict[str, Any]) -> tuple[object, ...]:
    """The cells under LEDGER."""
    repeated = "" if one["repeated"] is None else one["repeated"]
    return one["name"], one["sent"], one["ok"], one["refused"], one["lost"], repeated


def weight(part: dict[str, int] | None) -> str:
    """One cell of the table of memory."""
    if part is None:
        return ""
    return f"{part['mib']}" if part["processes"] == 1 else f"{part['mib']} ({part['processes']})"
