"""The sections of docs/study.md about how long it takes and how much goes through, with their charts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.study import charts
from benchmarks.study.markdown import in_words, table, verdict_row
from benchmarks.study.verdicts import LARGE, added_at, goals, goals_on_gpu


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
