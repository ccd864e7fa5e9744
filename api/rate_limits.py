"""RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-10): what is left of each limit in force."""

from collections.abc import Callable, Iterable, Iterator

from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_only_middleware
from rest_framework.request import Request

from api.authentication import credential_of, user_of
from generation.models.limits import limits_of
from generation.quotas import Limits, Policy, Quota

LARGEST = 10**15 - 1

GetResponse = Callable[[HttpRequest], HttpResponse]


def remember(request: Request | None, quotas: Iterable[Quota]) -> None:
    """Have the answer tell what is left of these; what is known of a limit already is replaced."""
    if request is None:  # only where an exception is handled that no request has led to
        return
    plain = request._request
    known = {quota.policy: quota for quota in (*getattr(plain, "quotas", ()), *quotas)}
    plain.quotas = tuple(known.values())  # type: ignore[attr-defined]


def limits_in_force(
    request: Request, policy: Policy, limit_in: Callable[[Limits], int | None]
) -> Iterator[tuple[str, str, int]]:
    """Of the user and of the key: what the limit is called, under which name is counted, and the limit."""
    user, credential = user_of(request), credential_of(request)
    if limit := limit_in(limits_of(user)):
        yield str(policy), f"user:{user.pk}", limit
    if credential and (limit := limit_in(credential.limits)):
        yield f"key-{policy}", f"key:{user.pk}:{credential.name}", limit


@sync_only_middleware
def rate_limit_headers(get_response: GetResponse) -> GetResponse:
    """Add the headers to answers of views that have noted quotas on their request."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if quotas := getattr(request, "quotas", ()):
            response["RateLimit-Policy"] = ", ".join(policies(quotas))
            response["RateLimit"] = ", ".join(remainders(quotas))
        return response

    return answer


def policies(quotas: Iterable[Quota]) -> Iterable[str]:
    """Each limit as an item of a structured list: `"waiting";q=1000;qu="generations"`."""
    for quota in quotas:
        unit = "" if quota.unit == "requests" else f';qu="{quota.unit}"'  # requests are what is assumed
        window = f";w={quota.window_seconds}" if quota.window_seconds else ""
        yield f'"{quota.policy}";q={bounded(quota.limit)}{unit}{window}'


def remainders(quotas: Iterable[Quota]) -> Iterable[str]:
    """What is left, and in how many seconds there is more: `"waiting";r=998`."""
    for quota in quotas:
        frees = f";t={quota.frees_in_seconds}" if quota.frees_in_seconds else ""
        yield f'"{quota.policy}";r={bounded(quota.remaining)}{frees}'


def bounded(number: int) -> int:
    """The number, or the largest that a structured field can hold (RFC 9651, section 3.3.1)."""
    return min(number, LARGEST)
