"""The study: runs the experiments and writes docs/study.md from what they found.

    .venv/bin/python -m benchmarks.study                       # all, about 25 minutes
    .venv/bin/python -m benchmarks.study --quick               # small figures; docs/study.md is left alone
    .venv/bin/python -m benchmarks.study --only kill rolling   # these anew, the others as the last run found them
    .venv/bin/python -m benchmarks.study --write               # the page alone, from the figures

The figures go to docs/study.json. nginx is needed, and RabbitMQ is measured where STUDY_RABBITMQ_URL names one. On a
machine with a GPU, which may be another one, throughput with a model of full size is added to that file:

    python benchmarks/architectures.py sd15 /tmp/sd15
    python -m benchmarks.study --gpu /tmp/sd15                 # about three minutes; then --write, where the file is
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from benchmarks.study import machine
from benchmarks.study.context import Context
from benchmarks.study.processes import ROOT
from deploy.balancer.balancer import MISSING, find_nginx

EXPERIMENTS = ("latency", "saturation", "real", "overload", "kill", "rolling", "burst", "footprint")
# Only what runs is imported: a machine with a GPU needs neither the service's packages nor those that draw charts.
PLACES = {name: f"benchmarks.study.{name}:measure" for name in EXPERIMENTS} | {
    "gpu": "benchmarks.study.real:measure_on_gpu"
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
    if not options.gpu and not options.write and find_nginx() is None:
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
        if options.gpu:
            print(json.dumps({"gpu": found["gpu"]}))
            return
        from benchmarks.study import report

        report.write(found, page)
        if options.quick:
            print(page.read_text())
    print(json.dumps(report.summary(found)))


def run(names: list[str], found: dict[str, Any], *, context: Context, figures: Path) -> None:
    """Each experiment; what is found is kept at once, so that a failure of a later one loses nothing."""
    if "gpu" not in names:
        found |= {"machine": machine.describe(), "is_quick": context.is_quick, "has_rabbitmq": bool(context.rabbitmq)}
    for name in names:
        print(f"{name} begins", file=sys.stderr, flush=True)
        started = time.monotonic()
        found[name] = resolve_name(PLACES[name])(context)
        figures.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
