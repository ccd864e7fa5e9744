"""The servers of a pool, as `PICTOR_GATEWAY_UPSTREAMS` names them.

http://host:9000                         a model server of Pictor's
openai+http://host:8000/v1               a server with OpenAI's Images API, at the address that its clients take
openai+https://host/v1?at_once=4         one that works on four pictures at once
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, parse_qs, urlsplit

PREFIX = "openai+"
OPTION = "at_once"


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server of the pool; `at_once` is how many pictures are asked of it at a time, None if it tells itself."""

    protocol: Literal["pictor", "openai"]
    url: str
    at_once: int | None = None


def parse_upstreams(texts: list[str]) -> tuple[Upstream, ...]:
    """All servers of a pool. Raises ValueError, with a sentence, for what is no address of one, or comes twice."""
    upstreams = tuple(parse_upstream(text) for text in texts)
    urls = [upstream.url for upstream in upstreams]
    for url in urls:
        if urls.count(url) > 1:
            raise ValueError(f"{url} is named twice. Name each server once.")
    return upstreams


def parse_upstream(text: str) -> Upstream:
    """One server. Raises ValueError, with a sentence, for what is no address of one."""
    is_openai = text.startswith(PREFIX)
    parts = urlsplit(text.removeprefix(PREFIX))
    check_address(text, parts)
    path = parts.path.rstrip("/")
    url = f"{parts.scheme}://{parts.netloc}{path}"
    if is_openai:
        return Upstream("openai", url, at_once=at_once_of(text, parts.query))
    if path or parts.query:
        raise ValueError(
            f"{text} has a path or options, which addresses of Pictor's model servers have not. "
            f"Write {PREFIX}{text} for a server that speaks OpenAI's Images API."
        )
    return Upstream("pictor", url)


def check_address(text: str, parts: SplitResult) -> None:
    """Raise ValueError unless it is the address of a server, and nothing secret."""
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError(f"{text} is no address of a server, such as http://host:9000 or openai+http://host:8000/v1.")
    try:
        parts.port  # noqa: B018  raises ValueError unless it is a port
    except ValueError as error:
        raise ValueError(f"The port of {text} is no number up to 65535.") from error
    if parts.username or parts.password:
        raise ValueError("An address must not have a password in it. Set PICTOR_GATEWAY_API_KEY.")


def at_once_of(text: str, query: str) -> int:
    """How many pictures at a time a server of OpenAI's API is asked for: one, unless the address says more."""
    options = parse_qs(query, keep_blank_values=True)
    value = options.pop(OPTION, ["1"])[-1]
    if options or not value.isdecimal() or not 1 <= int(value) <= 1000:
        raise ValueError(f"{text} may end in ?{OPTION}=N, from 1 to 1000, and in no other option.")
    return int(value)
