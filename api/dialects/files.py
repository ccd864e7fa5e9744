"""Links to images that are good for an hour and need no key: clients of other services fetch results without one."""

from typing import Any
from uuid import UUID

from django.core import signing
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse
from rest_framework.exceptions import NotFound
from rest_framework.request import Request

from api.generations.images import COLUMNS, IMMUTABLE, StoredImageView
from generation.models import Image

SALT = "api.dialects.files"
GOOD_FOR_SECONDS = 3600


class LinkedImageView(StoredImageView[Image]):
    """The image that a link leads to, for whoever has it."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    schema = None  # a part of the dialects, which alone give such links

    def find(self, request: Request, token: str, name: str) -> Image:
        """The image that was signed for; raises NotFound for a link that is broken or has had its time."""
        try:
            generation, index = signing.loads(token, salt=SALT, max_age=GOOD_FOR_SECONDS)
        except signing.BadSignature as error:
            raise NotFound("This link is broken, or its hour is over. Ask for the result again.") from error
        images = Image.objects.select_related("generation__model").only(*COLUMNS)
        return get_object_or_404(images, generation=UUID(generation), index=index)

    def get(self, request: Request, **place: Any) -> HttpResponseBase:
        """The same, but kept by nobody for longer than the link is good."""
        response = super().get(request, **place)
        if response["Cache-Control"] == IMMUTABLE:
            response["Cache-Control"] = f"private, max-age={GOOD_FOR_SECONDS}"
        return response


def link_to(image: Image, *, address: str) -> str:
    """A link to the image below that address of ours, made anew each time."""
    token = signing.dumps([str(image.generation_id), image.index], salt=SALT)
    extension = str(image.file.name).rpartition(".")[2]
    return address + reverse("linked-image", args=[token, f"image-{image.index}.{extension}"])


def address_of(request: Request) -> str:
    """Scheme and host by which we were asked."""
    return f"{request.scheme}://{request.get_host()}"
