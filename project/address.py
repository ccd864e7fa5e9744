"""Where programs on this machine reach the web service, whatever it listens on and is called outside."""

import errno
import socket

from django.conf import settings

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104


class PortUnavailable(Exception):
    """A port that a part of Pictor is to listen on is taken, or not ours to take."""


def local_url(port: int) -> str:
    """The service's address from this machine, without a slash at the end."""
    host = settings.HOST
    return f"http://{EVERYWHERE.get(host, f'[{host}]' if ':' in host else host)}:{port}"


def host_headers() -> dict[str, str]:
    """The headers with which the service accepts a request from this machine as one for itself."""
    allowed = settings.ALLOWED_HOSTS
    is_local = "*" in allowed or "127.0.0.1" in allowed
    headers = {} if is_local or not allowed else {"Host": allowed[0].lstrip(".")}
    return headers | ({"X-Forwarded-Proto": "https"} if settings.HTTPS else {})


def check_port(host: str, port: int, *, advice: str) -> None:
    """Raise `PortUnavailable`, with `advice`, unless a server could listen on this address now."""
    if not 0 < port < 65536:
        raise PortUnavailable(f"There is no port {port}: they go from 1 to 65535.")
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = f"Port {port} is in use. Stop the program that uses it or choose another: {advice}"
        elif error.errno == errno.EACCES:
            message = f"Port {port} is reserved for root. Choose one above 1023: {advice}"
        else:
            message = f"This machine has no address {host!r}. Correct PICTOR_HOST."
        raise PortUnavailable(message) from error


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
