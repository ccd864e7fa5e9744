"""Where waiting generations stand: how many of their model go before each of them.

First come those whose message is at the broker, which keeps their order, then the others by the line's order; pinned
ones stand in the line of their device. Of a long line each part is counted once: from one generation of a page to the
next, and for a second from the last mark of this process before them.
"""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connection

from generation.lifecycle import Status
from generation.models.generation import Generation

FAR = 500  # rows between a mark and the next: so many are counted anew for every answer
MARKS_HOLD_SECONDS = 1.0

# Each count is a range of an index. The year keeps SQLite from reading the whole table, as it would for IS NOT NULL.
POSITIONS = """
WITH mine AS (
    SELECT id, model_id, pinned_to_id, dispatched_at, rank, turn_at,
        LAG(rank) OVER line AS from_rank, LAG(turn_at) OVER line AS from_turn_at, LAG(id) OVER line AS from_id
    FROM generation_generation
    WHERE status = %s AND id IN ({ids})
    WINDOW line AS (PARTITION BY pinned_to_id IS NULL AND dispatched_at IS NULL ORDER BY rank, turn_at, id)
)
SELECT id, CAST(turn_at AS text), pinned_to_id IS NULL AND dispatched_at IS NULL, CASE
    WHEN pinned_to_id IS NOT NULL THEN (
        SELECT COUNT(*) FROM generation_generation AS other
        WHERE other.status = %s AND other.pinned_to_id = mine.pinned_to_id AND other.id < mine.id)
    WHEN dispatched_at IS NOT NULL THEN (
        SELECT COUNT(*) FROM generation_generation AS other
        WHERE other.status = %s AND other.model_id = mine.model_id AND other.pinned_to_id IS NULL
            AND other.dispatched_at < mine.dispatched_at)
    ELSE (
        SELECT COUNT(*) FROM generation_generation AS other
        WHERE other.status = %s AND other.model_id = mine.model_id AND other.pinned_to_id IS NULL
            AND (other.rank, other.turn_at, other.id) < (mine.rank, mine.turn_at, mine.id)
            AND (other.rank, other.turn_at, other.id)
                >= (COALESCE(from_rank, %s), COALESCE(from_turn_at, %s), COALESCE(from_id, %s)))
    END, (
        SELECT COUNT(*) FROM generation_generation AS other
        WHERE other.status = %s AND other.model_id = mine.model_id AND other.pinned_to_id IS NULL
            AND other.dispatched_at > '1970-01-02'
            AND (other.rank, other.turn_at, other.id) > (mine.rank, mine.turn_at, mine.id))
FROM mine ORDER BY rank, turn_at, id
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of a model's line, and how many were before it when that was counted."""

    rank: int
    turn_at: datetime
    id: UUID
    stored_turn_at: str  # as the database spells it: SQLite compares texts, and writes fewer digits than Python
    before: int

    @property
    def place(self) -> tuple[int, datetime, UUID]:
        """By which marks and generations compare."""
        return self.rank, self.turn_at, self.id


START = Mark(-(2**15), datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0), "1970-01-01 00:00:00", before=0)

_marks: dict[int, tuple[float, tuple[Mark, ...]]] = {}  # by model: since when, and which


def set_positions(generations: Iterable[Generation]) -> None:
    """Give each its `position`: 1 for the next of its model to run, None for those that do not wait.

    One query for each model. More than `FAR` places behind the front it may be as old as a mark.
    """
    waiting: dict[int, dict[UUID, Generation]] = {}
    for generation in generations:
        generation.position = None
        if generation.status == Status.QUEUED:
            waiting.setdefault(generation.model_id, {})[generation.pk] = generation
    for model_id, by_id in waiting.items():
        mark = mark_before(model_id, by_id.values())
        before = mark.before
        for pk, stored_turn_at, is_in_line, count, behind_at_the_broker in rows(by_id, mark):
            generation = by_id[UUID(str(pk))]
            if not is_in_line:
                generation.position = 1 + count
                continue
            before += count
            generation.position = 1 + before + behind_at_the_broker
            if count >= FAR:
                remember(model_id, Mark(generation.rank, generation.turn_at, generation.pk, stored_turn_at, before))


def position_of(generation: Generation) -> int | None:
    """The same of one."""
    set_positions([generation])
    return generation.position


def rows(ids: Collection[UUID], mark: Mark) -> list[tuple[Any, ...]]:
    """Those among them that wait, in the line's order: the id, its turn as stored, whether it is in line, two counts.

    Of one in line how many are there since the one before it, or the mark, and how many behind it are at the broker
    already; of one that is pinned or at the broker itself how many are before it.
    """
    field = Generation._meta.pk
    stored_ids = [field.get_db_prep_value(pk, connection) for pk in (*ids, mark.id)]
    query = POSITIONS.format(ids=", ".join(["%s"] * len(ids)))
    since = [mark.rank, mark.stored_turn_at, stored_ids.pop()]
    status = Status.QUEUED.value
    with connection.cursor() as cursor:
        cursor.execute(query, [status, *stored_ids, status, status, status, *since, status])
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def mark_before(model_id: int, generations: Iterable[Generation]) -> Mark:
    """The last mark that is before all of them."""
    since, marks = _marks.get(model_id, (0.0, ()))
    if not marks or time.monotonic() - since > MARKS_HOLD_SECONDS:
        return START
    first = min((generation.rank, generation.turn_at, generation.pk) for generation in generations)
    return max((mark for mark in marks if mark.place <= first), key=lambda mark: mark.place, default=START)


def remember(model_id: int, mark: Mark) -> None:
    """Add a mark to those of this second."""
    since, marks = _marks.get(model_id, (0.0, ()))
    if time.monotonic() - since > MARKS_HOLD_SECONDS:
        since, marks = time.monotonic(), ()
    _marks[model_id] = since, (*marks, mark)
