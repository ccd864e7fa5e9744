"""From an error of the domain to an HTTP answer: one table, and RFC 9457 problem details for all of them."""

import logging
from http import HTTPStatus
from typing import Any

from django.core.exceptions import ObjectDoesNotExist, RequestDataTooBig, SuspiciousOperation
from django.db import DataError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import csrf
from drf_standardized_errors.formatter import ExceptionFormatter
from drf_standardized_errors.handler import ExceptionHandler
from drf_standardized_errors.types import ErrorResponse
from rest_framework import exceptions, status
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from api.dialects.words import in_words_of
from api.rate_limits import remember
from generation.errors import (
    AlreadyFinished,
    GenerationError,
    IdTaken,
    InFlight,
    InvalidParameters,
    KeyReused,
    LimitReached,
    NotFinished,
    NotRetryable,
    ServiceFull,
)
from generation.quotas import Quota
from generation.storage import StorageUnavailable

logger = logging.getLogger(__name__)

UNEXPECTED = "Pictor met an unexpected error; its log has the details."
PROBLEM_TYPE = "application/problem+json"
# Of draft-ietf-httpapi-ratelimit-headers-10, section 5.1.
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"


class Conflict(exceptions.APIException):
    """The request is fine, but not in the state that its target is in."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


class TooLarge(exceptions.APIException):
    """A body larger than is read; behind ASGI it does not get as far (`project/body_limit.py`)."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "body_too_large"
    default_detail = "The body of the request is too large. Send a smaller one."


class Unavailable(exceptions.APIException):
    """Something that Pictor itself needs is away; asking again soon will do."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "unavailable"
    default_detail = "The database does not answer right now. Try again in a few seconds."

    def __init__(self, detail: str | None = None, code: str | None = None, *, wait: int = 5) -> None:
        super().__init__(detail, code)
        self.wait = wait


class TooMuch(exceptions.APIException):
    """More than the user, or the key in use, may have; `wait` is None where asking again will not help."""

    status_code = status.HTTP_429_TOO_MANY_REQUESTS
    default_code = "limit_reached"

    def __init__(self, detail: str, *, quotas: tuple[Quota, ...], wait: int | None) -> None:
        super().__init__(detail)
        self.quotas = quotas
        self.wait = wait


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
        if isinstance(exc, LimitReached):
            return TooMuch(str(exc), quotas=exc.exceeded, wait=exc.retry_after_seconds)
        if isinstance(exc, ServiceFull):
            return Unavailable(str(exc), code="service_full", wait=exc.retry_after_seconds)
        if isinstance(exc, ObjectDoesNotExist):  # deleted by another request while this one was at it
            return exceptions.NotFound()
        if isinstance(exc, RequestDataTooBig):
            return TooLarge()
        if isinstance(exc, SuspiciousOperation):  # too many fields, too many files, and the like
            return exceptions.ParseError("The request could not be understood. Check its form and its size.")
        if isinstance(exc, DataError):  # what no column could hold, such as a NUL in text
            return exceptions.ParseError("It holds a value that cannot be stored or looked for.")
        if isinstance(exc, (OperationalError, InterfaceError)):
            return Unavailable()
        if isinstance(exc, StorageUnavailable):
            logger.error("%s", exc)
            return Unavailable("The storage does not take the picture right now. Try again in a few seconds.")
        return super().convert_known_exceptions(exc)

    def convert_unhandled_exceptions(self, exc: Exception) -> exceptions.APIException:
        """Say nothing about what nobody has foreseen; the log does."""
        return exc if isinstance(exc, exceptions.APIException) else exceptions.APIException(UNEXPECTED)

    def get_response(self, exc: exceptions.APIException, data: dict[str, Any]) -> Response:
        """Answer as problem+json, unless the browsable API renders the page."""
        response = super().get_response(exc, data)
        request = self.context.get("request")
        if isinstance(exc, TooMuch):
            remember(request, exc.quotas)
        renderer = getattr(request, "accepted_renderer", None)
        if renderer is None or renderer.format != "api":
            response.content_type = PROBLEM_TYPE
            if request is not None:  # whatever the view renders when all goes well
                request.accepted_renderer, request.accepted_media_type = JSONRenderer(), PROBLEM_TYPE
        return response

    def report_exception(self, exc: exceptions.APIException, response: Response) -> None:
        """Log what is our fault; that the service is full is no fault, and happens again with every request."""
        if not isinstance(self.exc, ServiceFull):
            super().report_exception(exc, response)


class ProblemFormatter(ExceptionFormatter):
    """Shapes errors as problem details: `type, title, status, code, detail, errors[{pointer, code, detail}]`."""

    def format_error_response(self, error_response: ErrorResponse) -> dict[str, Any]:
        """Return the members of the problem detail."""
        if not isinstance(self.exc, exceptions.ValidationError):
            error = error_response.errors[0]
            shown = problem(self.exc.status_code, code=error.code, detail=error.detail)
            if isinstance(self.exc, TooMuch):
                names = [quota.policy for quota in self.exc.quotas]
                return shown | {"type": QUOTA_EXCEEDED, "violated-policies": names}
            return shown
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


def answer(status_code: int, *, code: str, detail: str, path: str = "") -> JsonResponse:
    """A problem from outside DRF's views: a problem detail, or what the dialect at that path makes of it."""
    shown = problem(status_code, code=code, detail=detail)
    if words := in_words_of(path, shown):
        return JsonResponse(words, status=status_code)
    return JsonResponse(shown, status=status_code, content_type=PROBLEM_TYPE)


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Django's handler400, for hosts that are not allowed and the like."""
    if isinstance(exception, RequestDataTooBig):
        return answer(413, code=TooLarge.default_code, detail=TooLarge.default_detail, path=request.path)
    sentence = "The request could not be understood. Check its host and its form."
    return answer(400, code="bad_request", detail=sentence, path=request.path)


def forbidden(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Django's handler403."""
    return answer(403, code="permission_denied", detail="This is not allowed for you.", path=request.path)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's CSRF_FAILURE_VIEW: a page for who asked for one."""
    if "text/html" in request.headers.get("Accept", ""):
        return csrf.csrf_failure(request, reason)
    return answer(403, code="csrf_failed", detail="The form's token is missing or old. Load the page once more.")


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Django's handler404."""
    sentence = f"There is nothing at {request.path}. The API starts at /api/."
    return answer(404, code="not_found", detail=sentence, path=request.path)


def server_error(request: HttpRequest) -> JsonResponse:
    """Django's handler500."""
    return answer(500, code="error", detail=UNEXPECTED, path=request.path)
