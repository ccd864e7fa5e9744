"""What schemathesis is told beyond the description (SCHEMATHESIS_HOOKS): what JSON Schema cannot say."""

from typing import Any

import schemathesis

LAST_SEED = 2**32 - 1
MOST_IMAGES = 4


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Leave out a seed so near the end that several images would need seeds beyond it."""
    seed = case.body.get("seed") if isinstance(case.body, dict) else None
    return not (isinstance(seed, int | float) and LAST_SEED - MOST_IMAGES < seed <= LAST_SEED)
