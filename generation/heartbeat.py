"""The thread that keeps a worker's leases alive and carries the database's wishes to it."""

import logging
import os
import time
from dataclasses import asdict
from threading import Event, Thread
from typing import TYPE_CHECKING

from celery.worker.consumer import Consumer
from django.db import Error, connection
from django.db.models.functions import Now

from generation.conf import configuration
from generation.models import Device
from generation.models.many import beat, hold_messages
from generation.models.webhook import note_progress
from generation.watch import Watch

if TYPE_CHECKING:
    from generation.worker import Worker

logger = logging.getLogger(__name__)


class Heartbeat(Thread):
    """Once a second: renew all leases, note progress, see cancels and lost claims, follow the device's row."""

    def __init__(self, worker: "Worker", *, consumer: Consumer) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.worker = worker
        self.consumer = consumer
        self._stopped = Event()

    def run(self) -> None:
        """Beat until stopped; a database that is away for a while ends nothing here."""
        interval = configuration().beat_seconds
        while True:
            try:
                self.beat()
            except Error as error:
                logger.warning("No heartbeat, the database answers: %s", error)
                connection.close()
            except Exception:
                # Whatever it is, the leases of running generations depend on this thread going on.
                logger.exception("A heartbeat failed.")
            if self._stopped.wait(interval):
                connection.close()
                return

    def stop(self) -> None:
        """Stop after the current beat and wait for that."""
        self._stopped.set()
        self.join(timeout=10)

    def beat(self) -> None:
        """One beat."""
        self.look_for_hangs()
        self.renew_leases()
        self.worker.look_at_runtime()
        device = self.worker.device
        facts = {of_model.slug: asdict(of_model) for of_model in self.worker.runtime.facts()}
        Device.objects.filter(pk=device.pk).update(heartbeat_at=Now(), loaded=sorted(facts), facts=facts)
        device.refresh_from_db()
        if not self.worker.is_draining.is_set():
            self.worker.consume_assigned_queues(self.consumer)

    def look_for_hangs(self) -> None:
        """End this process if a run has made no step for too long: nothing else frees a device that hangs.

        Its supervisor starts it anew, and its generations are rescued when their leases run out.
        """
        limit = configuration().hang_seconds
        silent = {watch.task_id: watch.seconds_without_step() for watch in self.worker.watches()}
        if (stepped_at := self.worker.test_stepped_at) is not None:
            silent["The test picture"] = time.monotonic() - stepped_at
        for name, seconds in silent.items():
            if seconds > limit:
                logger.critical("%s made no step for %.0f s: the device hangs. Starting anew.", name, seconds)
                os._exit(1)  # a thread that hangs in a driver keeps every politer exit waiting
            if seconds > limit / 2:
                logger.warning("%s has made no step for %.0f s.", name, seconds)

    def renew_leases(self) -> None:
        """Renew the lease of every run and tell each what the database knows about it; hold messages that arrived."""
        if held := self.worker.held():
            hold_messages(held, lease=configuration().lease)
        watches = self.worker.watches()
        if not watches:
            return
        steps = {watch.claim_token: (watch.step, watch.total, watch.saving.saved_step) for watch in watches}
        claims = beat(steps, lease=configuration().lease)
        for watch in watches:
            if watch.claim_token not in claims:
                watch.lose()
            watch.is_cancel_requested = claims.get(watch.claim_token, False)
        self.report([watch for watch in watches if not watch.is_lost])

    def report(self, watches: list[Watch]) -> None:
        """Note for the webhooks how far the runs are; the housekeeper sends it."""
        now = time.monotonic()
        news = [watch for watch in watches if watch.has_news(now=now)]
        for watch in news:
            watch.told_at, watch.told_step = now, watch.step
        if news:
            note_progress({watch.webhook_for: (watch.told_step, watch.total) for watch in news if watch.webhook_for})
