"""Where the log goes, how a line of it looks, and the one line that is left out."""

import logging
import sys
from typing import Any


def logging_settings(level: str) -> dict[str, Any]:
    """Django's LOGGING: one line per record on standard error."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"without_revoke_warnings": {"()": "project.logs.WithoutRevokeWarnings"}},
        "formatters": {"line": {"()": "project.logs.LineFormatter"}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "stream": sys.stderr,
                "formatter": "line",
                "filters": ["without_revoke_warnings"],
            }
        },
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "celery": {"level": "WARNING"},
            "kombu": {"level": "WARNING"},
            "flower.inspector": {"level": "ERROR"},  # it warns until the first worker has answered
            "httpx": {"level": "WARNING"},
        },
    }


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
