"""Generations under random faults, and the ledger of what became of them: nothing lost, nothing twice.

    .venv/bin/python benchmarks/soak.py                                    # 10 minutes, SQLite
    .venv/bin/python benchmarks/soak.py --minutes 10 --database postgres
    .venv/bin/python benchmarks/soak.py --quick                            # one minute

Starts a service of its own (web, housekeeper, two CPU workers with two slots, Redis), keeps a few generations waiting,
cancels some, and every few seconds breaks something: kills, pauses and stops of each process, kills in mid-work,
exceptions in the pipeline, a broker that refuses, falls silent, drops connections, restarts or loses everything, a
storage and a database that are away. Whatever died is started again at once. At the end all faults stop, everything is
waited for, the history is checked (tests/faults/history.py) and the ledger printed, with the faults that the longest
recoveries followed. `--seed` repeats the choices, `--folder` keeps the logs.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.faults.cluster import WORKERS, Cluster, started_cluster  # noqa: E402  found through the line above
from tests.postgres import start_postgres  # noqa: E402

MOST_WAITING = 8
NOBODY_LISTENS = "http://127.0.0.1:9/"  # so that what is to be told stays in the outbox
PAUSE_SECONDS = (2.0, 5.0)
AWAY_SECONDS = 5.0  # longer than the lease
ORDERS = ("after_claim", "after_upload", "after_result_commit", "step-2")
SLOWEST = 5  # recoveries that are explained
EXCEPTIONS = ("MemoryError", "SystemExit", "KeyboardInterrupt", "RuntimeError")


class Soak:
    """A cluster, who breaks it, and what was done to it."""

    def __init__(self, cluster: Cluster, *, chance: random.Random) -> None:
        self.cluster = cluster
        self.chance = chance
        self.faults: Counter[str] = Counter()
        self.moments: list[tuple[float, str]] = []
        self.refused: Counter[str] = Counter()
        self.waiting: list[dict[str, Any]] = []

    def run(self, *, seconds: float) -> None:
        """Submit and break for so long."""
        ends_at = time.monotonic() + seconds
        next_fault_at = time.monotonic()
        while time.monotonic() < ends_at:
            self.restart_the_dead()
            self.submit_one()
            if time.monotonic() >= next_fault_at:
                fault = self.chance.choice(self.choices())
                self.faults[fault.__name__] += 1
                self.moments.append((time.time(), fault.__name__))
                fault()
                next_fault_at = time.monotonic() + self.chance.uniform(*PAUSE_SECONDS)

    def choices(self) -> list[Callable[[], None]]:
        """What can be broken here."""
        return [
            self.kill_a_worker, self.kill_a_worker, self.pause_a_worker, self.stop_a_worker, self.kill_in_mid_work,
            self.raise_in_the_pipeline, self.kill_web, self.kill_the_housekeeper, self.drop_connections,
            self.lose_messages, self.restart_redis, self.refuse_at_the_broker, self.silence_the_broker,
            self.take_the_storage_away, self.take_the_database_away,
        ]  # fmt: skip

    def explain(self, recovery: dict[str, Any]) -> str:
        """How long it took, after which fault, and what else was broken meanwhile."""
        began, ended = recovery["began_at"], recovery["ended_at"]
        before = [f"{name} {began - at:.1f} s before" for at, name in self.moments if at <= began][-1:]
        meanwhile = [f"{name} at {at - began:.1f} s" for at, name in self.moments if began < at <= ended]
        faults = ", ".join(before + meanwhile).replace("_", " ")
        return f"{recovery['seconds']} s, {recovery['outcome']}, {recovery['messages']} messages; {faults}"

    # --- the client ---------------------------------------------------------------------------------------

    def submit_one(self) -> None:
        """Submit one, or cancel one, or wait a moment if enough of them wait."""
        try:
            if len(self.waiting) >= MOST_WAITING:
                self.waiting = [seen for seen in map(self.cluster.look, self.waiting) if seen["finished_at"] is None]
                time.sleep(0.1)
            elif self.waiting and self.chance.random() < 0.1:
                self.cluster.client.post(self.chance.choice(self.waiting)["links"]["cancel"])
            else:
                told = self.chance.choice(({}, {"webhook_url": NOBODY_LISTENS}))
                self.waiting.append(self.cluster.submit(num_images=self.chance.choice((1, 1, 2)), **told))
        except (httpx.HTTPError, AssertionError) as error:  # no web process, or a 503
            self.refused[type(error).__name__] += 1
            time.sleep(0.2)

    def restart_the_dead(self) -> None:
        """As a supervisor does."""
        for name in ("web", "housekeeper", *WORKERS):
            if not self.cluster.is_up(name):
                self.cluster.start(name)

    # --- the faults ---------------------------------------------------------------------------------------

    def kill_a_worker(self) -> None:
        """kill -9."""
        self.cluster.kill(self.chance.choice(WORKERS))

    def pause_a_worker(self) -> None:
        """SIGSTOP beyond the lease, then SIGCONT."""
        worker = self.chance.choice(WORKERS)
        self.cluster.kill(worker, signal.SIGSTOP)
        time.sleep(AWAY_SECONDS)
        self.cluster.kill(worker, signal.SIGCONT)

    def stop_a_worker(self) -> None:
        """SIGTERM."""
        self.cluster.kill(self.chance.choice(WORKERS), signal.SIGTERM)

    def kill_in_mid_work(self) -> None:
        """kill -9 at a point of a run."""
        self.cluster.order(self.chance.choice(ORDERS), "SIGKILL")

    def raise_in_the_pipeline(self) -> None:
        """What no task may let out."""
        self.cluster.order("step-1", self.chance.choice(EXCEPTIONS))

    def kill_web(self) -> None:
        """kill -9, half of the time between a commit and its message."""
        if self.chance.random() < 0.5:
            self.cluster.order("after_commit", "SIGKILL")
        else:
            self.cluster.kill("web")

    def kill_the_housekeeper(self) -> None:
        """kill -9."""
        self.cluster.kill("housekeeper")

    def drop_connections(self) -> None:
        """CLIENT KILL TYPE pubsub."""
        assert self.cluster.redis is not None
        self.cluster.redis.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    def lose_messages(self) -> None:
        """FLUSHALL."""
        assert self.cluster.redis is not None
        self.cluster.redis.client.flushall()

    def restart_redis(self) -> None:
        """SHUTDOWN NOSAVE; half of the time its file is gone too."""
        assert self.cluster.redis is not None
        if self.chance.random() < 0.5:
            self.cluster.redis.stop()
        else:
            self.cluster.redis.lose_everything()
        self.cluster.redis.start()

    def refuse_at_the_broker(self) -> None:
        """Connection refused for a while."""
        self.cluster.broker.refuse()
        time.sleep(AWAY_SECONDS)
        self.cluster.broker.accept()

    def silence_the_broker(self) -> None:
        """Nothing gets through for a while, then only for new connections."""
        self.cluster.broker.fall_silent()
        time.sleep(AWAY_SECONDS)
        self.cluster.broker.abandon()

    def take_the_storage_away(self) -> None:
        """A file where the folder should be."""
        media = self.cluster.folder / "data/media"
        aside = media.with_name("media-aside")
        if not media.is_dir():
            return
        media.rename(aside)
        media.write_text("not a folder")
        time.sleep(AWAY_SECONDS)
        media.unlink()
        aside.rename(media)

    def take_the_database_away(self) -> None:
        """Connection refused, or the write lock held."""
        if self.cluster.database is not None:
            self.cluster.database.refuse()
            time.sleep(AWAY_SECONDS)
            self.cluster.database.accept()
            return
        with suppress(sqlite3.OperationalError):
            lock = sqlite3.connect(self.cluster.folder / "data/db.sqlite3", isolation_level=None, timeout=5)
            lock.execute("BEGIN IMMEDIATE")
            time.sleep(AWAY_SECONDS)
            lock.close()


def main() -> None:
    """Run, print the ledger, and end with one line of JSON; the exit status is 1 if anything was lost or doubled."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--quick", action="store_true", help="one minute")
    arguments.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--folder", type=Path, help="an empty folder, to be kept; else one that goes at the end")
    options = arguments.parse_args()
    seconds = 60 * (1 if options.quick else options.minutes)

    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryDirectory(prefix="pictor-soak-") as place:
        folder = options.folder or Path(place)
        url = str(start_postgres(folder / "postgres").get_uri()) if options.database == "postgres" else ""
        with started_cluster(folder, postgres_url=url, slots=2, forks=False) as cluster:
            soak = Soak(cluster, chance=random.Random(options.seed))
            soak.run(seconds=seconds)
            cluster.withdraw_orders()
            cluster.mend()
            patience = time.monotonic() + 120
            while cluster.ask("Generation.objects.unfinished().count()") and time.monotonic() < patience:
                time.sleep(0.5)
            violations, ledger = cluster.ask("history.violations()"), cluster.ask("history.ledger()")
            slowest = cluster.ask(f"history.recoveries()[:{SLOWEST}]")

    print(f"{sum(soak.faults.values())} faults in {seconds / 60:g} minutes on {options.database}:")
    for name, count in sorted(soak.faults.items()):
        print(f"  {count:3} {name.replace('_', ' ')}")
    print(f"  requests without an answer or with a 503: {soak.refused.total()}")
    for name, value in ledger.items():
        print(f"  {name:<26} {value}")
    print("  the longest recoveries, from the last sign of life to the next claim:")
    for recovery in slowest:
        print(f"    {soak.explain(recovery)}")
    for sentence in violations:
        print(f"  VIOLATION {sentence}")
    faults = soak.faults.total()
    ledger["longest_recovery_seconds"] = slowest[0]["seconds"] if slowest else 0.0
    print(json.dumps(ledger | {"violations": len(violations), "faults": faults, "database": options.database}))
    sys.exit(1 if violations or ledger["lost"] or ledger["doubled"] else 0)


if __name__ == "__main__":
    main()
