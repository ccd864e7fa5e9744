"""What was measured on this kind of device, remembered from one start of the process to the next."""

from __future__ import annotations

import json
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class Notebook:
    """Values by name, in a JSON file if there is one. Several processes may write: the last to write a name wins."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._values = self._read()
        self._unwritten: dict[str, Any] = {}  # what counts more than the file, as that could not be written

    def get(self, name: str) -> Any:
        """The value of this name, or None."""
        return self._values.get(name)

    def all_under(self, prefix: str) -> dict[str, Any]:
        """All values whose names begin so."""
        return {name: value for name, value in self._values.items() if name.startswith(prefix)}

    def put(self, name: str, value: Any) -> None:
        """Note a value that JSON can hold, in the file too; if that cannot be written, this process remembers it."""
        with self._lock:
            self._unwritten[name] = value
            self._values = {**self._values, **self._read(), **self._unwritten}
            if self._file is not None:
                try:
                    self._write(self._file)
                    self._unwritten.clear()
                except OSError as error:
                    logger.warning("%s is measured anew at the next start: %s", name, error)

    def _write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Threads of two processes may have the same number.
        draft = file.with_name(f"{file.name}.{os.getpid()}-{threading.get_ident()}")
        draft.write_text(json.dumps(self._values, indent=1, sort_keys=True))
        draft.replace(file)  # readers see the old file or the new one, never half of one

    def _read(self) -> dict[str, Any]:
        if self._file is not None:
            with suppress(OSError, ValueError):  # not there yet, or damaged: then everything is measured anew
                values = json.loads(self._file.read_text())
                return values if isinstance(values, dict) else {}
        return {}
