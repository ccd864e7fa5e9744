"""The endpoints of generations: parse, one call inward, shape the answer."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from django.db.models import QuerySet, prefetch_related_objects
from django.http.response import HttpResponseBase
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from api.authentication import HasScope, MayChange, credential_of, oversees, user_of
from api.body import body_of
from api.generations.attempts import AttemptSerializer
from api.generations.filters import GenerationFilters
from api.generations.pagination import ASK_AGAIN_AFTER_SECONDS, NewestFirst
from api.generations.schema import described
from api.generations.serializers import CancelAllSerializer, GenerationRequestSerializer, GenerationSerializer
from api.generations.waiting import as_preferred
from api.headers import idempotency_key, with_deadline
from api.rate_limits import remember
from generation import operations
from generation.lifecycle import Status
from generation.models import Generation
from generation.models.positions import set_positions
from generation.operations import NO_TERMS
from generation.terms import Asked, OnDisconnect, Terms


@described
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
            return generations.owned_by(user_of(self.request))
        return generations if oversees(self.request) else generations.owned_by(user_of(self.request))

    def filter_queryset(self, queryset: QuerySet[Generation, Any]) -> QuerySet[Generation, Any]:
        """Filters are for the list; to look at one generation they would only cost time."""
        return super().filter_queryset(queryset) if self.action == "list" else queryset

    def paginate_queryset(self, queryset: Any) -> list[Any] | None:
        """The generations of a page with all that is shown of them, by one query for each kind of thing."""
        page = super().paginate_queryset(queryset)
        if page is not None:
            set_positions(page)
            prefetch_related_objects([one for one in page if one.status == Status.SUCCEEDED], "images")
            prefetch_related_objects([one for one in page if one.has_inputs], "inputs")
        return page

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        """What is posted to the list is a request; everything else is a generation."""
        # Not by the action: it is another one where a page shows the form and where OPTIONS describes it.
        if self.action == "cancel_all":
            return CancelAllSerializer
        is_request = self.request.method == "PUT" or (self.request.method == "POST" and not self.detail)
        return GenerationRequestSerializer if is_request else GenerationSerializer

    def create(self, request: Request) -> HttpResponseBase:
        """Submit a generation; what is left out is as the model has it.

        With an `Idempotency-Key` header the same request can be sent again and makes nothing twice.
        """
        asked = self.asked_for(request)
        terms = replace(asked.terms, idempotency_key=idempotency_key(request))
        return self.accepted(self.submit(asked, terms=terms), terms=terms)

    def update(self, request: Request, pk: UUID) -> HttpResponseBase:
        """Submit a generation under an id of your own, a UUID of any version: `201`; `200` if that was done before."""
        asked = self.asked_for(request)
        terms = replace(asked.terms, id=pk)
        generation = self.submit(asked, terms=terms)
        made = status.HTTP_200_OK if generation.is_replay else status.HTTP_201_CREATED
        return self.accepted(generation, terms=terms, status_code=made)

    def retrieve(self, request: Request, pk: str) -> HttpResponseBase:
        """One generation: its status, its place in the queue, its progress, its images."""
        generation = self.get_object()
        response = Response(self.shown(generation))
        return as_preferred(request, response, generation, show=self.shown, late_status=status.HTTP_200_OK)

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

    @action(detail=True, pagination_class=None)
    def attempts(self, request: Request, pk: str) -> Response:
        """Its attempts, the first one first: the way that each went to the engine, and what that took."""
        return Response(AttemptSerializer(self.get_object().attempts.all(), many=True).data)

    @action(detail=False, methods=["post"], url_path="cancel", url_name="cancel-all")
    def cancel_all(self, request: Request) -> Response:
        """Cancel all of one's own that wait or run, or those of a model or a status; says how many that were."""
        serializer = CancelAllSerializer(data=body_of(request))
        serializer.is_valid(raise_exception=True)
        chosen = Generation.objects.owned_by(user_of(request)).filter(**serializer.validated_data)
        return Response(operations.cancel_all(chosen)._asdict())

    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> HttpResponseBase:
        """Submit the parameters of a failed or cancelled generation once more, as a new generation."""
        failed = self.get_object()
        is_own = failed.owner_id == user_of(request).pk  # else it counts for its owner, who has not used this key
        return self.accepted(operations.retry(failed, credential=credential_of(request) if is_own else None))

    def asked_for(self, request: Request) -> Asked:
        """The body, and what the headers say on top of it."""
        serializer = GenerationRequestSerializer(data=body_of(request), context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        return with_deadline(serializer.validated_data, request)

    def submit(self, asked: Asked, *, terms: Terms) -> Generation:
        """The generation that is made of the request, or was before."""
        return operations.submit(
            asked.wishes, terms=terms, owner=user_of(self.request), credential=credential_of(self.request)
        )

    def accepted(
        self, generation: Generation, *, terms: Terms = NO_TERMS, status_code: int = status.HTTP_202_ACCEPTED
    ) -> HttpResponseBase:
        """The answer that says where to look."""
        remember(self.request, generation.quotas)
        data = self.shown(generation)
        headers = {"Location": data["links"]["self"], "Retry-After": ASK_AGAIN_AFTER_SECONDS}
        response = Response(data, status=status_code, headers=headers)
        gives_up = terms.on_disconnect == OnDisconnect.CANCEL
        return as_preferred(
            self.request,
            response,
            generation,
            show=self.shown,
            late_status=status.HTTP_202_ACCEPTED,
            cancels_on_disconnect=gives_up,
        )

    def shown(self, generation: Generation) -> dict[str, Any]:
        """One generation, with its place in the queue."""
        set_positions([generation])
        return GenerationSerializer(generation, context=self.get_serializer_context()).data
