"""What a request says in its headers about how it wants to be handled."""

import re
from dataclasses import dataclass, replace

from rest_framework.exceptions import ParseError
from rest_framework.request import Request

from generation.terms import Asked

QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])+)"')  # a string of RFC 8941, section 3.3.3
BARE = re.compile(r"[!#-+\--~]+")  # what many clients send instead: visible ASCII without quotes and commas
LONGEST_KEY = 255
LONGEST_WAIT_SECONDS = 60
WAIT = re.compile(r'wait(?:\s*=\s*"?(\d{1,9})"?)?', re.ASCII)
DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Preference:
    """How a client wants its answer: at once, or held back until there is a result; and what of it is heeded."""

    wait_seconds: int | None = None
    applied: str = ""


def preference(request: Request) -> Preference:
    """What `Prefer` (RFC 7240) says about waiting. What is not understood is ignored, as the RFC wants it."""
    wishes = [wish.partition(";")[0].strip().lower() for wish in request.headers.get("Prefer", "").split(",")]
    if wait := next(filter(None, map(WAIT.fullmatch, wishes)), None):
        seconds = min(int(wait[1] or LONGEST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)
        return Preference(seconds, applied=f"wait={seconds}")
    return Preference(applied="respond-async" if "respond-async" in wishes else "")


def idempotency_key(request: Request) -> str:
    """The `Idempotency-Key`, "" without one (draft-ietf-httpapi-idempotency-key-header-07); raises ParseError."""
    value = request.headers.get("Idempotency-Key")
    if value is None:
        return ""
    value = value.strip()
    quoted = QUOTED.fullmatch(value)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value
    if not (quoted or BARE.fullmatch(value)) or len(key) > LONGEST_KEY:
        raise ParseError(
            f'Idempotency-Key must be a string in quotes, such as "8e03978e-40d5", of at most {LONGEST_KEY} '
            "printable ASCII characters."
        )
    return key


def with_deadline(asked: Asked, request: Request) -> Asked:
    """What is asked for, with the deadline of the header unless the body names one; raises ParseError."""
    seconds = cancel_after_seconds(request)
    if seconds is None or asked.terms.deadline_seconds is not None:
        return asked
    return replace(asked, terms=replace(asked.terms, deadline_seconds=seconds))


def cancel_after_seconds(request: Request) -> float | None:
    """`Cancel-After: 30s`, `5m`, `1h30m` or a plain number of seconds; None without one; raises ParseError."""
    value = request.headers.get("Cancel-After")
    if value is None:
        return None
    match = DURATION.fullmatch(value.strip())
    if match is None or not any(match.groups()):
        raise ParseError("Cancel-After must be a duration such as 30s, 5m or 1h30m.")
    hours, minutes, seconds = (int(number or 0) for number in match.groups())
    return float(hours * 3600 + minutes * 60 + seconds)
