"""Filters of the list of generations."""

from datetime import datetime

from django.core.exceptions import ValidationError
from django_filters import rest_framework as filters

from generation.lifecycle import STATUS_CHOICES
from generation.models import DiffusionModel, Generation

FIRST_YEAR, LAST_YEAR = 1970, 9998


def check_year(moment: datetime) -> None:
    """Refuse what is no plausible time; the first and last years there are cannot be converted to UTC."""
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValidationError(f"The year must be from {FIRST_YEAR} to {LAST_YEAR}.")


class GenerationFilters(filters.FilterSet):
    """`?status=`, `?model=`, `?batch=`, `?created_after=` and `?created_before=`."""

    status = filters.MultipleChoiceFilter(choices=STATUS_CHOICES, help_text="May be given several times.")
    model = filters.ModelChoiceFilter(
        queryset=DiffusionModel.objects.all(), to_field_name="slug", help_text="A model's slug."
    )
    batch = filters.UUIDFilter(field_name="batch_id", help_text="The id of a batch.")
    created_after = filters.IsoDateTimeFilter(
        field_name="created_at", lookup_expr="gt", validators=[check_year], help_text="ISO 8601."
    )
    created_before = filters.IsoDateTimeFilter(
        field_name="created_at", lookup_expr="lt", validators=[check_year], help_text="ISO 8601."
    )

    class Meta:
        model = Generation
        fields = ["status", "model", "batch", "created_after", "created_before"]
