"""The paths under /api/."""

from django.urls import include, path
from rest_framework.routers import DefaultRouter

from api.batches.views import BatchViewSet
from api.documents import DocumentView, SchemaView
from api.events.views import EventsView, GenerationEventsView
from api.generations.images import ImageView, ThumbnailView
from api.generations.views import GenerationViewSet
from api.inputs.views import InputFileView, InputViewSet
from api.registry.views import DiffusionModelViewSet
from api.webhooks.views import WebhookSecretView

router = DefaultRouter(use_regex_path=False)
router.include_format_suffixes = False  # a second path to everything; `Accept` and `?format=` say which format
router.register("generations", GenerationViewSet, basename="generation")
router.register("inputs", InputViewSet, basename="input")
router.register("batches", BatchViewSet, basename="batch")
router.register("models", DiffusionModelViewSet, basename="model")

urlpatterns = [
    path("", include(router.urls)),
    path("events/", EventsView.as_view(), name="events"),
    path("generations/<uuid:pk>/events/", GenerationEventsView.as_view(), name="generation-events"),
    path("generations/<uuid:pk>/images/<int:index>/", ImageView.as_view(), name="generation-image"),
    path(
        "generations/<uuid:pk>/images/<int:index>/thumbnail/",
        ThumbnailView.as_view(),
        name="generation-thumbnail",
    ),
    path("inputs/<uuid:pk>/file/", InputFileView.as_view(), name="input-file"),
    path("webhook-secret/", WebhookSecretView.as_view(), name="webhook-secret"),
    path("schema/", SchemaView.as_view(), name="schema"),
    path("docs/", DocumentView.as_view(template_name="api/docs.html"), name="docs"),
    path("redoc/", DocumentView.as_view(template_name="api/redoc.html"), name="redoc"),
    path("auth/", include("rest_framework.urls")),
]
