"""The indexes of the table of generations, each with the question that it answers, and its constraints.

SQLite uses a conditional index only where a query repeats its condition word for word, and takes parameters for
something that it does not know; so most of these are whole ones that begin with the status.
"""

from django.db.models import Index, Q, UniqueConstraint
from django.db.models.constraints import BaseConstraint

HAS_KEY = ~Q(idempotency_key="")

INDEXES: list[Index] = [
    # What has this user made? The list of the API.
    Index(fields=["owner", "-arrival"], name="generations_of_an_owner"),
    # How much of this user, and of this key, waits and runs?
    Index(fields=["owner", "status", "api_key"], name="generations_unfinished", condition=Q(finished_at=None)),
    # When does the turn of an owner's next one come?
    Index(fields=["owner", "model", "rank", "turn_at"], name="turns_of_an_owner"),
    # Who is next, and how many are ahead? The id makes the order complete, or SQLite would sort the whole line.
    Index(fields=["status", "model", "pinned_to", "rank", "turn_at", "id"], name="generations_in_line"),
    # How many of a model wait at the broker, and in which order?
    Index(fields=["status", "model", "dispatched_at"], name="generations_at_the_broker"),
    # Whose message may be lost?
    Index(fields=["redispatch_at"], name="generations_overdue", condition=~Q(redispatch_at=None)),
    # Whose time is over?
    Index(
        fields=["deadline_at"],
        name="generations_by_deadline",
        condition=Q(finished_at=None, deadline_at__isnull=False),
    ),
    Index(
        fields=["start_by"],
        name="generations_by_start",
        condition=Q(finished_at=None, start_by__isnull=False),
    ),
    # Whose idempotency key is so old that it is forgotten?
    Index(fields=["created_at"], name="generations_with_a_key", condition=HAS_KEY),
    # What is so old that it goes?
    Index(fields=["expired_at", "finished_at"], name="generations_by_age"),
    # Which one does this claim hold? A worker's beat.
    Index(fields=["claim_token"], name="generations_by_claim", condition=~Q(claim_token=None)),
]

CONSTRAINTS: list[BaseConstraint] = [
    UniqueConstraint(fields=["owner", "idempotency_key"], condition=HAS_KEY, name="generations_once_per_key")
]
