"""Celery's consumer, but for what RabbitMQ makes it do."""

import time
from typing import Any

from amqp.exceptions import ResourceLocked
from celery.worker import consumer

LOCKED_SECONDS = 1.0
DELAYED_DELIVERY = "celery.worker.consumer.delayed_delivery:DelayedDelivery"


class Consumer(consumer.Consumer):
    """Connects again, for as long as it takes, while RabbitMQ takes its last connection for alive.

    The queue on which a worker hears commands belongs to the connection that has declared it. Where that is half open,
    the worker is back before RabbitMQ has missed its heartbeats and let go of the queue, and Celery's own consumer
    would end the process, with all that it runs. Nor are there exchanges for tasks with a delay here: Pictor has none.
    """

    connection_errors: tuple[type[Exception], ...]  # after these it connects again

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[valid-type,misc]
        """What is started with each connection."""

        default_steps = tuple(step for step in consumer.Consumer.Blueprint.default_steps if step != DELAYED_DELIVERY)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.connection_errors = (*self.connection_errors, ResourceLocked)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Let go of the connection, and give RabbitMQ a moment where it is the last one that it holds on to."""
        super().on_connection_error_after_connected(exc)
        if isinstance(exc, ResourceLocked):
            time.sleep(LOCKED_SECONDS)
