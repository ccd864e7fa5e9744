"""How the API describes itself (OpenAPI 3.1): what every operation has in common, added to each by itself.

An endpoint declares what it takes, what it answers when all goes well, and conflicts of its own; the problems that
any endpoint may answer with follow from its method, its path and who may use it.
"""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import Direction
from rest_framework.permissions import IsAuthenticated

from api.errors import PROBLEM_TYPE

PROBLEM = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "`about:blank`: see `code`."},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "code": {"type": "string", "description": "What went wrong, for programs."},
        "detail": {"type": "string", "description": "What went wrong and what to do, for people."},
        "errors": {
            "type": "array",
            "description": "Each faulty member of the request.",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string", "description": "JSON pointer (RFC 6901); empty for the whole."},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
                "required": ["pointer", "code", "detail"],
                "additionalProperties": False,
            },
        },
        "violated-policies": {
            "type": "array",
            "description": "The limits that are reached, by their names in `RateLimit-Policy`.",
            "items": {"type": "string"},
        },
    },
    "required": ["type", "title", "status", "code", "detail"],
    "additionalProperties": False,
}


def header(description: str, kind: str = "string") -> dict[str, Any]:
    """A header of an answer."""
    return {"description": description, "schema": {"type": kind}}


RETRY_AFTER = header("Seconds after which to ask again; absent where that will not help.", "integer")
RATE_LIMITS = {
    "RateLimit-Policy": header("The limits in force; absent without any."),
    "RateLimit": header("What is left of each."),
}


def problem(description: str, *, code: str, status: int, detail: str, **headers: Any) -> dict[str, Any]:
    """One kind of problem, with an example."""
    shown = {"type": "about:blank", "title": description, "status": status, "code": code, "detail": detail}
    return {
        "description": description,
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": shown}},
        "headers": headers,
    }


PROBLEMS = {
    "400": problem("Bad Request", code="invalid", status=400, detail="width: 100 is not a multiple of 8."),
    "401": problem(
        "Unauthorized",
        code="not_authenticated",
        status=401,
        detail="Authentication credentials were not provided.",
        **{"WWW-Authenticate": header("How to authenticate: `Bearer`.")},
    ),
    "403": problem(
        "Forbidden", code="permission_denied", status=403, detail="This API key lacks the scope 'generate'."
    ),
    "404": problem("Not Found", code="not_found", status=404, detail="Not found."),
    "406": problem("Not Acceptable", code="not_acceptable", status=406, detail="This is not offered."),
    "409": problem("Conflict", code="conflict", status=409, detail="It is running. Cancel it first, then delete it."),
    "413": problem("Content Too Large", code="body_too_large", status=413, detail="Send a smaller one."),
    "415": problem(
        "Unsupported Media Type",
        code="unsupported_media_type",
        status=415,
        detail='Unsupported media type "text/plain".',
    ),
    "416": problem(
        "Requested Range Not Satisfiable",
        code="range_not_satisfiable",
        status=416,
        detail="The image has 81000 bytes. Ask for a part of those.",
        **{"Content-Range": header("`bytes */` and how many bytes there are.")},
    ),
    "422": problem(
        "Unprocessable Entity",
        code="key_reused",
        status=422,
        detail="This Idempotency-Key was used for another request. Use a new one for each request.",
    ),
    "429": problem(
        "Too Many Requests",
        code="limit_reached",
        status=429,
        detail="More than is allowed (waiting: 1000 generations, this would be 1001). Try again in about 12 s.",
        **{"Retry-After": RETRY_AFTER},
        **RATE_LIMITS,
    ),
    "503": problem(
        "Service Unavailable",
        code="service_full",
        status=503,
        detail="Too many generations wait already. Try again in about 12 s.",
        **{"Retry-After": RETRY_AFTER},
    ),
}


def add_problems(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Called when the rest is done (SPECTACULAR_SETTINGS): put what operations refer to into the components."""
    components = result["components"]
    components["schemas"]["Problem"] = PROBLEM
    components["responses"] = {f"Problem{code}": shown for code, shown in PROBLEMS.items()}
    return result


def a_problem(code: int) -> dict[str, Any]:
    """What an endpoint declares for a problem that is not every endpoint's, such as a conflict."""
    return {"$ref": f"#/components/responses/Problem{code}"}


class OperationSchema(AutoSchema):
    """Adds to each operation the problems that it may answer with, and the headers of limits."""

    def get_operation(self, *arguments: Any, **options: Any) -> dict[str, Any] | None:
        """The operation, or None for what is not to be shown."""
        operation = super().get_operation(*arguments, **options)
        if operation is not None:
            responses = operation["responses"]
            if self.needs_a_key:
                for response in responses.values():
                    if "$ref" not in response:
                        response["headers"] = RATE_LIMITS | response.get("headers", {})
            for code in self.problem_codes(operation):
                responses.setdefault(code, a_problem(int(code)))
            operation["responses"] = dict(sorted(responses.items()))
        return operation

    @property
    def needs_a_key(self) -> bool:
        """Whether it answers 401 to who does not say who they are."""
        return any(isinstance(permission, IsAuthenticated) for permission in self.view.get_permissions())

    def problem_codes(self, operation: dict[str, Any]) -> list[str]:
        """Statuses of the problems that follow from what the operation is."""
        codes = ["400", "406", "503"]
        if self.needs_a_key:
            codes += ["401", "403", "429"]
        has_pages = any(parameter["name"] == "cursor" for parameter in operation.get("parameters", []))
        if "{" in self.path or has_pages:  # what the path or the cursor names may be missing
            codes += ["404"]
        if "requestBody" in operation:
            codes += ["413", "415"]
        return codes

    def _get_response_for_code(
        self, serializer: Any, status_code: str, media_types: Any = None, direction: Direction = "response"
    ) -> Any:
        """Let an endpoint name a problem with `a_problem`."""
        if isinstance(serializer, dict) and "$ref" in serializer:
            return dict(serializer)
        return super()._get_response_for_code(serializer, status_code, media_types, direction)


class ApiKeyScheme(OpenApiAuthenticationExtension):
    """API keys, as the schema knows them."""

    target_class = "api.authentication.ApiKeyAuthentication"
    name = "apiKey"
    priority = 1  # before that of knox, whose class ours extends

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """`Authorization: Bearer pictor_…`."""
        return {"type": "http", "scheme": "bearer", "description": "An API key: `pictor_…`, made in the admin."}
