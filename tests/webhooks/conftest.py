"""Fixtures of the tests of webhooks."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.receiver import Receiver, receiving


@pytest.fixture
def private_allowed(settings: Any) -> None:
    """The setting for closed networks."""
    settings.WEBHOOKS_MAY_BE_PRIVATE = True


@pytest.fixture
def receiver(private_allowed: None) -> Iterator[Receiver]:
    """A receiver on this machine, which the settings allow to reach."""
    with receiving() as running:
        yield running
