"""The endpoints of inputs: upload a picture, look at it, until it is asked for in a generation."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from rest_framework import mixins, status, viewsets
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from api.authentication import oversees, user_of
from api.body import body_of
from api.generations.images import StoredImageView
from api.generations.pagination import NewestFirst
from api.generations.schema import an_image
from api.inputs.schema import described
from api.inputs.serializers import InputSerializer, UploadSerializer
from generation import inputs
from generation.models import Input


class NewestInputsFirst(NewestFirst):
    """Pages of inputs: their ids are ours, and grow with time."""

    ordering = "-id"


@described
class InputViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Input]):
    """Pictures to begin with.

    `POST` a file (`multipart/form-data`, PNG, JPEG or WebP) to get an id, which a generation may name as its `image`,
    its `mask` or one of its `reference_images`. What is stored is the upright pixels and nothing else of the file.
    """

    parser_classes = [MultiPartParser]
    lookup_value_converter = "uuid"
    pagination_class = NewestInputsFirst
    filter_backends: list[Any] = []

    def get_queryset(self) -> QuerySet[Input]:
        """The user's own that can be asked for."""
        return Input.objects.usable().filter(owner=user_of(self.request).pk)

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        """What is posted is an upload; everything else is an input."""
        return UploadSerializer if self.request.method == "POST" else InputSerializer

    def create(self, request: Request) -> Response:
        """Take in one picture."""
        serializer = UploadSerializer(data=body_of(request), context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        stored = inputs.upload(serializer.validated_data, owner=user_of(request))
        data = InputSerializer(stored, context=self.get_serializer_context()).data
        return Response(data, status=status.HTTP_201_CREATED, headers={"Location": data["links"]["self"]})

    def retrieve(self, request: Request, pk: str) -> Response:
        """One input."""
        return Response(InputSerializer(self.get_object(), context=self.get_serializer_context()).data)


class InputFileView(StoredImageView[Input]):
    """The picture, as it was stored."""

    @an_image("image/png", operation_id="fetch_input", summary="Fetch an input, as it was stored")
    def get(self, request: Request, pk: UUID) -> HttpResponseBase:
        """Return the bytes, or a short-lived link to them where images are delivered by redirect."""
        return super().get(request, pk=pk)

    def find(self, request: Request, pk: UUID) -> Input:
        """The input, for its owner and staff; others are told that there is none."""
        usable = Input.objects.usable()
        if not oversees(request):
            usable = usable.filter(owner=user_of(request).pk)
        return get_object_or_404(usable, pk=pk)
