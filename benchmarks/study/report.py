"""docs/study.md and its charts, written from the figures of a run; what interprets depends on them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.study import behaviour, speed
from benchmarks.study.markdown import in_words, table, wrapped
from benchmarks.study.verdicts import LARGE, added_at, verdicts

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
        "latency": speed.latency,
        "saturation": speed.saturation,
        "real": speed.with_the_shipped_model,
        "gpu": speed.with_a_model_of_full_size,
        "overload": behaviour.overload,
        "kill": behaviour.kill,
        "rolling": behaviour.rolling,
        "burst": behaviour.burst,
        "footprint": behaviour.footprint,
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
