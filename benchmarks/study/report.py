"""docs/study.md and its charts, written from the figures of a run; what interprets depends on them."""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.study import charts
from benchmarks.study.verdicts import LARGE, Verdict, added_at, goals, goals_on_gpu, percent, row, verdicts

Section = Callable[[dict[str, Any], Path], Iterator[str]]

INTRODUCTION = """# Four ways to the neural network, two ways to spread the load: measured

A worker reaches the engine in its own process (`native`), in a process beside it over HTTP or over a Unix socket
(`http`, `uds`), or in a pool of servers elsewhere (`gateway`); [runtimes.md](runtimes.md) says how each is set up.
The load is spread by a queue (broker and asynchronous processing, which is Pictor) or by nginx in front of model
servers ([`deploy/balancer/`](../deploy/balancer/)). A design study made statements about all of them. This page is
written by a script from one run, and says which of them the figures confirm:

```sh
make study            # all of it, about 25 minutes
make study QUICK=1    # the same in small; its figures are rough
```

Except where it says otherwise the engine is one that draws nothing and takes a given time per step, so that what lies
around it stands out."""

WITHOUT_RABBITMQ = "RabbitMQ was not there: name one by `STUDY_RABBITMQ_URL=amqp://user:password@host//`."


def write(found: dict[str, Any], place: Path) -> None:
    """The page, and the charts beside it in images/."""
    parts = [INTRODUCTION, measured_on(found)]
    sections: dict[str, Section] = {
        "latency": latency,
        "saturation": saturation,
        "real": with_the_shipped_model,
        "gpu": with_a_model_of_full_size,
        "overload": overload,
        "kill": kill,
        "rolling": rolling,
        "burst": burst,
        "footprint": footprint,
    }
    parts += judgement(found)
    for name, section in sections.items():
        if name in found:
            parts += section(found, place.parent / "images")
    place.write_text("\n\n".join(map(wrapped, parts)) + "\n")


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """What each link adds, and how many statements hold."""
    judged = list(verdicts(found))
    added = added_at(found, LARGE) if "latency" in found else {}
    return {"added_ms": added, "confirmed": sum(one.holds for one in judged), "statements": len(judged)}


def measured_on(found: dict[str, Any]) -> str:
    """The machine and the date."""
    machine = found["machine"]
    size = "a quick run" if found["is_quick"] else "a full run"
    text = (
        f"Measured on {machine['date']}, {size}: {in_words(machine)}, nginx {machine['nginx'] or 'not there'}; SQLite. "
        "Clients, servers and brokers share the machine."
    )
    return text if found["has_rabbitmq"] else f"{text} {WITHOUT_RABBITMQ}"


def in_words(machine: dict[str, Any]) -> str:
    """A machine and its software."""
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}, {packages}"
    )


def judgement(found: dict[str, Any]) -> Iterator[str]:
    """All statements, and how many of them hold."""
    judged = list(verdicts(found))
    if not judged:
        return
    refuted = [verdict for verdict in judged if not verdict.holds]
    yield "## What the figures say"
    yield table(
        ("", "Statement", "", "Figures"),
        [(one.about, one.statement, "confirmed" if one.holds else "**refuted**", one.figures) for one in judged],
    )
    names = ", ".join(f"{one.about} {one.statement}" for one in refuted)
    yield f"Refuted here: {names}." if refuted else "All of them are confirmed."


def latency(found: dict[str, Any], images: Path) -> Iterator[str]:
    """Experiment 1."""
    own = found["latency"]
    links = list(dict.fromkeys(one["link"] for one in own["rows"]))
    by_link = {link: {one["size"]: one for one in own["rows"] if one["link"] == link} for link in links}
    charts.bars(
        images / "study-latency.svg",
        title="What each way adds to a generation",
        unit="ms at the median (logarithmic)",
        groups=[f"{size}²" for size in own["sizes"]],
        series={link: [by_link[link][size]["p50"] for size in own["sizes"]] for link in links},
        is_logarithmic=True,
    )
    yield "## 1. Added latency"
    yield (
        f"From the call until the pixels are there, less the time in the pipeline; one call after "
        f"another, {own['rounds']} of each, in milliseconds, p50 (p99):"
    )
    yield table(
        ("", *(f"{size}²" for size in own["sizes"])),
        [
            (link, *(f"{by_link[link][size]['p50']:.2f} ({by_link[link][size]['p99']:.2f})" for size in own["sizes"]))
            for link in links
        ],
    )
    yield "![Bars: milliseconds that each way adds, by the size of the picture](images/study-latency.svg)"
    added = added_at(found, LARGE)
    order = sorted(added, key=added.__getitem__)
    yield f"At {LARGE}², 3 MiB of pixels, from the least to the most: {', '.join(order)}."
    yield table(("", "Goal", "", "Measured"), [verdict_row(one) for one in goals(found)])


