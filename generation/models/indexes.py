"""The indexes of the table of generations, each with the question that it answers.

SQLite uses a conditional index only where a query repeats its condition word for word, and takes parameters for
something that it does not know; so most of these are whole ones that begin with the status.
"""

from django.db.models import Index, Q

INDEXES = [
    # What has this user made? The list of the API.
    Index(fields=["owner", "-id"], name="generations_of_an_owner"),
    # When does the turn of an owner's next one come?
    Index(fields=["owner", "model", "rank", "turn_at"], name="turns_of_an_owner"),
    # Who is next, and how many are ahead? The id makes the order complete, or SQLite would sort the whole line.
    Index(fields=["status", "model", "pinned_to", "rank", "turn_at", "id"], name="generations_in_line"),
    # How many of a model wait at the broker, and in which order?
    Index(fields=["status", "model", "dispatched_at"], name="generations_at_the_broker"),
    # Whose message may be lost?
    Index(fields=["redispatch_at"], name="generations_overdue", condition=~Q(redispatch_at=None)),
    # What is so old that it goes?
    Index(fields=["expired_at", "finished_at"], name="generations_by_age"),
    # Which one does this claim hold? A worker's beat.
    Index(fields=["claim_token"], name="generations_by_claim", condition=~Q(claim_token=None)),
]
