"""Statuses and outcomes as coloured labels."""

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from generation.lifecycle import Outcome, Status

STATUS_COLOURS = {
    Status.QUEUED: "default",
    Status.RUNNING: "info",
    Status.SUCCEEDED: "success",
    Status.FAILED: "danger",
    Status.CANCELLED: "warning",
}
OUTCOME_COLOURS = {
    Outcome.RUNNING: "info",
    Outcome.SUCCEEDED: "success",
    Outcome.FAILED: "danger",
    Outcome.CANCELLED: "warning",
    Outcome.RELEASED: "default",
    Outcome.LOST: "danger",
}


def of_status(status: str) -> SafeString:
    """A generation's status."""
    return label(status, STATUS_COLOURS[Status(status)])


def of_outcome(outcome: str) -> SafeString:
    """An attempt's outcome."""
    return label(outcome, OUTCOME_COLOURS[Outcome(outcome)])


def label(text: str, colour: str) -> SafeString:
    """A word on a ground in one of the theme's colours: default, info, success, warning or danger."""
    return render_to_string("unfold/helpers/label.html", {"text": text, "type": colour})
