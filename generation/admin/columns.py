"""What lists and pages show of a generation beyond its own fields."""

from django.template.defaultfilters import truncatechars
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from generation.admin import durations, labels
from generation.lifecycle import Status
from generation.models import Generation
from generation.models.positions import position_of


@display(empty_value=durations.NOTHING)
def picture(generation: Generation) -> SafeString | None:
    """The first image, small; costs no query where `images` is prefetched."""
    images = list(generation.images.all())
    if not images:
        return None
    url = reverse("generation-thumbnail", args=[generation.pk, images[0].index])
    more = f"+{len(images) - 1}" if len(images) > 1 else ""
    return format_html(
        '<span class="flex gap-2 items-center whitespace-nowrap"><img src="{}" alt="" width="48" height="48"'
        ' loading="lazy" class="h-12 object-cover rounded-default shrink-0">{}</span>',
        url,
        more,
    )


@display(description="Status", ordering="status")
def state(generation: Generation) -> SafeString:
    """The status; with the steps done while it runs, and with the cancel that its worker has not seen yet."""
    context = {
        "generation": generation,
        "label": labels.of_status(generation.status),
        "is_running": generation.status == Status.RUNNING,
        "percent": round(100 * generation.fraction),
    }
    return render_to_string("admin/generation/generation/state.html", context)


@display(description="Prompt")
def brief_prompt(generation: Generation) -> str:
    """The beginning of the prompt."""
    return truncatechars(generation.prompt, 70)


@display(description="Model", ordering="model")
def model(generation: Generation) -> SafeString:
    """Its slug in one line."""
    return format_html('<span class="whitespace-nowrap">{}</span>', generation.model)


@display(description="Device", empty_value=durations.NOTHING)
def device(generation: Generation) -> str | None:
    """The device of the last attempt, as `GenerationAdmin.get_queryset` annotates it."""
    return generation.last_worker  # type: ignore[attr-defined]


@display(description="In the queue")
def waited(generation: Generation) -> str:
    """From its creation to its last start, or to its end if it never started."""
    return durations.between(generation.created_at, generation.started_at or generation.finished_at)


@display(description="Running")
def ran(generation: Generation) -> str:
    """From its last start to its end."""
    is_back_in_line = generation.status == Status.QUEUED
    return durations.between(None if is_back_in_line else generation.started_at, generation.finished_at)


@display(description="Created", ordering="created_at")
def created(generation: Generation) -> str:
    """When it was submitted."""
    return durations.at(generation.created_at)


@display(description="Position in the queue", empty_value=durations.NOTHING)
def position(generation: Generation) -> int | None:
    """1 for the next of its model; a query of its own, so for one generation only."""
    return position_of(generation)
