"""One POST to an address of somebody else's choice: guarded at connect time, bounded in time and size.

SendingFailed
└── AddressRefused   the name leads to no address that may be reached
"""

import asyncio
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any

import httpcore
import httpx

from generation.conf import configuration
from generation.webhooks.addresses import fault_of, is_public

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 20.0
LONGEST_ANSWER = 1000  # bytes that are kept of an answer; the rest is not even read
LONGEST_RETRY_AFTER_SECONDS = 24 * 3600


class SendingFailed(Exception):
    """There was no answer; the message says why."""


class AddressRefused(SendingFailed):
    """The name leads to no address that may be reached."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver answered."""

    status_code: int
    body: str
    retry_after_seconds: float | None


class GuardedBackend(httpcore.AnyIOBackend):
    """Connects to public addresses only.

    A name is looked up once, and the connection goes to an address of that very answer. So a name server that says
    something else the next time, as in DNS rebinding, gains nothing.
    """

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first allowed address of `host` that answers; raises AddressRefused or ConnectError."""
        failure: Exception = AddressRefused(f"{host} leads to no address on the public internet.")
        for address in await allowed_addresses(host, port):
            try:
                return await super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


async def allowed_addresses(host: str, port: int) -> list[str]:
    """The addresses that `host` has now and that may be reached."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = dict.fromkeys(str(place[0]) for *_, place in found)
    if configuration().webhooks_may_be_private:
        return list(addresses)
    return [address for address in addresses if is_public(ip_address(address))]


def post(url: str, body: str, *, headers: Mapping[str, str]) -> Answer:
    """POST `body` and return the answer, whatever it says; redirects are answers too. Raises SendingFailed."""
    if fault := fault_of(url):  # the settings may have changed since it was accepted
        raise AddressRefused(f"The URL cannot be used: {fault}")
    try:
        return asyncio.run(post_in_time(url, body, headers))
    except TimeoutError as error:
        raise SendingFailed(f"There was no whole answer within {TOTAL_SECONDS:g} s.") from error
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError, UnicodeError) as error:
        raise SendingFailed(f"{type(error).__name__}: {error}") from error


async def post_in_time(url: str, body: str, headers: Mapping[str, str]) -> Answer:
    """The same, unguarded against exceptions."""
    # httpcore itself and not httpx: it takes a network of our own, and knows no proxies, redirects or cookies.
    pool = httpcore.AsyncConnectionPool(ssl_context=httpx.create_ssl_context(), network_backend=GuardedBackend())
    async with asyncio.timeout(TOTAL_SECONDS), pool:
        extensions = {"timeout": {"connect": CONNECT_SECONDS, "read": TOTAL_SECONDS, "write": TOTAL_SECONDS}}
        sent = pool.stream("POST", url, headers=list(headers.items()), content=body.encode(), extensions=extensions)
        async with sent as response:
            beginning = b""
            async for chunk in response.aiter_stream():
                beginning += chunk
                if len(beginning) >= LONGEST_ANSWER:
                    break
            return Answer(
                status_code=response.status,
                body=beginning[:LONGEST_ANSWER].decode(errors="replace").replace("\x00", "�"),
                retry_after_seconds=retry_after_seconds(response.headers, now=time.time()),
            )


def retry_after_seconds(headers: Iterable[tuple[bytes, bytes]], *, now: float) -> float | None:
    """What `Retry-After` (RFC 9110, section 10.2.3) asks for, at most a day; None without one that makes sense."""
    value = next((value.decode("latin-1").strip() for name, value in headers if name.lower() == b"retry-after"), "")
    try:
        seconds = float(int(value)) if value.isdigit() else parsedate_to_datetime(value).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER_SECONDS)
