"""A small client of our own API: one prompt in, one picture file out, with a progress bar meanwhile."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import httpx
from django.utils.text import slugify

from generation.lifecycle import FINISHED, Status
from project.address import host_headers
from project.console import Console

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 15  # a web process that is started again is back by then
BAR_WIDTH = 20
LONGEST_NAME = 60


class PictureFailed(Exception):
    """There is no picture, and this is why."""


@dataclass(frozen=True)
class Client:
    """Talks to the service at `url` with an API key."""

    url: str
    api_key: str

    async def make_picture(self, prompt: str, *, folder: Path, console: Console) -> Path:
        """Have `prompt` drawn and store the picture in `folder`; cancelled itself, it cancels the generation.

        Raises `PictureFailed`.
        """
        headers = host_headers() | {"Authorization": f"Bearer {self.api_key}"}
        client = httpx.AsyncClient(
            base_url=self.url, headers=headers, follow_redirects=True, timeout=30, trust_env=False
        )
        async with client as http:
            generation = await ask(http, "POST", "/api/generations/", json={"prompt": prompt})
            try:
                generation = await follow(http, generation, bar=ProgressBar(prompt, console))
            except asyncio.CancelledError:
                with suppress(PictureFailed):
                    await ask(http, "POST", path_of(generation["links"]["cancel"]))
                raise
            if generation["status"] != Status.SUCCEEDED:
                raise PictureFailed(reason(generation))
            return await download(http, generation, folder=folder)


async def follow(http: httpx.AsyncClient, generation: dict[str, Any], *, bar: "ProgressBar") -> dict[str, Any]:
    """Ask for the generation until it has finished; a service that is away for a moment is waited for."""
    heard_at = time.monotonic()
    try:
        while generation["status"] not in FINISHED:
            bar.show(generation)
            await asyncio.sleep(POLL_SECONDS)
            try:
                generation = await ask(http, "GET", path_of(generation["links"]["self"]))
                heard_at = time.monotonic()
            except PictureFailed:
                if time.monotonic() - heard_at > PATIENCE_SECONDS:
                    raise
        return generation
    finally:
        bar.finish()


async def download(http: httpx.AsyncClient, generation: dict[str, Any], *, folder: Path) -> Path:
    """Store the first image under a name that tells what it shows."""
    name = slugify(generation["prompt"])[:LONGEST_NAME].strip("-") or "picture"
    path = folder / f"{name}-{generation['seed']}.{generation['format']}"
    response = await send(http, "GET", path_of(generation["images"][0]["url"]))
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(response.content)
    return path


async def ask(http: httpx.AsyncClient, method: str, path: str, **options: Any) -> dict[str, Any]:
    """Send a request and return the JSON object of its answer."""
    answer: dict[str, Any] = (await send(http, method, path, **options)).json()
    return answer


async def send(http: httpx.AsyncClient, method: str, path: str, **options: Any) -> httpx.Response:
    """Send a request; a refusal or a broken connection becomes a sentence."""
    try:
        response = await http.request(method, path, **options)
    except httpx.HTTPError as error:
        raise PictureFailed(
            f"The service at {http.base_url} does not answer ({error or type(error).__name__})."
        ) from error
    if response.is_success:
        return response
    try:
        raise PictureFailed(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        raise PictureFailed(f"The service answered {response.status_code} {response.reason_phrase}.") from None


def path_of(link: str) -> str:
    """The path of a link, whose host may be the one by which the outside knows the service."""
    return httpx.URL(link).raw_path.decode()


def reason(generation: dict[str, Any]) -> str:
    """Why a finished generation has no picture."""
    if generation["status"] == Status.CANCELLED:
        return "The generation was cancelled."
    error = generation["error"] or {"detail": "no reason was given", "code": "unknown"}
    return f"The generation failed: {error['detail']} ({error['code']})"


class ProgressBar:
    """`a red apple  [#####.....] 12/20 steps  2.1 s`: redrawn on a terminal, else a few lines."""

    def __init__(self, prompt: str, console: Console) -> None:
        self.prompt = shorten(prompt, width=40, placeholder=" ...")
        self.console = console
        self.started_at = time.monotonic()
        self._last_shown = ""

    def show(self, generation: dict[str, Any]) -> None:
        """Draw the state of `generation`."""
        progress = generation["progress"]
        seconds = f"{time.monotonic() - self.started_at:.1f} s"
        if generation["status"] == Status.QUEUED:
            position = generation["position"]
            text, stage = f"{self.prompt}  waiting, number {position} in the queue", f"queued {position}"
        else:
            filled = int(BAR_WIDTH * progress["fraction"])
            bar = "#" * filled + "." * (BAR_WIDTH - filled)
            text = f"{self.prompt}  [{bar}] {progress['step']}/{progress['total']} steps"
            stage = f"quarter {int(4 * progress['fraction'])}"
        if self.console.is_terminal:
            self.console.show_status(f"{text}  {seconds}")
        elif stage != self._last_shown:
            self.console.say(f"{text}  {seconds}")
        self._last_shown = stage

    def finish(self) -> None:
        """Remove the bar."""
        self.console.show_status("")
