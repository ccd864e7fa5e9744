"""The paths under /fal-run/, which are those of fal's direct host (`project/fal_host.py`)."""

from django.urls import path

from api.dialects.fal import direct
from api.dialects.fal.urls import APP
from api.dialects.fal.views import NothingHere
from api.dialects.files import LinkedImageView

urlpatterns = [
    path(".well-known/jwks.json", direct.KeySetView.as_view()),
    path("files/<str:token>/<str:name>", LinkedImageView.as_view()),
    path(f"{APP}/stream", direct.StreamView.as_view()),
    path(f"{APP}/<path:path>/stream", direct.StreamView.as_view()),
    path(APP, direct.RunView.as_view()),
    path(f"{APP}/<path:path>", direct.RunView.as_view()),
    path("<path:anything>", NothingHere.as_view()),
]
