"""How a line of the log looks, and the one line that is left out."""

import logging


class LineFormatter(logging.Formatter):
    """`09:41:07 INFO runner: message`, with the logger's last word; a traceback follows on its own lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(source)s: %(message)s", datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        record.source = record.name.rpartition(".")[2]
        return super().format(record)


class WithoutRevokeWarnings(logging.Filter):
    """Drop Celery's warning that a revoke could not be noted in a result backend: Pictor has none on purpose."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is logged."""
        return not str(record.msg).startswith("Failed to mark task")
