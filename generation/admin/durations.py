"""How long things took and when they were, in words that fit a table."""

from datetime import datetime, timedelta

from django.utils import formats, timezone

NOTHING = "-"
NO_BREAK = "\u00a0"


def in_words(length: timedelta) -> str:
    """A length with two units at most: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min, 4 d 3 h; without line breaks."""
    seconds = max(0.0, length.total_seconds())
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(" ", NO_BREAK)
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(place for place, (count, _) in enumerate(parts) if count)
    words = [f"{count} {unit}" for count, unit in parts[first : first + 2] if count]
    return " ".join(words).replace(" ", NO_BREAK)


def between(start: datetime | None, end: datetime | None) -> str:
    """From `start` to `end`, or to now without an end; NOTHING without a start."""
    return NOTHING if start is None else in_words((end or timezone.now()) - start)


def ago(moment: datetime | None) -> str:
    """How long ago it was."""
    return "never" if moment is None else f"{between(moment, None)} ago"


def at(moment: datetime | None) -> str:
    """Date and time to the second, in the server's time zone."""
    return NOTHING if moment is None else formats.date_format(timezone.localtime(moment), "Y-m-d H:i:s")
