"""Who is asking: API keys for programs, and what a key's scopes allow."""

from typing import TYPE_CHECKING, cast

from django.contrib.auth import get_user
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.http import HttpRequest
from knox.auth import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from api.models import ApiKey, Scope
from generation.models import Generation
from generation.quotas import Credential

if TYPE_CHECKING:
    from rest_framework.views import APIView  # at run time it imports this module


class ApiKeyAuthentication(TokenAuthentication):
    """`Authorization: Bearer <key>`, by knox, with the key's last use noted."""

    def authenticate_credentials(self, token: bytes) -> tuple[AbstractBaseUser, ApiKey]:
        """Return the key's owner and the key; AuthenticationFailed says what is wrong with it."""
        try:
            token.decode("ascii")
        except UnicodeDecodeError as error:
            raise AuthenticationFailed("An API key has only ASCII characters.") from error
        user, key = super().authenticate_credentials(token)
        key.touch()
        return user, key

    def _cleanup_token(self, auth_token: ApiKey) -> bool:
        """Whether the key has expired. Knox would also delete it, and all of the user's others at every request."""
        return auth_token.has_expired


class HasScope(BasePermission):
    """A key may read with the scope `read` and change things with `generate`; sessions may do both."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """Return whether the key that was used, if any, has the scope for this method."""
        if not isinstance(request.auth, ApiKey):
            return True
        scope = Scope.READ if request.method in SAFE_METHODS else Scope.GENERATE
        self.message = f"This API key lacks the scope {scope.value!r}. Use one that has it, or make a new one."
        return scope in request.auth.scopes


class MayChange(BasePermission):
    """Owners may change their generations; for others who see them, staff, it takes the permission of the admin."""

    def has_object_permission(self, request: Request, view: "APIView", obj: Generation) -> bool:
        """Return whether the user may do to this generation what the method asks for."""
        if request.method in SAFE_METHODS or obj.owner_id == user_of(request).pk:
            return True
        permission = f"generation.{'delete' if request.method == 'DELETE' else 'change'}_generation"
        self.message = f"It belongs to somebody else, and you lack the permission {permission!r}. Ask an administrator."
        return user_of(request).has_perm(permission)


class MayOversee(BasePermission):
    """What concerns everybody's generations is for staff who may change them."""

    message = "This is for staff with the permission 'generation.change_generation'. Ask an administrator."

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """Return whether the user may change what belongs to anybody."""
        return oversees(request) and user_of(request).has_perm("generation.change_generation")


def user_of(request: Request) -> User:
    """Who is asking; only for views that let nobody in without authentication, as all of ours."""
    return cast(User, request.user)


def authenticate_again(request: Request) -> None:
    """See, in the middle of an answer that takes long, whether the request would still be let in.

    Raises AuthenticationFailed where the key was revoked or has expired, the session has ended, or the user is barred.
    """
    user: User | AnonymousUser
    if isinstance(request.auth, ApiKey):
        key = ApiKey.objects.select_related("user").filter(pk=request.auth.pk).first()
        if key is None or key.has_expired or Scope.READ not in key.scopes:
            raise AuthenticationFailed("The API key was revoked.")
        user, request.auth = cast(User, key.user), key
    else:
        session = request._request.session
        now = HttpRequest()
        now.session = type(session)(session.session_key)
        user = get_user(now)
    if not user.is_active:
        raise AuthenticationFailed("The session has ended.")
    request.user = user


def credential_of(request: Request) -> Credential | None:
    """The API key that was used, as the domain knows it; None for a session."""
    return request.auth.credential if isinstance(request.auth, ApiKey) else None


def oversees(request: Request) -> bool:
    """Whether the request may look beyond its user's own generations: staff, by session or a key with `admin`."""
    is_staff = getattr(request.user, "is_staff", False)
    return is_staff and (not isinstance(request.auth, ApiKey) or Scope.ADMIN in request.auth.scopes)
