"""Pictures in the requests of other services: as data in the text, or by a link to something of ours."""

import binascii
import re
from base64 import b64decode
from urllib.parse import unquote_to_bytes, urlsplit
from uuid import UUID

from django.core import signing

from api.dialects.files import GOOD_FOR_SECONDS, SALT
from generation.errors import InvalidParameters
from generation.sources import EarlierImage, Source, StoredInput, Upload

IN_JSON = ("/replicate/", "/fal/", "/fal-run/")  # the beginnings of paths where pictures come as data in JSON
UUID_TEXT = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
FILE = re.compile(rf"/replicate/v1/files/({UUID_TEXT})(?:/download)?")
RESULT = re.compile(r"/files/([^/]+)/[^/]+")


def picture_in(text: str, *, field: str) -> Source:
    """What a `data:` URL, an uploaded file's URL or a result's URL stands for. Raises InvalidParameters.

    Nothing is fetched from elsewhere: a server that fetches what it is told to reaches into its own network.
    """
    if text.startswith("data:"):
        return Upload(data_of(text, field=field))
    path = path_of(text)
    if match := FILE.fullmatch(path):
        return StoredInput(UUID(match[1]))
    if match := RESULT.fullmatch(path):
        return earlier_image(match[1], field=field)
    raise InvalidParameters({field: "Only data: URLs, uploaded files and earlier results are taken. Upload the file."})


def path_of(url: str) -> str:
    """The path of a URL, "" of what is none."""
    try:
        return urlsplit(url).path
    except ValueError:  # such as half a pair of brackets
        return ""


def data_of(url: str, *, field: str) -> bytes:
    """The bytes in a data: URL (RFC 2397)."""
    head, comma, body = url.partition(",")
    if not comma:
        raise InvalidParameters({field: "This data: URL has no data."})
    try:
        return b64decode(body, validate=True) if head.endswith(";base64") else unquote_to_bytes(body)
    except (binascii.Error, ValueError) as error:
        raise InvalidParameters({field: "This data: URL is not valid Base64."}) from error


def earlier_image(token: str, *, field: str) -> EarlierImage:
    """The result that a link of ours leads to."""
    try:
        generation, index = signing.loads(token, salt=SALT, max_age=GOOD_FOR_SECONDS)
    except signing.BadSignature as error:
        raise InvalidParameters(
            {field: "This link is broken, or its hour is over. Ask for the result again."}
        ) from error
    return EarlierImage(UUID(generation), index)
