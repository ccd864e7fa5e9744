"""How long a forward of the denoiser takes, by the number of its rows and the size of the picture.

    .venv/bin/python benchmarks/forwards.py            # the shipped model on the CPU
    .venv/bin/python benchmarks/forwards.py --quick
    python benchmarks/forwards.py --model sd15 --device 0 --sizes 256,512,768,1024 --guidance-scale 7.5

Milliseconds a row, each the best of a few forwards as the engine runs them, on a GPU from a CUDA graph, not compiled.
An asterisk marks how many rows the engine has share a forward: at the model's own size it measures that when it loads
the model, for others it is an estimate.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from work import Work, add_work_arguments, image_request, work_of

from generation.engines.engine import Engine  # found through `work`
from generation.engines.knees import DOUBLINGS
from generation.engines.rows import Call


def row_of(engine: Engine, work: Work) -> Call:
    """A row of a denoiser's call for a picture like this."""
    seen: list[Call] = []
    forward = engine._denoiser._forward

    class Seeing:
        """The engine's own forward."""

        def __call__(self, call: Call) -> Any:
            if call.can_share:
                seen.append(call)
            return forward(call)

        def __getattr__(self, name: str) -> Any:
            return getattr(forward, name)

    engine._denoiser._forward = Seeing()
    engine.generate(replace(image_request(work, 0), num_inference_steps=2), on_step=lambda progress: None)
    engine._denoiser._forward = forward
    return seen[0].part(0, 1)


def milliseconds(engine: Engine, row: Call, *, counts: list[int]) -> dict[int, float]:
    """How long a row takes in forwards of so many, as far as the memory holds them."""
    found = {}
    for count in counts:
        try:
            seconds = engine._denoiser.run_alone(lambda count=count: engine._forwards.seconds_of(row.padded(count)))
        except MemoryError:
            break
        found[count] = 1000 * seconds / count
    return found


def main() -> None:
    """Run, print the table, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small pictures and few rows")
    add_work_arguments(parser)
    parser.add_argument("--sizes", default="128,256,384", help="instead of --size")
    parser.add_argument("--rows", default=",".join(map(str, DOUBLINGS)))
    options = parser.parse_args()
    if options.quick:
        options.sizes, options.rows = "64,128", "1,2,4"
    sizes = [int(size) for size in options.sizes.split(",")]
    counts = [int(count) for count in options.rows.split(",")]

    with tempfile.TemporaryDirectory(prefix="pictor-forwards-") as name:
        work = work_of(options, folder=Path(name))
        engine = Engine(work.torch_device)
        measured, knees = {}, {}
        for size in sizes:
            row = row_of(engine, replace(work, size=size))
            measured[size] = milliseconds(engine, row, counts=counts)
            knees[size] = engine._forwards.most_rows(row)
        engine.close()

    print(f"{work.model} on {work.torch_device}; milliseconds a row")
    print(f"  {'rows':<12}" + "".join(f"{count:>9}" for count in counts))
    for size in sizes:
        bucket = next((count for count in counts if count >= knees[size]), None)
        cells = (f"{ms:8.2f}{'*' if count == bucket else ' '}" for count, ms in measured[size].items())
        print(f"  {f'{size}x{size}':<12}" + "".join(cells))
    rounded = {size: {count: round(ms, 2) for count, ms in by_count.items()} for size, by_count in measured.items()}
    print(json.dumps({"model": work.model, "ms_a_row": rounded, "share": knees}))


if __name__ == "__main__":
    main()
