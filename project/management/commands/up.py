"""`manage.py up`: all of Pictor on this machine, until Ctrl-C."""

import asyncio
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from project.client import PictureFailed
from project.console import Console
from project.devices import detect_devices, names
from project.first_run import ADMIN, Credentials
from project.instance import LOCK, claim
from project.management.plain_command import PlainCommand
from project.service import FIRST_PROMPT, Service, has_ever_drawn, local_client, shown
from project.supervisor import NAME, Supervisor


class Command(PlainCommand):
    help = "Starts everything on this machine, makes a first picture, and stops everything at Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to run it."""
        parser.add_argument("--devices", default=settings.DEVICES, help="auto, cpu:2, or GPU numbers as in 0,1")
        parser.add_argument("--port", type=int, default=settings.PORT, help="the port of the web service")
        parser.add_argument("--no-picture", action="store_true", help="make no first picture")

    def handle(self, *args: Any, devices: str, port: int, no_picture: bool, **options: Any) -> None:
        """Run until a signal says stop."""
        started_at = time.monotonic()
        console = Console(sys.stdout)
        service = Service(devices=detect_devices(devices), port=port)

        async def serve(supervisor: Supervisor) -> None:
            await service.start(supervisor)
            seconds = time.monotonic() - started_at
            picture = await draw_first(service, console=console) if wants_picture else None
            console.say(guide(service, credentials=credentials, picture=picture, seconds=seconds))
            await asyncio.Event().wait()

        with claim(LOCK, url=service.url):
            service.check()
            console.line(NAME, f"starting with {names(service.devices)}; all is kept in {shown(settings.DATA_DIR)}/")
            credentials = service.prepare()
            wants_picture = not (no_picture or has_ever_drawn())
            exit_code = asyncio.run(Supervisor(console).run(serve))
        console.line(NAME, "stopped")
        sys.exit(exit_code)


async def draw_first(service: Service, *, console: Console) -> Path | None:
    """The first picture; a service that cannot draw one stays up, so that one can find out why."""
    folder = settings.DATA_DIR / "pictures"
    try:
        return await local_client(service.url).make_picture(FIRST_PROMPT, folder=folder, console=console)
    except PictureFailed as error:
        console.problem(NAME, f"there is no first picture: {error}")
        return None


def guide(service: Service, *, credentials: Credentials, picture: Path | None, seconds: float) -> str:
    """Where to look and what to type."""
    folder = shown(settings.CREDENTIALS_DIR)
    key_file = shlex.quote(shown(settings.CREDENTIALS_DIR / "api_key"))
    lines = ["", f"Pictor was ready after {seconds:.1f} s.", ""]
    if picture:
        lines.append(f"  First picture  {shown(picture)}")
    lines += [
        f"  API            {service.url}/api/generations/",
        f"  Admin          {service.url}/admin/",
        f"  Flower         http://127.0.0.1:{settings.FLOWER_PORT}/",
        f"  Credentials    {folder}/ (admin_password, api_key, flower_password; the user is {ADMIN})",
    ]
    if credentials.password:
        lines.append(f"  Password       {credentials.password}")
    if credentials.api_key:
        lines.append(f"  API key        {credentials.api_key}")
    lines += [
        "",
        "Ask for a picture:",
        "",
        f"  curl {service.url}/api/generations/ \\",
        f'    -H "Authorization: Bearer $(cat {key_file})" \\',
        """    -H "Content-Type: application/json" -d '{"prompt": "a blue whale"}'""",
        "",
        'or, from another terminal: make picture PROMPT="a blue whale". Ctrl-C stops everything.',
        "",
    ]
    return "\n".join(lines)
