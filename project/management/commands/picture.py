"""`manage.py picture "a blue whale"`: one picture, by the running service or one started for it."""

import asyncio
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from project.address import free_port
from project.child import StartFailed
from project.console import Console, LogFile
from project.devices import detect_devices
from project.instance import LOCK, claim, find_running
from project.management.plain_command import PlainCommand
from project.processes import watch_web
from project.service import Service, local_client, shown
from project.supervisor import Supervisor

PATIENCE_SECONDS = 180


class Command(PlainCommand):
    help = "Makes one picture and prints where it lies."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """What to draw."""
        parser.add_argument("prompt", help="what the picture should show")
        parser.add_argument("--devices", default=settings.DEVICES, help="for a service of its own: auto, cpu:2, or 0,1")

    def handle(self, *args: Any, prompt: str, devices: str, **options: Any) -> None:
        """Draw and print the path."""
        if not prompt.strip():
            raise CommandError('Say what to draw: make picture PROMPT="a blue whale"')
        console = Console(sys.stderr)
        running = find_running(LOCK)
        if running:
            path = asyncio.run(draw(prompt, url=running.url, console=console))
        else:
            path = draw_alone(prompt, devices=devices, console=console)
        self.stdout.write(shown(path))


async def draw(prompt: str, *, url: str, console: Console) -> Path:
    """Have the service at `url` draw, once it is ready."""
    is_ready = await watch_web(url)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await is_ready():
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise StartFailed(f"The Pictor at {url} is not ready. Look at what `make run` says.") from None
    folder = settings.DATA_DIR / "pictures"
    return await local_client(url).make_picture(prompt, folder=folder, console=console)


def draw_alone(prompt: str, *, devices: str, console: Console) -> Path:
    """Start a service for this picture and stop it again; what its processes say goes to a file."""
    service = Service(devices=detect_devices(devices), port=free_port(), has_flower=False)
    log = LogFile(settings.DATA_DIR / "log" / "picture.log", console=console)
    paths: list[Path] = []

    async def draw_once(supervisor: Supervisor) -> None:
        console.say(f"starting Pictor for one picture; its log is {shown(log.path)}")
        await service.start(supervisor)
        paths.append(await draw(prompt, url=service.url, console=console))

    with claim(LOCK, url=service.url):
        service.check()
        service.prepare()
        exit_code = asyncio.run(Supervisor(log).run(draw_once))
    if exit_code or not paths:
        sys.exit(130)
    return paths[0]
