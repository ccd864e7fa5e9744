"""`manage.py workers`: one worker per device of this machine, kept alive until Ctrl-C."""

import asyncio
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from generation.models import Device
from project.console import Console
from project.devices import detect_devices, names
from project.management.plain_command import PlainCommand
from project.processes import device_specs
from project.service import check_broker
from project.supervisor import NAME, Supervisor


class Command(PlainCommand):
    help = "Runs the workers of this machine, one per device, on the broker and the database of the settings."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which devices to use."""
        parser.add_argument("--devices", default=settings.DEVICES, help="auto, cpu:2, or GPU numbers as in 0,1")

    def handle(self, *args: Any, devices: str, **options: Any) -> None:
        """Run until a signal says stop."""
        console = Console(sys.stdout)
        slots = detect_devices(devices)
        check_broker()
        Device.objects.exists()  # a database that cannot be used is told now, in one sentence

        async def work(supervisor: Supervisor) -> None:
            servers, workers = device_specs(slots)
            if servers:
                await supervisor.start(*servers)
            await supervisor.start(*workers)
            console.line(NAME, f"ready on {names(slots)}")
            await asyncio.Event().wait()

        exit_code = asyncio.run(Supervisor(console).run(work))
        console.line(NAME, "stopped")
        sys.exit(exit_code)
