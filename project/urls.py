"""Where everything is: the API, the admin, health."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from api import errors, health
from api.dialects.files import LinkedImageView

urlpatterns = [
    path("", RedirectView.as_view(url="/api/", http_method_names=["get", "head"]), name="home"),
    path("api/", include("api.urls")),
    path("openai/v1/", include("api.dialects.openai.urls")),
    path("replicate/v1/", include("api.dialects.replicate.urls")),
    path("fal/", include("api.dialects.fal.urls")),
    path("fal-run/", include("api.dialects.fal.direct_urls")),
    path("files/<str:token>/<str:name>", LinkedImageView.as_view(), name="linked-image"),
    path("admin/", admin.site.urls),
    path("health/live", health.live, name="live"),
    path("health/ready", health.ready, name="ready"),
]

handler400 = errors.bad_request
handler403 = errors.forbidden
handler404 = errors.not_found
handler500 = errors.server_error