def saturation(found: dict[str, Any], images: Path) -> Iterator[str]:
    """Experiment 2."""
    own = found["saturation"]
    charts.bars(
        images / "study-saturation.svg",
        title="Processor time per generation",
        unit="ms",
        groups=[one["link"] for one in own["rows"]],
        series={"ms": [one["cpu_ms"] for one in own["rows"]]},
    )
    yield "## 2. Throughput and cost"
    yield (
        f"{own['callers']} callers ask again as soon as they have their picture of {own['size']}², of "
        f"an engine that takes a millisecond; gateway and balancer have two model servers, the others one engine. "
        f"Processor time is that of the caller and of all behind it:"
    )
    yield table(
        ("", "generations/s", "processor, ms each"),
        [(one["link"], f"{one['per_second']:g}", f"{one['cpu_ms']:g}") for one in own["rows"]],
    )
    yield "![Bars: processor time of one generation by link](images/study-saturation.svg)"
    yield (
        f"The whole service, native, from `POST` to the stored file: {own['count']} generations of "
        f"256² at once, and one after another (until the commit, in milliseconds):"
    )
    yield table(
        ("", "generations/s", "processor, ms each", "alone, p50 (p99)"),
        [
            (
                one["name"],
                f"{one['per_second']:g}",
                f"{one['cpu_ms']:g}",
                f"{one['alone_ms']['p50']:g} ({one['alone_ms']['p99']:g})",
            )
            for one in own["services"]
        ],
    )


def with_the_shipped_model(found: dict[str, Any], images: Path) -> Iterator[str]:
    """The engine itself behind each link."""
    yield from with_a_model(found["real"])


def with_a_model_of_full_size(found: dict[str, Any], images: Path) -> Iterator[str]:
    """The same on a GPU."""
    own = found["gpu"]
    yield from with_a_model(own)
    machine = own["machine"]
    yield f"Measured on {machine['date']}, on another machine than the rest: {own['device']}, {in_words(machine)}."
    yield table(("", "Goal", "", "Measured"), [verdict_row(one) for one in goals_on_gpu(found)])


def with_a_model(own: dict[str, Any]) -> Iterator[str]:
    """Pictures a second by link."""
    native = next(one["per_second"] for one in own["rows"] if one["link"] == "native")
    yield f"## With a model, on {own['device']}"
    yield (
        f"{own['model']}, {own['size']}², {own['steps']} steps, {own['callers']} callers with "
        f"{own['count']} pictures in all, on {own['device']}. The links take turns, {own['rounds']} rounds, and the "
        f"fastest run of each counts:"
    )
    yield table(
        ("", "pictures/s", "beside native"),
        [
            (one["link"], f"{one['per_second']:.3f}", f"{100 * (one['per_second'] / native - 1):+.1f} %")
            for one in own["rows"]
        ],
    )


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
        ("", "sent", "made", "refused", "lost", "drawn again", "longest, s"),
        [
            (
                one["name"],
                one["sent"],
                one["ok"],
                one["refused"],
                one["lost"],
                "" if one["repeated"] is None else one["repeated"],
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
        ("", "sent", "made", "refused", "lost", "drawn again", "seconds, p50 (p99)"),
        [
            (
                one["name"],
                one["sent"],
                one["ok"],
                one["refused"],
                one["lost"],
                "" if one["repeated"] is None else one["repeated"],
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


def wrapped(part: str) -> str:
    """A paragraph in lines of a page's width; anything else as it is."""
    is_paragraph = not part.startswith(("|", "#", "!", "```")) and "\n" not in part
    return textwrap.fill(part, 118, break_on_hyphens=False, break_long_words=False) if is_paragraph else part


def weight(part: dict[str, int] | None) -> str:
    """One cell of the table of memory."""
    if part is None:
        return ""
    return f"{part['mib']}" if part["processes"] == 1 else f"{part['mib']} ({part['processes']})"


def verdict_row(verdict: Verdict) -> tuple[str, str, str, str]:
    """A goal as a row."""
    return verdict.about, verdict.statement, "met" if verdict.holds else "**missed**", verdict.figures


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """As Markdown has them."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
