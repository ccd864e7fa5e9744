"""The host names, or ports, at which fal's client finds its dialect: that client knows hosts and no path."""

from collections.abc import MutableMapping
from typing import Any

from django.conf import settings

from project.body_limit import Application, Receive, Send

QUEUE, DIRECT = "/fal", "/fal-run"


class FalHost:
    """Puts what comes to `PICTOR_FAL_HOST` below /fal, and what comes to `PICTOR_FAL_RUN_HOST` below /fal-run."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass the request on, with the path it has inside."""
        mounts = {settings.FAL_HOST.lower(): QUEUE, settings.FAL_RUN_HOST.lower(): DIRECT}
        host = host_of(scope) if scope["type"] == "http" else ""
        if mount := mounts.get(host) if host else None:
            scope = dict(scope) | {"path": mount + scope["path"], "raw_path": mount.encode() + scope["raw_path"]}
        await self.application(scope, receive, send)


def host_of(scope: MutableMapping[str, Any]) -> str:
    """The Host header, with its port if it has one."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    return hosts[0].decode("latin-1").lower() if hosts else ""
