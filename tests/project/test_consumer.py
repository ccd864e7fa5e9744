"""Celery's consumer as it is used here; tests/faults/test_brokers.py has what it does on RabbitMQ."""

from project.consumer import DELAYED_DELIVERY, Consumer, consumer


def test_nothing_is_set_up_for_tasks_with_a_delay():
    assert set(consumer.Consumer.Blueprint.default_steps) - set(Consumer.Blueprint.default_steps) == {DELAYED_DELIVERY}
