"""Filters of the list of generations."""

from datetime import UTC, datetime
from typing import Any

from django_filters import rest_framework as filters
from django_filters.fields import IsoDateTimeField

from generation.lifecycle import STATUS_CHOICES
from generation.models import DiffusionModel, Generation

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)


class MomentField(IsoDateTimeField):
    """Any time of RFC 3339."""

    def to_python(self, value: Any) -> datetime | None:
        """The time, or the end of the calendar: the first and last years there are could not be converted to UTC."""
        moment: datetime | None = super().to_python(value.upper() if isinstance(value, str) else value)  # 2020-01-01t…z
        if moment is None:
            return None
        if moment.year < EARLIEST.year:
            return EARLIEST
        if moment.year > LATEST.year:
            return LATEST
        return moment.astimezone(UTC)  # PostgreSQL knows no zone that is more than 16 hours away


class MomentFilter(filters.IsoDateTimeFilter):
    """Compares with a time."""

    field_class = MomentField


class GenerationFilters(filters.FilterSet):
    """`?status=`, `?model=`, `?batch=`, `?created_after=` and `?created_before=`."""

    status = filters.MultipleChoiceFilter(choices=STATUS_CHOICES, help_text="May be given several times.")
    model = filters.ModelChoiceFilter(
        queryset=DiffusionModel.objects.all(), to_field_name="slug", help_text="A model's slug."
    )
    batch = filters.UUIDFilter(field_name="batch_id", help_text="The id of a batch.")
    created_after = MomentFilter(field_name="created_at", lookup_expr="gt", help_text="RFC 3339.")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt", help_text="RFC 3339.")

    class Meta:
        model = Generation
        fields = ["status", "model", "batch", "created_after", "created_before"]
