"""What the description of the API says about the whole, as drf-spectacular wants it; see `api/openapi.py`."""

from typing import Any

INTRODUCTION = """\
Prompts on their way to pictures: `POST` a prompt to `/api/generations/`, get an id at once, look at its status,
its place in the queue and its progress, cancel it, and fetch its images.

Programs authenticate with an API key: `Authorization: Bearer pictor_…`. Every error is a
[problem detail](https://www.rfc-editor.org/rfc/rfc9457): `code` is for programs and stays as it is, `detail` is a
sentence for people. Limits that are in force are told in `RateLimit-Policy` and `RateLimit` headers
(draft-ietf-httpapi-ratelimit-headers-10).
"""

SETTINGS: dict[str, Any] = {
    "TITLE": "Pictor",
    "DESCRIPTION": INTRODUCTION,
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SCHEMA_PATH_PREFIX": "/api",
    "SERVE_AUTHENTICATION": [],  # with no schema of its own, the description is open to everybody
    "SERVE_INCLUDE_SCHEMA": False,
    "AUTHENTICATION_WHITELIST": ["api.authentication.ApiKeyAuthentication"],
    "PARSER_WHITELIST": ["rest_framework.parsers.JSONParser"],  # forms are for the browsable pages
    "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "Status": "generation.lifecycle.STATUS_CHOICES",
        "UnfinishedStatus": "api.generations.serializers.UNFINISHED_CHOICES",
    },
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "api.openapi.add_problems"],
}
