"""API keys in the admin: make one and see it once, look when it was used, limit it, revoke it."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.html import format_html
from knox.models import get_digest_token
from knox.settings import CONSTANTS
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from api.models import ApiKey, Scope, default_scopes
from generation.models.limits import LimitFields

LIMITS = [field.name for field in LimitFields._meta.get_fields()]
ABOUT_LIMITS = "For this key alone, within what its user may have. Empty: only the limits of the user count."


class ApiKeyForm(forms.ModelForm):
    """A new key, with its scopes as checkboxes."""

    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, scope.value) for scope in Scope],
        initial=default_scopes,
        help_text=". ".join(Scope.labels),
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )

    class Meta:
        model = ApiKey
        fields = ["user", "name", "scopes", "expiry", *LIMITS]
        help_texts = {"expiry": "From then on it is refused. Empty: it works until it is revoked."}


@display(description="Key")
def beginning(key: ApiKey) -> str:
    """Its first characters, by which people can tell keys apart."""
    return f"{key.token_key}…"


@display(description="Scopes", label=True)
def scopes(key: ApiKey) -> list[str]:
    """What it may be used for."""
    return key.scopes


@display(description="Scopes")
def scopes_in_words(key: ApiKey) -> str:
    """The same, where there is no room for labels."""
    return ", ".join(key.scopes)


@display(description="Works", boolean=True)
def works(key: ApiKey) -> bool:
    """Whether it has not expired."""
    return not key.has_expired


FIXED = ["user", "name", scopes_in_words, beginning, "created", "expiry", "last_used_at"]


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    """The list and the form of keys. To revoke one is to delete it."""

    form = ApiKeyForm
    list_display = ["name", "user", beginning, scopes, works, "created", "expiry", "last_used_at"]
    list_select_related = ["user"]
    search_fields = ["name", "token_key", "user__username"]
    autocomplete_fields = ["user"]

    def get_fieldsets(self, request: HttpRequest, obj: ApiKey | None = None) -> list[Any]:
        """The form's for a new key; all that is known of an old one."""
        new = ["user", "name", "scopes", "expiry"]
        limits = ("Limits", {"fields": LIMITS, "description": ABOUT_LIMITS})
        return [(None, {"fields": new if obj is None else FIXED}), limits]

    def get_form(self, request: HttpRequest, obj: ApiKey | None = None, change: bool = False, **options: Any) -> Any:
        """Only the limits of an old key are a form."""
        if obj is not None:
            options |= {"form": forms.ModelForm, "fields": LIMITS}
        return super().get_form(request, obj, change=change, **options)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> list[Any]:
        """A key is what it was made as; make another one instead. Only its limits may change."""
        return [] if obj is None else FIXED

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Only a superuser makes keys for others, because a key may do what its user may."""
        if db_field.name == "user" and not request.user.is_superuser:
            kwargs["queryset"] = User.objects.filter(username=request.user.get_username())
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ApiKeyForm, change: bool) -> None:
        """Draw the key, store its digest, and show the key itself this one time."""
        if change:
            super().save_model(request, obj, form, change)
            return
        obj.digest, token = get_digest_token()
        obj.token_key = token[: CONSTANTS.TOKEN_KEY_LENGTH]
        super().save_model(request, obj, form, change)
        text = "The key “{}” is <code>{}</code>. Copy it now: it is not stored and not shown again."
        self.message_user(request, format_html(text, obj.name, token), messages.WARNING)
