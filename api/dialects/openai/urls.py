"""The paths under /openai/v1/."""

from django.urls import path

from api.dialects.openai.views import EditsView, GenerationsView, ModelsView, ModelView, NothingHere

urlpatterns = [
    path("images/generations", GenerationsView.as_view(), name="openai-generations"),
    path("images/edits", EditsView.as_view(), name="openai-edits"),
    path("models", ModelsView.as_view(), name="openai-models"),
    path("models/<str:slug>", ModelView.as_view(), name="openai-model"),
    path("<path:anything>", NothingHere.as_view()),
]
