"""The endpoints of Replicate's files, which are our inputs."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.urls import reverse
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from api.authentication import user_of
from api.body import body_of
from api.dialects.files import address_of
from api.dialects.replicate import translate
from api.dialects.replicate.schema import FileRequest
from api.dialects.replicate.views import ReplicateView
from api.generations.images import StoredImageView
from api.inputs.views import NewestInputsFirst
from generation import inputs
from generation.models import Input
from generation.sources import Upload


class FilesView(ReplicateView):
    """`files`."""

    parser_classes = [MultiPartParser]

    def get(self, request: Request) -> Response:
        """One's own, the newest first."""
        pages = NewestInputsFirst()
        page = pages.paginate_queryset(own(request), request, view=self)
        return pages.get_paginated_response([shown(stored, request) for stored in page or ()])

    def post(self, request: Request) -> Response:
        """Take in a picture."""
        serializer = FileRequest(data=body_of(request))
        serializer.is_valid(raise_exception=True)
        file = serializer.validated_data["content"]
        stored = inputs.upload(Upload(file.read()), owner=user_of(request))
        return Response(shown(stored, request, name=file.name), status=201)


class FileView(ReplicateView):
    """`files/{id}`."""

    def get(self, request: Request, pk: UUID) -> Response:
        """What is known of it."""
        return Response(shown(get_object_or_404(own(request), pk=pk), request))

    def delete(self, request: Request, pk: UUID) -> Response:
        """Remove it; a prediction that begins with it keeps it until its own end."""
        inputs.let_go(get_object_or_404(own(request), pk=pk))
        return Response(status=204)


class DownloadView(StoredImageView[Input], ReplicateView):
    """`files/{id}/download`: the picture itself, for its owner."""

    def find(self, request: Request, pk: UUID) -> Input:
        """The input."""
        return get_object_or_404(own(request), pk=pk)


def own(request: Request) -> QuerySet[Input]:
    """The inputs of who asks, however they were uploaded."""
    return Input.objects.usable().filter(owner=user_of(request).pk)


def shown(stored: Input, request: Request, *, name: str = "") -> dict[str, Any]:
    """A file; of its name nothing is kept after the upload."""
    places = {"get": "replicate-file", "download": "replicate-download"}
    urls = {what: address_of(request) + reverse(name, args=[stored.pk]) for what, name in places.items()}
    return translate.file_of(stored, name=name or stored.download_name, urls=urls)
