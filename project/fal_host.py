"""The host name, or port, at which fal's client finds its dialect: that client knows a host and no path."""

from collections.abc import MutableMapping
from typing import Any

from django.conf import settings

from project.body_limit import Application, Receive, Send

MOUNT = "/fal"


class FalHost:
    """Puts what comes to `PICTOR_FAL_HOST` below /fal, where the dialect is."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass the request on, with the path it has inside."""
        if settings.FAL_HOST and scope["type"] == "http" and host_of(scope) == settings.FAL_HOST.lower():
            scope = dict(scope) | {"path": MOUNT + scope["path"], "raw_path": MOUNT.encode() + scope["raw_path"]}
        await self.application(scope, receive, send)


def host_of(scope: MutableMapping[str, Any]) -> str:
    """The Host header, with its port if it has one."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    return hosts[0].decode("latin-1").lower() if hosts else ""
