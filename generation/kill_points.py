"""Points where a test may kill, pause or break this very process; unless PICTOR_KILL_POINTS is set they do nothing.

It names a folder. A process that reaches a point looks there for a file of the point's name, or of the name and a
generation's id (`step-3`, `step-3@<id>`), and does what it says: the name of a signal, which the thread sends to
itself; or of an exception, which it raises; or PAUSE, upon which the thread makes a file `<name>.paused` and waits
until that is gone. The order is removed first, so it works once, unless it says `each`.
"""

import builtins
import os
import signal
import time
from pathlib import Path
from uuid import UUID

FOLDER = os.environ.get("PICTOR_KILL_POINTS")


def reach(point: str, generation_id: UUID | str) -> None:
    """Do what the test wants to happen here, if anything."""
    if FOLDER is not None:
        for name in (point, f"{point}@{generation_id}"):
            obey(Path(FOLDER, name))


def obey(order: Path) -> None:
    """Carry out what the file says; of several processes that find it, one does."""
    paused = order.with_suffix(".paused")
    try:
        each, _, word = order.read_text().rpartition(" ")
        if word == "PAUSE":
            paused.touch()  # before the order goes: who sees neither file takes it for passed
        if not each:
            order.unlink()
    except FileNotFoundError:
        return
    if word == "PAUSE":
        while paused.exists():
            time.sleep(0.01)
    elif word.startswith("SIG"):
        signal.raise_signal(signal.Signals[word])  # one to the process may leave this thread at work for a while
    else:
        raise getattr(builtins, word)
