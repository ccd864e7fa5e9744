"""The paths under /fal/, which are those of fal's queue host (`project/fal_host.py`)."""

from django.urls import path

from api.dialects.fal import direct, views
from api.dialects.files import LinkedImageView

APP = "<str:owner>/<str:name>"
REQUEST = f"{APP}/requests/<uuid:pk>"

urlpatterns = [
    path(".well-known/jwks.json", direct.KeySetView.as_view()),
    path("files/<str:token>/<str:name>", LinkedImageView.as_view()),
    path(REQUEST, views.ResultView.as_view()),
    path(f"{REQUEST}/status", views.StatusView.as_view()),
    path(f"{REQUEST}/status/stream", views.StatusStreamView.as_view()),
    path(f"{REQUEST}/cancel", views.CancelView.as_view()),
    path(APP, views.SubmitView.as_view()),
    path(f"{APP}/<path:path>", views.SubmitView.as_view()),
    path("<path:anything>", views.NothingHere.as_view()),
]
