"""Hosts on a switch, as network namespaces of Linux: this machine and others, whose cables can be pulled.

A packet to a host whose cable is pulled is dropped, and nobody is told: its own card stays up, as behind a real switch.
"""

import os
import subprocess
from uuid import uuid4

SUBNET = "198.18"  # for tests of networks (RFC 2544): nobody is reached there


class Network:
    """The machine itself at `address`, and the hosts of these names; processes get into one by `inside`."""

    def __init__(self, *hosts: str) -> None:
        token = uuid4()
        self.hosts = hosts
        self._prefix = f"pictor-{token.hex[:6]}"
        self._switch = f"{self._prefix}-switch"
        subnet = f"{SUBNET}.{token.int % 256}"
        self.address = f"{subnet}.1"
        ip("netns", "add", self._switch)
        ip("-n", self._switch, "link", "add", "switch", "up", "type", "bridge")
        ip("link", "add", self._prefix, "type", "veth", "peer", "name", "machine", "netns", self._switch)
        ip("address", "add", f"{self.address}/24", "dev", self._prefix)
        ip("link", "set", self._prefix, "up")
        self.heal("machine")
        for number, host in enumerate(hosts, start=2):
            space = f"{self._prefix}-{host}"
            ip("netns", "add", space)
            ip("-n", space, "link", "add", "eth0", "type", "veth", "peer", "name", host, "netns", self._switch)
            ip("-n", space, "address", "add", f"{subnet}.{number}/24", "dev", "eth0")
            for card in ("lo", "eth0"):
                ip("-n", space, "link", "set", card, "up")
            self.heal(host)

    def inside(self, host: str) -> list[str]:
        """What to put before a command so that it runs on the host, under its name; the process stays the same one."""
        name_it = 'hostname "$0" && exec "$@"'
        return ["ip", "netns", "exec", f"{self._prefix}-{host}", "unshare", "--uts", "sh", "-c", name_it, host]

    def cut(self, host: str = "machine") -> None:
        """Pull the cable of a host; of this machine, where web, broker and database are, unless one is named."""
        ip("-n", self._switch, "link", "set", host, "nomaster")

    def heal(self, host: str = "machine") -> None:
        """Plug it in (again)."""
        ip("-n", self._switch, "link", "set", host, "up", "master", "switch")

    def close(self) -> None:
        """Remove all of it; the cards go with the namespaces that hold their other ends."""
        for space in (self._switch, *(f"{self._prefix}-{host}" for host in self.hosts)):
            ip("netns", "delete", space)


def ip(*words: str) -> None:
    """iproute2's command."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def why_not() -> str:
    """Why there can be no such network here; nothing if there can be one."""
    if os.geteuid() != 0:
        return "Only root may make network namespaces."
    space = f"pictor-{uuid4().hex[:6]}-probe"
    try:
        ip("netns", "add", space)
        ip("-n", space, "link", "add", "probe", "type", "bridge")
        ip("netns", "delete", space)
    except FileNotFoundError:
        return "There is no `ip` (Debian: iproute2)."
    except subprocess.CalledProcessError as error:
        return f"No network namespaces here: {error.stderr.decode().strip()}"
    return ""
