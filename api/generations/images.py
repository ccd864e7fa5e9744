"""The endpoints of images: the bytes themselves, for their owner."""

import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.cache import get_conditional_response
from django.utils.http import content_disposition_header, quote_etag
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.views import APIView

from api.authentication import oversees, user_of
from api.errors import Unavailable, answer
from api.generations.schema import an_image
from api.negotiation import WhateverIsAccepted
from generation import storage
from generation.models import Image, Input

IMMUTABLE = "private, max-age=31536000, immutable"
Stored = TypeVar("Stored", Image, Input)
COLUMNS = ("file", "thumbnail", "content_type", "sha256", "seed", "generation__model__slug")
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")  # bounded: int() refuses thousands of digits


class StoredImageView(APIView, Generic[Stored]):
    """The bytes of something whose file lies on the storage and never changes."""

    content_negotiation_class = WhateverIsAccepted

    def get(self, request: Request, **place: Any) -> HttpResponseBase:
        """Return the bytes, or a short-lived link to them where images are delivered by redirect."""
        image = self.find(request, **place)
        if settings.IMAGE_DELIVERY == "redirect":
            return redirect_to(self.name_of(image), download_name=image.download_name)
        etag = quote_etag(self.tag_of(image))
        not_modified = get_conditional_response(request._request, etag=etag)
        response = not_modified or respond(request, read(self.name_of(image)))
        response["ETag"] = etag
        response["Cache-Control"] = IMMUTABLE
        if response.status_code in (200, 206):
            response["Content-Type"] = self.type_of(image)
            response["Content-Disposition"] = str(content_disposition_header(False, image.download_name))
            response["X-Content-Type-Options"] = "nosniff"
        return response

    find: Callable[..., Stored]
    """What the path names, for its owner and staff; raises Http404."""

    def name_of(self, image: Stored) -> str:
        """The name on storage."""
        return str(image.file.name)

    def tag_of(self, image: Stored) -> str:
        """The entity tag: the hash of the bytes."""
        return image.sha256

    def type_of(self, image: Stored) -> str:
        """The content type."""
        return image.content_type


class ImageView(StoredImageView[Image]):
    """The image, as it was stored."""

    @an_image(
        "image/png", "image/webp", "image/jpeg", operation_id="fetch_image", summary="Fetch an image, as it was stored"
    )
    def get(self, request: Request, pk: UUID, index: int) -> HttpResponseBase:
        """Return the bytes, or a short-lived link to them where images are delivered by redirect."""
        return super().get(request, pk=pk, index=index)

    def find(self, request: Request, pk: UUID, index: int) -> Image:
        """The image, for its owner and staff; others are told that there is none."""
        images = Image.objects.select_related("generation__model").only(*COLUMNS)
        if not oversees(request):
            images = images.filter(generation__owner=user_of(request))
        return get_object_or_404(images, generation=pk, index=index)


class ThumbnailView(ImageView):
    """A small WebP of the image, for lists."""

    @an_image("image/webp", operation_id="fetch_thumbnail", summary="Fetch a small WebP of an image")
    def get(self, request: Request, pk: UUID, index: int) -> HttpResponseBase:
        """Return the bytes, or a short-lived link to them where images are delivered by redirect."""
        return super().get(request, pk, index)

    def name_of(self, image: Image) -> str:
        """The name on storage."""
        return str(image.thumbnail.name)

    def tag_of(self, image: Image) -> str:
        """The entity tag: it changes with the image."""
        return f"{image.sha256}-thumbnail"

    def type_of(self, image: Image) -> str:
        """The content type."""
        return "image/webp"


def read(name: str) -> bytes:
    """The bytes of a stored file, as an answer understands their absence."""
    try:
        return storage.read(name)
    except FileNotFoundError as error:
        raise NotFound("The file of this image is no longer on the storage.") from error
    except Exception as error:  # each backend has its own errors, and all of them mean the same here
        raise Unavailable("The storage does not answer right now. Try again in a few seconds.") from error


def redirect_to(name: str, *, download_name: str) -> HttpResponse:
    """A redirect to the storage's own link, which is signed and expires soon."""
    disposition = str(content_disposition_header(False, download_name))
    response = HttpResponseRedirect(storage.signed_url(name, disposition=disposition))
    response["Cache-Control"] = "private, no-store"
    return response


def respond(request: Request, data: bytes) -> HttpResponse:
    """The whole body, or the one part that a Range header asks for (RFC 9110, section 14)."""
    match = RANGE.fullmatch(request.headers.get("Range", ""))
    first, last = match.groups() if match else ("", "")
    is_backwards = bool(first and last) and int(last) < int(first)
    if is_backwards or not (first or last):  # no valid range, so it is as if none was asked for (section 14.2)
        return HttpResponse(data, headers={"Accept-Ranges": "bytes"})
    start = int(first) if first else max(0, len(data) - int(last))
    end = min(int(last), len(data) - 1) if first and last else len(data) - 1
    headers: dict[str, Any] = {"Accept-Ranges": "bytes"}
    if start > end:
        sentence = f"The image has {len(data)} bytes. Ask for a part of those."
        refusal = answer(416, code="range_not_satisfiable", detail=sentence)
        refusal["Content-Range"] = f"bytes */{len(data)}"
        return refusal
    headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
    return HttpResponse(data[start : end + 1], status=206, headers=headers)
