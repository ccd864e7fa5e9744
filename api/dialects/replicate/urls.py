"""The paths under /replicate/v1/."""

from django.urls import path

from api.dialects.replicate import files, views

POST = ["post", "options"]  # a list is of all predictions only

urlpatterns = [
    path("predictions", views.PredictionsView.as_view(), name="replicate-predictions"),
    path("predictions/<uuid:pk>", views.PredictionView.as_view(), name="replicate-prediction"),
    path("predictions/<uuid:pk>/cancel", views.CancelView.as_view(), name="replicate-cancel"),
    path("predictions/<uuid:pk>/stream", views.StreamView.as_view(), name="replicate-stream"),
    path("models", views.ModelsView.as_view()),
    path("models/<str:owner>/<str:name>", views.ModelView.as_view()),
    path("models/<str:owner>/<str:name>/predictions", views.PredictionsView.as_view(http_method_names=POST)),
    path("models/<str:owner>/<str:name>/versions", views.VersionsView.as_view()),
    path("models/<str:owner>/<str:name>/versions/<str:version>", views.VersionsView.as_view()),
    path("deployments", views.DeploymentsView.as_view()),
    path("deployments/<str:owner>/<str:name>", views.DeploymentView.as_view()),
    path("deployments/<str:owner>/<str:name>/predictions", views.PredictionsView.as_view(http_method_names=POST)),
    path("files", files.FilesView.as_view()),
    path("files/<uuid:pk>", files.FileView.as_view(), name="replicate-file"),
    path("files/<uuid:pk>/download", files.DownloadView.as_view(), name="replicate-download"),
    path("webhooks/default/secret", views.WebhookSecretView.as_view()),
    path("account", views.AccountView.as_view()),
    path("<path:anything>", views.NothingHere.as_view()),
]
