"""The study: runs the experiments and writes docs/study.md from what they found.

    .venv/bin/python -m benchmarks.study                       # all, about a quarter of an hour
    .venv/bin/python -m benchmarks.study --quick               # small figures; docs/study.md is left alone
    .venv/bin/python -m benchmarks.study --only kill rolling   # these anew, the others as the last run found them
    python -m benchmarks.study --gpu /tmp/sd15                 # throughput on a GPU, added to what the last run found

The figures go to docs/study.json. nginx is needed, and RabbitMQ is measured where STUDY_RABBITMQ_URL names one.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.study import burst, footprint, kill, latency, machine, overload, real, report, rolling, saturation
from benchmarks.study.context import Context
from benchmarks.study.processes import ROOT
from deploy.balancer.balancer import MISSING, find_nginx

EXPERIMENTS: dict[str, Callable[[Context], dict[str, Any]]] = {
    "latency": latency.measure,
    "saturation": saturation.measure,
    "real": real.measure,
    "overload": overload.measure,
    "kill": kill.measure,
    "rolling": rolling.measure,
    "burst": burst.measure,
    "footprint": footprint.measure,
}
FIGURES = ROOT / "docs" / "study.json"
PAGE = ROOT / "docs" / "study.md"


def main() -> None:
    """Run, write, and end with one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="small figures, into a temporary folder")
    arguments.add_argument("--only", nargs="+", choices=EXPERIMENTS, metavar="NAME", help=", ".join(EXPERIMENTS))
    arguments.add_argument("--write", action="store_true", help="only write the page anew from the figures")
    arguments.add_argument("--gpu", type=Path, metavar="FOLDER", help="measure only this, with this model on a GPU")
    options = arguments.parse_args()
    if not options.gpu and find_nginx() is None:
        sys.exit(MISSING)
    with tempfile.TemporaryDirectory(prefix="pictor-study-") as place:
        folder = Path(place)
        figures, page = (folder / "study.json", folder / "study.md") if options.quick else (FIGURES, PAGE)
        found = json.loads(figures.read_text()) if figures.exists() else {}
        if not options.write:
            parts = Context(
                folder / "parts",
                is_quick=options.quick,
                rabbitmq=os.environ.get("STUDY_RABBITMQ_URL", ""),
                gpu_model=options.gpu,
            )
            run(["gpu"] if options.gpu else options.only or list(EXPERIMENTS), found, context=parts, figures=figures)
        report.write(found, page)
        if options.quick:
            print(page.read_text())
    print(json.dumps(summary(found)))


def run(names: list[str], found: dict[str, Any], *, context: Context, figures: Path) -> None:
    """Each experiment; what is found is kept at once, so that a failure of a later one loses nothing."""
    about = {"machine": machine.describe(), "is_quick": context.is_quick, "has_rabbitmq": bool(context.rabbitmq)}
    found |= about if "gpu" not in names or "machine" not in found else {}
    for name in names:
        started = time.monotonic()
        found[name] = (EXPERIMENTS | {"gpu": real.measure_on_gpu})[name](context)
        figures.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """What each link adds, and how many statements hold."""
    judged = list(report.verdicts(found))
    added = report.added_at(found, report.LARGE) if "latency" in found else {}
    return {"added_ms": added, "confirmed": sum(one.holds for one in judged), "statements": len(judged)}


if __name__ == "__main__":
    main()
