"""Frames: what travels between a runtime and a model server, over HTTP and over a socket (docs/protocol.md).

0   1   kind
1   3   zero
4   4   length of the header, big endian, as all numbers here
8   8   length of the payload
16      the header: an object of JSON, in UTF-8; then the payload: raw bytes
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from generation.runtimes.errors import BadMessage

VERSION = 1
PREFIX = struct.Struct("!B3sIQ")
MOST_HEADER_BYTES = 1024**2
MOST_PAYLOAD_BYTES = 1024**3

Buffer = bytes | bytearray | memoryview


class Kind(IntEnum):
    """What a frame is about; those below 32 come from the client, the others from the server."""

    DESCRIBE = 1
    LOAD = 2
    UNLOAD = 3
    SCHEDULERS = 4
    GENERATE = 5
    CANCEL = 16
    PREVIEW = 17
    SAVE = 18
    PROGRESS = 32
    PREVIEWED = 33
    SAVED = 34
    ALIVE = 35
    RESULT = 48
    CANCELLED = 49
    ERROR = 50
    ANSWER = 51

    @property
    def is_last(self) -> bool:
        """Whether nothing more comes about the same question."""
        return self >= Kind.RESULT


@dataclass(frozen=True, slots=True)
class Frame:
    """One message; the payload's parts follow each other without a gap."""

    kind: Kind
    header: dict[str, Any] = field(default_factory=dict)
    parts: tuple[Buffer, ...] = ()

    @property
    def payload(self) -> memoryview:
        """The payload of a frame that came in, in one piece."""
        return memoryview(self.parts[0] if len(self.parts) == 1 else b"".join(self.parts))

    def buffers(self) -> list[Buffer]:
        """The frame as it is sent; what is large is not copied."""
        header = json.dumps(self.header, ensure_ascii=False, separators=(",", ":")).encode()
        length = sum(memoryview(part).nbytes for part in self.parts)
        return [PREFIX.pack(self.kind, bytes(3), len(header), length) + header, *self.parts]


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first 16 bytes of a frame: how much is still to be read."""

    kind: Kind
    header_length: int
    payload_length: int

    @property
    def length(self) -> int:
        """Of all that follows."""
        return self.header_length + self.payload_length

    @classmethod
    def parse(cls, data: Buffer) -> Prefix:
        """Raises BadMessage for what no frame begins with."""
        try:
            kind, zeros, header_length, payload_length = PREFIX.unpack(data)
            prefix = cls(Kind(kind), header_length, payload_length)
        except (struct.error, ValueError) as error:
            raise BadMessage(f"No frame begins like this: {error}.") from error
        if zeros != bytes(3):
            raise BadMessage("The second to fourth byte of a frame are zero.")
        if header_length > MOST_HEADER_BYTES or payload_length > MOST_PAYLOAD_BYTES:
            raise BadMessage(f"A frame has at most {MOST_HEADER_BYTES} + {MOST_PAYLOAD_BYTES} bytes.")
        return prefix

    def frame(self, header: Buffer, payload: Buffer) -> Frame:
        """The whole frame. Raises BadMessage for a header that is no object of JSON."""
        try:
            parsed = json.loads(bytes(header))
        except (ValueError, RecursionError) as error:
            raise BadMessage(f"The header of a frame is an object of JSON: {error}.") from error
        if not isinstance(parsed, dict):
            raise BadMessage("The header of a frame is an object of JSON.")
        return Frame(self.kind, parsed, (payload,) if len(payload) else ())


def read_frame(fill: Callable[[memoryview], None], *, begun: bytearray | None = None) -> Frame:
    """The next frame; `fill` reads until all of a buffer is filled. Raises BadMessage, and what `fill` raises.

    `begun` are first bytes of it that have been read already.
    """
    first = begun or bytearray()
    prefix = Prefix.parse(first + _read(fill, PREFIX.size - len(first)))
    return prefix.frame(_read(fill, prefix.header_length), _read(fill, prefix.payload_length))


def parse_frame(data: Buffer) -> Frame:
    """The frame that these bytes are, from the first to the last one. Raises BadMessage."""
    view = memoryview(data)
    prefix = Prefix.parse(view[: PREFIX.size])
    rest = view[PREFIX.size :]
    if len(rest) != prefix.length:
        raise BadMessage("The frame is longer or shorter than its first bytes say.")
    return prefix.frame(rest[: prefix.header_length], rest[prefix.header_length :])


def _read(fill: Callable[[memoryview], None], length: int) -> bytearray:
    data = bytearray(length)
    fill(memoryview(data))
    return data
