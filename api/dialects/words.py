"""How each dialect puts a problem, by its address: for errors that come about outside the dialects' own views."""

from typing import Any

from django.utils.module_loading import import_string

# By name: their modules need that of the errors, which needs this one.
ERRORS = {
    "/openai/": "api.dialects.openai.translate.error_of",
    "/replicate/": "api.dialects.replicate.translate.error_of",
    "/fal/": "api.dialects.fal.translate.error_of",
    "/fal-run/": "api.dialects.fal.translate.error_of",
}


def in_words_of(path: str, problem: dict[str, Any]) -> dict[str, Any] | None:
    """The problem detail as the dialect at that path puts it; None where there is none."""
    name = next((name for beginning, name in ERRORS.items() if path.startswith(beginning)), None)
    return import_string(name)(problem) if name else None
