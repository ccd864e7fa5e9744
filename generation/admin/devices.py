"""The devices: what they are, how they are, and what they should serve. Workers add them, people do not."""

from collections.abc import Mapping
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.dataclasses import ActionDialog
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm

from generation import operations
from generation.admin import durations, labels
from generation.errors import GenerationError
from generation.lifecycle import Outcome, Status
from generation.models import Device, Generation
from generation.models.device import SILENT_AFTER
from generation.parameters import Wishes

TEST_PROMPT = "a red apple"
TEST = ActionDialog(
    title="Make a test picture?",
    description=f"Submits “{TEST_PROMPT}” with the default model, for this device and no other.",
    form_class=None,
    form_submit_text="Make it",
)


def is_alive(device: Device) -> bool:
    """Whether its worker has been heard of lately: `DeviceQuerySet.alive` for one that is loaded already."""
    return device.heartbeat_at is not None and timezone.now() - device.heartbeat_at < SILENT_AFTER


@display(description="State")
def state(device: Device) -> SafeString:
    """Alive or silent, drained or not, and when it was heard of."""
    name, colour = ("alive", "success") if is_alive(device) else ("silent", "danger")
    drained = labels.label("drained", "warning") if device.is_drained else ""
    if device.quarantined_at is not None:
        drained = labels.label("in quarantine", "danger")
    heard = f"heard of {durations.ago(device.heartbeat_at)}" if device.heartbeat_at else "never heard of"
    text = '{} {} <span class="block text-subtle text-xs whitespace-nowrap">{}</span>'
    return format_html(text, labels.label(name, colour), drained, heard)


@display(description="Memory", ordering="memory_bytes")
def memory(device: Device) -> str:
    """In GiB."""
    return f"{device.memory_bytes / 1024**3:.1f} GiB"


@display(description="Should serve")
def should_serve(device: Device) -> str:
    """The models it is assigned to; costs no query where `serves` is prefetched."""
    return ", ".join(str(model) for model in device.serves.all()) or "all models"


@display(description="Has loaded", empty_value=durations.NOTHING)
def has_loaded(device: Device) -> str | None:
    """The models in its memory."""
    return ", ".join(device.loaded) or None


@display(description="Quarantine", empty_value=durations.NOTHING)
def quarantine(device: Device) -> str | None:
    """Since when it takes nothing new, why, and what ends that; or what has ended the last one."""
    if device.quarantined_at is None or device.next_test_at is None:
        left = device.trusted_from is not None and device.quarantine_note
        return f"Left {durations.at(device.trusted_from)}. {device.quarantine_note}" if left else None
    itself = f"It tests itself with a picture of its own not before {durations.at(device.next_test_at)}."
    ends = "One that succeeds ends it, and so does the action “Release from quarantine” in the list."
    since = f"Since {durations.at(device.quarantined_at)}."
    return " ".join(filter(None, (since, device.quarantine_reason, device.quarantine_note, itself, ends)))


@display(description="Has found out", empty_value=durations.NOTHING)
def has_found_out(device: Device) -> SafeString | None:
    """What it knows of each loaded model: how many generations it runs at once, and why not more."""
    if not device.facts:
        return None
    lines = (
        (
            slug,
            "shares forwards" if facts["is_batched"] else "runs one at a time",
            at_once(facts),
            ", ".join(f"{rows} rows of {shape}" for shape, rows in facts["rows"].items()),
            facts["reason"],
        )
        for slug, facts in sorted(device.facts.items())
    )
    return format_html_join("", "<p><b>{}</b>: {}, {}. {} {}</p>", lines)


def at_once(facts: Mapping[str, Any]) -> str:
    """How many generations, and of what size if that is known: a larger one counts for several."""
    pixels = facts.get("pixels")
    return f"{facts['at_once']} at once" + (f" of {pixels / 1e6:.2g} megapixels" if pixels else "")


@display(description="Running")
def running(device: Device) -> SafeString:
    """How many generations it runs, as `DeviceAdmin.get_queryset` annotates it, with a link to them."""
    query = f"attempts__device__id__exact={device.pk}&status__in={Status.RUNNING}"
    url = reverse("admin:generation_generation_changelist")
    count = device.running_count  # type: ignore[attr-defined]
    text = '<a href="{}?{}" class="text-primary-600 dark:text-primary-500">{} of {}</a>'
    return format_html(text, url, query, count, device.slots)


