"""A running web service with a worker that draws grey squares, and the key of a user of it."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from django.db import connections

from api.models import ApiKey
from generation import runner
from generation.models import Generation
from generation.worker import Worker
from tests import factories
from tests.fakes import ScriptedRuntime
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
