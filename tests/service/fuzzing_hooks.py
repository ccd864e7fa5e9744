"""What schemathesis is told beyond the description (SCHEMATHESIS_HOOKS): what JSON Schema cannot say."""

from typing import Any

import schemathesis
from hypothesis import strategies

from tests import pictures

LAST_SEED = 2**32 - 1
MOST_IMAGES = 4

schemathesis.openapi.format("binary", strategies.just(pictures.png()))


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Leave out a seed so near the end that several images would need seeds beyond it."""
    body = case.body if isinstance(case.body, dict) else {}
    members = body.get("requests")
    return not any(is_near_the_end(one) for one in [body, *(members if isinstance(members, list) else [])])


def is_near_the_end(request: Any) -> bool:
    """Whether the seed of this request is so near its end."""
    seed = request.get("seed") if isinstance(request, dict) else None
    return isinstance(seed, int | float) and LAST_SEED - MOST_IMAGES < seed <= LAST_SEED