@admin.register(Device)
class DeviceAdmin(ModelAdmin):
    """The list and the pages of devices."""

    list_display = ["__str__", state, "name", memory, should_serve, has_loaded, running]
    search_fields = ["host", "label", "name"]
    actions = ["drain", "undrain", "release", "make_test_pictures"]
    actions_detail = ["make_test_picture"]
    autocomplete_fields = ["serves"]
    readonly_fields = [
        state, "name", memory, "kind", "slots", "started_at", quarantine, has_loaded, has_found_out, running,
    ]  # fmt: skip
    fieldsets = [
        ("What it should do", {"fields": ["serves", "is_drained"]}),
        ("How it is", {"fields": [(state, "started_at"), quarantine, (has_loaded, running), has_found_out]}),
        ("What it is", {"fields": [("name", memory), ("kind", "slots")]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Device]:
        """All devices, each with its models and the number of generations that it runs."""
        runs = Generation.objects.running().filter(attempts__outcome=Outcome.RUNNING, attempts__device=OuterRef("pk"))
        counted = runs.order_by().values("attempts__device").annotate(count=Count("pk")).values("count")
        devices = super().get_queryset(request).prefetch_related("serves")
        return devices.annotate(running_count=Coalesce(Subquery(counted), 0))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A worker adds its device when it starts."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Device | None = None) -> bool:
        """Only silent ones: a living worker goes on writing into its row."""
        return super().has_delete_permission(request, obj) and (obj is None or not is_alive(obj))

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Without Django's deletion of many, which would name a missing right where a device is alive."""
        return {name: choice for name, choice in super().get_actions(request).items() if name != "delete_selected"}

    @admin.action(description="Drain: take nothing new", permissions=["change"])
    def drain(self, request: HttpRequest, devices: QuerySet[Device]) -> None:
        """Let the devices finish what they run, and no more."""
        count = devices.update(is_drained=True)
        self.message_user(request, f"{count} drained: what runs there goes on, nothing new starts.")

    @admin.action(description="Undrain: take generations again", permissions=["change"])
    def undrain(self, request: HttpRequest, devices: QuerySet[Device]) -> None:
        """Let the devices take generations again."""
        count = devices.update(is_drained=False)
        self.message_user(request, f"{count} in use again.")

    @admin.action(description="Release from quarantine", permissions=["change"])
    def release(self, request: HttpRequest, devices: QuerySet[Device]) -> None:
        """Trust the devices again; what they lost before is forgiven."""
        note = f"Released by hand by {request.user}."
        count = sum(device.trust(note=note) for device in devices)
        self.message_user(request, f"{count} in use again.")

    @admin.action(description="Make a test picture on each", permissions=["change"])
    def make_test_pictures(self, request: HttpRequest, devices: QuerySet[Device]) -> None:
        """Submit one generation for each device."""
        for device in devices:
            self.test(request, device)

    @action(description="Make a test picture", icon="brush", permissions=["change"], dialog=TEST)
    def make_test_picture(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        """Submit one generation for the device that is shown."""
        device = self.get_object(request, unquote(object_id))
        if device is None:
            raise Http404
        self.test(request, device)
        return HttpResponse(headers={"HX-Redirect": reverse("admin:generation_device_change", args=[device.pk])})

    def test(self, request: HttpRequest, device: Device) -> None:
        """Submit a generation for `device` alone, and say where to look; refused where nobody listens."""
        if not is_alive(device):
            self.message_user(request, f"{device} is silent. Start its worker first.", messages.WARNING)
            return
        operator = cast(AbstractBaseUser, request.user)  # the admin lets nobody anonymous in
        try:
            generation = operations.submit(Wishes(prompt=TEST_PROMPT), owner=operator, pinned_to=device)
        except GenerationError as error:
            self.message_user(request, f"{device}: {error}", messages.ERROR)
            return
        url = reverse("admin:generation_generation_change", args=[generation.pk])
        link = format_html('{}: <a href="{}" class="underline">the test picture</a> is on its way.', device, url)
        self.message_user(request, link, messages.SUCCESS)
