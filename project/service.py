"""All of Pictor on this machine: what must be so before it starts, and the order in which it starts."""

from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from kombu.exceptions import OperationalError

from celery_app import app
from generation.lifecycle import Status
from generation.models import Generation
from generation.registry import ensure_a_model
from project import embedded_redis
from project.address import check_port, local_url
from project.client import Client, PictureFailed
from project.devices import DeviceSlot
from project.first_run import Credentials, ensure_credentials
from project.processes import device_specs, flower_spec, housekeeper_spec, io_spec, web_spec
from project.supervisor import Supervisor

FIRST_PROMPT = "a red apple"


class BrokerUnavailable(Exception):
    """The broker that the settings name does not answer."""


@dataclass(frozen=True)
class Service:
    """Web, workers, the sender of webhooks, housekeeper and, unless it is to run for a moment only, Flower."""

    devices: list[DeviceSlot]
    port: int
    has_flower: bool = True

    @property
    def url(self) -> str:
        """Where this machine reaches it."""
        return local_url(self.port)

    def check(self) -> None:
        """Raise `PortUnavailable` or `BrokerUnavailable` for what only the operator can put right."""
        check_port(settings.HOST, self.port, advice=f"make run PORT={self.port + 1}")
        if self.has_flower:
            other = settings.FLOWER_PORT + 1
            check_port("127.0.0.1", settings.FLOWER_PORT, advice=f"make run PICTOR_FLOWER_PORT={other}")
        if not embedded_redis.is_broker():
            check_broker()

    def prepare(self) -> Credentials:
        """Bring the database up to date and create what the first start needs."""
        call_command("migrate", interactive=False, verbosity=0)
        ensure_a_model()
        return ensure_credentials()

    async def start(self, supervisor: Supervisor) -> None:
        """Start everything and wait until it is ready; raises `StartFailed`."""
        if embedded_redis.is_wanted():
            await supervisor.start(embedded_redis.redis_spec())
        flower = [flower_spec()] if self.has_flower else []
        servers, workers = device_specs(self.devices)
        if servers:
            await supervisor.start(*servers)
        workers.append(io_spec())
        await supervisor.start(web_spec(port=self.port), *workers, housekeeper_spec(), *flower)


def check_broker() -> None:
    """Raise `BrokerUnavailable` unless the broker answers within seconds."""
    with app.connection_for_write() as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=2)
        except (OperationalError, OSError) as error:
            advice = "Start it, or correct BROKER_URL or REDIS_URL; with neither set, `make run` brings its own."
            if embedded_redis.is_broker():
                advice = "It runs only with `make run`; elsewhere, set BROKER_URL or REDIS_URL to one that all share."
            raise BrokerUnavailable(
                f"The broker at {connection.as_uri()} does not answer ({error}). {advice}"
            ) from error


def has_ever_drawn() -> bool:
    """Whether a generation has ever succeeded in this database."""
    return Generation.objects.filter(status=Status.SUCCEEDED).exists()


def local_client(url: str) -> Client:
    """A client with the key that the first start stored; raises `PictureFailed`."""
    path = settings.CREDENTIALS_DIR / "api_key"
    try:
        return Client(url=url, api_key=path.read_text().strip())
    except OSError as error:
        raise PictureFailed(f"The API key in {path} cannot be read ({error.strerror}).") from error


def shown(path: Path) -> str:
    """A path as short as the current folder allows."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
