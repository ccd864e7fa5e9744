"""Images in and out of django-storages.

StorageUnavailable   the storage refused a file again and again
└── StorageFull      there is no room left for it
"""

import errno
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from django.core.files.storage import FileSystemStorage, default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models.functions import Now

from generation.engines.encoding import FORMATS, EncodedImage
from generation.models import Attempt, Generation, Image

logger = logging.getLogger(__name__)

ROOT = "generations"
PAUSES_BETWEEN_TRIES_SECONDS = (0.5, 1.0, 2.0, 4.0)


class StorageUnavailable(Exception):
    """The storage refused a file again and again; the last answer is the cause."""

    code = "storage_unavailable"


class StorageFull(StorageUnavailable):
    """There is no room left for it."""

    code = "storage_full"


@dataclass(frozen=True, slots=True)
class Picture:
    """One encoded image with its thumbnail, ready to be stored; sizes in pixels."""

    image: EncodedImage
    thumbnail: EncodedImage
    width: int
    height: int


def folder(attempt: Attempt) -> str:
    """Where the files of an attempt lie: nobody can guess it, and no other attempt writes there."""
    return f"{ROOT}/{attempt.generation_id}/{attempt.number}-{attempt.claim_token.hex}"


def store(picture: Picture, *, generation: Generation, attempt: Attempt, index: int) -> Image:
    """Put one picture on storage; returns its row, not saved yet. Raises StorageUnavailable."""
    place = folder(attempt)
    return Image(
        generation=generation,
        attempt=attempt,
        index=index,
        seed=generation.seed + index,
        file=save(f"{place}/{index}.{picture.image.extension}", picture.image),
        thumbnail=save(f"{place}/{index}-thumbnail.{picture.thumbnail.extension}", picture.thumbnail),
        content_type=picture.image.content_type,
        width=picture.width,
        height=picture.height,
        size_bytes=len(picture.image.data),
        sha256=sha256(picture.image.data).hexdigest(),
    )


def save(name: str, encoded: EncodedImage, *, pauses: Sequence[float] | None = None) -> str:
    """Save one file, patiently: the GPU's work must not be lost to a storage that is away for seconds."""
    for pause in (*(PAUSES_BETWEEN_TRIES_SECONDS if pauses is None else pauses), None):
        content = SimpleUploadedFile(name, encoded.data, content_type=encoded.content_type)  # S3 keeps the type
        try:
            return default_storage.save(name, content)
        except Exception as error:  # each backend has its own errors, and all of them mean the same here
            if pause is None:
                is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
                problem = StorageFull if is_full else StorageUnavailable
                raise problem(f"The storage did not take {name}: {error}") from error
            logger.warning("The storage did not take %s (%s); trying again in %s s.", name, error, pause)
            time.sleep(pause)
    raise AssertionError("unreachable")


def remove_attempt(attempt: Attempt) -> None:
    """Delete whatever an attempt may have stored, and note that this was done."""
    place = folder(attempt)
    extension = FORMATS[attempt.generation.image_format].extension
    for index in range(attempt.generation.num_images):
        default_storage.delete(f"{place}/{index}.{extension}")
        default_storage.delete(f"{place}/{index}-thumbnail.webp")
    remove_folder(place)
    Attempt.objects.filter(pk=attempt.pk).update(files_removed_at=Now())


def try_to_remove_attempt(attempt: Attempt) -> bool:
    """The same for an attempt that nobody waits for; False, to be tried again later, if the storage refuses."""
    try:
        remove_attempt(attempt)
    except Exception as error:  # each backend has its own errors, and all of them mean the same here
        logger.warning("Files of %s stay for now: %s", attempt, error)
        return False
    return True


def remove(name: str) -> None:
    """Delete one file; none of that name is as good."""
    default_storage.delete(name)


def try_to_remove(name: str) -> bool:
    """The same where nobody waits for it; False, to be tried again later, if the storage refuses."""
    try:
        remove(name)
    except Exception as error:  # each backend has its own errors, and all of them mean the same here
        logger.warning("The file %s stays for now: %s", name, error)
        return False
    return True


def remove_folder(place: str) -> None:
    """Remove an emptied folder and the one around it, on a file system; object stores have none."""
    if isinstance(default_storage, FileSystemStorage):
        with suppress(OSError):  # not there, or not empty: another attempt's files lie beside it
            default_storage.delete(place)
            default_storage.delete(place.rpartition("/")[0])


def generations_with_files(root: str = ROOT) -> Iterator[UUID]:
    """The ids of generations that have a folder there, one after another, in no particular order."""
    names = folders_on_disk(root) if isinstance(default_storage, FileSystemStorage) else prefixes_in_bucket(root)
    for name in names:
        with suppress(ValueError):  # not a folder of ours
            yield UUID(name)


def folders_on_disk(root: str) -> Iterator[str]:
    """Read as they are asked for: there may be very many."""
    with suppress(FileNotFoundError), os.scandir(default_storage.path(root)) as entries:
        for entry in entries:
            yield entry.name


def prefixes_in_bucket(root: str) -> Iterator[str]:
    """What S3 lists as folders, a page at a time."""
    bucket = default_storage.bucket  # type: ignore[attr-defined]  # S3Storage's own
    pages = bucket.meta.client.get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=bucket.name, Prefix=f"{root}/", Delimiter="/"):
        for prefix in page.get("CommonPrefixes", ()):
            yield prefix["Prefix"].split("/")[1]


def remove_generation(generation_id: UUID, root: str = ROOT) -> None:
    """Delete the folder of a generation with everything in it."""
    place = f"{root}/{generation_id}"
    if isinstance(default_storage, FileSystemStorage):
        shutil.rmtree(default_storage.path(place), ignore_errors=True)
    else:
        default_storage.bucket.objects.filter(Prefix=f"{place}/").delete()  # type: ignore[attr-defined]


def abort_uploads(*, before: datetime) -> int:
    """End uploads in parts that began before that time; a file system has none. Returns how many."""
    if isinstance(default_storage, FileSystemStorage):
        return 0
    bucket = default_storage.bucket  # type: ignore[attr-defined]
    old = [upload for upload in bucket.multipart_uploads.filter(Prefix=f"{ROOT}/") if upload.initiated < before]
    for upload in old:
        upload.abort()
    return len(old)


def read(name: str) -> bytes:
    """The bytes of a stored file; FileNotFoundError if it is gone."""
    with default_storage.open(name) as file:
        return bytes(file.read())


def signed_url(name: str, *, disposition: str) -> str:
    """The storage's own link to a file, signed and short-lived; only S3 storage has such links."""
    parameters = {"ResponseContentDisposition": disposition}
    return default_storage.url(name, parameters=parameters)  # type: ignore[call-arg]  # S3Storage's own
