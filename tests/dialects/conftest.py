"""A running web service with a worker that draws grey squares, and the key of a user of it."""

import importlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType

import httpx
import pytest
import trustme
import uvicorn
from django.db import connections

from api.models import ApiKey
from generation import runner
from generation.models import Generation
from generation.worker import Worker
from project.asgi import application
from tests import factories
from tests.fakes import ScriptedRuntime
from tests.ports import free_port
from tests.serving import serving


@dataclass
class Service:
    """The address of the web service and a key; its worker runs what waits, one after another, unless held."""

    address: str
    key: str
    worker: Worker
    gate: threading.Event = field(default_factory=threading.Event)

    def hold(self) -> None:
        """Let nothing begin until `let_go`."""
        self.gate.clear()

    def let_go(self) -> None:
        """Run what waits."""
        self.gate.set()


@pytest.fixture
def service(transactional_db, broker, user, model, monkeypatch) -> Iterator[Service]:
    """The service; its worker's thread ends with the test."""
    _, key = ApiKey.objects.create(user=user, name="test")
    worker = Worker(runtime=ScriptedRuntime(), device=factories.make_device())
    with serving() as address:
        running = Service(address, key, worker)
        running.let_go()
        is_over = threading.Event()
        thread = threading.Thread(target=work, args=(running, is_over), daemon=True)
        thread.start()
        yield running
        is_over.set()
        running.let_go()
        thread.join()


def work(service: Service, is_over: threading.Event) -> None:
    """What Celery does: run each generation that waits."""
    while not is_over.wait(0.02):
        service.gate.wait()
        waiting = Generation.objects.queued().exclude(dispatch_no=0).first()
        if waiting is not None:
            runner.run(waiting.pk, waiting.dispatch_no, worker=service.worker)
    connections.close_all()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority of our own, for certificates."""
    return trustme.CA()


@pytest.fixture
def host(service, settings, authority, tmp_path, monkeypatch) -> Iterator[str]:
    """A TLS listener in front of the same application, on a port of its own."""
    port = free_port()
    settings.FAL_HOST, settings.FAL_RUN_HOST = f"localhost:{port}", f"127.0.0.1:{port}"
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("NO_PROXY", "*")
    config = uvicorn.Config(
        application, port=port, lifespan="off", log_level="warning", ssl_certfile=str(tmp_path / "server.pem"),
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    transport = httpx.HTTPTransport(retries=20, verify=str(tmp_path / "ca.pem"))
    with httpx.Client(transport=transport) as http:
        http.get(f"https://localhost:{port}/nothing")
    yield f"localhost:{port}"
    server.should_exit = server.force_exit = True  # or it waits for connections that the client keeps open
    thread.join()


@pytest.fixture
def fal(host, service, monkeypatch) -> ModuleType:
    """The client, imported with the environment that its manual names: it reads its host at import."""
    monkeypatch.setenv("FAL_QUEUE_RUN_HOST", host)
    monkeypatch.setenv("FAL_RUN_HOST", host.replace("localhost", "127.0.0.1"))
    monkeypatch.setenv("FAL_KEY", service.key)
    for name in [name for name in sys.modules if name.partition(".")[0] == "fal_client"]:
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module("fal_client")
