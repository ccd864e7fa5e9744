"""The model server's Unix socket: frames after a handshake, one question at a time (docs/protocol.md)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Collection
from pathlib import Path

from generation.engines.errors import EngineError
from generation.runtimes import packing
from generation.runtimes.errors import BadMessage
from generation.runtimes.frames import PREFIX, Frame, Kind, Prefix
from generation.runtimes.handshake import HELLO, check_hello
from generation.runtimes.server.host import Host
from generation.runtimes.server.job import Job

logger = logging.getLogger(__name__)

HELLO_SECONDS = 5.0
DELIVERY_SECONDS = 5.0
BUFFER_BYTES = 1024**2


class SocketServer:
    """Listens at `path`, to be reached by our own user and those that are `allowed`."""

    def __init__(self, host: Host, path: Path, *, allowed: Collection[int] = ()) -> None:
        self._host = host
        self._path = path
        self._allowed = {os.getuid(), *allowed}
        self._server: asyncio.Server | None = None
        self._conversations: dict[asyncio.Task[None], Conversation] = {}

    async def start(self) -> None:
        """Listen from now on; a socket that nobody listens on any more is replaced. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        make_way(self._path)
        old_mask = os.umask(0o177 if len(self._allowed) == 1 else 0o111)
        try:
            self._server = await asyncio.start_unix_server(self._connected, self._path, limit=BUFFER_BYTES)
        finally:
            os.umask(old_mask)

    async def stop(self) -> None:
        """Hear nobody any more; who is being answered hears the end of it first."""
        if self._server is not None:
            self._server.close()
        for connection, conversation in self._conversations.items():
            if not conversation.is_answering:
                connection.cancel()
        if self._conversations:
            await asyncio.wait(self._conversations, timeout=DELIVERY_SECONDS)
        for connection in self._conversations:
            connection.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._conversations[task] = conversation = Conversation(self._host, reader, writer)
        try:
            # Who closes with something unread resets the connection, and what was sent is lost: so the hello is read.
            async with asyncio.timeout(HELLO_SECONDS):
                hello = await reader.readexactly(len(HELLO))
            check_peer(writer.get_extra_info("socket"), allowed=self._allowed)
            check_hello(hello)
            writer.write(HELLO)
            await conversation.run()
        except BadMessage as error:
            logger.warning("A connection is closed: %s", error)
            with contextlib.suppress(OSError):
                await send(writer, Frame(Kind.ERROR, packing.pack_error(error)))
        except (OSError, asyncio.IncompleteReadError, TimeoutError, asyncio.CancelledError):
            pass  # it went away, or never said anything, or we stop
        except Exception:
            logger.exception("A connection failed.")
        finally:
            del self._conversations[task]
            writer.close()


class Conversation:
    """One connection after the hello: its client asks one question after another."""

    def __init__(self, host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host = host
        self.is_answering = False
        self._reader = reader
        self._writer = writer
        self._begun: Prefix | None = None

    async def run(self) -> None:
        """Until the client goes, or the server stops. Raises BadMessage for what the client must not say."""
        while not self._host.is_stopped:
            frame = await self._read()
            self.is_answering = True
            match frame.kind:
                case Kind.GENERATE:
                    await self._generate(frame)
                case Kind.CANCEL | Kind.PREVIEW | Kind.SAVE:
                    pass  # it came too late: what it is about has ended
                case Kind.DESCRIBE | Kind.LOAD | Kind.UNLOAD | Kind.SCHEDULERS:
                    await self._answer(frame)
                case _:
                    raise BadMessage(f"A client does not send {frame.kind.name}.")
            self.is_answering = False

    async def _answer(self, frame: Frame) -> None:
        try:
            await send(self._writer, await self._answer_to(frame))
        except BadMessage:
            raise
        except EngineError as error:
            await send(self._writer, Frame(Kind.ERROR, packing.pack_error(error)))
        except OSError:
            raise
        except Exception as error:
            logger.exception("A question failed unexpectedly.")
            await send(self._writer, Frame(Kind.ERROR, packing.pack_error(error)))

    async def _answer_to(self, frame: Frame) -> Frame:
        match frame.kind:
            case Kind.SCHEDULERS:
                return Frame(Kind.ANSWER, {"schedulers": await self._host.schedulers(slug_of(frame))})
            case Kind.LOAD:
                await self._host.load(packing.unpack_source(frame.header))
            case Kind.UNLOAD:
                await self._host.unload(slug_of(frame))
        return Frame(Kind.ANSWER, packing.pack_server(self._host.describe()))

    async def _generate(self, frame: Frame) -> None:
        try:
            job = self._host.start(frame)
        except BadMessage:
            raise
        except EngineError as error:
            await send(self._writer, Frame(Kind.ERROR, packing.pack_error(error)))
            return
        listening = asyncio.create_task(self._listen(job))
        try:
            async for told in job.frames():
                await send(self._writer, told)
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening

    async def _listen(self, job: Job) -> None:
        """Take wishes while a generation runs; a client that goes, or says anything else, is heard no more."""
        try:
            while True:
                frame = await self._read()
                if frame.kind not in (Kind.CANCEL, Kind.PREVIEW, Kind.SAVE):
                    raise BadMessage(f"{frame.kind.name} has to wait until the generation has ended.")
                job.ask(frame.kind)
        except (OSError, asyncio.IncompleteReadError, BadMessage) as error:
            job.is_cancelled = True
            if isinstance(error, BadMessage):
                logger.warning("A connection is closed: %s", error)
                with contextlib.suppress(OSError):
                    await send(self._writer, Frame(Kind.ERROR, packing.pack_error(error)))
            self._writer.close()

    async def _read(self) -> Frame:
        """The next frame. Who reads may be cancelled in its middle: the next one goes on from there."""
        if self._begun is None:
            self._begun = Prefix.parse(await self._reader.readexactly(PREFIX.size))
        rest = memoryview(await self._reader.readexactly(self._begun.length))
        prefix, self._begun = self._begun, None
        return prefix.frame(rest[: prefix.header_length], rest[prefix.header_length :])


def make_way(path: Path) -> None:
    """Remove a socket that nobody listens on. Raises OSError where somebody does, or where something else is."""
    if not path.exists():
        return
    if not path.is_socket():
        raise FileExistsError(f"{path} is no socket. Name another path.")
    with socket.socket(socket.AF_UNIX) as caller:
        try:
            caller.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise FileExistsError(f"Another server listens at {path}. Stop it, or name another path.")


def check_peer(sock: socket.socket, *, allowed: Collection[int]) -> None:
    """Raise BadMessage for a process of a user who is not `allowed`: Linux tells (unix(7), SO_PEERCRED)."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process, user, _ = struct.unpack("3i", credentials)
    if user not in allowed:
        raise BadMessage(f"Process {process} of user {user} may not connect here.")


async def send(writer: asyncio.StreamWriter, frame: Frame) -> None:
    """Write a frame, and wait while the other side reads more slowly than we write."""
    for buffer in frame.buffers():
        writer.write(buffer)
    await writer.drain()


def slug_of(frame: Frame) -> str:
    """The model that a question is about. Raises BadMessage."""
    slug: str = packing.typed(frame.header, {"slug": str}, of="a question")["slug"]
    return slug
