"""What the benchmarks that draw have in common: the model, what is asked for, and a client that asks by HTTP."""

import subprocess
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from generation.engines.types import ImageRequest, ModelSource  # noqa: E402  found through the line above
from tests.service.running import Running  # noqa: E402

SHIPPED = "fluent-emoji-256"
ANSWER_SECONDS = 90  # longer than a request is held


@dataclass(frozen=True)
class Work:
    """What every client asks for, again and again."""

    model: str
    source: str
    size: int
    steps: int
    guidance_scale: float
    device: str

    @property
    def torch_device(self) -> str:
        """The name that torch knows the device by."""
        return "cpu" if self.device.startswith("cpu") else f"cuda:{self.device}"

    @property
    def service_devices(self) -> str:
        """What `manage.py up --devices` takes for it."""
        return "cpu:1" if self.torch_device == "cpu" else self.device

    def wishes(self, number: int) -> dict[str, Any]:
        """The body of a request for one picture."""
        return {
            "model": self.model,
            "prompt": prompt_of(number),
            "seed": number,
            "width": self.size,
            "height": self.size,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
        }


def image_request(work: Work, number: int) -> ImageRequest:
    """The same as the engine takes it."""
    return ImageRequest(
        model=ModelSource(slug=work.model, source=work.source),
        prompt=prompt_of(number),
        negative_prompt="",
        width=work.size,
        height=work.size,
        num_inference_steps=work.steps,
        guidance_scale=work.guidance_scale,
        seed=number,
        num_images=1,
        scheduler="",
    )


def prompt_of(number: int) -> str:
    """Another one for each picture: what was encoded for one helps no other."""
    return f"a red apple, picture {number}"


def add_work_arguments(parser: ArgumentParser) -> None:
    """Say on the command line which model draws what, and where."""
    parser.add_argument("--model", default=SHIPPED, help="the shipped one, or a name that architectures.py knows")
    parser.add_argument("--folder", type=Path, help="where that model lies already")
    parser.add_argument("--device", default="cpu", help="cpu, or the number of a GPU")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance-scale", type=float, default=4.5)


def work_of(options: Namespace, *, folder: Path) -> Work:
    """The work of a command line; a model that lies nowhere yet is made in the folder."""
    source = options.folder or (ROOT / "weights" / SHIPPED if options.model == SHIPPED else folder / options.model)
    if not source.exists():
        subprocess.run([sys.executable, ROOT / "benchmarks/architectures.py", options.model, source], check=True)
    return Work(options.model, str(source), options.size, options.steps, options.guidance_scale, options.device)


def register(service: Running, work: Work) -> None:
    """Enter the model into the service's registry, unless it ships with it."""
    if work.model != SHIPPED:
        sizes = ", ".join(f"{name}={work.size}" for name in ("default_width", "default_height"))
        service.ask(
            f"str(DiffusionModel.objects.create(slug={work.model!r}, name={work.model!r}, source={work.source!r}, "
            f"{sizes}, max_width=2048, max_height=2048))"
        )


def draw_by_http(service: Running, work: Work, number: int) -> None:
    """Have a picture drawn by HTTP as a client does that waits for the answer, and fetch it."""
    waiting = {"headers": {"Prefer": "wait"}, "timeout": ANSWER_SECONDS}
    seen = service.client.post("/api/generations/", json=work.wishes(number), **waiting).raise_for_status().json()
    while seen["finished_at"] is None:  # it was answered because the time was over
        seen = service.client.get(seen["links"]["self"], **waiting).raise_for_status().json()
    if seen["error"]:
        raise RuntimeError(seen["error"]["detail"])
    service.image(seen)


class Clients:
    """Clients that draw one picture after another, and when each picture was there."""

    def __init__(self, draw: Callable[[int], object], *, count: int) -> None:
        self._draw = draw
        self._count = count
        self._times: list[float] = []
        self._has_news = threading.Condition()
        self._is_over = False

    def seconds_per_picture(self, *, rounds: int, warm_up_seconds: float) -> tuple[float, float, float]:
        """Seconds per picture, and when that began and ended on `time.monotonic`'s clock.

        It counts from one picture to the one that comes `rounds` times the number of clients later, while all go on
        drawing: neither the beginning, when the first ones are drawn in step, nor the end, when some have nothing left
        to do, is in it.
        """
        warm_until = time.monotonic() + warm_up_seconds
        with ThreadPoolExecutor(self._count) as pool:
            drawing = [pool.submit(self._go_on, place) for place in range(self._count)]
            try:
                self._wait_for(self._count, among=drawing)
                while time.monotonic() < warm_until:
                    self._wait_for(len(self._times) + 1, among=drawing)
                first = len(self._times) - 1
                last = first + self._count * rounds
                self._wait_for(last + 1, among=drawing)
            finally:
                self._is_over = True
        begin, end = self._times[first], self._times[last]
        return (end - begin) / (last - first), begin, end

    def _go_on(self, number: int) -> None:
        while not self._is_over:
            self._draw(number)
            number += self._count
            with self._has_news:
                self._times.append(time.monotonic())
                self._has_news.notify()

    def _wait_for(self, count: int, *, among: list[Future[None]]) -> None:
        with self._has_news:
            while len(self._times) < count:
                self._has_news.wait(1.0)
                for client in among:
                    if client.done():
                        client.result()  # it ends by itself only with an error
