"""Secrets that are drawn once and kept in files that only the owner can read."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class UnsafeFolder(ImproperlyConfigured):
    """A folder that must be ours alone belongs to somebody else, or cannot be closed to others."""


def read_or_create(path: Path) -> str:
    """The secret in `path`; if there is none yet, a new random one (50 characters) is stored there first.

    Raises `ImproperlyConfigured` where the file can be neither read nor made.
    """
    try:
        if not path.exists():
            write(path, secrets.token_urlsafe(37))
        return path.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(
            f"The secret in {path} can be neither read nor made ({error.strerror}). "
            "Give the file and its folder to the user that runs Pictor."
        ) from error


def make_private(folder: Path) -> None:
    """Create a folder that only its owner may enter, or close an existing one of ours to everybody else.

    Somebody else's folder stays as it is, for it may be a volume that was mounted for us. Raises
    `ImproperlyConfigured` for a folder that cannot be made or written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise ImproperlyConfigured(
            f"The folder {folder} cannot be made ({error.strerror}). Set PICTOR_DATA_DIR to one that you may write."
        ) from error
    if status.st_uid == os.getuid() and status.st_mode & OPEN_TO_OTHERS:
        with suppress(OSError):  # some network file systems know no modes; `manage.py check` warns
            folder.chmod(0o700)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ImproperlyConfigured(
            f"The folder {folder} may not be written by the user that runs Pictor. "
            "Give it to that user, or set PICTOR_DATA_DIR to another one."
        )


def make_ours(folder: Path) -> None:
    """Like `make_private`, for a folder in which nobody else may have a say; raises `UnsafeFolder` if one has."""
    if folder.is_symlink():
        raise UnsafeFolder(
            f"{folder} is a link to another folder. Remove it, or set PICTOR_DATA_DIR to another folder."
        )
    make_private(folder)
    status = folder.lstat()
    if status.st_uid != os.getuid():
        raise UnsafeFolder(f"{folder} belongs to another user. Remove it, or set PICTOR_DATA_DIR to a folder of yours.")
    if status.st_mode & OPEN_TO_OTHERS:
        raise UnsafeFolder(
            f"{folder} cannot be closed to other users. Set PICTOR_DATA_DIR to a folder on a local disk."
        )


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
