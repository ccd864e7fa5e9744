"""The indexes and constraints of the table of generations: each question about it costs a look and not a search."""

from django.db import models
from django.db.models import Q

# Conditions are written in the words of the queries, or SQLite does not recognise that the index would do.
HAS_DEADLINE = Q(finished_at=None, deadline_at__isnull=False)

INDEXES: list[models.Index] = [
    models.Index(fields=["owner", "-arrival"], name="generations_of_an_owner"),
    models.Index(fields=["status", "model", "-priority", "arrival"], name="generations_in_line"),
    models.Index(fields=["owner", "status", "api_key"], name="generations_unfinished", condition=Q(finished_at=None)),
    models.Index(fields=["claim_token"], name="generations_by_claim", condition=~Q(claim_token=None)),
    models.Index(fields=["deadline_at"], name="generations_by_deadline", condition=HAS_DEADLINE),
    models.Index(fields=["created_at"], name="generations_with_a_key", condition=~Q(idempotency_key="")),
]

CONSTRAINTS: list[models.BaseConstraint] = [
    models.UniqueConstraint(
        fields=["owner", "idempotency_key"], condition=~Q(idempotency_key=""), name="generations_once_per_key"
    )
]
