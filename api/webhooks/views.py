"""The endpoint of a user's webhook secret."""

from datetime import timedelta

from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.authentication import user_of
from generation.models import WebhookAccount
from generation.models.webhook import OLD_SECRET_KEPT


class WebhookSecretView(APIView):
    """The secret that signs your webhooks. `POST` draws a new one and shows it this one time."""

    @extend_schema(
        operation_id="draw_webhook_secret",
        summary="Draw a new secret for your webhooks",
        request=None,
        responses=inline_serializer(
            "WebhookSecret",
            {
                "secret": serializers.CharField(help_text="`whsec_…`"),
                "old_secret_seconds": serializers.FloatField(help_text="For how long the old one signs too."),
            },
        ),
    )
    def post(self, request: Request) -> Response:
        """Draw a new secret; the old one goes on signing beside it for a day."""
        account = WebhookAccount.of(user_of(request).pk)
        secret = account.rotate()
        kept = OLD_SECRET_KEPT / timedelta(seconds=1)
        return Response({"secret": secret, "old_secret_seconds": kept}, headers={"Cache-Control": "no-store"})
