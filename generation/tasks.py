"""The Celery tasks: ids in, one call inward."""

from uuid import UUID

from celery import shared_task
from django.db import close_old_connections

from generation import runner
from generation.dispatch import DELIVER_TASK, RUN_TASK
from generation.webhooks import delivery
from generation.worker import this_worker


@shared_task(name=RUN_TASK)
def run_generation(generation_id: str, dispatch_no: int) -> None:
    """Run one dispatched generation on this worker's device; safe to deliver twice."""
    close_old_connections()  # Django's own rule for requests; settings.py says why not Celery's
    runner.run(UUID(generation_id), dispatch_no, worker=this_worker())


@shared_task(name=DELIVER_TASK)
def deliver_webhook(event_id: str, tries: int) -> None:
    """Try once to deliver a webhook; safe to deliver twice."""
    close_old_connections()
    delivery.deliver(UUID(event_id), tries)
