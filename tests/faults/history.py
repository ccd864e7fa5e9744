"""What must be true of every history, whatever was killed: checked against the rows and the files themselves.

I1  every accepted generation has ended
I2  one that succeeded has exactly the images that were asked for, whole and readable
I3  one that was cancelled or failed has none
I4  no generation was run more often than allowed; a polite release does not count
I5  at most one attempt of a generation succeeded, every attempt is closed, and the images are of that attempt
I6  the storage holds nothing that nobody refers to, once the housekeeper has been round
I7  what was counted for the owner's limits is what was accepted
I8  whoever wants to be told of the end is told once: the outbox holds one such event, with one id
I9  the service takes another generation: the tests submit one
"""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from django.core.files.storage import FileSystemStorage, default_storage
from django.db.models import Sum

from generation import cleaning, saved_states, storage
from generation.conf import configuration
from generation.lifecycle import Outcome, Status
from generation.models import Attempt, DailyUsage, Generation, Image, WebhookEvent
from generation.models.webhook import Kind


def violations() -> list[str]:
    """A sentence for each rule that is broken; none when all is well."""
    clean()
    rows = Generation.objects.prefetch_related("attempts", "images")
    return [sentence for row in rows for sentence in violations_of(row)] + list(stray_files()) + list(miscounts())


def violations_of(generation: Generation) -> Iterator[str]:
    """Of one generation, I1 to I5 and I8."""
    images, attempts = list(generation.images.all()), list(generation.attempts.all())
    if not generation.is_finished:
        yield f"I1: {generation} is still {generation.status}"
        return
    if generation.status == Status.SUCCEEDED:
        if sorted(image.index for image in images) != list(range(generation.num_images)):
            yield f"I2: {generation} has images {[image.index for image in images]}"
        for image in images:
            if not is_whole(image):
                yield f"I2: {image} is not what was stored"
    elif images:
        yield f"I3: {generation} is {generation.status} and has {len(images)} images"
    runs = [attempt for attempt in attempts if attempt.outcome != Outcome.RELEASED]
    if len(runs) > configuration().max_attempts:
        yield f"I4: {generation} was run {len(runs)} times"
    winners = [attempt.pk for attempt in attempts if attempt.outcome == Outcome.SUCCEEDED]
    if len(winners) != (generation.status == Status.SUCCEEDED) or {image.attempt_id for image in images} - set(winners):
        yield f"I5: {generation} is {generation.status} with {len(winners)} successful attempts"
    if any(attempt.outcome == Outcome.RUNNING for attempt in attempts):
        yield f"I5: an attempt of {generation} is still open"
    told = WebhookEvent.objects.filter(generation=generation, kind=Kind.FINISHED).count()
    if told != (Kind.FINISHED in generation.webhook_events):
        yield f"I8: the outbox has {told} events about the end of {generation}"


def is_whole(image: Image) -> bool:
    """Whether the file is there with the bytes that the row promises."""
    try:
        return sha256(storage.read(image.file.name)).hexdigest() == image.sha256
    except FileNotFoundError:
        return False


def clean() -> None:
    """The housekeeper's round over the storage, as it will be an hour from now."""
    while cleaning.remove_stray_files(older_than=timedelta(0)):
        pass
    cleaning.remove_states(walk := cleaning.Walk(saved_states.ROOT))
    cleaning.remove_states(walk)


def stray_files() -> Iterator[str]:
    """I6."""
    known = {str(name) for pair in Image.objects.values_list("file", "thumbnail") for name in pair}
    for name in stored_files():
        if name not in known:
            yield f"I6: {name} belongs to nothing"


def stored_files() -> Iterator[str]:
    """The names of all that the storage holds."""
    if isinstance(default_storage, FileSystemStorage):
        root = Path(default_storage.location)
        yield from (str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    else:
        yield from (stored.key for stored in default_storage.bucket.objects.all())


def miscounts() -> Iterator[str]:
    """I7, of those whose pixel-steps are counted because they are limited."""
    counted = dict(DailyUsage.objects.values_list("owner").annotate(Sum("pixel_steps")))
    accepted: Counter[int] = Counter()
    for generation in Generation.objects.all():
        accepted[generation.owner_id] += generation.pixel_steps
    for owner_id, pixel_steps in counted.items():
        if pixel_steps != accepted[owner_id]:
            yield f"I7: {pixel_steps} pixel-steps are counted for {accepted[owner_id]} accepted"


def ledger() -> dict[str, object]:
    """What became of everything that was accepted."""
    rows = list(Generation.objects.prefetch_related("attempts"))
    failed: dict[str, int] = {}
    for row in rows:
        if row.status == Status.FAILED:
            failed[row.error_code] = failed.get(row.error_code, 0) + 1
    winners = [sum(attempt.outcome == Outcome.SUCCEEDED for attempt in row.attempts.all()) for row in rows]
    return {
        "accepted": len(rows),
        "succeeded": sum(row.status == Status.SUCCEEDED for row in rows),
        "failed": failed,
        "cancelled": sum(row.status == Status.CANCELLED for row in rows),
        "lost": sum(not row.is_finished for row in rows),
        "doubled": sum(count > 1 for count in winners),
        "attempts": sum(row.attempt_count for row in rows),
    }


def recoveries() -> list[dict[str, object]]:
    """Each time that nobody ran a generation after an attempt had ended badly; the longest first.

    `began_at` and `ended_at` are in seconds since 1970. It begins with the last sign of life of the one attempt, at
    most (so it has the lease in it that had to run out), and ends with the claim of the next. `noticed_seconds` of it
    were over when the attempt was closed, and so many messages were sent until one was claimed.
    """
    rows = Generation.objects.prefetch_related("attempts")
    pairs = (pair for row in rows for pair in pairwise(sorted(row.attempts.all(), key=lambda one: one.number)))
    found = [recovery(before, after) for before, after in pairs if before.ended_at]
    return sorted(found, key=lambda one: -float(str(one["seconds"])))


def recovery(before: Attempt, after: Attempt) -> dict[str, object]:
    """From one attempt to the next."""
    assert before.ended_at is not None
    unnoticed = configuration().lease if before.outcome == Outcome.LOST else timedelta(0)
    began_at = before.ended_at - unnoticed
    return {
        "generation": str(before.generation_id),
        "outcome": str(before.outcome),
        "seconds": round((after.started_at - began_at).total_seconds(), 1),
        "noticed_seconds": round(unnoticed.total_seconds(), 1),
        "messages": after.dispatch_no - before.dispatch_no,
        "began_at": began_at.timestamp(),
        "ended_at": after.started_at.timestamp(),
    }
