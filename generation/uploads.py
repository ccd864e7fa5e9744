"""Pictures from outside: decoded by a process of their own (`decoder`), for nobody knows what is in them."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore

from generation import decoder
from generation.conf import configuration
from generation.sources import Upload

PROGRAM = Path(decoder.__file__)
PATIENCE_SECONDS = 60
DAMAGED = "It is damaged: it cannot be decoded within the time and memory that a picture of its size takes."

# Each takes a processor while it works; more of them at once would only take each other's time and memory.
_room = BoundedSemaphore(os.cpu_count() or 1)


class RefusedPicture(Exception):
    """The file is not taken; the message says why."""


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """A plain PNG that we have written ourselves; sizes in pixels."""

    data: bytes
    width: int
    height: int


def decode(upload: Upload) -> DecodedPicture:
    """The picture, upright, with its pixels and nothing else. Raises RefusedPicture."""
    most = configuration().max_input_bytes
    if not upload.data:
        raise RefusedPicture("The file is empty.")
    if len(upload.data) > most:
        raise RefusedPicture(f"{len(upload.data)} bytes are too many: at most {most}.")
    kind = "alpha-mask" if upload.is_alpha_mask else "picture"
    command = [sys.executable, "-I", str(PROGRAM), str(configuration().max_input_pixels), kind]
    try:
        with _room:
            done = subprocess.run(
                command, input=upload.data, capture_output=True, timeout=PATIENCE_SECONDS, env={}, check=False
            )
    except subprocess.TimeoutExpired as error:
        raise RefusedPicture(DAMAGED) from error
    if done.returncode not in (0, decoder.REFUSED):
        raise RefusedPicture(DAMAGED)
    head, _, data = done.stdout.partition(b"\n")
    facts = json.loads(head)
    if "refusal" in facts:
        raise RefusedPicture(facts["refusal"])
    return DecodedPicture(data=data, width=facts["width"], height=facts["height"])
