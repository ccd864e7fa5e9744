"""How Pictor talks to its database: what it takes for SQLite to serve several processes, and PostgreSQL's patience."""

from pathlib import Path
from typing import Any

SQLITE = {
    # IMMEDIATE takes the write lock at BEGIN: without it two processes that read and then write both fail.
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=2000;",
}
POSTGRES = {
    # libpq would wait for minutes, for a server that does not answer as for one that has gone in mid-query.
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
POOL = {
    "min_size": 1,
    "max_size": 8,
    "timeout": 5,  # seconds until a request is told that the database is busy, or away
    "reconnect_timeout": 0,  # each request tries anew, for a back-off would last after the database is back
}


def with_options(database: dict[str, Any], *, base_dir: Path) -> dict[str, Any]:
    """Django's settings for a database, with our options; those in its URL win over PostgreSQL's here."""
    if database["ENGINE"].endswith("sqlite3"):
        name = database["NAME"]
        place = name if name == ":memory:" else str(base_dir / name)  # the same from every folder
        return database | {"NAME": place, "OPTIONS": SQLITE}
    if database["ENGINE"].endswith("postgresql"):
        return database | {"OPTIONS": POSTGRES | database.get("OPTIONS", {})}
    return database


def share_connections(databases: dict[str, dict[str, Any]]) -> None:
    """Have the requests of this process take turns on a few connections to PostgreSQL; before the first one is made.

    Each request has a thread of its own, which would make a connection of its own: that takes longer than all it asks.
    """
    for database in databases.values():
        if database["ENGINE"].endswith("postgresql"):
            database["OPTIONS"] = database.get("OPTIONS", {}) | {"pool": POOL}
            database["CONN_HEALTH_CHECKS"] = True  # or each connection that a restart has cut would fail a request
