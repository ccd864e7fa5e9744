"""The endpoints of batches: parse, one call inward, shape the answer."""

from typing import Any

from django.db.models import Prefetch, QuerySet
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from api.authentication import HasScope, MayChange, credential_of, oversees, user_of
from api.batches.schema import described
from api.batches.serializers import BatchRequestSerializer, BatchSerializer
from api.body import body_of
from api.generations.pagination import ASK_AGAIN_AFTER_SECONDS, NewestFirst
from api.headers import idempotency_key, with_deadline
from api.rate_limits import remember
from generation import operations
from generation.models import Batch, Generation

IN_ORDER = Prefetch("generations", Generation.objects.order_by("arrival").only("pk", "status", "batch_id"))


class NewestBatchesFirst(NewestFirst):
    """Pages of batches: their ids are all of our own."""

    ordering = "-id"


@described
class BatchViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Batch]):
    """Several prompts in one request.

    `POST` up to 100 requests: all of them are accepted, or none. The page of the batch sums up how far they are.
    """

    permission_classes = [IsAuthenticated, HasScope, MayChange]
    lookup_value_converter = "uuid"
    pagination_class = NewestBatchesFirst
    filter_backends = []

    def get_queryset(self) -> QuerySet[Batch]:
        """The user's own; single ones of others too for staff. Who may not see one is told that there is none."""
        batches = Batch.objects.with_summary().prefetch_related(IN_ORDER)
        sees_all = self.action != "list" and oversees(self.request)
        return batches if sees_all else batches.owned_by(user_of(self.request))

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        """What is posted to the list is a request; everything else is a batch."""
        is_request = self.request.method == "POST" and not self.detail
        return BatchRequestSerializer if is_request else BatchSerializer

    def create(self, request: Request) -> Response:
        """Submit a batch, all or nothing."""
        serializer = BatchRequestSerializer(data=body_of(request), context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        requests = [with_deadline(asked, request) for asked in serializer.validated_data["requests"]]
        batch = operations.submit_batch(
            requests,
            owner=user_of(request),
            credential=credential_of(request),
            idempotency_key=idempotency_key(request),
        )
        remember(request, batch.quotas)
        data = self.shown(batch)
        headers = {"Location": data["links"]["self"], "Retry-After": ASK_AGAIN_AFTER_SECONDS}
        return Response(data, status=status.HTTP_202_ACCEPTED, headers=headers)

    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancel all of it that has not ended: what waits at once, what runs at its next denoise step."""
        batch = self.get_object()
        operations.cancel_batch(batch)
        data = self.shown(batch)
        is_over = data["finished_at"] is not None
        return Response(data, status=status.HTTP_200_OK if is_over else status.HTTP_202_ACCEPTED)

    def shown(self, batch: Batch) -> dict[str, Any]:
        """The batch as it is now."""
        now = self.get_queryset().get(pk=batch.pk)
        return BatchSerializer(now, context=self.get_serializer_context()).data
