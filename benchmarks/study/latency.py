"""Experiment 1: what each link adds to a pipeline call, by the size of the picture."""

from typing import Any

from benchmarks.study.context import SERVERS, Context
from benchmarks.study.ledger import spread
from benchmarks.study.links import LINKS, opened
from benchmarks.study.servers import Work, model_servers

SIZES = (256, 512, 1024, 2048)
WORK = Work(steps=2, step_seconds=0.005, at_once=4)
WARM_UP = 5


def measure(context: Context) -> dict[str, Any]:
    """Milliseconds, p50 and p99, one call after another."""
    rounds = round(context.scaled(150, 15))
    rows = []
    with model_servers(context.folder / "latency", count=SERVERS, work=WORK) as servers:
        for name in LINKS:
            with opened(name, context.folder / "latency", servers, at_once=WORK.at_once, work=WORK) as link:
                for size in SIZES:
                    added = [link.added_seconds(size, WORK.steps, seed) for seed in range(WARM_UP + rounds)]
                    rows.append({"link": name, "size": size, **spread(added[WARM_UP:], scale=1000)})
    return {"rounds": rounds, "sizes": list(SIZES), "rows": rows}
