"""Asks a model server, or a balancer in front of several, for one picture, and waits for it: all that a client needs.

    python deploy/balancer/client.py http://127.0.0.1:8080 "a red apple" --output apple.png

Nothing is kept anywhere: if the connection breaks, the picture is lost; whether to ask again is the caller's affair.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "weights" / "fluent-emoji-256"
PATIENCE_SECONDS = 600.0


class Refused(Exception):
    """An answer that is no picture; `status` is that of HTTP."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def wishes(prompt: str, *, folder: Path = SHIPPED, **changes: Any) -> dict[str, Any]:
    """What to draw, as docs/protocol.md has it; `folder` is where the servers find the model."""
    usual = {
        "model": {
            "slug": folder.name,
            "source": str(folder),
            "revision": None,
            "dtype": "auto",
            "may_save_memory": True,
        },
        "prompt": prompt,
        "negative_prompt": "",
        "width": 256,
        "height": 256,
        "num_inference_steps": 20,
        "guidance_scale": 4.5,
        "seed": 0,
        "num_images": 1,
        "scheduler": "",
        "is_reproducible": False,
        "strength": None,
    }
    return usual | changes


@dataclass(frozen=True)
class Drawn:
    """Bytes of the shape (n, height, width, 3), and the time in the pipeline."""

    pixels: bytes
    shape: tuple[int, ...]
    pipeline_seconds: float


def draw(connection: HTTPConnection, asked: dict[str, Any]) -> Drawn:
    """Ask and wait. Raises Refused, OSError and HTTPException."""
    connection.request("POST", "/v1/generations", json.dumps(asked), {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise Refused(response.status, content.decode(errors="replace")[:500])
    shape = tuple(int(length) for length in response.headers["Pictor-Shape"].split(","))
    return Drawn(content, shape, pipeline_seconds=float(response.headers["Pictor-Pipeline-Seconds"]))


def main() -> None:
    """One picture into a file."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("url")
    arguments.add_argument("prompt")
    arguments.add_argument("--folder", type=Path, default=SHIPPED, help="of the model, as the servers see it")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--output", type=Path, default=Path("picture.png"))
    options = arguments.parse_args()
    place = urlsplit(options.url)
    connection = HTTPConnection(place.hostname or "", place.port or 80, timeout=PATIENCE_SECONDS)
    try:
        drawn = draw(connection, wishes(options.prompt, folder=options.folder, seed=options.seed))
    except (Refused, OSError, HTTPException) as error:
        sys.exit(f"There is no picture: {error}")
    Image.frombytes("RGB", (drawn.shape[2], drawn.shape[1]), drawn.pixels).save(options.output)
    print(options.output)


if __name__ == "__main__":
    main()
