"""What the engine measures when it first loads a model on a kind of device: once in a run, not in each data folder.

It takes a processor over three seconds, as long as all else that a worker does before its first picture.
"""

import os
from pathlib import Path

RUN = "TESTS_FOLDER"


def folder() -> Path | None:
    """The folder that the engines of this run keep them in; None in a benchmark, which is no run of tests."""
    if RUN not in os.environ:
        return None
    place = Path(os.environ[RUN]) / "engine"
    place.mkdir(exist_ok=True)
    return place


def share(data: Path) -> None:
    """Have the service with this data folder use that folder too; a benchmark's has one of its own."""
    if (place := folder()) is not None:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        (data / "engine").symlink_to(place, target_is_directory=True)
