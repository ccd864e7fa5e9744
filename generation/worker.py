"""This worker process: its device, the runtime that drives it, and the runs that it holds."""

import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import Event, Lock
from typing import Any
from uuid import UUID, uuid4

from celery import Celery, signals
from celery.worker import WorkController
from celery.worker.consumer import Consumer
from django.db.models.functions import Now

from generation import dispatch
from generation.caretaker import Caretaker
from generation.devices import local_device
from generation.engines.types import ImageRequest
from generation.events.progress import ProgressReport
from generation.heartbeat import Heartbeat
from generation.models import Attempt, Device, DiffusionModel, Generation
from generation.models.webhook import Kind
from generation.places import GiveUp, Places
from generation.registration import register_device, runtime_wishes
from generation.runtimes.base import Runtime, facts_of
from generation.runtimes.choice import open_runtime
from generation.runtimes.errors import ServerUnavailable
from generation.saving import Saving
from generation.self_test import SelfTest
from generation.watch import Watch, deadline_of

logger = logging.getLogger(__name__)


class Worker:
    """What the tasks of this process share."""

    def __init__(self, *, runtime: Runtime, device: Device) -> None:
        self.runtime = runtime
        self.device = device
        self.process = uuid4()
        self.is_draining = Event()
        self.places = Places(most_at_once=self.most_at_once, is_closed=self.is_draining)
        self.is_able = True
        self.test_stepped_at: float | None = None  # of a test picture under way, on `time.monotonic`'s clock
        self._watches: dict[UUID, Watch] = {}
        self._held: Counter[UUID] = Counter()
        self._runs = 0
        self._lock = Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep all models in memory for the length of the block: from before one is loaded until its run has ended."""
        with self._lock:
            self._runs += 1
        try:
            yield
        finally:
            with self._lock:
                self._runs -= 1

    @contextmanager
    def holding(self, generation: Generation) -> Iterator[None]:
        """Keep its message from being made anew for the length of the block, for it has arrived and only takes long."""
        with self._lock:
            self._held[generation.pk] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[generation.pk] -= 1
                self._held += Counter()  # without those that are at zero

    def held(self) -> list[UUID]:
        """The generations whose messages are held here."""
        with self._lock:
            return list(self._held)

    def refuses(self, generation: Generation) -> bool:
        """Whether it starts nothing new, for it stops or has no server, or only what tests it: what is pinned to it."""
        is_quarantined = self.device.quarantined_at is not None and generation.pinned_to_id is None
        return self.is_draining.is_set() or is_quarantined or not self.is_able

    def most_at_once(self, model: DiffusionModel) -> int:
        """How many generations of `model`, of its usual size, keep the device busy."""
        return facts_of(self.runtime, model.slug).at_once

    def places_of(self, request: ImageRequest) -> int:
        """How many of these one generation counts for."""
        return facts_of(self.runtime, request.model.slug).places_of(request)

    @contextmanager
    def watching(
        self, generation: Generation, attempt: Attempt, saving: Saving, *, on_drawn: GiveUp
    ) -> Iterator[Watch]:
        """Keep the attempt's lease alive for the length of the block; `on_drawn` is called after the last step."""
        watch = Watch(
            claim_token=attempt.claim_token,
            task_id=generation.task_id,
            total=generation.total_steps,
            report=ProgressReport(generation),
            saving=saving,
            on_drawn=on_drawn,
            step=saving.saved_step,
            deadline=deadline_of(generation, now=time.monotonic()),
            webhook_for=generation.pk if Kind.PROGRESS in generation.webhook_events else None,
        )
        with self._lock:
            self._watches[watch.claim_token] = watch
        watch.is_draining = self.is_draining.is_set()  # read only now: drain() may have come just before
        try:
            yield watch
        finally:
            with self._lock:
                del self._watches[watch.claim_token]

    def watches(self) -> list[Watch]:
        """The runs that this worker holds right now."""
        with self._lock:
            return list(self._watches.values())

    def drain(self) -> None:
        """Give every run back at its next step, and take no more."""
        self.is_draining.set()
        for watch in self.watches():
            watch.is_draining = True

    def look_at_runtime(self) -> None:
        """Note whether the runtime can be reached: while it cannot, nothing new is taken from the queues of models."""
        try:
            self.runtime.describe()
        except ServerUnavailable as error:
            if self.is_able:
                logger.warning("%s takes nothing until its model server is back: %s", self.device, error)
            self.is_able = False
        else:
            self.is_able = True

    def note_loss(self) -> None:
        """What the runtime has behind it has died: take nothing until it is back; what runs then dies with another."""
        self.is_able = False
        self.process = uuid4()

    def give_up(self) -> None:
        """End this process politely, for its device has failed; whoever keeps it alive starts it anew."""
        self.drain()
        os.kill(os.getpid(), signal.SIGTERM)

    def consume_assigned_queues(self, consumer: Consumer) -> None:
        """Make Celery consume the queues that the device's row asks for, and forget the models that it does not."""
        wanted_models = self.device.models_to_serve() if self.is_able else DiffusionModel.objects.none()
        slugs = set(wanted_models.values_list("slug", flat=True))
        own = dispatch.device_queue(host=self.device.host, label=self.device.label)
        wanted = {own} | {dispatch.model_queue(slug) for slug in slugs}
        queues = consumer.app.amqp.queues
        consumed = set(queues.consume_from)
        for queue in wanted - consumed:
            queues[queue]  # creates it with the configured type, which add_task_queue alone would not
            consumer.call_soon(consumer.add_task_queue, queue)
        for queue in consumed - wanted:
            consumer.call_soon(consumer.cancel_task_queue, queue)
        self.forget_models(slugs)

    def forget_models(self, assigned: set[str]) -> None:
        """Free the memory of models that are not assigned, unless a run may need one: a pinned one may."""
        with self._lock:
            if self._runs == 0 and self.is_able:
                for slug in set(self.runtime.loaded) - assigned:
                    self.runtime.unload(slug)


