"""Model servers beside workers: a device whose runtime wants one gets one, at an address that only the two know."""

import asyncio
import secrets
import socket
import sys
from dataclasses import dataclass, field
from functools import partial

from django.conf import settings

from generation.engines.errors import EngineError
from generation.runtimes.choice import RUNTIMES, Wishes, choose, open_runtime
from project.child import ChildSpec, ReadyCheck
from project.devices import DeviceSlot
from project.secrets import make_private

GRACE_SECONDS = 30
SHARE_OF_PATIENCE = 0.9  # so that of two who wait for the same step the server ends first, and its worker lives on


@dataclass(frozen=True)
class Sidecar:
    """The model server of one device: what it is started with, and what its worker has to know."""

    device: DeviceSlot
    runtime: str
    address: str
    token: str = field(repr=False)
    env: dict[str, str] = field(default_factory=dict)

    @property
    def worker_env(self) -> dict[str, str]:
        """For the worker, which finds the server with it."""
        return {
            "PICTOR_RUNTIME": self.runtime,
            "PICTOR_RUNTIME_ADDRESS": self.address,
            "PICTOR_RUNTIME_TOKEN": self.token,
        }

    def spec(self) -> ChildSpec:
        """The process; ready when it says what device it has."""
        is_gpu = self.device.kind == "gpu"
        place = ["--uds", self.address] if self.runtime == "uds" else ["--bind", self.address.removeprefix("http://")]
        options = {
            "--device": "cuda:0" if is_gpu else "cpu",
            "--slots": str(settings.GPU_SLOTS if is_gpu else settings.CPU_SLOTS),
            "--folder": str(settings.ENGINE_DIR),
            "--engine": settings.ENGINE,
            "--hang-seconds": str(SHARE_OF_PATIENCE * settings.HANG_SECONDS),
        }
        words = [word for pair in options.items() for word in pair] + (["--compile"] if settings.COMPILE else [])
        return ChildSpec(
            name=f"server {self.device.label}",
            argv=[sys.executable, "-m", "generation.runtimes.server", *place, *words],
            watch=partial(watch_server, self),
            env=self.env | {"PICTOR_RUNTIME_TOKEN": self.token},
            folder=settings.BASE_DIR,
            grace_seconds=GRACE_SECONDS + 10,
        )


def sidecar_for(device: DeviceSlot, *, env: dict[str, str]) -> Sidecar | None:
    """The model server that the device's worker needs, if it needs one of its own; `env` pins it to the device."""
    runtime = choose(settings.RUNTIME, label=device.label)
    if not RUNTIMES[runtime].has_sidecar or settings.RUNTIME_ADDRESS:
        return None
    address = free_address() if runtime == "http" else socket_path(device)
    return Sidecar(device, runtime, address, token=secrets.token_urlsafe(), env=env)


def free_address() -> str:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def socket_path(device: DeviceSlot) -> str:
    """Beside that of the embedded Redis, where paths are short enough, in a folder that is closed to other users."""
    folder = settings.EMBEDDED_REDIS_SOCKET.parent
    make_private(folder)
    return str(folder / f"{device.label}.sock")


async def watch_server(sidecar: Sidecar) -> ReadyCheck:
    """Asks the server for its device, the way its worker does."""
    wishes = Wishes(
        device="",
        folder=settings.ENGINE_DIR,
        compiles=False,
        engine="",
        address=sidecar.address,
        token=sidecar.token,
    )
    runtime = open_runtime(sidecar.runtime, wishes)

    def answers() -> bool:
        try:
            runtime.describe()
        except EngineError:
            return False
        finally:
            runtime.close()
        return True

    async def is_ready() -> bool:
        return await asyncio.to_thread(answers)

    return is_ready
