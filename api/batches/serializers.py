"""What a request for a batch looks like, and how a batch is shown."""

from typing import Any

from rest_framework import serializers

from api.generations.serializers import GenerationRequestSerializer, in_iso_8601, link
from generation.models import Batch
from generation.submission import LARGEST_BATCH


class BatchRequestSerializer(serializers.Serializer[Any]):
    """The body of `POST /api/batches/`: each member of `requests` is as for `POST /api/generations/`."""

    requests = GenerationRequestSerializer(many=True, allow_empty=False, help_text=f"1 to {LARGEST_BATCH} requests.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse members that do not exist."""
        unknown = sorted(set(self.initial_data) - set(self.fields))
        if unknown:
            raise serializers.ValidationError(
                {name: serializers.ErrorDetail("Unknown. Known is: requests.", code="unknown") for name in unknown}
            )
        return attrs


class BatchSerializer(serializers.Serializer[Batch]):
    """A batch as its owner sees it."""

    def to_representation(self, batch: Batch) -> dict[str, Any]:
        """The sum of its generations, and where each of them is."""
        request = self.context["request"]
        summary = batch.summary
        return {
            "id": str(batch.pk),
            "status": str(summary.status),
            "progress": {"step": summary.step, "total": summary.total_steps, "fraction": summary.fraction},
            "size": batch.size,
            "counts": {str(status): count for status, count in summary.counts.items()},
            "generations": [
                {
                    "id": str(generation.pk),
                    "status": str(generation.status),
                    "url": link(request, "generation-detail", generation.pk),
                }
                for generation in batch.generations.all()
            ],
            "created_at": in_iso_8601(batch.created_at),
            "finished_at": in_iso_8601(summary.finished_at),
            "links": {
                "self": link(request, "batch-detail", batch.pk),
                "cancel": link(request, "batch-cancel", batch.pk),
                "generations": f"{link(request, 'generation-list')}?batch={batch.pk}",
            },
        }
