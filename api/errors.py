"""From an error of the domain to an HTTP answer: one table, and RFC 9457 problem details for all of them."""

import logging
from http import HTTPStatus
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, JsonResponse
from drf_standardized_errors.formatter import ExceptionFormatter
from drf_standardized_errors.handler import ExceptionHandler
from drf_standardized_errors.types import ErrorResponse
from rest_framework import exceptions, status
from rest_framework.response import Response

from generation.errors import (
    AlreadyFinished,
    GenerationError,
    IdTaken,
    InFlight,
    InvalidParameters,
    KeyReused,
    NotFinished,
    NotRetryable,
)
from generation.storage import StorageUnavailable

logger = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"


class Conflict(exceptions.APIException):
    """The request is fine, but not in the state that its target is in."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


class Unavailable(exceptions.APIException):
    """Something that Pictor itself needs is away; asking again soon will do."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "unavailable"
    default_detail = "The database does not answer right now. Try again in a few seconds."
    wait = 5


class Unprocessable(exceptions.APIException):
    """The request is well formed, but it contradicts what was said before."""

    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_code = "unprocessable"


CONFLICTS: dict[type[GenerationError], str] = {
    AlreadyFinished: "already_finished",
    NotFinished: "not_finished",
    NotRetryable: "not_retryable",
    IdTaken: "id_taken",
    InFlight: "in_flight",
}
API_NAMES = {"image_format": "format"}  # where a parameter has another name here than in the domain


class ProblemHandler(ExceptionHandler):
    """Knows the domain's errors, and answers them with the right content type."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        """Turn an error of the domain, or a database that is away, into what DRF understands."""
        if isinstance(exc, InvalidParameters):
            return exceptions.ValidationError({api_name(name): [sentence] for name, sentence in exc.fields.items()})
        if isinstance(exc, KeyReused):
            return Unprocessable(str(exc), code="key_reused")
        if type(exc) in CONFLICTS:
            return Conflict(str(exc), code=CONFLICTS[type(exc)])  # type: ignore[index]
        if isinstance(exc, ObjectDoesNotExist):  # deleted by another request while this one was at it
            return exceptions.NotFound()
        if isinstance(exc, (OperationalError, InterfaceError)):
            return Unavailable()
        if isinstance(exc, StorageUnavailable):
            logger.error("%s", exc)
            return Unavailable("The storage does not take the picture right now. Try again in a few seconds.")
        return super().convert_known_exceptions(exc)

    def get_response(self, exc: exceptions.APIException, data: dict[str, Any]) -> Response:
        """Answer as problem+json, unless the browsable API renders the page."""
        response = super().get_response(exc, data)
        renderer = getattr(self.context.get("request"), "accepted_renderer", None)
        if renderer is None or renderer.format == "json":
            response.content_type = PROBLEM_TYPE
        return response


class ProblemFormatter(ExceptionFormatter):
    """Shapes errors as problem details: `type, title, status, code, detail, errors[{pointer, code, detail}]`."""

    def format_error_response(self, error_response: ErrorResponse) -> dict[str, Any]:
        """Return the members of the problem detail."""
        if not isinstance(self.exc, exceptions.ValidationError):
            error = error_response.errors[0]
            return problem(self.exc.status_code, code=error.code, detail=error.detail)
        errors = [
            {"pointer": pointer(error.attr), "code": error.code, "detail": error.detail}
            for error in error_response.errors
        ]
        summary = " ".join(
            f"{error.attr}: {error.detail}" if error.attr else error.detail for error in error_response.errors
        )
        return problem(self.exc.status_code, code="invalid", detail=summary) | {"errors": errors}


def problem(status_code: int, *, code: str, detail: str) -> dict[str, Any]:
    """The members that every problem detail has; `code` is stable, for programs, `detail` is for people."""
    title = HTTPStatus(status_code).phrase
    return {"type": "about:blank", "title": title, "status": status_code, "code": code, "detail": detail}


def api_name(name: str) -> str:
    """The path of a parameter, `width` or `requests.3.width`, in the words of the API."""
    place, dot, parameter = name.rpartition(".")
    return place + dot + API_NAMES.get(parameter, parameter)


def pointer(attribute: str | None) -> str:
    """A JSON pointer (RFC 6901) to the faulty member of the request, "" for the whole."""
    return "" if attribute in (None, "non_field_errors") else "/" + attribute.replace(".", "/")


def answer(status_code: int, *, code: str, detail: str) -> JsonResponse:
    """A problem detail from outside DRF's views."""
    return JsonResponse(problem(status_code, code=code, detail=detail), status=status_code, content_type=PROBLEM_TYPE)


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Django's handler400, for hosts that are not allowed and the like."""
    return answer(400, code="bad_request", detail="The request could not be understood. Check its host and its form.")


def forbidden(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Django's handler403."""
    return answer(403, code="permission_denied", detail="This is not allowed for you.")


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Django's handler404."""
    return answer(404, code="not_found", detail=f"There is nothing at {request.path}. The API starts at /api/.")


def server_error(request: HttpRequest) -> JsonResponse:
    """Django's handler500."""
    return answer(500, code="error", detail="Pictor met an unexpected error; its log has the details.")
