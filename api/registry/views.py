"""The endpoints of the registry of diffusion models: what may be asked for."""

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from api.authentication import HasScope, MayOversee
from api.generations.shapes import CancelledShape
from api.registry.serializers import DiffusionModelSerializer
from generation import operations
from generation.models import DiffusionModel


@extend_schema_view(
    list=extend_schema(operation_id="list_models", summary="List the models that may be asked for"),
    retrieve=extend_schema(operation_id="look_at_model", summary="Look at a model"),
    cancel=extend_schema(
        operation_id="cancel_generations_of_a_model",
        summary="Cancel everybody's generations of a model, as staff",
        request=None,
        responses=CancelledShape,
    ),
)
class DiffusionModelViewSet(viewsets.ReadOnlyModelViewSet[DiffusionModel]):
    """The models that may be asked for, with their defaults, limits and schedulers; the default one comes first."""

    serializer_class = DiffusionModelSerializer
    lookup_field = "slug"
    lookup_value_converter = "slug"
    pagination_class = None

    def get_queryset(self) -> QuerySet[DiffusionModel]:
        """The enabled ones; all of them for what staff does to the generations of one."""
        return DiffusionModel.objects.enabled() if self.action != "cancel" else DiffusionModel.objects.all()

    @action(detail=True, methods=["post"], permission_classes=[IsAuthenticated, HasScope, MayOversee])
    def cancel(self, request: Request, slug: str) -> Response:
        """For staff: cancel everybody's generations of this model that wait or run; says how many that were."""
        return Response(operations.cancel_all(self.get_object().generations.all())._asdict())
