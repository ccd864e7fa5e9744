"""fal's signature of webhooks: Ed25519, with public keys that anybody may fetch as a JSON Web Key Set.

The private key follows from the service's secret key, so all its processes have the same one.
"""

from base64 import urlsafe_b64encode
from datetime import datetime
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.utils.crypto import salted_hmac

from generation.models import WebhookEvent

SALT = "api.dialects.fal.signature"


def private_key() -> Ed25519PrivateKey:
    """The key that signs."""
    return Ed25519PrivateKey.from_private_bytes(salted_hmac(SALT, "", algorithm="sha256").digest())


def key_set() -> dict[str, Any]:
    """The public key as a JSON Web Key Set (RFC 7517, RFC 8037)."""
    public = urlsafe_b64encode(private_key().public_key().public_bytes_raw()).rstrip(b"=").decode()
    return {"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": public[:8], "x": public}]}


def headers_of(event: WebhookEvent, body: str, *, now: datetime) -> dict[str, str]:
    """The headers by which fal's users check a webhook: whose it is, when it was sent, and the signature in hex."""
    request_id, user_id = str(event.generation.pk), str(event.generation.owner_id)
    timestamp = str(int(now.timestamp()))
    message = "\n".join((request_id, user_id, timestamp, sha256(body.encode()).hexdigest()))
    return {
        "x-fal-webhook-request-id": request_id,
        "x-fal-webhook-user-id": user_id,
        "x-fal-webhook-timestamp": timestamp,
        "x-fal-webhook-signature": private_key().sign(message.encode()).hex(),
    }
