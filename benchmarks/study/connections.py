"""The connections of the study's clients: one for each thread, kept alive, as client libraries do."""

from http.client import HTTPConnection
from threading import local

from generation.runtimes.http import is_quiet


def own_connection(own: local, host: str, port: int, *, seconds: float) -> HTTPConnection:
    """This thread's; a fresh one if there is none, or if the server has closed it while it was idle."""
    connection: HTTPConnection | None = getattr(own, "connection", None)
    if connection is None:
        connection = own.connection = HTTPConnection(host, port, timeout=seconds)
    elif connection.sock is not None and not is_quiet(connection.sock):
        connection.close()  # which the next request opens anew
    return connection
