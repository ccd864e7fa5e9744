"""The first eight bytes that each side of a socket sends: who it is, and which version of the protocol it speaks."""

from __future__ import annotations

import struct

from generation.runtimes.errors import BadMessage
from generation.runtimes.frames import VERSION, Buffer

HELLO_FORMAT = struct.Struct("!6sH")
MAGIC = b"PICTOR"
HELLO = HELLO_FORMAT.pack(MAGIC, VERSION)


def check_hello(data: Buffer) -> None:
    """Raise BadMessage unless the other side speaks our version."""
    magic, version = HELLO_FORMAT.unpack(data)
    if magic != MAGIC:
        raise BadMessage("The other side does not speak Pictor's protocol.")
    if version != VERSION:
        raise BadMessage(f"The other side speaks version {version} of the protocol, and this one version {VERSION}.")
