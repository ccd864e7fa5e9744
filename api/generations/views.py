"""The endpoints of generations: parse, one call inward, shape the answer."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from api.authentication import HasScope, MayChange, oversees, user_of
from api.body import body_of
from api.generations.filters import GenerationFilters
from api.generations.serializers import CancelAllSerializer, GenerationRequestSerializer, GenerationSerializer
from generation import operations
from generation.lifecycle import Status
from generation.models import Generation

ASK_AGAIN_AFTER_SECONDS = "1"


class NewestFirst(CursorPagination):
    """Pages that stay put while new generations come in: ids grow with time."""

    ordering = "-id"
    page_size = 20
    page_size_query_param = "page_size"
    max_page_size = 100

    def decode_cursor(self, request: Request) -> Any:
        """The cursor that the request names, if any; raises NotFound for one that was made up."""
        cursor = super().decode_cursor(request)
        try:
            if cursor is not None and cursor.position is not None:
                UUID(str(cursor.position))
        except ValueError as error:
            raise NotFound(self.invalid_cursor_message) from error
        return cursor


class GenerationViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Generation]):
    """Prompts on their way to pictures.

    `POST` a prompt to submit a generation; it answers `202` at once, and the page of the generation shows
    its status, its place in the queue, its progress and, when it has succeeded, its images.
    """

    permission_classes = [IsAuthenticated, HasScope, MayChange]
    lookup_value_converter = "uuid"
    pagination_class = NewestFirst
    filterset_class = GenerationFilters

    def get_queryset(self) -> QuerySet[Generation]:
        """The user's own; single ones of others too for staff. Who may not see one is told that there is none."""
        generations = Generation.objects.select_related("model")
        if self.action == "list":
            return generations.with_position().prefetch_related("images").owned_by(user_of(self.request))
        return generations if oversees(self.request) else generations.owned_by(user_of(self.request))

    def filter_queryset(self, queryset: QuerySet[Generation, Any]) -> QuerySet[Generation, Any]:
        """Filters are for the list; to look at one generation they would only cost time."""
        return super().filter_queryset(queryset) if self.action == "list" else queryset

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        """What is posted to the list is a request; everything else is a generation."""
        # Not by the action: it is another one where a page shows the form and where OPTIONS describes it.
        is_request = self.request.method == "POST" and not self.detail
        if self.action == "cancel_all":
            return CancelAllSerializer
        return GenerationRequestSerializer if is_request else GenerationSerializer

    def create(self, request: Request) -> Response:
        """Submit a generation; what is left out is as the model has it."""
        serializer = GenerationRequestSerializer(data=body_of(request), context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        generation = operations.submit(serializer.validated_data, owner=user_of(request))
        return self.accepted(generation)

    def retrieve(self, request: Request, pk: str) -> Response:
        """One generation: its status, its place in the queue, its progress, its images."""
        return Response(self.shown(self.get_object()))

    def destroy(self, request: Request, pk: str) -> Response:
        """Delete a finished generation with its images. A waiting or running one has to be cancelled first."""
        operations.delete(self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancel a generation: at once if it waits, at its next denoise step if it runs."""
        generation = operations.cancel(self.get_object())
        is_over = generation.status == Status.CANCELLED
        return Response(self.shown(generation), status=status.HTTP_200_OK if is_over else status.HTTP_202_ACCEPTED)

    @action(detail=False, methods=["post"], url_path="cancel", url_name="cancel-all")
    def cancel_all(self, request: Request) -> Response:
        """Cancel all of one's own that wait or run, or those of a model or a status; says how many that were."""
        serializer = CancelAllSerializer(data=body_of(request))
        serializer.is_valid(raise_exception=True)
        chosen = Generation.objects.owned_by(user_of(request)).filter(**serializer.validated_data)
        return Response(operations.cancel_all(chosen)._asdict())

    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        """Submit the parameters of a failed or cancelled generation once more, as a new generation."""
        return self.accepted(operations.retry(self.get_object()))

    def accepted(self, generation: Generation) -> Response:
        """The 202 that says where to look."""
        data = self.shown(generation)
        headers = {"Location": data["links"]["self"], "Retry-After": ASK_AGAIN_AFTER_SECONDS}
        return Response(data, status=status.HTTP_202_ACCEPTED, headers=headers)

    def shown(self, generation: Generation) -> dict[str, Any]:
        """One generation, with its place in the queue."""
        generation.position = Generation.objects.position_of(generation)
        return GenerationSerializer(generation, context=self.get_serializer_context()).data
