"""A model of each family beside raw diffusers: the same pictures, alone and in company, and how fast.

    .venv/bin/python benchmarks/families.py            # the shipped model on the CPU
    .venv/bin/python benchmarks/families.py --quick
    python benchmarks/families.py --model sd3 --device 0 --size 1024 --steps 8 --guidance-scale 4.5

Draws pictures from text with the pipeline as diffusers loads it, and those, one drawn anew from a picture, one painted
into it and a reproducible one with the engine, one after another and all at once. Tells how far pictures are apart, as
the mean of |difference| over all values from 0 to 255, beside what another prompt and another seed make of them. The
reproducible one has to be equal.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from work import Work, add_work_arguments, image_request, work_of

from generation.engines.engine import Engine  # found through `work`
from generation.engines.errors import UnsupportedParameter
from generation.engines.types import ImageRequest


def requests(work: Work, *, count: int) -> dict[str, ImageRequest]:
    """What is drawn, by its name."""
    ramp = np.linspace(0, 255, work.size * work.size, dtype=np.uint8).reshape(work.size, work.size)
    mask = np.zeros_like(ramp)
    mask[work.size // 4 : work.size // 2, work.size // 4 :] = 255
    image = np.stack([ramp, ramp.T, 255 - ramp], axis=-1)
    from_text = {f"text {number}": image_request(work, number) for number in range(count)}
    return from_text | {
        "image": replace(image_request(work, count), image=image, strength=0.6),
        "mask": replace(image_request(work, count + 1), image=image, mask=mask, strength=0.9),
        "other prompt": replace(from_text["text 0"], prompt=from_text["text 1"].prompt),
        "reproducible": replace(image_request(work, count + 2), is_reproducible=True),
    }


def drawn_raw(work: Work, wanted: dict[str, ImageRequest]) -> tuple[dict[str, np.ndarray], float]:
    """Those from text, by diffusers itself, and the seconds of the fastest."""
    from diffusers import DiffusionPipeline

    dtype = torch.float32 if work.torch_device == "cpu" else torch.bfloat16
    pipe = DiffusionPipeline.from_pretrained(work.source, dtype=dtype).to(work.torch_device)
    pipe.set_progress_bar_config(disable=True)
    pictures, seconds = {}, []
    for name, request in wanted.items():
        if request.image is None:
            started = time.perf_counter()
            picture = pipe(
                request.prompt,
                width=request.width,
                height=request.height,
                num_inference_steps=request.num_inference_steps,
                guidance_scale=request.guidance_scale,
                generator=torch.Generator().manual_seed(request.seed),
                output_type="np",
            ).images[0]
            seconds.append(time.perf_counter() - started)
            pictures[name] = (picture * 255).round().astype(np.uint8)
    return pictures, min(seconds)


def drawn(engine: Engine, wanted: dict[str, ImageRequest], *, at_once: int) -> tuple[dict[str, np.ndarray], float]:
    """All of them by the engine, and the seconds; those that the model has no pipeline for are left out."""

    def draw(request: ImageRequest) -> np.ndarray | None:
        try:
            return engine.generate(request, on_step=lambda progress: None).pixels[0]
        except UnsupportedParameter as refusal:
            print(refusal, file=sys.stderr)
            return None

    with ThreadPoolExecutor(at_once) as pool:
        started = time.perf_counter()
        pictures = dict(zip(wanted, pool.map(draw, wanted.values()), strict=True))
        seconds = time.perf_counter() - started
    return {name: picture for name, picture in pictures.items() if picture is not None}, seconds


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The mean of |difference|."""
    return float(np.abs(one.astype(int) - other).mean())


def freed(work: Callable[[], Any]) -> Any:
    """What `work` returns, after the memory that it had on the GPU was given back."""
    result = work()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return result


def main() -> None:
    """Run, print the table, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps and pictures")
    add_work_arguments(parser)
    parser.add_argument("--count", type=int, default=5, help="pictures from text")
    options = parser.parse_args()
    if options.quick:
        options.count, options.steps, options.size = 2, 6, 128

    with tempfile.TemporaryDirectory(prefix="pictor-families-") as name:
        work = work_of(options, folder=Path(name))
        wanted = requests(work, count=options.count)
        raw, raw_seconds = freed(lambda: drawn_raw(work, wanted))
        engine = Engine(work.torch_device)
        engine.load(image_request(work, 0).model)
        facts = engine.facts()[0]
        drawn(engine, {"text 0": wanted["text 0"]}, at_once=1)  # to warm up
        alone, _ = drawn(engine, wanted, at_once=1)
        together, _ = drawn(engine, wanted, at_once=len(wanted))
        from_text = {name: request for name, request in wanted.items() if name.startswith("text")}
        _, seconds = drawn(engine, from_text, at_once=len(from_text))
        engine.close()

    batched = "shares forwards" if facts.is_batched else f"runs unbatched: {facts.reason}"
    print(f"{work.model} {work.size}x{work.size}, {work.steps} steps on {work.torch_device}: {batched}")
    print(f"  {'mean |difference| of 255':<26} raw, engine   alone, in company")
    for title in alone:
        beside_raw = f"{apart(raw[title], alone[title]):11.3f}" if title in raw else " " * 11
        print(f"  {title:<26} {beside_raw}   {apart(alone[title], together[title]):17.3f}")
    prompt = apart(alone["text 0"], alone["other prompt"])
    seed = apart(alone["text 1"], alone["other prompt"])
    print(f"  another prompt {prompt:.3f}, another seed {seed:.3f}")
    per_picture = seconds / len(from_text)
    print(f"  seconds a picture: raw {raw_seconds:.3f}, engine with {len(from_text)} at once {per_picture:.3f}")
    is_equal = "reproducible" in alone and np.array_equal(alone["reproducible"], together["reproducible"])
    print(f"  the reproducible one, alone and in company: {'the same bytes' if is_equal else 'DIFFERENT, or refused'}")
    figures = {
        "raw_s": raw_seconds,
        "engine_s": per_picture,
        "beside_raw": max(apart(raw[title], alone[title]) for title in raw),
        "another_prompt": prompt,
        "another_seed": seed,
        "in_company": max(apart(alone[title], together[title]) for title in alone),
    }
    rounded = {name: round(value, 4) for name, value in figures.items()}
    print(json.dumps({"model": work.model, "is_batched": facts.is_batched, "reproduced": is_equal} | rounded))


if __name__ == "__main__":
    main()
