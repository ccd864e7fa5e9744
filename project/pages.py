"""What the admin's frame shows: the links at its side, and the overview that it opens with."""

from datetime import timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Count, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from generation.admin import columns, devices, durations
from generation.condition import Shortcoming, shortcomings
from generation.lifecycle import Status
from generation.models import Device, Generation

NEWEST = 10
LATELY = timedelta(hours=24)


class Page(NamedTuple):
    """A page of the admin, for those who have the right to view its model."""

    title: str
    icon: str
    model: str

    @property
    def url(self) -> str:
        """Where its list is."""
        return reverse(f"admin:{self.model.replace('.', '_')}_changelist")

    def is_open_to(self, request: HttpRequest) -> bool:
        """Whether the user of `request` may look."""
        app, model = self.model.split(".")
        return request.user.has_perm(f"{app}.view_{model}")


PICTURES = [
    Page("Generations", "image", "generation.generation"),
    Page("Models", "model_training", "generation.diffusionmodel"),
    Page("Devices", "memory", "generation.device"),
    Page("Webhooks", "webhook", "generation.webhookevent"),
]
PEOPLE = [
    Page("Users", "person", "auth.user"),
    Page("Groups", "group", "auth.group"),
    Page("API keys", "key", "api.apikey"),
    Page("Limits", "speed", "generation.userlimits"),
    Page("Webhook accounts", "alternate_email", "generation.webhookaccount"),
]


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """The links at the side (unfold's SIDEBAR.navigation)."""
    overview = {"title": "Overview", "icon": "dashboard", "link": reverse("admin:index")}
    elsewhere = [
        {"title": "API", "icon": "api", "link": "/api/", "active": False},
        {
            "title": "Flower",
            "icon": "monitoring",
            "link": f"http://127.0.0.1:{settings.FLOWER_PORT}/",
            "active": False,
        },
    ]
    return [
        {"items": [overview, *links(PICTURES, request)]},
        {"title": "People", "separator": True, "items": links(PEOPLE, request)},
        {"title": "Elsewhere", "separator": True, "items": elsewhere},
    ]


def favicon(request: HttpRequest) -> str:
    """Where Pictor's icon is (unfold's SITE_FAVICONS)."""
    return static("api/pictor.svg")


def links(pages: list[Page], request: HttpRequest) -> list[dict[str, Any]]:
    """Those of the pages that the user may see."""
    return [{"title": page.title, "icon": page.icon, "link": page.url} for page in pages if page.is_open_to(request)]


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the overview shows (unfold's DASHBOARD_CALLBACK)."""
    generations, _, known_devices, _ = PICTURES
    if generations.is_open_to(request):
        context |= {"counts": counts(), "newest": newest()}
    if known_devices.is_open_to(request):
        context |= {"devices": device_table(), "warnings": [in_words(one) for one in shortcomings()]}
    return context


def in_words(shortcoming: Shortcoming) -> str:
    """What does not do its work, with the names that only operators are told."""
    return f"{shortcoming.sentence} ({', '.join(shortcoming.names)})" if shortcoming.names else shortcoming.sentence


def counts() -> list[dict[str, Any]]:
    """How many generations wait and run now, and how many ended in the last day."""
    now = Generation.objects.filter(status__in=(Status.QUEUED, Status.RUNNING))
    lately = Generation.objects.finished().filter(finished_at__gt=Now() - LATELY)
    found = by_status(now) | by_status(lately)
    titles = {
        Status.QUEUED: "Waiting",
        Status.RUNNING: "Running",
        Status.SUCCEEDED: "Succeeded in 24 h",
        Status.FAILED: "Failed in 24 h",
    }
    place = reverse("admin:generation_generation_changelist")
    return [
        {"title": title, "value": found.get(status, 0), "url": f"{place}?status__in={status}"}
        for status, title in titles.items()
    ]


def by_status(generations: QuerySet[Generation]) -> dict[str, int]:
    """How many of them have each status."""
    return dict(generations.order_by().values_list("status").annotate(count=Count("pk")))


def newest() -> dict[str, Any]:
    """The last generations, as a table of the theme."""
    generations = Generation.objects.select_related("model", "owner").prefetch_related("images")[:NEWEST]
    rows = [
        [
            columns.picture(generation) or durations.NOTHING,
            columns.state(generation),
            link("generation", generation, columns.brief_prompt(generation)),
            columns.model(generation),
            generation.owner,
            columns.created(generation),
        ]
        for generation in generations
    ]
    return {"headers": ["Picture", "Status", "Prompt", "Model", "Owner", "Created"], "rows": rows}


def device_table() -> dict[str, Any]:
    """The devices and how they are, as a table of the theme."""
    rows = [
        [
            link("device", device, str(device)),
            devices.state(device),
            device.name,
            devices.memory(device),
            devices.has_loaded(device) or durations.NOTHING,
        ]
        for device in Device.objects.all()
    ]
    return {"headers": ["Device", "State", "Hardware", "Memory", "Has loaded"], "rows": rows}


def link(name: str, row: Generation | Device, text: str) -> SafeString:
    """A link to the page of a row."""
    url = reverse(f"admin:generation_{name}_change", args=[row.pk])
    return format_html('<a href="{}" class="text-primary-600 dark:text-primary-500">{}</a>', url, text)
