"""How the attempts of a generation are shown: which way each went to the engine, and what that took."""

from rest_framework import serializers

from generation.models import Attempt


class AttemptSerializer(serializers.ModelSerializer[Attempt]):
    """One claim by a worker. Which device that was, and what broke there, is for operators: the admin has it."""

    class Meta:
        model = Attempt
        fields = (
            "number",
            "outcome",
            "runtime",
            "started_at",
            "ended_at",
            "resumed_from_step",
            "step",
            "pipeline_seconds",
            "serialise_ms",
            "transfer_ms",
            "wait_ms",
            "store_seconds",
        )
        read_only_fields = fields
