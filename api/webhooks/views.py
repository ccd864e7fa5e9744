"""The endpoint of a user's webhook secret."""

from datetime import timedelta

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.authentication import user_of
from generation.models import WebhookAccount
from generation.models.webhook import OLD_SECRET_KEPT


class WebhookSecretView(APIView):
    """The secret that signs your webhooks. `POST` draws a new one and shows it this one time."""

    def post(self, request: Request) -> Response:
        """Draw a new secret; the old one goes on signing beside it for a day."""
        account = WebhookAccount.of(user_of(request).pk)
        secret = account.rotate()
        kept = OLD_SECRET_KEPT / timedelta(seconds=1)
        return Response({"secret": secret, "old_secret_seconds": kept}, headers={"Cache-Control": "no-store"})
