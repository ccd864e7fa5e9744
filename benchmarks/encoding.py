"""Time and size of encoding a picture: Pictor's PNG, WebP, JPEG and thumbnails beside Pillow's usual settings.

    .venv/bin/python benchmarks/encoding.py            # 256, 512 and 1024 pixels, best of 7
    .venv/bin/python benchmarks/encoding.py --quick    # under a minute: best of 3

The pictures: three by the shipped model (enlarged beyond 256 pixels), and clouds of noise whose spectrum falls with the
frequency as a photograph's does. Times are the mean over the pictures of each one's best, sizes are the mean. `pause`
is how long at most another thread of Python stood still meanwhile, as the engine's would (median over the pictures).
"""

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from generation.engines.encoding import encode, encode_all, thumbnail  # noqa: E402  found through the line above
from tests.engines.models import ignore, make_request, shipped_engine  # noqa: E402

PROMPTS = ("red apple", "cat with a crown", "house in a forest")
SIDES = (256, 512, 1024)
METADATA = {"prompt": "кот в короне 👑", "seed": "7"}
TOGETHER = 4

Write = Callable[[np.ndarray], bytes]


def by_pictor(image_format: str) -> Write:
    """What the service writes."""
    return lambda pixels: encode(pixels, image_format=image_format, metadata=METADATA).data


def by_pillow(pillow_name: str, **options: object) -> Write:
    """Pillow with settings of its own."""

    def write(pixels: np.ndarray) -> bytes:
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, pillow_name, **options)
        return buffer.getvalue()

    return write


METHODS: dict[tuple[str, str], Write] = {
    ("png", "Pictor"): by_pictor("png"),
    ("png", "Pillow, level 1"): by_pillow("PNG", compress_level=1),
    ("png", "Pillow, level 6"): by_pillow("PNG"),
    ("webp", "Pictor"): by_pictor("webp"),
    ("webp", "Pillow, quality 90, method 4"): by_pillow("WEBP", quality=90),
    ("jpeg", "Pictor"): by_pictor("jpeg"),
    ("jpeg", "Pillow, quality 95, 4:4:4"): by_pillow("JPEG", quality=95, subsampling="4:4:4"),
    ("thumbnail", "Pictor"): lambda pixels: thumbnail(pixels).data,
}


def clouds(side: int) -> np.ndarray:
    """Noise with an amplitude of 1/f^1.1, correlated between the channels."""
    generator = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf
    grey, *colours = (
        np.fft.irfft2(np.fft.rfft2(generator.normal(size=(side, side))) / frequency**1.1) for _ in range(4)
    )
    picture = np.stack([grey + 0.4 * colour for colour in colours], axis=-1)
    return np.clip(128 + 50 * picture / picture.std(), 0, 255).astype(np.uint8)


def draw(prompts: tuple[str, ...]) -> list[np.ndarray]:
    """Pictures of 256 pixels by the shipped model."""
    requests = [make_request(prompt=prompt, width=256, height=256, num_inference_steps=8) for prompt in prompts]
    return [shipped_engine().generate(request, on_step=ignore).pixels[0] for request in requests]


def enlarge(pixels: np.ndarray, side: int) -> np.ndarray:
    """The same picture with `side` pixels on each side."""
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))


def shortest_milliseconds(call: Callable[[], object], rounds: int) -> float:
    """The best of some calls: what others on the machine take from a call is not its own."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


def pause_milliseconds(call: Callable[[], object]) -> float:
    """For how long at most this thread stands still while another one makes the call."""
    other = threading.Thread(target=call)
    longest, seen = 0.0, time.perf_counter()
    other.start()
    while other.is_alive():
        now = time.perf_counter()
        longest, seen = max(longest, now - seen), now
    return 1000 * longest


def measure(write: Write, pictures: list[np.ndarray], rounds: int) -> dict[str, float]:
    """Milliseconds, kilobytes and the pause of one method."""
    calls = [partial(write, pixels) for pixels in pictures]
    return {
        "milliseconds": round(statistics.mean(shortest_milliseconds(call, rounds) for call in calls), 2),
        "kilobytes": round(statistics.mean(len(call()) for call in calls) / 1000, 1),
        "pause": round(statistics.median(pause_milliseconds(call) for call in calls), 2),
    }


def measure_together(pixels: np.ndarray, rounds: int) -> dict[str, Any]:
    """The pictures and thumbnails of one generation, one after another and in the pool."""

    def one_after_another() -> None:
        for _ in range(TOGETHER):
            encode(pixels, image_format="png", metadata=METADATA)
            thumbnail(pixels)

    def in_the_pool() -> None:
        encode_all([pixels] * TOGETHER, image_format="png", metadata=[METADATA] * TOGETHER)

    return {
        "side": pixels.shape[0],
        "one_after_another": round(shortest_milliseconds(one_after_another, rounds), 1),
        "in_the_pool": round(shortest_milliseconds(in_the_pool, rounds), 1),
    }


def main() -> None:
    """Run, print, and end with one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="best of 3")
    rounds = 3 if arguments.parse_args().quick else 7
    drawn = draw(PROMPTS)

    rows, together = [], []
    print(f"{'format':10} {'side':>5} {'method':30} {'ms':>8} {'kB':>8} {'pause':>8}")
    for side in SIDES:
        pictures = [*(enlarge(pixels, side) for pixels in drawn), clouds(side)]
        for (name, method), write in METHODS.items():
            row = {"format": name, "side": side, "method": method} | measure(write, pictures, rounds)
            rows.append(row)
            print("{format:10} {side:5} {method:30} {milliseconds:8.1f} {kilobytes:8.1f} {pause:8.1f}".format(**row))
        together.append(measure_together(pictures[-1], rounds))
    for row in together:
        print(f"{TOGETHER} PNG files with thumbnails, {row['side']} pixels: ", end="")
        print(f"{row['one_after_another']:.1f} ms one after another, {row['in_the_pool']:.1f} ms in the pool")
    print(json.dumps({"benchmark": "encoding", "rows": rows, "together": together}))


if __name__ == "__main__":
    main()
