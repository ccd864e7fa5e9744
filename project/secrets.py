"""Secrets that are drawn once and kept in files that only the owner can read."""

import os
import secrets
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def read_or_create(path: Path) -> str:
    """The secret in `path`; if there is none yet, a new random one (50 characters) is stored there first."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        write(path, secrets.token_urlsafe(37))
        return path.read_text().strip()


def make_private(folder: Path) -> None:
    """Create a folder that only its owner may enter; raises ImproperlyConfigured where that cannot be."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(
            f"The folder {folder} cannot be made ({error.strerror}). Set PICTOR_DATA_DIR to one that you may write."
        ) from error


def write(path: Path, secret: str) -> None:
    """Store `secret` in `path` (mode 0600), unless another process has stored one there already."""
    make_private(path.parent)
    # Written aside and linked into place: another process sees the whole secret or none, and the first one wins.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
