"""What a machine may lack, and Pictor's CI may not."""

import os
from typing import NoReturn

import pytest


def do_without(message: str, *, unless: str) -> NoReturn:
    """Skip what needs it, with this message; where the environment has the variable `unless`, fail instead."""
    if os.environ.get(unless):
        pytest.fail(message)
    pytest.skip(message)
