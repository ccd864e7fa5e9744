"""What the first start creates: the administrator, an API key and Flower's password, in private files."""

import logging
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.models import User
from rest_framework.exceptions import AuthenticationFailed

from api.authentication import ApiKeyAuthentication
from api.models import ApiKey, Scope
from project.secrets import read_or_create, write

ADMIN = "admin"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Credentials:
    """What was created just now and may be shown this once; None for what existed before."""

    password: str | None
    api_key: str | None


def ensure_credentials() -> Credentials:
    """Create what is missing and return it."""
    read_or_create(settings.CREDENTIALS_DIR / "flower_password")
    return Credentials(password=ensure_admin(), api_key=ensure_api_key())


def ensure_admin() -> str | None:
    """Create the administrator unless there is a superuser, of whatever name, or the name is taken."""
    if User.objects.filter(is_superuser=True).exists() or User.objects.filter(username=ADMIN).exists():
        return None
    password = read_or_create(settings.CREDENTIALS_DIR / "admin_password")
    User.objects.create_superuser(ADMIN, password=password)
    return password


def ensure_api_key() -> str | None:
    """Make an API key for the first active superuser unless the stored one still opens the door."""
    path = settings.CREDENTIALS_DIR / "api_key"
    if path.exists() and is_valid(path.read_text().strip()):
        return None
    user = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if user is None:
        logger.warning("No API key was made: there is no active superuser. `manage.py createsuperuser` makes one.")
        return None
    _, token = ApiKey.objects.create(user=user, name="first key", scopes=list(Scope))
    path.unlink(missing_ok=True)
    write(path, token)
    return token


def is_valid(token: str) -> bool:
    """Whether the API would accept this key."""
    try:
        ApiKeyAuthentication().authenticate_credentials(token.encode())
    except AuthenticationFailed:
        return False
    return True