_worker: Worker | None = None
_heartbeat: Heartbeat | None = None
_caretaker = Caretaker()
_self_test: SelfTest | None = None


def this_worker() -> Worker:
    """The worker of this process; there is one only in a Celery worker."""
    if _worker is None:
        raise RuntimeError("This process is no Pictor worker. Start one with `manage.py workers`.")
    return _worker


def essential(hook: Callable[..., None]) -> Callable[..., None]:
    """End the process if `hook` fails. Celery would only log it and live on, as a worker that never works."""

    @wraps(hook)
    def guarded(**arguments: Any) -> None:
        try:
            hook(**arguments)
        except Exception as error:
            logger.exception("The worker cannot start.")
            raise SystemExit(1) from error

    return guarded


def has_a_device(app: Celery) -> bool:
    """Whether this process is to drive a device; one that only sends webhooks has none."""
    return set(app.amqp.queues.consume_from) != {dispatch.IO_QUEUE}


@signals.worker_init.connect
@essential
def start_runtime(sender: WorkController, **_: Any) -> None:
    """Take hold of the device, or find the server that has, before the first message arrives."""
    global _worker
    if not has_a_device(sender.app):
        return
    name, wishes = runtime_wishes(local_device())
    runtime = open_runtime(name, wishes)
    _worker = Worker(runtime=runtime, device=register_device(runtime, name=name))


@signals.worker_ready.connect
@essential
def start_heartbeat(sender: Consumer, **_: Any) -> None:
    """From now on the device is seen to be alive and consumes what its row says."""
    global _heartbeat, _self_test
    if not has_a_device(sender.app):
        return
    worker = this_worker()
    Device.objects.filter(pk=worker.device.pk).update(started_at=Now(), heartbeat_at=Now())
    _heartbeat = Heartbeat(worker, consumer=sender)
    _heartbeat.start()
    _caretaker.start()
    _self_test = SelfTest(worker)
    _self_test.start()
    logger.info("%s is ready: %s", worker.device, worker.device.name)


@signals.worker_shutting_down.connect
def drain(**_: Any) -> None:
    """A polite stop: what runs is given back at its next step."""
    if _worker is not None:
        _worker.drain()


@signals.worker_shutdown.connect
def stop_heartbeat(**_: Any) -> None:
    """The last run has ended, so no lease needs renewing any more."""
    _caretaker.stop()
    if _self_test is not None:
        _self_test.stop()
    if _heartbeat is not None:
        _heartbeat.stop()
    if _worker is not None:
        _worker.runtime.close()
        Device.objects.filter(pk=_worker.device.pk).update(heartbeat_at=None, loaded=[])
