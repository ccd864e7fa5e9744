"""Broker and asynchronous processing: the whole service as a target, on Redis or on RabbitMQ."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from threading import Lock, local
from typing import Any

import psutil

from benchmarks.study.connections import own_connection
from benchmarks.study.ledger import LOST, OK, REFUSED, WAITING, Ledger, Request
from benchmarks.study.processes import tree_of
from tests.service.running import Running, running_service

PATIENCE_SECONDS = 300
NO_LIMITS = {"PICTOR_MAX_WAITING": "0", "PICTOR_MAX_WAITING_PER_USER": "0", "PICTOR_PREVIEWS": "false"}
ROWS = "SELECT id, created_at, started_at, finished_at, status, attempt_count FROM generation_generation"


@dataclass(frozen=True)
class Row:
    """A generation as the database has it; times are in seconds since 1970."""

    created_at: float
    started_at: float | None
    finished_at: float | None
    status: str
    attempts: int


class BrokerTarget:
    """The service of one broker. An answer of 202 is a promise: what becomes of it, the database tells."""

    def __init__(self, name: str, service: Running, *, steps: int, size: int) -> None:
        self.name = name
        self.service = service
        self.wishes = {"prompt": "a red apple", "num_inference_steps": steps, "width": size, "height": size}
        self._place = service.client.base_url
        self._headers = {"Authorization": service.client.headers["Authorization"], "Content-Type": "application/json"}
        self._own = local()
        self._accepted: dict[str, Request] = {}
        self._lock = Lock()

    def send(self, request: Request) -> None:
        """Submit; an answer other than 202 is a refusal, and none at all a loss."""
        try:
            status, body = self.ask("POST", "/api/generations/", self.wishes | {"seed": request.number})
        except (OSError, HTTPException):
            request.end(LOST)
            return
        if status != 202:
            request.end(REFUSED)
            return
        request.accepted_at = time.time()
        with self._lock:
            self._accepted[body["id"]] = request

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request over this thread's own connection."""
        connection = own_connection(self._own, self._place.host, self._place.port or 80, seconds=60)
        try:
            connection.request(method, path, json.dumps(body) if body else None, self._headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, HTTPException):
            connection.close()
            raise
        return response.status, json.loads(content) if content else None

    def waiting(self, ledger: Ledger) -> int:
        """Rows that have no end yet, and requests without an answer."""
        asking = sum(one.outcome == WAITING and one.accepted_at is None for one in list(ledger.requests))
        with closing(self._database()) as database:
            count: int = database.execute(
                "SELECT count(*) FROM generation_generation WHERE finished_at IS NULL"
            ).fetchone()[0]
        return count + asking

    def settle(self, ledger: Ledger, *, look_again_seconds: float = 0.5) -> None:
        """Wait for the last end, and note all of them."""
        gives_up_at = time.time() + PATIENCE_SECONDS
        while self.waiting(ledger) and time.time() < gives_up_at:
            time.sleep(look_again_seconds)
        rows = self.rows()
        for key, request in self._accepted.items():
            row = rows.get(key.replace("-", ""))
            if row is None or (row.finished_at and row.status != "succeeded"):
                request.end(LOST)
            elif row.finished_at:
                request.end(OK, at=row.finished_at)

    def rows(self) -> dict[str, Row]:
        """All generations by id, without its dashes."""
        with closing(self._database()) as database:
            found = database.execute(ROWS).fetchall()
        return {
            row[0]: Row(moment(row[1]) or 0.0, moment(row[2]), moment(row[3]), status=row[4], attempts=row[5])
            for row in found
        }

    def repeated(self) -> int:
        """Attempts beyond the first of all the generations that were accepted here."""
        rows = self.rows()
        own = [rows[key.replace("-", "")] for key in self._accepted if key.replace("-", "") in rows]
        return sum(row.attempts - 1 for row in own if row.attempts > 1)

    def processes(self) -> list[psutil.Process]:
        """All that `manage.py up` runs."""
        return tree_of(self.service.process.pid)

    def _database(self) -> sqlite3.Connection:
        place = Path(self.service.environment["PICTOR_DATA_DIR"]) / "db.sqlite3"
        return sqlite3.connect(f"file:{place}?mode=ro", uri=True, timeout=30)


def moment(text: str | None) -> float | None:
    """A time as SQLite has it, in UTC, in seconds since 1970."""
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@contextmanager
def running_broker(
    name: str, folder: Path, *, steps: int, size: int = 256, devices: str = "cpu:1", **settings: str
) -> Iterator[BrokerTarget]:
    """The service with these settings for the length of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with running_service(folder, devices=devices, **(NO_LIMITS | settings)) as service:
        yield BrokerTarget(name, service, steps=steps, size=size)
