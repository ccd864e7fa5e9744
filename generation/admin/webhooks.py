"""Webhooks in the admin: what was told whom and what came of it, and each user's secret and defaults."""

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.dataclasses import ActionDialog
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from generation.admin import durations, labels
from generation.models import WebhookAccount, WebhookDelivery, WebhookEvent
from generation.models.webhook import Kind, State
from generation.webhooks import addresses

STATE_COLOURS = {
    State.PENDING: "info",
    State.DELIVERED: "success",
    State.GIVEN_UP: "danger",
    State.GONE: "warning",
}
RESEND = ActionDialog(
    title="Send this webhook again?",
    description="It is sent at once, under the same id, and tried again as a new one if that fails.",
    form_class=None,
    form_submit_text="Yes, send it again",
)
ROTATE = ActionDialog(
    title="Draw a new secret?",
    description="For a day all webhooks are signed with the old one too.",
    form_class=None,
    form_submit_text="Yes, draw a new one",
)


@display(description="State", ordering="state")
def state(event: WebhookEvent) -> SafeString:
    """Where it is, coloured."""
    return labels.label(event.state.replace("_", " "), STATE_COLOURS[State(event.state)])


@display(description="Receiver")
def receiver(event: WebhookEvent) -> str:
    """Where it is sent."""
    return event.generation.webhook_url


@display(description="Next try", empty_value=durations.NOTHING)
def next_try(event: WebhookEvent) -> str | None:
    """When it is tried again, if it is."""
    return durations.at(event.due_at) if event.due_at else None


class DeliveryInline(TabularInline):
    """The tries to deliver an event, with the answers."""

    model = WebhookDelivery
    fields = readonly_fields = ["tried_at", "status_code", "seconds", "answer", "error"]
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: WebhookEvent | None = None) -> bool:
        """Only the sender adds some."""
        return False


@admin.register(WebhookEvent)
class WebhookEventAdmin(ModelAdmin):
    """The list and the pages of events; nothing is edited here."""

    list_display = ["id", state, "kind", receiver, "tries", next_try, "created_at"]
    list_select_related = ["generation"]
    list_filter = [
        ("state", ChoicesDropdownFilter),
        ("kind", ChoicesDropdownFilter),
        ("generation__owner", AutocompleteSelectFilter),
    ]
    list_filter_submit = True
    list_fullwidth = True
    list_per_page = 50
    search_fields = ["id", "generation__id", "generation__webhook_url"]
    search_help_text = "Id, generation or receiver"
    fields = ["id", "generation", "kind", state, receiver, "facts", "tries", next_try, "created_at"]
    inlines = [DeliveryInline]
    actions = ["resend_selected"]
    actions_detail = ["resend"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Events are written where they happen."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: WebhookEvent | None = None) -> bool:
        """Only the sender changes one."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: WebhookEvent | None = None) -> bool:
        """Events go with their generation, so who may delete that may delete them."""
        return request.user.has_perm("generation.delete_generation")

    def has_resend_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Who has the right to change events may have them sent again."""
        return request.user.has_perm("generation.change_webhookevent")

    @admin.action(description="Send again", permissions=["resend"])
    def resend_selected(self, request: HttpRequest, events: QuerySet[WebhookEvent]) -> None:
        """Have those that are ticked sent again."""
        for event in events:
            event.resend()
        self.message_user(request, f"{len(events)} on their way again.", messages.SUCCESS)

    @action(description="Send again", icon="send", permissions=["resend"], dialog=RESEND)
    def resend(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        """Have the one that is shown sent again."""
        event = self.get_object(request, unquote(object_id))
        if event is None:
            raise Http404
        event.resend()
        self.message_user(request, "On its way again.", messages.SUCCESS)
        return HttpResponse(headers={"HX-Redirect": reverse("admin:generation_webhookevent_change", args=[event.pk])})


class WebhookAccountForm(forms.ModelForm):
    """Where a user's generations report to, and what."""

    events = forms.MultipleChoiceField(
        choices=[(kind.value, kind.value) for kind in Kind],
        initial=[Kind.FINISHED],
        help_text="What is sent to that URL.",
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )

    class Meta:
        model = WebhookAccount
        fields = ["owner", "url", "events"]

    def clean_url(self) -> str:
        """Refuse what no webhook would be sent to."""
        url: str = self.cleaned_data["url"]
        if url and (fault := addresses.fault_of(url)):
            raise ValidationError(fault)
        return url


@admin.register(WebhookAccount)
class WebhookAccountAdmin(ModelAdmin):
    """The list and the form of accounts; the secret is shown once, when it is drawn."""

    form = WebhookAccountForm
    list_display = ["owner", "url", "events", "rotated_at"]
    list_select_related = ["owner"]
    search_fields = ["owner__username", "url"]
    autocomplete_fields = ["owner"]
    fields = ["owner", "url", "events"]
    actions_detail = ["rotate"]

    def get_readonly_fields(self, request: HttpRequest, obj: WebhookAccount | None = None) -> list[str]:
        """An account stays with its user."""
        return [] if obj is None else ["owner"]

    def save_model(self, request: HttpRequest, obj: WebhookAccount, form: forms.ModelForm, change: bool) -> None:
        """Store it, and show the secret of a new one this one time."""
        super().save_model(request, obj, form, change)
        if not change:
            self.show(request, obj, obj.secret)

    @action(description="New secret", icon="key", permissions=["change"], dialog=ROTATE)
    def rotate(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        """Draw a new secret and show it this one time."""
        account = self.get_object(request, unquote(object_id))
        if account is None:
            raise Http404
        self.show(request, account, account.rotate())
        url = reverse("admin:generation_webhookaccount_change", args=[account.pk])
        return HttpResponse(headers={"HX-Redirect": url})

    def show(self, request: HttpRequest, account: WebhookAccount, secret: str) -> None:
        """The secret, for the next page only."""
        text = "The webhooks of {} are signed with <code>{}</code>. Copy it now: it is not shown again."
        self.message_user(request, format_html(text, account.owner, secret), messages.WARNING)
