"""Actions on the generations that are ticked in the list; what destroys something asks first."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin

from generation import operations
from generation.errors import GenerationError
from generation.lifecycle import Status
from generation.models import Generation

Act = Callable[[Generation], str]
"""Does something to a generation and says what came of it; raises GenerationError where that is refused."""


@admin.action(description="Cancel", permissions=["oversee"])
def cancel_selected(
    page: ModelAdmin, request: HttpRequest, generations: QuerySet[Generation]
) -> TemplateResponse | None:
    """Cancel what waits, and ask the workers of what runs to stop."""
    if "confirmed" not in request.POST:
        return ask(page, request, generations, action="cancel_selected", question="Cancel these generations?")
    report(page, request, carry_out(cancel, generations))
    return None


@admin.action(description="Retry", permissions=["oversee"])
def retry_selected(page: ModelAdmin, request: HttpRequest, generations: QuerySet[Generation]) -> None:
    """Submit what failed or was cancelled once more."""
    report(page, request, carry_out(retry, generations))


@admin.action(description="Delete", permissions=["delete"])
def delete_selected(
    page: ModelAdmin, request: HttpRequest, generations: QuerySet[Generation]
) -> TemplateResponse | None:
    """Delete what is finished, with its files; it has the name of Django's own action and so replaces it."""
    if "confirmed" not in request.POST:
        question = "Delete these generations with their images?"
        return ask(page, request, generations, action="delete_selected", question=question)
    report(page, request, carry_out(delete, generations))
    return None


def cancel(generation: Generation) -> str:
    """Cancel it, or ask its worker to stop."""
    if generation.status == Status.CANCELLED:
        return "had been cancelled before"
    after = operations.cancel(generation)
    return Status.CANCELLED if after.status == Status.CANCELLED else "asked to stop at the next step"


def retry(generation: Generation) -> str:
    """Submit its parameters once more, for the same owner."""
    operations.retry(generation)
    return "submitted once more"


def delete(generation: Generation) -> str:
    """Remove it with its files."""
    operations.delete(generation)
    return "deleted with all files"


def carry_out(act: Act, generations: Iterable[Generation]) -> Iterator[tuple[int, str]]:
    """Act on each; then yield sentences, with a message level: how many it worked for, why not for others."""
    done: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for generation in generations:
        try:
            done[act(generation)] += 1
        except GenerationError as error:
            refused[str(error)] += 1
    for what, count in done.items():
        yield messages.SUCCESS, f"{counted(count)} {what}."
    for why, count in refused.items():
        yield messages.WARNING, f"{counted(count)} left alone: {why}"


def report(page: ModelAdmin, request: HttpRequest, sentences: Iterable[tuple[int, str]]) -> None:
    """Show each sentence above the list."""
    for level, sentence in sentences:
        page.message_user(request, sentence, level)


def ask(
    page: ModelAdmin, request: HttpRequest, generations: QuerySet[Generation], *, action: str, question: str
) -> TemplateResponse:
    """A page that counts what was ticked and sends the same action again, confirmed."""
    counts = generations.order_by().values_list("status").annotate(count=Count("pk"))
    context = {
        **page.admin_site.each_context(request),
        "title": question,
        "opts": page.opts,
        "action": action,
        "counts": [(counted(count), status) for status, count in counts],
        "checkbox": ACTION_CHECKBOX_NAME,
        "ticked": request.POST.getlist(ACTION_CHECKBOX_NAME),
        "select_across": request.POST.get("select_across", "0"),
    }
    return TemplateResponse(request, "admin/generation/generation/confirm.html", context)


def counted(count: int) -> str:
    """1 generation, 2 generations."""
    return f"{count} generation{'' if count == 1 else 's'}"
